"use strict";
// The server sends the page's inner part anew whenever something has changed; what has the focus keeps it.
const now = document.getElementById("now");
const stale = document.getElementById("stale");
const source = new EventSource("/live");
source.onmessage = (event) => {
  stale.hidden = true;
  const active = document.activeElement;
  const action = now.contains(active) && active.form ? active.form.getAttribute("action") : null;
  now.innerHTML = event.data;
  if (action) {
    const again = now.querySelector(`form[action="${CSS.escape(action)}"] button`);
    if (again) again.focus();
  }
};
source.onerror = () => { stale.hidden = false; };
source.addEventListener("over", () => location.reload());

"use strict";
// Times are written by the server, in the zone that this cookie names.
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  const known = document.cookie.split("; ").includes(`zone=${zone}`);
  if (!/^[A-Za-z0-9_+\/-]{1,80}$/.test(zone) || known) return;
  document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=strict`;
  // a browser that keeps no cookies would reload for ever; a form that was sent is not sent again
  const isKept = document.cookie.split("; ").includes(`zone=${zone}`);
  if (isKept && !document.querySelector("form.login")) location.reload();
})();

// The server sends the page's inner part anew whenever something has changed; what has the focus keeps it.
const now = document.getElementById("now");
if (now) {
  const stale = document.getElementById("stale");
  const source = new EventSource(now.dataset.live);
  source.onmessage = (event) => {
    stale.hidden = true;
    const active = document.activeElement;
    const form = now.contains(active) ? active.closest("form[data-key]") : null;
    const link = now.contains(active) && active.href ? active.getAttribute("href") : null;
    const playing = now.querySelector("audio");
    const place = playing ? playing.dataset.href : null;
    now.innerHTML = event.data;
    let again = null;
    if (form) again = now.querySelector(`form[data-key="${CSS.escape(form.dataset.key)}"] button`);
    else if (link) again = now.querySelector(`a[href="${CSS.escape(link)}"]`);
    if (again) again.focus();
    const row = place && now.querySelector(`a.play[href="${CSS.escape(place)}"]`);
    if (row) row.after(playing);
    tick();
  };
  source.onerror = () => { stale.hidden = false; };
  source.addEventListener("over", () => location.reload());
}

// The seconds of calls that go on.
function tick() {
  for (const part of document.querySelectorAll(".ticks")) {
    const seconds = Math.max(0, Math.floor(Date.now() / 1000 - Number(part.dataset.since)));
    const rest = String(seconds % 60).padStart(2, "0");
    const minutes = Math.floor(seconds / 60) % 60;
    const hours = Math.floor(seconds / 3600);
    part.textContent = hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
  }
}
tick();
setInterval(tick, 1000);

// A recording is played in its row; without this script the link opens it.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.play");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const mine = link.nextElementSibling;
  for (const other of document.querySelectorAll("audio[data-href]")) other.remove();
  if (mine && mine.tagName === "AUDIO") return;
  const player = document.createElement("audio");
  player.controls = true;
  player.autoplay = true;
  player.src = link.getAttribute("href");
  player.dataset.href = player.getAttribute("src");
  player.setAttribute("aria-label", link.getAttribute("aria-label"));
  link.after(player);
});

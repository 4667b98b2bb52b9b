"use strict";

const WORDS = JSON.parse(document.getElementById("words").textContent);

// a status has no words of its own in English
function word(name, value) {
  return (WORDS[name] || name).replace("%s", value);
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text || "";
  if (className) made.className = className;
  return made;
}

function callWindow(call, part) {
  const box = element("article", "", "window " + part.state);
  box.dataset.ext = part.ext;
  box.append(
    element("span", word("ext", part.ext || "?"), "ext"),
    element("div", word(part.state), "state"),
    element("div", call.phone === "anonymous" ? word("hidden") : "+" + call.phone, "phone"),
    element("div", call.diversion ? word("on_line", call.diversion) : "", "line"),
  );
  return box;
}

function historyRow(call) {
  const row = element("tr");
  const parts = element("td");
  for (const part of call.parts) {
    const talked = part.status === "Success" ? " " + word("seconds", part.duration) : "";
    parts.append(element("span", `${part.ext || word("nobody")}: ${word(part.status || "is_" + part.state)}${talked}`, "part " + part.status));
  }
  const links = element("td");
  for (const href of call.links) {
    const link = element("a", word("listen"));
    link.href = href;
    links.append(link);
  }
  const phone = call.phone === "anonymous" ? word("hidden") : "+" + call.phone;
  row.append(
    element("td", new Date(call.at * 1000).toLocaleTimeString()),
    element("td", word(call.type === "in" ? "from" : "to", phone)),
    element("td", call.diversion),
    parts,
    links,
  );
  return row;
}

function show(state) {
  const open = state.calls.flatMap((call) => call.parts.filter((part) => part.state !== "done").map((part) => callWindow(call, part)));
  document.getElementById("windows").replaceChildren(...(open.length ? open : [element("p", word("silent"), "none")]));
  document.getElementById("history").replaceChildren(...state.calls.map(historyRow));
}

new EventSource("stream").onmessage = (message) => show(JSON.parse(message.data));

function outcome(result) {
  if (result.code === 200) return word("accepted");
  if (result.code === 0) return word("not_running");
  let reason = result.body;
  try {
    reason = JSON.parse(reason).error;
  } catch {
    // a web server in between answers with a page
  }
  return word("refused", `${reason} (${result.code})`);
}

document.getElementById("call")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("call", { method: "POST", body: new URLSearchParams(new FormData(event.target)) });
  const result = await answer.json();
  document.getElementById("call-result").textContent = outcome(result);
});

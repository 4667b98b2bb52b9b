"use strict";

const STATES = { ringing: "Incoming call", calling: "Outgoing call", talking: "Talking" };

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
    element("span", "ext " + (part.ext || "?"), "ext"),
    element("div", STATES[part.state], "state"),
    element("div", call.phone === "anonymous" ? "hidden number" : "+" + call.phone, "phone"),
    element("div", call.diversion ? "line " + call.diversion : "", "line"),
  );
  return box;
}

function historyRow(call) {
  const row = element("tr");
  const parts = element("td");
  for (const part of call.parts) {
    const talked = part.status === "Success" ? ` ${part.duration} s` : "";
    parts.append(element("span", `${part.ext || "nobody"}: ${part.status || part.state}${talked}`, "part " + part.status));
  }
  const links = element("td");
  for (const href of call.links) {
    const link = element("a", "listen");
    link.href = href;
    links.append(link);
  }
  const arrow = call.type === "in" ? "from " : "to ";
  row.append(
    element("td", new Date(call.at * 1000).toLocaleTimeString()),
    element("td", arrow + call.phone),
    element("td", call.diversion),
    parts,
    links,
  );
  return row;
}

function show(state) {
  const open = state.calls.flatMap((call) => call.parts.filter((part) => part.state !== "done").map((part) => callWindow(call, part)));
  document.getElementById("windows").replaceChildren(...(open.length ? open : [element("p", "No phone rings.", "none")]));
  document.getElementById("history").replaceChildren(...state.calls.map(historyRow));
}

new EventSource("stream").onmessage = (message) => show(JSON.parse(message.data));

document.getElementById("call")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("call", { method: "POST", body: new URLSearchParams(new FormData(event.target)) });
  const result = await answer.json();
  document.getElementById("call-result").textContent = result.code === 200 ? "The phone rings." : `Refused: ${result.code} ${result.body}`;
});

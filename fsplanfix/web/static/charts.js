"use strict";
// Draws the tables of the page as stacked bars. The numbers are those of the tables.
const charts = [];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function draw(place) {
  const rows = [...document.querySelectorAll(`#${place.dataset.table} tbody tr`)];
  const labels = rows.map((row) => row.querySelector("th").textContent);
  const columns = [0, 1, 2].map((n) => rows.map((row) => Number(row.querySelectorAll("td")[n].textContent)));
  // the highest stack is drawn first, and the lower ones over it
  const stacks = [];
  for (const values of columns) {
    const below = stacks.length ? stacks[stacks.length - 1] : values.map(() => 0);
    stacks.push(values.map((value, n) => value + below[n]));
  }
  const bars = uPlot.paths.bars({ size: [0.7, 60], radius: 0 });
  const series = (name, fill) => ({ label: name, fill: colour(fill), stroke: colour(fill), width: 0, paths: bars, points: { show: false } });
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "13px system-ui, sans-serif" };
  return new uPlot({
    width: place.clientWidth,
    height: 220,
    scales: { x: { time: false, range: [-0.6, labels.length - 0.4] }, y: { range: (chart, low, high) => [0, Math.max(high, 4)] } },
    cursor: { show: false },
    legend: { show: false },
    axes: [
      { ...axis, grid: { show: false }, space: 64, incrs: [1, 2, 3, 4, 6, 7], values: (chart, places) => places.map((n) => labels[n] || "") },
      { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000] },
    ],
    series: [{}, series("outgoing", "--out"), series("missed", "--miss"), series("answered", "--take")],
  }, [labels.map((_, n) => n), stacks[2], stacks[1], stacks[0]], place);
}

function drawAll() {
  while (charts.length) charts.pop().destroy();
  for (const place of document.querySelectorAll(".chart")) charts.push(draw(place));
}

drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("resize", () => {
  document.querySelectorAll(".chart").forEach((place, n) => charts[n].setSize({ width: place.clientWidth, height: 220 }));
});

"use strict";
// Sorting follows the sortable table of the W3C's ARIA Authoring Practices: a button in each heading, aria-sort on it.
for (const table of document.querySelectorAll(".sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const numbers = body.rows.length > 0 && body.rows[0].cells[column].dataset.v !== undefined;
      const first = numbers ? "descending" : "ascending";
      const now = heading.getAttribute("aria-sort");
      const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
      for (const each of headings) each.setAttribute("aria-sort", each === heading ? order : "none");
      const keyed = [...body.rows].map((row) => [key(row, column), row]);
      keyed.sort(([a], [b]) => (order === "ascending" ? compare(a, b) : compare(b, a)));
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

// A table that is wider than its place leaves out columns, highest rank first, until the box below asks for all.
const rules = document.styleSheets[0];
for (let place = 2; place <= 40; place++) {
  rules.insertRule(`@media screen { .without-${place} tr > :nth-child(${place}) { display: none } }`, rules.cssRules.length);
}
const fit = (box) => {
  const table = box.firstElementChild;
  const more = box.nextElementSibling;
  const every = more.querySelector("input").checked;
  const columns = [...table.tHead.rows[0].cells].map((cell, place) => [Number(cell.dataset.rank), place + 1, cell.textContent]);
  const names = [];
  table.className = "sortable";
  for (const [rank, place, name] of columns.sort(([a], [b]) => b - a)) {
    if (every || rank === 0 || box.scrollWidth <= box.clientWidth) break;
    table.classList.add(`without-${place}`);
    names.push(name);
  }
  more.hidden = names.length === 0 && !every;
  more.lastElementChild.textContent = names.length ? `hidden at this width: ${names.join(", ")}` : "";
};
const fitting = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));
for (const box of document.querySelectorAll(".scroll:has(> .sortable)")) {
  fitting.observe(box);
  box.nextElementSibling.addEventListener("change", () => fit(box));
}

const filter = document.getElementById("filter");
const chip = document.getElementById("chip");
const rows = [...document.querySelectorAll(`#${filter.dataset.table} tbody tr`)];
const texts = rows.map((row) => [...row.querySelectorAll(".text")].map((cell) => cell.textContent));
const show = () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  rows.forEach((row, place) => {
    const cells = texts[place];
    const text = cells.join("\n").toLowerCase();
    row.hidden = !words.every((word) => text.includes(word)) || (chip !== null && chip.value !== "" && cells[1] !== chip.value);
    count += row.hidden ? 0 : 1;
  });
  document.getElementById("shown").value = count === rows.length ? `${count} rows` : `${count} of ${rows.length} rows`;
};
filter.form.addEventListener("submit", (event) => event.preventDefault());
filter.form.addEventListener("input", show);
filter.form.addEventListener("change", show);
show();

// Expressions are interpreted, not compiled: the page's policy forbids eval.
const options = { ast: true, renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
const specs = JSON.parse(document.getElementById("specs").textContent);
const draw = ([id, spec]) => {
  const place = document.getElementById(id);
  if (place.clientWidth < 440) spec.config.legend.columns = 1;
  return vegaEmbed(place, spec, options);
};
// One chart at a time, so that the table answers meanwhile; the document says when the last one was drawn.
setTimeout(async () => {
  for (const entry of Object.entries(specs)) {
    await draw(entry);
    await new Promise((resolve) => setTimeout(resolve));
  }
  document.documentElement.dataset.charts = performance.now();
});

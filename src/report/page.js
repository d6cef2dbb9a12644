"use strict";
(() => {
  // tables: a heading is a button that sorts, numbers the largest first, texts from A
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const numbers = heading.classList.contains("number");
        const now = heading.getAttribute("aria-sort");
        const ascending = now ? now === "descending" : !numbers;
        const value = (row) => numbers ? Number(row.cells[column].dataset.value) : row.cells[column].textContent;
        const compare = numbers ? (a, b) => a - b : (a, b) => a.localeCompare(b, undefined, { numeric: true });
        const rows = [...body.rows].map((row) => [value(row), row]);
        rows.sort(([a], [b]) => ascending ? compare(a, b) : compare(b, a));
        body.append(...rows.map(([, row]) => row));
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      });
    });
  }
  // pictures: filters, and arrow keys from one to the next
  const form = document.getElementById("filters");
  const cards = [...document.querySelectorAll(".cards > li")];
  const field = (id) => document.getElementById(id)?.value ?? "";
  const filter = () => {
    const dataset = field("f-dataset"), label = field("f-label"), from = field("f-from"), to = field("f-to");
    let shown = 0;
    for (const card of cards) {
      const score = Number(card.dataset.score);
      card.hidden = (dataset !== "" && card.dataset.dataset !== dataset) || (label !== "" && card.dataset.label !== label)
        || (from !== "" && score < Number(from)) || (to !== "" && score > Number(to));
      shown += card.hidden ? 0 : 1;
    }
    document.getElementById("shown").textContent = `${shown} of ${cards.length} shown`;
  };
  if (form) {
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }
  document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !cards.includes(document.activeElement)) return;
    const visible = cards.filter((card) => !card.hidden);
    visible[visible.indexOf(document.activeElement) + step]?.focus();
    event.preventDefault();
  });
})();

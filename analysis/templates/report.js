"use strict";
(() => {
  const page = JSON.parse(document.getElementById("plot-data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const settings = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  const plots = Object.entries(page.figures).map(([name, figure]) => [document.getElementById("plot-" + name), figure]);
  const template = () => (dark.matches ? page.templates.dark : page.templates.light);
  const slanted = (axis) => (axis.ticktext?.some((text) => text.length > 5)
    ? { xaxis: { ...axis, tickangle: -35, automargin: false }, bottom: 96 }
    : { xaxis: axis, bottom: 48 });
  const narrow = (layout) => {
    if (window.innerWidth > 560) return {};
    const { xaxis, bottom } = slanted(layout.xaxis);
    const margin = { ...layout.margin, l: 40, r: 6, b: bottom };
    return { xaxis, margin, coloraxis: { ...layout.coloraxis, showscale: false } };
  };

  for (const [place, figure] of plots) {
    Plotly.newPlot(place, figure.data, { ...figure.layout, ...narrow(figure.layout), template: template() }, settings);
  }
  dark.addEventListener("change", () => plots.forEach(([place]) => Plotly.relayout(place, { template: template() })));

  const copy = async (text, block) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(block);
      document.execCommand("copy");
    }
  };
  for (const button of document.querySelectorAll(".copyable button")) {
    button.addEventListener("click", async () => {
      const block = button.nextElementSibling;
      await copy(block.textContent, block);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const sort = (table, column, down) => {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [keyOf(row, column), row]);
    const empty = ([key]) => key === "–";
    rows.sort((a, b) => empty(a) - empty(b) || (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
    body.append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = Array.from(table.tHead.rows[0].cells);
    headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
      const down = heading.ariaSort === "ascending";
      headings.forEach((other) => { other.ariaSort = "none"; });
      heading.ariaSort = down ? "descending" : "ascending";
      sort(table, column, down);
    }));
  }
})();

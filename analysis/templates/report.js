"use strict";
(() => {
  const page = JSON.parse(document.getElementById("plot-data").textContent);
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"] };
  let printing = false;
  const isDark = () => !printing && (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const template = () => (isDark() ? page.templates.dark : page.templates.light);

  const slanted = (axis) => {
    if (axis?.ticktext?.length > 12) return { xaxis: { ...axis, showticklabels: false }, bottom: 48 };
    return axis?.ticktext?.some((text) => text.length > 5)
      ? { xaxis: { ...axis, tickangle: -35, automargin: false }, bottom: 96 }
      : { xaxis: axis, bottom: 48 };
  };
  const narrow = (layout) => {
    if (window.innerWidth > 560) return {};
    const { xaxis, bottom } = slanted(layout.xaxis);
    const margin = { ...layout.margin, l: 40, r: 6, b: bottom };
    return { ...(xaxis ? { xaxis } : {}), margin, coloraxis: { ...layout.coloraxis, showscale: false } };
  };
  const texts = (found) => (Array.isArray(found) ? found.map(texts) : page.texts[found] ?? "");
  const figureOf = (place) => {
    const figure = page.figures[place.id.slice("plot-".length)];
    figure.data.forEach((trace) => { if ("hovertext" in trace) trace.hovertext = texts(trace.hovertext); });
    return figure;
  };

  const painted = new Map();
  const show = (place) => {
    const before = painted.get(place);
    painted.set(place, isDark());
    if (before === undefined) {
      const { data, layout } = figureOf(place);
      Plotly.newPlot(place, data, { ...layout, ...narrow(layout), template: template() }, settings);
    } else if (before !== isDark()) {
      Plotly.relayout(place, { template: template() });
    }
  };
  const places = Array.from(document.querySelectorAll(".plot")).filter((place) => place.id.slice("plot-".length) in page.figures);
  const nearby = new Set();
  let waiting = false;
  const showNearby = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => setTimeout(showNext));
  };
  const showNext = () => {
    waiting = false;
    const next = [...nearby].find((place) => painted.get(place) !== isDark());
    if (next === undefined) return;
    showNearby();
    show(next);
  };
  const near = new IntersectionObserver((entries) => {
    entries.forEach(({ isIntersecting, target }) => (isIntersecting ? nearby.add(target) : nearby.delete(target)));
    showNearby();
  }, { rootMargin: "800px 0px" });
  places.forEach((place) => near.observe(place));

  const toggle = document.createElement("button");
  const repaint = () => {
    toggle.textContent = isDark() ? "Light" : "Dark";
    showNearby();
  };
  toggle.type = "button";
  toggle.className = "theme";
  toggle.title = "Change between light and dark";
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("glance-theme", root.dataset.theme); } catch { /* lasts as long as the page is open */ }
    repaint();
  });
  document.querySelector("header").append(toggle);
  system.addEventListener("change", repaint);
  repaint();

  const PAPER = { half: [330, 250], whole: [680, 300] };
  addEventListener("beforeprint", () => {
    printing = true;
    places.forEach((place) => {
      show(place);
      const [width, height] = place.closest(".wide") ? PAPER.whole : PAPER.half;
      Plotly.relayout(place, { width, height });
    });
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => {
    printing = false;
    places.forEach((place) => {
      show(place);
      Plotly.relayout(place, { width: null, height: null, autosize: true });
    });
  });

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
  for (const chips of document.querySelectorAll(".chips")) {
    const body = chips.parentElement.querySelector("tbody");
    const buttons = Array.from(chips.children);
    buttons.forEach((button) => button.addEventListener("click", () => {
      buttons.forEach((other) => { other.ariaPressed = String(other === button); });
      for (const row of body.rows) row.hidden = Boolean(button.dataset.state) && !row.classList.contains(button.dataset.state);
    }));
  }
})();

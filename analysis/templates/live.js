"use strict";
(() => {
  const KEY = "glance-live", EVERY = 2000;
  const root = document.documentElement;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const kept = () => {
    try { return JSON.parse(sessionStorage.getItem(KEY)) || {}; } catch { return {}; }
  };
  const keep = (values) => {
    try { sessionStorage.setItem(KEY, JSON.stringify({ ...kept(), ...values })); } catch { /* without storage nothing is kept */ }
  };

  const view = () => ({
    left: scrollX,
    top: scrollY,
    theme: root.dataset.theme,
    inner: all(".scroll").map((box) => [box.scrollLeft, box.scrollTop]),
    open: all("details").map((block) => block.open),
    sorted: all("table.sortable").map((table) => [...table.tHead.rows[0].cells].map((cell) => cell.ariaSort)),
  });
  const sortAs = (table, wanted) => [...table.tHead.rows[0].cells].forEach((cell, column) => {
    for (let clicks = 0; clicks < 2 && (wanted[column] ?? "none") !== "none" && cell.ariaSort !== wanted[column]; clicks += 1) {
      cell.firstElementChild.click();
    }
  });
  const restore = ({ left, top, theme, inner, open, sorted }) => {
    if (theme) root.dataset.theme = theme;
    all("table.sortable").forEach((table, index) => sorted?.[index] && sortAs(table, sorted[index]));
    all("details").forEach((block, index) => { block.open = open?.[index] ?? block.open; });
    all(".scroll").forEach((box, index) => inner?.[index] && box.scrollTo(...inner[index]));
    if (top !== undefined) scrollTo({ left, top, behavior: "instant" });
  };

  const badge = document.createElement("button");
  badge.type = "button";
  badge.id = "live";
  badge.title = "Click to hold the page, or to let it go on";
  badge.setAttribute("aria-live", "polite");
  badge.style.cssText = "position:fixed;right:12px;bottom:12px;z-index:9;max-width:min(92vw,60ch);padding:5px 14px;font:inherit;"
    + "font-size:13px;text-align:left;overflow-wrap:anywhere;color:var(--ink);background:var(--card);cursor:pointer;"
    + "border:1px solid var(--line);border-radius:14px;box-shadow:0 2px 8px #0003";
  const say = (text) => { if (badge.textContent !== text) badge.textContent = text; };
  const held = () => kept().held === true;
  badge.addEventListener("click", () => {
    keep({ held: !held() });
    look();
  });

  const busy = () => document.hidden || !getSelection().isCollapsed;
  const look = async () => {
    try {
      const answer = await fetch("state", { cache: "no-store" });
      const state = await answer.json();
      say(held() ? `held: ${state.version === SHOWN ? state.note : "there is news"}` : `live: ${state.note}`);
      if (state.version !== SHOWN && !held() && !busy()) {
        keep({ view: view() });
        location.reload();
      }
    } catch {
      say("the report's server does not answer");
    }
  };

  history.scrollRestoration = "manual";
  addEventListener("pagehide", () => keep({ view: view() }));
  document.body.append(badge);
  all(".again").forEach((advice) => advice.remove());
  restore(kept().view ?? {});
  look();
  setInterval(look, EVERY);
})();

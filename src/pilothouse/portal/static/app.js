// Small helps; every page works without them: copy buttons, countdowns, local times, what scrolls takes the focus, and
// what htmx changed is said to those who do not see it.
"use strict";
(() => {
  const prepare = (root) => {
    for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = false;
    for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
      time.dataset.local = "yes";
      const local = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
      time.title = `${time.title} · ${local} local`;
    }
  };
  // What is wider than its place and holds nothing that takes the focus could not be scrolled by keyboard everywhere.
  const scrollers = () => {
    for (const box of document.querySelectorAll(".scroll, main pre")) {
      const wide = box.scrollWidth > box.clientWidth && !box.querySelector("a[href], button, input, select, textarea, summary");
      if (wide && box.tabIndex < 0) {
        const heading = box.querySelector("caption") || [...document.querySelectorAll("h1, h2, h3")]
          .filter((other) => other.compareDocumentPosition(box) & Node.DOCUMENT_POSITION_FOLLOWING).pop();
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", heading ? heading.textContent.trim() : "Text");
        box.dataset.scrolls = "yes";
      } else if (!wide && box.dataset.scrolls) {
        for (const name of ["tabindex", "role", "aria-label", "data-scrolls"]) box.removeAttribute(name);
      }
    }
  };
  // `data-said` marks what is worth saying: its value, or the element's own text. Only what is new is said.
  const sayable = () => [...document.querySelectorAll("main [data-said]")]
    .map((element) => (element.dataset.said || element.textContent).trim().replace(/\s+/g, " "));
  let known = new Set(sayable());
  const say = () => {
    const now = sayable();
    const fresh = now.filter((text) => text && !known.has(text));
    known = new Set(now);
    if (fresh.length) document.getElementById("said").textContent = fresh.join(". ");
  };
  const words = (seconds) => {
    const ago = seconds < 0;
    let left = Math.abs(seconds);
    if (left < 5) return "now";
    let text;
    if (left >= 172800) text = `${Math.floor(left / 86400)} d`;
    else if (left >= 3600) text = `${Math.floor(left / 3600)} h ${Math.floor((left % 3600) / 60)} min`;
    else if (left >= 120) text = `${Math.floor(left / 60)} min`;
    else text = `${Math.floor(left)} s`;
    return ago ? `${text} ago` : `in ${text}`;
  };
  const tick = () => {
    for (const time of document.querySelectorAll("time[data-countdown]")) {
      const text = words((Date.parse(time.dateTime) - Date.now()) / 1000);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Press Ctrl-C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  document.addEventListener("htmx:after:swap", () => {
    prepare(document);
    scrollers();
    say();
  });
  prepare(document);
  scrollers();
  addEventListener("resize", scrollers);
  document.addEventListener("toggle", scrollers, true); // what was folded has no width until it opens
  setInterval(tick, 1000);
})();

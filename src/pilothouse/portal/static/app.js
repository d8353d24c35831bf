// Three small helps; every page works without them: copy buttons, countdowns, local times.
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
  document.addEventListener("htmx:after:swap", () => prepare(document));
  prepare(document);
  setInterval(tick, 1000);
})();

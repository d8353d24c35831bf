// What any page keeps to, looked at from within it. Each function returns a list of mistakes, empty when there are none.
(() => {
  const shown = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const name = (element) => {
    const text = (element.textContent || "").trim().replace(/\s+/g, " ").slice(0, 60);
    return `<${element.tagName.toLowerCase()}${element.id ? ` id=${element.id}` : ""} class="${element.getAttribute("class") || ""}"> ${text}`;
  };

  // ---------------------------------------------------------------- contrast (WCAG 2.2, 1.4.3)
  const colour = (text) => {
    const parts = text.match(/[\d.]+/g);
    return text.startsWith("rgb") && parts ? [...parts.slice(0, 3).map(Number), parts[3] === undefined ? 1 : Number(parts[3])] : null;
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    const layers = [];
    for (let node = element; node; node = node.parentElement) {
      const layer = colour(getComputedStyle(node).backgroundColor);
      if (layer && layer[3] > 0) layers.push(layer);
      if (layer && layer[3] === 1) break;
    }
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255, 1]);
  };
  // In a picture text stands on the last opaque shape drawn before it at that place.
  const behindShape = (text) => {
    const box = text.getBoundingClientRect();
    const [x, y] = [box.left + Math.min(4, box.width / 2), box.top + box.height / 2];
    let found = behind(text.ownerSVGElement);
    for (const shape of text.ownerSVGElement.querySelectorAll("rect, circle")) {
      if (!(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
      const place = shape.getBoundingClientRect();
      if (x < place.left || x > place.right || y < place.top || y > place.bottom) continue;
      const fill = colour(getComputedStyle(shape).fill);
      if (fill) found = over(fill, found);
    }
    return found;
  };
  const see = (element, pseudo, mistakes) => {
    const style = getComputedStyle(element, pseudo);
    const drawn = element instanceof SVGElement;
    const ink = colour(drawn ? style.fill : style.color);
    if (!ink) return;
    const ground = drawn ? behindShape(element) : behind(element);
    let opacity = 1;
    for (let node = element; node; node = node.parentElement) opacity *= Number(getComputedStyle(node).opacity);
    const found = ratio(over([...ink.slice(0, 3), ink[3] * opacity], ground), ground);
    if (found < 4.5) mistakes.add(`${found.toFixed(2)}:1 ${pseudo || ""} ${name(element)}`);
  };
  const contrast = () => {
    const mistakes = new Set();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const seen = new Set();
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || seen.has(element) || !shown(element)) continue;
      seen.add(element);
      if (element.closest("script, title, desc, option, datalist, :disabled")) continue; // what is disabled is exempt
      see(element, null, mistakes);
      for (const pseudo of ["::before", "::after"]) {
        if (!["none", "normal", '""'].includes(getComputedStyle(element, pseudo).content)) see(element, pseudo, mistakes);
      }
    }
    for (const input of document.querySelectorAll("input:not([type=hidden]), textarea, select")) {
      if (!shown(input) || input.disabled) continue;
      see(input, null, mistakes);
      if (input.placeholder) see(input, "::placeholder", mistakes);
    }
    return [...mistakes];
  };

  // ---------------------------------------------------------------- structure
  const structure = () => {
    const mistakes = [];
    const one = (selector) => {
      const count = document.querySelectorAll(selector).length;
      if (count !== 1) mistakes.push(`${count} of ${selector}`);
    };
    ["h1", "main", "head > title", "body > .shell > footer"].forEach(one);
    if (!document.documentElement.lang) mistakes.push("no language");
    let before = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
      const level = Number(heading.tagName[1]);
      if (level > before + 1) mistakes.push(`h${before} is followed by ${name(heading)}`);
      before = level;
    }
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) mistakes.push(`two elements of id ${id}`);
    for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "for", "list"]) {
      for (const element of document.querySelectorAll(`[${attribute}]`)) {
        for (const id of element.getAttribute(attribute).split(/\s+/)) {
          if (!document.getElementById(id)) mistakes.push(`${attribute}=${id} of ${name(element)} is nowhere`);
        }
      }
    }
    for (const input of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
      if (!input.labels.length && !input.getAttribute("aria-label")) mistakes.push(`no label: ${name(input)} ${input.name}`);
    }
    for (const image of document.querySelectorAll("img:not([alt])")) mistakes.push(`no alt: ${image.src}`);
    for (const picture of document.querySelectorAll("svg:not([aria-hidden=true])")) {
      if (!picture.querySelector(":scope > title")) mistakes.push(`a picture without a title: ${name(picture)}`);
      if (!picture.getAttribute("role")) mistakes.push(`a picture without a role: ${name(picture)}`);
    }
    for (const table of document.querySelectorAll("table")) {
      if (!table.querySelector("th[scope]")) mistakes.push(`a table without heads: ${name(table)}`);
    }
    // What scrolls must be reachable by keyboard.
    for (const box of document.querySelectorAll("pre, .picture, .command code")) {
      if (box.scrollWidth > box.clientWidth && box.tabIndex < 0) mistakes.push(`scrolls, and takes no focus: ${name(box)}`);
    }
    return mistakes;
  };

  // ---------------------------------------------------------------- width
  const width = () => {
    const page = document.scrollingElement;
    if (page.scrollWidth <= page.clientWidth) return [];
    const wide = [...document.querySelectorAll("body *")].filter(
      (element) => element.getBoundingClientRect().right > page.clientWidth + 1 && !element.closest(".scroll, .picture, pre, .command, .skip"),
    );
    return [`${page.scrollWidth} px wide`, ...wide.slice(-5).map(name)];
  };

  return { contrast: contrast(), structure: structure(), width: width() };
})()

// Panels as pictures, in pure SVG: what stands on the page is drawn again from where it stands.

const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-weight",
  "text-anchor", "paint-order"];

// Colours as programs other than browsers know them too.
const plainColour = (colour) => colour.replace(/color\(srgb ([^/)]+)(?:\/ ([^)]+))?\)/g, (_, rgb, alpha) =>
  `rgba(${rgb.trim().split(/\s+/).map((v) => Math.round(255 * v)).join(",")},${alpha ?? 1})`);

function panelSvg(section) {
  section.classList.add("cnb-saved"); // lists in full, no buttons
  const edge = 8, inner = section.getBoundingClientRect(), paper = getComputedStyle(document.body);
  const frame = { x: inner.x - edge, y: inner.y - edge, width: inner.width + 2 * edge, height: inner.height + 2 * edge };
  const svg = draw("svg", {
    xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${frame.width} ${frame.height}`, width: frame.width, height: frame.height,
    "font-family": paper.fontFamily, fill: plainColour(paper.color),
  }, draw("rect", { width: "100%", height: "100%", fill: plainColour(paper.backgroundColor) }));
  const at = (box) => ({ x: box.x - frame.x, y: box.y - frame.y, width: box.width, height: box.height });

  function sheet(box, style) { // background and border
    const bordered = parseFloat(style.borderTopWidth) && parseFloat(style.borderLeftWidth) && style.borderTopStyle !== "none";
    const filled = !/^rgba\(.*, 0\)$/.test(style.backgroundColor);
    if (!bordered && !filled) return;
    svg.append(draw("rect", {
      ...at(box), rx: Math.min(parseFloat(style.borderTopLeftRadius) || 0, box.height / 2), opacity: style.opacity,
      fill: filled ? plainColour(style.backgroundColor) : "none", stroke: bordered ? plainColour(style.borderTopColor) : "none",
      "stroke-width": style.borderTopWidth, "stroke-dasharray": /dotted|dashed/.test(style.borderTopStyle) ? "3 3" : null,
    }));
  }

  function drawing(own) { // an SVG within, with its style written out
    const copy = own.cloneNode(true), copies = copy.querySelectorAll("*");
    own.querySelectorAll("*").forEach((shape, i) => {
      const style = getComputedStyle(shape);
      DRAWN.forEach((name) => copies[i].setAttribute(name, plainColour(style.getPropertyValue(name))));
    });
    const box = own.getBoundingClientRect();
    svg.append(fill(copy, { ...at(box), overflow: own.closest("#graph") ? "hidden" : "visible" }, []));
  }

  function words(node, style) { // a text, word by word; what a cell cuts off is left out
    const range = document.createRange(), size = parseFloat(style.fontSize), cell = node.parentElement.closest("td, .cnb-name")?.getBoundingClientRect();
    for (const { index, 0: word } of node.data.matchAll(/\S+/g)) {
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      const box = range.getBoundingClientRect();
      if (!box.width || (cell && box.right > cell.right + 1)) continue;
      svg.append(draw("text", {
        x: box.x - frame.x, y: box.y - frame.y + box.height / 2 + 0.35 * size, "font-size": size, fill: plainColour(style.color),
        "font-weight": style.fontWeight, "font-style": style.fontStyle,
        "text-decoration": node.parentElement.closest(".cnb-off .cnb-name") ? "line-through" : null,
      }, word));
    }
  }

  (function walk(element) {
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (!box.width || style.display === "none" || style.clipPath !== "none") return;
    if (element.tagName === "svg") { drawing(element); return; }
    sheet(box, style);
    const tint = getComputedStyle(element, "::before");
    if (tint.content === '""' && tint.position === "absolute") sheet(box, tint);
    element.childNodes.forEach((child) => (child.nodeType === Node.TEXT_NODE ? words(child, style) : child.tagName && walk(child)));
  })(section);
  section.classList.remove("cnb-saved");
  return svg;
}

// The panel of that name as a file; one that takes turns is put in place for as long as it takes.
function savePanel(name, png) {
  const place = { circuit: ".cnb-subgraphpanel", graph: ".cnb-graphpanel", answer: ".cnb-answerpanel" }[name] || "#panel";
  if (place === "#panel") byId("panel").replaceChildren(...TABS[name][1](state));
  const svg = panelSvg(document.querySelector(place)), [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  if (place === "#panel") drawPanel();
  const url = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
  const give = (href, kind) => make("a", { href, download: `${name}.${kind}` }).click();
  if (!png) { give(url, "svg"); return; }
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
    give(canvas.toDataURL("image/png"), "png");
  };
  image.src = url;
}

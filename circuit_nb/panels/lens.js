const SIGNS = {
  in: ["M8 3v10M3 8h10", "Zoom in"],
  out: ["M3 8h10", "Zoom out"],
  reset: ["M3 8.5A5 5 0 1 0 5 4M5 1v3.5h3.5", "Show the whole picture"],
  whole: ["M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4", "Fill the window, and back"],
};
const ARROWS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };

function button(name, act) {
  const [sign, words] = SIGNS[name];
  const made = document.createElement("button");
  made.type = "button";
  const icon = element("svg", { viewBox: "0 0 16 16", width: 14, height: 14, fill: "none",
    stroke: "currentColor", "stroke-width": 1.5, "aria-hidden": "true" });
  icon.append(element("path", { d: sign }));
  made.append(icon);
  made.title = words;
  made.setAttribute("aria-label", words);
  made.dataset.tool = name;
  made.addEventListener("click", act);
  return made;
}

function maximise(panel) {
  if (panel.hasAttribute("popover")) {
    if (panel.matches(":popover-open")) panel.hidePopover();
    panel.removeAttribute("popover");
  } else if (panel.showPopover) {
    panel.setAttribute("popover", "manual");
    panel.showPopover();
  } else {
    document.fullscreenElement ? document.exitFullscreen() : panel.requestFullscreen?.();
  }
}

const PLAIN = { lt: "<", gt: ">", amp: "&", "#36": "$" };
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Draws Plotly shapes (paths, circles and words) of a plot without Plotly.
function overlay(plot, shapes) {
  let hooked = null;
  const group = (traces, place) => {
    const layer = traces.parentNode;
    let made = layer.querySelector(`:scope > .cnb-over-${place}`);
    if (!made) {
      made = element("g", { class: `cnb-over cnb-over-${place}`, "pointer-events": "none" });
      layer.insertBefore(made, place === "below" ? traces : traces.nextSibling);
    }
    for (const name of ["transform", "clip-path"]) {
      const value = traces.getAttribute(name);
      if (value) made.setAttribute(name, value);
    }
    made.replaceChildren();
    return made;
  };
  const draw = () => {
    const gd = plot(), layout = gd?._fullLayout;
    const traces = layout?._plots?.xy?.plot?.node();
    if (!traces?.parentNode || !layout.xaxis?.l2p) return;
    if (hooked !== gd) {
      hooked = gd;
      for (const name of ["afterplot", "relayouting", "relayout"]) gd.on(`plotly_${name}`, draw);
    }
    const x = (at) => layout.xaxis.l2p(at).toFixed(1), y = (at) => layout.yaxis.l2p(at).toFixed(1);
    const groups = { below: group(traces, "below"), above: group(traces, "above") };
    for (const shape of shapes()) groups[shape.layer].append(...drawn(shape, x, y));
  };
  return draw;
}

function drawn(shape, x, y) {
  if (shape.label) return words(shape, x, y);
  const { color, width } = shape.line;
  const pen = { fill: "none", stroke: color, "stroke-width": width, opacity: shape.opacity ?? 1 };
  const fixed = shape.xsizemode === "pixel";
  const at = fixed ? `translate(${x(shape.xanchor)} ${y(shape.yanchor)})` : "";
  if (shape.type === "circle") {
    return [element("circle", { ...pen, r: shape.x1, transform: at })];
  }
  const pair = (_, a, b) => (fixed ? `${a} ${-b}` : `${x(+a)} ${y(+b)}`);
  const d = shape.path.replace(/(-?[\d.]+) (-?[\d.]+)/g, pair);
  return [element("path", { ...pen, d, transform: at })];
}

function words(shape, x, y) {
  const { text, xanchor, font } = shape.label;
  const [, a, b] = shape.path.match(/M(-?[\d.]+) (-?[\d.]+)/);
  const lines = text.replace(/<\/?b>/g, "").split("<br>");
  const anchor = { left: "start", center: "middle", right: "end" }[xanchor];
  return lines.map((line, i) => {
    const rise = (i - (lines.length - 1) / 2) * 1.25 * font.size + 0.36 * font.size;
    const made = element("text", {
      x: x(+a), y: (+y(+b) + rise).toFixed(1), "text-anchor": anchor, "font-size": font.size,
      "font-family": font.family, fill: font.color,
    });
    if (text.startsWith("<b>")) made.setAttribute("font-weight", "bold");
    made.textContent = line.replace(/&(lt|gt|amp|#36);/g, (_, name) => PLAIN[name]);
    return made;
  });
}

function render({ model, el }) {
  const tools = document.createElement("div");
  tools.className = "cnb-lens";
  tools.setAttribute("role", "toolbar");
  const said = document.createElement("div");
  said.className = "cnb-said";
  said.setAttribute("role", "status");
  el.append(tools, said);
  const tell = () => { said.textContent = model.get("said"); };
  model.on("change:said", tell);
  tell();

  const over = overlay(() => plot(), () => model.get("over"));
  model.on("change:over", over);

  const panel = () => el.closest(".cnb-panel");
  const room = () => panel()?.querySelector(".cnb-room");
  const plot = () => room()?.querySelector(".js-plotly-plot");
  // Plotly's own buttons do the work; only ours are seen and reached by key. It lays a turn of the
  // wheel out a moment later, over what was asked for meanwhile: that waits.
  let turned = -Infinity;
  const zoom = (how) => {
    const rest = turned + 200 - performance.now();
    if (rest > 0) { setTimeout(() => zoom(how), rest); return; }
    const place = { in: '[data-val="in"]', out: '[data-val="out"]', reset: '[data-val="reset"]' };
    plot()?.querySelector(`.modebar ${place[how]}`)?.click();
    if (how === "reset") model.send({ back: true });
  };
  const whole = () => { if (panel()) { maximise(panel()); measure(); } };
  if (model.get("zooms")) {
    tools.append(...["in", "out", "reset"].map((name) => button(name, () => zoom(name))));
  }
  tools.append(button("whole", whole));

  const keys = (event) => {
    if (event.key === "Escape" && panel()?.hasAttribute("popover")) whole();
    else if (event.target !== room() || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (ARROWS[event.key]) model.send({ walk: ARROWS[event.key] });
    else if (event.key === "Enter") model.send({ pin: true });
    else if (event.key === "+" || event.key === "=") zoom("in");
    else if (event.key === "-") zoom("out");
    else if (event.key === "0") zoom("reset");
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  // The page scrolls past the picture until the reader is in it.
  const wheel = (event) => {
    const within = room()?.contains(document.activeElement) || panel()?.hasAttribute("popover");
    if (within || event.ctrlKey) turned = performance.now();
    else event.stopPropagation();
  };
  const press = () => {
    room()?.classList.remove("cnb-keyed");
    room()?.focus({ preventScroll: true });
  };
  const tabbed = (event) => { if (event.key === "Tab") room()?.classList.add("cnb-keyed"); };

  // In a narrower place the picture scrolls.
  const wide = () => Math.max(model.get("narrowest"), Math.round(room().clientWidth));
  let told = "";
  const measure = () => {
    const box = room(), drawn = plot()?._fullLayout;
    if (!box || !drawn) return;
    const large = panel().hasAttribute("popover");
    const bottoms = [...panel().children].map((part) => part.getBoundingClientRect().bottom);
    const top = panel().getBoundingClientRect().top - panel().scrollTop;
    const rest = Math.max(...bottoms) - top - box.clientHeight;
    const height = large ? Math.max(300, Math.round(window.innerHeight - rest - 12)) : 0;
    const now = `${wide()} ${height}`;
    if (now === told || !box.clientWidth) return;
    told = now;
    model.send({ room: [wide(), height] });
  };
  // Plotly follows the window's width alone, not that of the box it is in, and misses that, too,
  // while it draws.
  const fit = (tries) => {
    const box = room(), drawn = plot()?._fullLayout;
    if (!box || !drawn || Math.abs(drawn.width - wide()) <= 1 || !tries) return;
    delete plot().layout.width;  // Plotly keeps a size that it believes was asked for
    window.dispatchEvent(new Event("resize"));
    clearTimeout(fitting);
    fitting = setTimeout(() => fit(tries - 1), 200);
  };
  let fitting = 0;
  const watch = new ResizeObserver(() => { fit(15); measure(); });
  let left = 600;
  const begin = () => {
    const box = room();
    // Sizes are told once the plot is there: what is sent before is lost to it.
    if (model.get("zooms") && !plot()?._fullLayout) {
      if (left === 600 && !box?.querySelector(".js-plotly-plot")) model.send({ missing: true });
      if (left-- > 0) timer = setTimeout(begin, 50);
      return;
    }
    over();
    panel()?.addEventListener("keydown", keys);
    if (!box) return;
    box.tabIndex = 0;
    box.setAttribute("role", "application");
    box.setAttribute("aria-label", model.get("label"));
    box.addEventListener("wheel", wheel, { capture: true });
    box.addEventListener("pointerdown", press);
    box.addEventListener("keyup", tabbed);
    watch.observe(box);
  };
  let timer = requestAnimationFrame(begin);
  return () => {
    left = 0;
    clearTimeout(fitting);
    watch.disconnect();
    model.off("change:said", tell);
    model.off("change:over", over);
  };
}
export default { render };

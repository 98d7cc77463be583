"""What lies between a plot and its reader: zoom, keys, the whole window, and what a click changes.

Plotly's widget draws the whole plot anew for every message, however small. What a click changes is
therefore drawn here, into the plot's own SVG and in its coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from circuit_nb.figures.style import BODY, FONT, POSITIVE
from circuit_nb.panels.page import INK, PAPER

_CSS = f"""
.cnb-tools {{ display: flex; gap: 2px; font: {BODY}px/1 {FONT}; }}
.cnb-tools button {{ width: 26px; height: 26px; padding: 0; border: 1px solid transparent;
  border-radius: 4px; background: none; color: inherit; font-size: 15px; cursor: pointer; }}
.cnb-tools button:hover {{ background: rgba(128,128,128,.2); }}
.cnb-tools button:focus-visible, .cnb-room.cnb-keyed:focus {{ outline: 2px solid {POSITIVE};
  outline-offset: -2px; }}
.cnb-room:focus {{ outline: none; }}
.cnb-room .textpoint text, .cnb-over text {{ paint-order: stroke; stroke: {PAPER};
  stroke-width: 3px; stroke-linejoin: round; }}
.cnb-room .textpoint text, .cnb-over text, .cnb-room .xtick text {{ fill: {INK} !important; }}
.cnb-room .modebar {{ display: none !important; }}
.cnb-said {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }}
.cnb-panel[popover] {{ position: fixed; inset: 0; width: 100vw !important;
  height: 100vh !important; max-width: none; max-height: none; margin: 0; border: 0;
  padding: 12px 16px; overflow: auto; background: {PAPER}; background-color: Canvas;
  background-image: linear-gradient({PAPER}, {PAPER}); color: inherit; }}
"""

_SCRIPT = r"""
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
  window.dispatchEvent(new Event("resize"));
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
  tools.className = "cnb-tools";
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
  // Plotly's own buttons do the work; only ours are seen and reached by key.
  const zoom = (how) => {
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
    if (!within && !event.ctrlKey) event.stopPropagation();
  };
  const press = () => {
    room()?.classList.remove("cnb-keyed");
    room()?.focus({ preventScroll: true });
  };
  const tabbed = (event) => { if (event.key === "Tab") room()?.classList.add("cnb-keyed"); };

  let told = "";
  const measure = () => {
    const box = room(), drawn = plot()?._fullLayout;
    if (!box || !drawn) return;
    const large = panel().hasAttribute("popover");
    const rest = panel().scrollHeight - box.clientHeight;
    const height = large ? Math.max(300, Math.round(window.innerHeight - rest - 4)) : 0;
    const now = `${Math.round(box.clientWidth)} ${height}`;
    if (now === told || !box.clientWidth) return;
    told = now;
    model.send({ room: [Math.round(box.clientWidth), height] });
  };
  let width = 0;
  const watch = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now !== width) {
      width = now;
      window.dispatchEvent(new Event("resize"));
      measure();
    }
  });
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
    watch.disconnect();
    model.off("change:said", tell);
    model.off("change:over", over);
  };
}
export default { render };
"""


class Lens(anywidget.AnyWidget):
    """Buttons that zoom the plot of the panel it is in, and let the panel fill the window.

    The plot is in a box of the class `cnb-room`. That box takes the keyboard's focus: arrows walk,
    Enter pins, + − 0 zoom. The wheel zooms once the reader is in it, and scrolls the page before.

    Args:
        on_room: Called with the width and the height in pixels that the plot has; the height is 0
            where it may choose.
        on_walk: Called with `up`, `down`, `left` or `right`.
        on_pin: Called when the reader presses Enter.
        on_back: Called when the reader goes back to the whole picture.
        on_missing: Called when there is no plot yet.
        label: What the picture is called for those who do not see it.
        zooms: Whether there is a plot to zoom; otherwise there is the button for the window alone.
    """

    _esm = _SCRIPT
    _css = _CSS
    over = traitlets.List(traitlets.Any()).tag(sync=True)
    """Plotly shapes drawn over the plot's own: paths, circles, and words as labels of paths."""
    said = traitlets.Unicode("").tag(sync=True)
    """What is spoken by a screen reader, e.g. the node walked to."""
    label = traitlets.Unicode("").tag(sync=True)
    zooms = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        on_room: Callable[[int, int], None] | None = None,
        on_walk: Callable[[str], None] | None = None,
        on_pin: Callable[[], None] | None = None,
        on_back: Callable[[], None] | None = None,
        on_missing: Callable[[], None] | None = None,
        *,
        label: str = "",
        zooms: bool = True,
    ) -> None:
        super().__init__(label=label, zooms=zooms)
        self._on_room, self._on_walk = on_room, on_walk
        self._on_pin, self._on_back, self._on_missing = on_pin, on_back, on_missing
        self.on_msg(self._receive)

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        room, walk = content.get("room"), content.get("walk")
        if self._on_room and isinstance(room, list) and len(room) == 2:
            self._on_room(int(room[0]), int(room[1]))
        elif self._on_walk and walk in ("up", "down", "left", "right"):
            self._on_walk(walk)
        elif self._on_pin and content.get("pin"):
            self._on_pin()
        elif self._on_back and content.get("back"):
            self._on_back()
        elif self._on_missing and content.get("missing"):
            self._on_missing()

"""The HTML parts of the panels: one style sheet, and a box of HTML that can be clicked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from circuit_nb.figures.style import (
    BODY,
    FONT,
    GREY,
    NEGATIVE,
    POSITIVE,
    SMALL,
    TITLE,
    html_text,
)

PAPER = (
    "var(--jp-layout-color0, var(--colab-primary-surface-color, "
    "var(--vscode-editor-background, transparent)))"
)
"""What the panels stand on, in JupyterLab, Colab and VS Code; labels are edged with it."""

INK = (
    "var(--jp-ui-font-color1, var(--colab-primary-text-color, "
    f"var(--vscode-editor-foreground, {GREY})))"
)
"""The text colour of the theme; figures are grey where there is none."""

TWO_COLUMNS = 1060
"""Pixels from which answer and panels stand beside the graph: it needs 640 of five eighths."""

QUIET = "color-mix(in srgb, currentColor 72%, transparent)"
"""Text that stands back, still at 4.5 to 1 or more against the paper of any theme."""

STYLE = f"""
.cnb, .cnb :where(*), .cnb :where(*)::before {{ box-sizing: content-box; }}
.cnb :where(button, input, select, table, textarea) {{ box-sizing: border-box; }}
.cnb small {{ font-size: {SMALL}px; }}
.cnb-panel .cnb-html {{ overflow: visible; }}
.cnb {{ font: {BODY}px/1.45 {FONT}; color: var(--jp-ui-font-color1, inherit);
  --cnb-quiet: {QUIET}; }}
.cnb-title {{ font: 600 {TITLE}px/1.3 {FONT}; margin: 2px 0 4px; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; }}
.cnb-head {{ margin: 4px 0 2px; }}
.cnb-columns {{ display: flex; flex-wrap: wrap; gap: 0 24px; }}
.cnb-columns > div {{ flex: 1 1 300px; min-width: 0; }}
.cnb-title small, .cnb-faint {{ font-weight: 400; font-size: {SMALL}px; color: var(--cnb-quiet); }}
.cnb-scroll {{ max-height: 188px; overflow-y: auto; overflow-x: hidden; }}
.cnb table {{ border-collapse: collapse; width: 100%; table-layout: fixed; margin: 0; }}
.cnb td, .cnb th {{ padding: 2px 6px; text-align: left; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; border: 0; background: none; font-size: {BODY}px; }}
.cnb th {{ color: var(--cnb-quiet); font-weight: 400; font-size: {SMALL}px; }}
.cnb td:first-child, .cnb-head {{ padding-left: 2px; }}
.cnb td.cnb-number {{ text-align: right; font-variant-numeric: tabular-nums; width: 60px; }}
.cnb td.cnb-meter {{ width: 48px; }}
.cnb td.cnb-carrier {{ width: 34px; text-align: right; color: var(--cnb-quiet); }}
.cnb td.cnb-chain {{ white-space: normal; }}
.cnb [data-key] {{ cursor: pointer; }}
.cnb tr[data-key]:hover td {{ background: rgba(128,128,128,.15); }}
.cnb tr[data-key]:focus td {{ background: rgba(128,128,128,.2); }}
.cnb [data-key]:focus-visible {{ outline: 2px solid {POSITIVE}; outline-offset: -2px; }}
.cnb tr.cnb-on td {{ background: rgba(128,128,128,.22); font-weight: 600; }}
.cnb-bar {{ display: inline-block; height: 9px; border-radius: 2px; vertical-align: middle; }}
.cnb-plus {{ background: {POSITIVE}; }} .cnb-minus {{ background: {NEGATIVE}; }}
.cnb-chip {{ display: inline-block; padding: 1px 6px; margin: 1px 2px; border-radius: 9px;
  border: 1px solid rgba(128,128,128,.45); font-size: {BODY}px; white-space: pre;
  vertical-align: middle; line-height: 1.45; }}
.cnb-chips {{ line-height: 25px; }}
.cnb-then {{ margin: 0 4px 0 10px; vertical-align: middle; }}
.cnb-answer {{ position: relative; overflow: hidden; border-radius: 3px; }}
.cnb-answer::before {{ content: ""; position: absolute; inset: auto auto 0 0; height: 3px;
  width: var(--share); background: {GREY}; }}
.cnb-answer small {{ color: var(--cnb-quiet); }}
.cnb-chip.cnb-on {{ border-color: {POSITIVE}; box-shadow: inset 0 0 0 1px {POSITIVE}; }}
.cnb-text {{ margin: 3px 0; padding: 2px 6px; border-left: 2px solid rgba(128,128,128,.35);
  overflow-wrap: anywhere; }}
.cnb-text span {{ border-radius: 3px; padding: 1px 0; white-space: pre-wrap; }}
.cnb-empty {{ color: var(--cnb-quiet); font-style: italic; padding: 6px 2px; }}
.cnb-failure {{ border-left: 3px solid {NEGATIVE}; padding: 4px 8px; margin: 4px 0; }}
.cnb-failure pre {{ font-size: {SMALL}px; max-height: 180px; overflow: auto;
  white-space: pre-wrap; }}
.cnb-busy {{ color: var(--cnb-quiet); opacity: 0; animation: cnb-appear 0s linear 150ms forwards; }}
.cnb-busy i {{ display: inline-block; width: 90px; height: 4px; margin-left: 8px;
  border-radius: 2px;
  vertical-align: middle; background: linear-gradient(90deg, rgba(128,128,128,.25) 40%, {POSITIVE}
  50%, rgba(128,128,128,.25) 60%) 0 0 / 200% 100%; animation: cnb-slide 1.2s linear infinite; }}
@keyframes cnb-appear {{ to {{ opacity: 1; }} }}
@keyframes cnb-slide {{ from {{ background-position: 200% 0; }} to {{ background-position: 0; }} }}
@media (prefers-reduced-motion: reduce) {{ .cnb-busy i {{ animation: none; }} }}
.cnb-panel {{ min-width: 0; }}
.cnb-room > * {{ flex: 1 1 100%; min-width: 0; }}
.cnb-row .widget-html-content, .cnb-row .widget-html {{ line-height: 20px; }}
.cnb-row .widget-toggle-button {{ border-radius: 12px; height: 22px; line-height: 20px;
  box-shadow: none; border: 1px solid {GREY}; background: none; color: inherit; }}
.cnb-row .widget-toggle-button.mod-active {{ background: {GREY}; color: #ffffff; }}
.cnb-graphpanel .textpoint text, .cnb-subgraphpanel svg text[text-anchor="start"] {{
  paint-order: stroke;
  stroke: {PAPER}; stroke-width: 3px; stroke-linejoin: round; }}
.cnb-panel svg text[fill="{GREY}"], .cnb-graphpanel .textpoint text, .cnb-graphpanel .xtick text,
.cnb-graphpanel .ytick text {{
  fill: {INK} !important; }}
.cnb-explorer {{ container-type: inline-size; }}
@container (max-width: {TWO_COLUMNS - 1}px) {{
  .cnb-left, .cnb-right {{ display: contents; }}
  .cnb-both > *, .cnb-left > *, .cnb-right > * {{ flex: 1 1 100% !important; width: 100%; }}
  .cnb-subgraphpanel {{ order: 1; }} .cnb-answerpanel {{ order: 2; }}
  .cnb-graphpanel {{ order: 3; }} .cnb-turns {{ order: 4; }}
}}
@container (min-width: 781px) and (max-width: {TWO_COLUMNS - 1}px) {{
  .cnb-left > .cnb-subgraphpanel {{ flex: 5 1 0 !important; }}
  .cnb-right > .cnb-answerpanel {{ flex: 3 1 0 !important; }}
}}
@container (min-width: 781px) {{ .cnb-turns .cnb-scroll {{ max-height: 300px; }} }}
.cnb-tabs {{ display: flex; flex-wrap: wrap; margin: 0 0 2px;
  border-bottom: 1px solid rgba(128,128,128,.35); }}
.cnb-tabs [role="tab"] {{ padding: 4px; cursor: pointer; border-radius: 5px 5px 0 0;
  color: var(--cnb-quiet); }}
.cnb-tabs [role="tab"]:hover {{ background: rgba(128,128,128,.12); }}
.cnb-tabs [aria-selected="true"] {{ color: inherit; font-weight: 600;
  box-shadow: inset 0 -2px 0 {POSITIVE}; }}
.cnb-explorer .cnb-promptpanel .cnb-title, .cnb-explorer .cnb-findpanel .cnb-title {{
  display: none; }}
.cnb-panel .widget-box:not(.cnb-room), .cnb-turns {{ overflow: visible; }}
.cnb-whole {{ white-space: normal; font-weight: 400; }}
.cnb-then {{ font-weight: 400; }}
.cnb-share {{ font-weight: 400; font-size: {BODY}px; }}
.cnb-plot > * {{ min-width: 0; width: 100%; }}
.cnb-plot > .cnb-drawing {{ display: none; }}
@supports selector(:has(*)) {{
  .cnb-plot:not(:has(.main-svg)) > .cnb-drawing {{ display: block; }}
}}
.cnb-now {{ border-color: {POSITIVE}; }}
.cnb-panel .widget-button, .cnb-panel .widget-toggle-button {{ height: 24px;
  line-height: 22px; padding: 0 8px; color: inherit;
  font-size: {BODY}px; border: 1px solid rgba(128,128,128,.5); border-radius: 4px;
  background: none; box-shadow: none; }}
.cnb-panel .widget-button:hover, .cnb-panel .widget-toggle-button:hover {{ box-shadow: none;
  background: rgba(128,128,128,.15); }}
.cnb-panel .widget-toggle-button.mod-active {{ background: rgba(0,114,178,.18); color: inherit;
  border-color: {POSITIVE}; }}
.cnb-rowname {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.cnb-more {{ border-left: 2px solid rgba(128,128,128,.35); margin-left: 12px; padding-left: 6px; }}
.cnb-find {{ position: relative; }}
.cnb-find input {{ width: 100%; box-sizing: border-box; font: inherit; color: inherit; height: 26px;
  padding: 2px 8px; border: 1px solid {GREY}; border-radius: 4px; background: transparent; }}
.cnb-find input::placeholder {{ color: var(--cnb-quiet); opacity: 1; }}
.cnb-find input:focus-visible {{ outline: 2px solid {POSITIVE}; outline-offset: 1px; }}
.cnb-found {{ position: absolute; z-index: 20; top: 100%; right: 0; min-width: 100%;
  width: max-content; max-width: 560px; max-height: 300px; overflow-y: auto;
  border: 1px solid {GREY}; border-radius: 4px;
  background: linear-gradient({PAPER}, {PAPER}), Canvas;
  box-shadow: 0 4px 14px rgba(0,0,0,.25); }}
.cnb-found [data-key] {{ padding: 3px 8px; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }}
.cnb-found [data-key]:hover, .cnb-found [aria-selected="true"] {{
  background: rgba(128,128,128,.2); }}
.cnb-circuit {{ position: relative; }}
.cnb-circuit svg {{ position: absolute; inset: 0; }}
.cnb-circuit svg text {{ font-size: {SMALL}px; fill: {INK}; paint-order: stroke; stroke: {PAPER};
  stroke-width: 3px; stroke-linejoin: round; }}
.cnb-box {{ position: absolute; box-sizing: border-box; border: 1.5px solid var(--hue);
  border-radius: 7px; display: flex; flex-direction: column; justify-content: center;
  background: linear-gradient({PAPER}, {PAPER}); }}
.cnb-box::before {{ content: ""; position: absolute; inset: 0; border-radius: 6px;
  background: var(--hue); opacity: .06; pointer-events: none; }}
.cnb-box-group::before {{ opacity: .16; }}
.cnb-box-guest {{ border-style: dashed; }} .cnb-box-guest::before {{ opacity: .16; }}
.cnb-box.cnb-on {{ box-shadow: 0 0 0 2px var(--hue); }}
.cnb-box.cnb-off {{ border-style: dotted; }}
.cnb-box.cnb-off::before {{ opacity: 0; }}
.cnb-box button, .cnb-box select {{ font: inherit; color: inherit; background: none; border: 0;
  margin: 0; cursor: pointer; position: relative; }}
.cnb .cnb-name {{ padding: 2px 4px; line-height: 15px !important; text-align: center; width: 100%;
  white-space: nowrap; overflow: hidden; border-radius: 6px; }}
.cnb-off .cnb-name, .cnb-less .cnb-name {{ color: var(--cnb-quiet) !important; }}
.cnb-off .cnb-name {{ text-decoration: line-through; }}
.cnb-foot {{ display: flex; align-items: center; justify-content: center; gap: 4px; height: 17px;
  padding: 0 5px; font-size: {SMALL}px; position: relative; }}
.cnb-foot .cnb-told {{ flex: 0 0 auto; white-space: nowrap; }}
.cnb-menu {{ position: relative; flex: 0 0 16px; height: 16px; text-align: center;
  line-height: 15px; border-radius: 3px; }}
.cnb-menu::before {{ content: "▾"; }}
.cnb-menu:hover {{ background: rgba(128,128,128,.25); }}
.cnb-menu select {{ position: absolute !important; inset: 0; width: 100%; padding: 0; opacity: 0;
  height: 100%; }}
.cnb-menu:focus-within {{ outline: 2px solid {POSITIVE}; outline-offset: 1px; }}
.cnb-foot option {{ color: CanvasText; background: Canvas; }}
.cnb .cnb-switch {{ width: 24px; height: 14px; flex: 0 0 24px; padding: 0; border-radius: 7px;
  border: 1.5px solid currentColor !important; }}
.cnb-switch i {{ position: absolute; top: 1.5px; left: 1.5px; width: 8px; height: 8px;
  border-radius: 50%; background: currentColor; }}
.cnb-switch[aria-checked="true"] {{ background: {POSITIVE} !important;
  border-color: {POSITIVE} !important; }}
.cnb-switch[aria-checked="true"] i {{ left: 11.5px; background: #ffffff; }}
.cnb-circuit :focus-visible {{ outline: 2px solid {POSITIVE}; outline-offset: 1px; }}
.cnb-panel .widget-inline-hbox, .cnb-panel .widget-box, .cnb-panel .widget-html-content {{
  min-width: 0; }}
"""
"""The style sheet of every panel; colours of text follow the notebook's theme.

What notebooks say of every element or button it says itself: JupyterLab 3 and Notebook 6 size boxes
in two other ways, JupyterLab 4 gives buttons its own corners, JupyterLab 3 cuts widgets at their
edge.
"""


def busy_html(words: str) -> str:
    """A line that says what is being done; it shows itself when that takes a while."""
    return f'<div class="cnb cnb-busy" role="status">{html_text(words)}<i></i></div>'


KEYS = """
// A key typed in a panel is the panel's. Notebook 7 takes keys before a panel sees them, and asks
// the focused element alone. With Ctrl, Alt or Meta they are the notebook's, as is Shift+Enter.
function ownKeys(event) {
  if (!event.target.closest?.(".cnb-panel")) return;
  const theirs = event.ctrlKey || event.altKey || event.metaKey
    || (event.shiftKey && event.key === "Enter");
  event.target.toggleAttribute("data-lm-suppress-shortcuts", !theirs);
}
if (!window.cnbKeys) {
  window.cnbKeys = true;
  window.addEventListener("keydown", ownKeys, { capture: true });
}
"""
"""Begins the script of every widget that takes keys."""

_SCRIPT = """
const ARROWS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };

function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "cnb";
  el.append(box);
  const all = () => [...box.querySelectorAll("[data-key]")];
  const find = (key) => all().find((e) => e.dataset.key === key);
  const draw = () => {
    const scrolled = [...box.querySelectorAll(".cnb-scroll")].map((part) => part.scrollTop);
    const focused = document.activeElement?.closest?.("[data-key]")?.dataset.key;
    const within = box.contains(document.activeElement);
    box.innerHTML = model.get("html");
    const parts = box.querySelectorAll(".cnb-scroll");
    parts.forEach((part, i) => { part.scrollTop = scrolled[i] || 0; });
    if (within && focused) find(focused)?.focus({ preventScroll: true });
  };
  const report = (event) => {
    const hit = event.target.closest("[data-key]");
    if (hit && box.contains(hit) && hit.tagName !== "SELECT") model.send({ key: hit.dataset.key });
  };
  // Arrows lead where the element says, else to its neighbour in the list.
  const neighbour = (from, way) => {
    if (from.dataset[way] !== undefined) return find(from.dataset[way]);
    const list = from.closest('[role="listbox"], [role="tablist"], [data-row]');
    if (!list) return null;
    const members = [...list.querySelectorAll("[data-key]")];
    const step = { up: -1, left: -1, down: 1, right: 1 }[way];
    return members[members.indexOf(from) + step];
  };
  box.addEventListener("click", report);
  box.addEventListener("change", (event) => {
    const hit = event.target.closest("select[data-key]");
    if (hit) model.send({ key: hit.dataset.key + "=" + hit.value });
  });
  box.addEventListener("keydown", (event) => {
    const from = event.target.closest("[data-key]");
    if (!from || event.target.tagName === "SELECT") return;
    if ((event.key === "Enter" && !event.shiftKey) || event.key === " ") {
      event.preventDefault();
      report(event);
    } else if (ARROWS[event.key] && !event.altKey && !event.ctrlKey && !event.metaKey) {
      const next = neighbour(from, ARROWS[event.key]);
      if (next) {
        event.preventDefault();
        next.focus();
      }
    }
  });
  model.on("change:html", draw);
  draw();
  let watch = null, waiting = 0;
  if (model.get("measured")) {
    watch = new ResizeObserver(([entry]) => {
      clearTimeout(waiting);
      const width = Math.floor(entry.contentRect.width);
      waiting = setTimeout(() => {
        if (width > 0 && width !== model.get("width")) {
          model.set("width", width);
          model.save_changes();
        }
      }, 60);
    });
    watch.observe(el);
  }
  return () => {
    model.off("change:html", draw);
    watch?.disconnect();
    clearTimeout(waiting);
  };
}
export default { render };
"""


_FIT = """
function render({ el }) {
  let width = 0;
  const watch = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now !== width) {
      width = now;
      window.dispatchEvent(new Event("resize"));
    }
  });
  requestAnimationFrame(() => { if (el.parentElement) watch.observe(el.parentElement); });
  return () => watch.disconnect();
}
export default { render };
"""


class Fit(anywidget.AnyWidget):
    """Nothing to see: tells plots in the same box when its width changes.

    Plotly follows the window's width alone, not that of the box it is in.
    """

    _esm = _FIT


class Clickable(anywidget.AnyWidget):
    """HTML whose elements with a `data-key` can be clicked, or chosen with Enter.

    Arrow keys lead to the element that `data-up`, `data-down`, `data-left` or `data-right` names,
    else to the neighbour in a list. A `<select>` with a `data-key` reports the key, `=` and what
    was chosen. Foreign text in the HTML must be escaped with `style.html_text`.

    Args:
        on_click: Called with the key of the element.
        measured: Whether `width` is to follow the width on the page.
    """

    _esm = KEYS + _SCRIPT
    _css = STYLE
    html = traitlets.Unicode("").tag(sync=True)
    """What is shown."""
    measured = traitlets.Bool(False).tag(sync=True)
    """Whether `width` follows the width on the page."""
    width = traitlets.Int(0).tag(sync=True)
    """Pixels there are on the page; 0 where that is not known."""

    def __init__(self, on_click: Callable[[str], None], *, measured: bool = False) -> None:
        super().__init__(measured=measured)
        self.add_class("cnb-html")
        self._on_click = on_click
        self.on_msg(self._receive)

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and isinstance(content.get("key"), str):
            self._on_click(content["key"])

    def click(self, key: str) -> None:
        """Do what a click on the element of that key does.

        Args:
            key: The element's key; for a choice, followed by `=` and what is chosen.

        Raises:
            ValueError: If nothing of that key is shown.
        """
        name, chosen, value = key.partition("=")
        shown = f'data-key="{name}"' in self.html
        if not shown or (chosen and f'value="{value}"' not in self.html):
            raise ValueError(f"Nothing shown here has the key {key!r}.")
        self._on_click(key)

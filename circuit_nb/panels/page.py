"""The HTML parts of the panels: one style sheet, and a box of HTML that can be clicked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from circuit_nb.figures.style import BODY, FONT, GREY, NEGATIVE, POSITIVE, SMALL, TITLE

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

STYLE = f"""
.cnb {{ font: {BODY}px/1.45 {FONT}; color: var(--jp-ui-font-color1, inherit); }}
.cnb-title {{ font: 600 {TITLE}px/1.3 {FONT}; margin: 2px 0 4px; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; }}
.cnb-head {{ margin: 4px 0 2px; }}
.cnb-columns {{ display: flex; flex-wrap: wrap; gap: 0 24px; }}
.cnb-columns > div {{ flex: 1 1 300px; min-width: 0; }}
.cnb-title small, .cnb-faint {{ font-weight: 400; font-size: {SMALL}px; color: {GREY}; }}
.cnb-scroll {{ max-height: 188px; overflow-y: auto; overflow-x: hidden; }}
.cnb table {{ border-collapse: collapse; width: 100%; table-layout: fixed; margin: 0; }}
.cnb td, .cnb th {{ padding: 2px 6px; text-align: left; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; border: 0; background: none; font-size: {BODY}px; }}
.cnb th {{ color: {GREY}; font-weight: 400; font-size: {SMALL}px; }}
.cnb td.cnb-number {{ text-align: right; font-variant-numeric: tabular-nums; width: 60px; }}
.cnb td.cnb-meter {{ width: 48px; }}
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
.cnb-answer small {{ color: {GREY}; }}
.cnb-chip.cnb-on {{ border-color: {POSITIVE}; box-shadow: inset 0 0 0 1px {POSITIVE}; }}
.cnb-text {{ margin: 3px 0; padding: 2px 6px; border-left: 2px solid rgba(128,128,128,.35);
  overflow-wrap: anywhere; }}
.cnb-text span {{ border-radius: 3px; padding: 1px 0; white-space: pre-wrap; }}
.cnb-empty {{ color: {GREY}; font-style: italic; padding: 6px 2px; }}
.cnb-failure {{ border-left: 3px solid {NEGATIVE}; padding: 4px 8px; margin: 4px 0; }}
.cnb-failure pre {{ font-size: {SMALL}px; max-height: 180px; overflow: auto;
  white-space: pre-wrap; }}
.cnb-busy {{ color: {GREY}; opacity: 0; animation: cnb-appear 0s linear 150ms forwards; }}
.cnb-busy i {{ display: inline-block; width: 90px; height: 4px; margin-left: 8px;
  border-radius: 2px;
  vertical-align: middle; background: linear-gradient(90deg, rgba(128,128,128,.25) 40%, {POSITIVE}
  50%, rgba(128,128,128,.25) 60%) 0 0 / 200% 100%; animation: cnb-slide 1.2s linear infinite; }}
@keyframes cnb-appear {{ to {{ opacity: 1; }} }}
@keyframes cnb-slide {{ from {{ background-position: 200% 0; }} to {{ background-position: 0; }} }}
.cnb-panel {{ min-width: 0; }}
.cnb-room > * {{ flex: 1 1 100%; min-width: 0; }}
.cnb-row .widget-html-content, .cnb-row .widget-html {{ line-height: 20px; }}
.cnb-row .widget-toggle-button {{ border-radius: 12px; height: 22px; line-height: 20px;
  box-shadow: none; border: 1px solid {GREY}; background: none; color: inherit; }}
.cnb-row .widget-toggle-button.mod-active {{ background: {GREY}; color: #ffffff; }}
.cnb-graphpanel .textpoint text, .cnb-subgraphpanel svg text[text-anchor="start"] {{
  paint-order: stroke;
  stroke: {PAPER}; stroke-width: 3px; stroke-linejoin: round; }}
.cnb-panel svg text[fill="{GREY}"], .cnb-graphpanel .textpoint text, .cnb-graphpanel .xtick text {{
  fill: {INK} !important; }}
.cnb-panel .widget-inline-hbox, .cnb-panel .widget-box, .cnb-panel .widget-html-content {{
  min-width: 0; }}
"""
"""The style sheet of every panel; colours of text follow the notebook's theme."""

_SCRIPT = """
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "cnb";
  el.append(box);
  const draw = () => {
    const scrolled = [...box.querySelectorAll(".cnb-scroll")].map((part) => part.scrollTop);
    const focused = document.activeElement?.closest?.("[data-key]")?.dataset.key;
    const within = box.contains(document.activeElement);
    box.innerHTML = model.get("html");
    const parts = box.querySelectorAll(".cnb-scroll");
    parts.forEach((part, i) => { part.scrollTop = scrolled[i] || 0; });
    if (within && focused) {
      [...box.querySelectorAll("[data-key]")].find((e) => e.dataset.key === focused)?.focus();
    }
  };
  const report = (event) => {
    const hit = event.target.closest("[data-key]");
    if (hit && box.contains(hit)) model.send({ key: hit.dataset.key });
  };
  box.addEventListener("click", report);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      report(event);
    }
  });
  model.on("change:html", draw);
  draw();
  return () => model.off("change:html", draw);
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

    Foreign text in the HTML must be escaped with `style.html_text`.

    Args:
        on_click: Called with the key of the element.
    """

    _esm = _SCRIPT
    _css = STYLE
    html = traitlets.Unicode("").tag(sync=True)
    """What is shown."""

    def __init__(self, on_click: Callable[[str], None]) -> None:
        super().__init__()
        self._on_click = on_click
        self.on_msg(self._receive)

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and isinstance(content.get("key"), str):
            self._on_click(content["key"])

    def click(self, key: str) -> None:
        """Do what a click on the element of that key does.

        Raises:
            ValueError: If nothing of that key is shown.
        """
        if f'data-key="{key}"' not in self.html:
            raise ValueError(f"Nothing shown here has the key {key!r}.")
        self._on_click(key)

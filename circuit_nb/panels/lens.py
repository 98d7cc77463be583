"""What lies between a plot and its reader: zoom, keys, the whole window, and what a click changes.

Plotly's widget draws the whole plot anew for every message, however small. What a click changes is
therefore drawn here, into the plot's own SVG and in its coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from circuit_nb.figures.style import BODY, FONT, POSITIVE
from circuit_nb.panels.page import INK, KEYS, PAPER

NARROWEST = 640
"""A picture is laid out for this width at least, pixels; in a narrower place it scrolls."""

_CSS = f"""
.cnb-lens {{ display: flex; gap: 2px; font: {BODY}px/1 {FONT}; }}
.cnb-lens button {{ box-sizing: border-box; width: 26px; height: 26px; padding: 0;
  border: 1px solid transparent; border-radius: 4px; background: none; color: inherit;
  font-size: 15px; cursor: pointer; }}
.cnb-lens button:hover {{ background: rgba(128,128,128,.2); }}
.cnb-lens button:focus-visible, .cnb-room.cnb-keyed:focus {{ outline: 2px solid {POSITIVE};
  outline-offset: -2px; }}
.cnb-room:focus {{ outline: none; }}
.cnb-room {{ overflow: auto hidden; }}
.cnb-panel .cnb-room > * {{ min-width: {NARROWEST}px; }}
.cnb-room .textpoint text, .cnb-over text {{ paint-order: stroke; stroke: {PAPER};
  stroke-width: 4px; stroke-linejoin: round; }}
.cnb-room .textpoint text, .cnb-over text, .cnb-room .xtick text, .cnb-room .ytick text {{
  fill: {INK} !important; }}
.cnb-room .modebar {{ display: none !important; }}
.cnb-said {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }}
.cnb-panel[popover] {{ position: fixed; inset: 0; width: 100vw !important;
  height: 100vh !important; max-width: none; max-height: none; margin: 0; border: 0;
  padding: 12px 16px; overflow: auto; background: {PAPER}; background-color: Canvas;
  background-image: linear-gradient({PAPER}, {PAPER}); color: inherit; }}
"""

_SCRIPT = (Path(__file__).parent / "lens.js").read_text(encoding="utf-8")


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

    _esm = KEYS + _SCRIPT
    _css = _CSS
    over = traitlets.List(traitlets.Any()).tag(sync=True)
    """Plotly shapes drawn over the plot's own: paths, circles, and words as labels of paths."""
    said = traitlets.Unicode("").tag(sync=True)
    """What is spoken by a screen reader, e.g. the node walked to."""
    narrowest = traitlets.Int(NARROWEST).tag(sync=True)
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

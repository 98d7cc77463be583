"""Plotly's shapes as plain SVG, and how a figure's coordinates become pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from circuit_nb.figures.view import Spec

_STEP = re.compile(r"([MLC])([^MLC]*)")


class Area:
    """Maps data coordinates to pixels of the drawing."""

    def __init__(self, layout: Spec, width: int) -> None:
        self.width = float(layout.get("width") or width)
        self.height = float(layout["height"])
        margin = layout["margin"]
        self.left, self.right = float(margin["l"]), self.width - float(margin["r"])
        self.top, self.bottom = float(margin["t"]), self.height - float(margin["b"])
        self._x, self._y = layout["xaxis"]["range"], layout["yaxis"]["range"]

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self._x
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self._y
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)


def begin(shape: Spec, area: Area) -> tuple[float, float]:
    """Where a path begins, pixels."""
    _, numbers = _STEP.findall(shape["path"])[0]
    x, y = (float(v) for v in numbers.split())
    return area.x(x), area.y(y)


def outline(shape: Spec, area: Area) -> str:
    """A path or a circle, of fixed size where the shape says so."""
    line = shape["line"]
    pen = (
        f'fill="none" stroke="{line["color"]}" stroke-width="{line["width"]:g}" '
        f'opacity="{shape.get("opacity", 1):g}"'
    )
    if shape["type"] == "circle":
        at = area.x(shape["xanchor"]), area.y(shape["yanchor"])
        return f'<circle cx="{at[0]:g}" cy="{at[1]:g}" r="{shape["x1"]:g}" {pen}/>'
    return f'<path d="{path_data(shape, area)}" {pen}/>'


def path_data(shape: Spec, area: Area) -> str:
    """What SVG calls `d`, of a shape that is a path."""
    return "".join(_steps(shape, area, shape.get("xsizemode") == "pixel"))


def _steps(shape: Spec, area: Area, fixed: bool) -> Iterator[str]:
    for kind, numbers in _STEP.findall(shape["path"]):
        values = [float(v) for v in numbers.split()]
        for i, value in enumerate(values):
            if fixed:
                at = area.y(shape["yanchor"]) - value if i % 2 else area.x(shape["xanchor"]) + value
            else:
                at = area.y(value) if i % 2 else area.x(value)
            values[i] = at
        yield kind + " ".join(f"{v:g}" for v in values)

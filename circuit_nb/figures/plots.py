"""Plots with two axes: a layout that reads on light and dark, and maps of signed numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.style import (
    BODY,
    FONT,
    GREY,
    NEGATIVE,
    POSITIVE,
    SMALL,
    TICKS,
    plotly_text,
    signed,
    text_width,
)
from circuit_nb.figures.view import Spec

LINE = "rgba(118,118,118,0.35)"
"""Axes and grids: grey that reads on both backgrounds and stays behind the data."""
LEAST_TICK = 26
"""Height of a line of tick labels, pixels."""
TINTS = ("rgba(213,94,0,0.3)", "rgba(0,114,178,0.3)")
"""Colours under numbers: no one colour of text reads on full ones and on both backgrounds."""
MAP_WIDTH = 320
"""How wide the cells of a map are together in the narrowest panel, pixels."""


def axes(x: str, y: str, *, height: int = 320, title: str = "") -> dict[str, Any]:
    """A layout with titled axes.

    Args:
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        height: Pixels.
        title: A line above, already escaped; none if empty.
    """
    axis = {"showgrid": False, "zerolinecolor": LINE, "linecolor": LINE, "showline": True, **TICKS}
    layout: dict[str, Any] = {
        "template": "none",
        "font": {"family": FONT, "size": BODY, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "height": height,
        "margin": {"l": 62, "r": 16, "t": 34 if title else 14, "b": 46},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {"title": {"text": x, "standoff": 8}, **axis},
        "yaxis": {"title": {"text": y, "standoff": 8}, **axis},
    }
    if title:
        layout["title"] = {"text": title, "x": 0, "xref": "container", "font": {"size": BODY}}
    return layout


def signed_map(
    values: npt.NDArray[np.floating[Any]],
    rows: Sequence[str],
    columns: Sequence[str],
    hover: Sequence[Sequence[str]],
    *,
    cell: int = 24,
    written: Callable[[float], str] | None = None,
    legend: str = "",
) -> Spec:
    """Numbers as coloured cells: blue what raises, vermillion what lowers, nothing where 0.

    Args:
        values: (rows, columns), the first row at the top.
        rows: Names, not escaped.
        columns: Names, not escaped.
        hover: Of each cell, escaped.
        cell: Height of a row, pixels.
        written: How cells that matter show their numbers; not at all if `None`.
        legend: What the colours stand for; without it no colour bar is drawn.
    """
    most = float(np.abs(values).max(initial=0)) or 1.0
    ends = (NEGATIVE, POSITIVE) if written is None else TINTS
    scale = [[0.0, ends[0]], [0.5, "rgba(118,118,118,0.06)"], [1.0, ends[1]]]
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": values.tolist(),
        "zmin": -most,
        "zmax": most,
        "colorscale": scale,
        "showscale": bool(legend),
        "xgap": 1,
        "ygap": 1,
        "hovertext": [list(row) for row in hover],
        "hoverinfo": "text",
    }
    if legend:
        trace["colorbar"] = _colour_bar(most, legend)
    data: list[dict[str, Any]] = [trace]
    if written is not None:
        data.append(_numbers(values, most, written))
    return {"data": data, "layout": _map_layout(rows, columns, cell)}


def _map_layout(rows: Sequence[str], columns: Sequence[str], cell: int) -> dict[str, Any]:
    """Room for the names of rows and columns, slanted where they would not fit."""
    left = max((text_width(r, BODY) for r in rows), default=0) + 16
    slanted = any(text_width(c, BODY) > MAP_WIDTH / len(columns) for c in columns)
    below = LEAST_TICK
    if slanted:
        below += 0.62 * max(text_width(c, BODY) for c in columns)
    layout = axes("", "", height=round(cell * len(rows) + below + 24))
    layout["margin"] = {"l": round(left), "r": 10, "t": 14, "b": round(below)}
    for axis, names in (("xaxis", columns), ("yaxis", rows)):
        layout[axis] |= {
            "showline": False,
            "zeroline": False,
            "tickvals": list(range(len(names))),
            "ticktext": [plotly_text(n) for n in names],
        }
    layout["xaxis"]["tickangle"] = -45 if slanted else 0
    layout["xaxis"]["range"] = [-0.5, len(columns) - 0.5]
    layout["yaxis"]["range"] = [len(rows) - 0.5, -0.5]
    layout["showlegend"] = False
    return layout


def _colour_bar(most: float, legend: str) -> dict[str, Any]:
    ticks = [-most, 0, most]
    return {
        "title": {"text": legend, "side": "right"},
        "thickness": 10,
        "tickvals": ticks,
        "ticktext": [signed(t) for t in ticks],
        "outlinewidth": 0,
    }


def _numbers(
    values: npt.NDArray[np.floating[Any]], most: float, written: Callable[[float], str]
) -> dict[str, Any]:
    """The numbers of the cells that matter. Plotly would choose their colour for a white page."""
    places = np.argwhere(np.abs(values) >= 0.02 * most)
    shown = [float(values[i, j]) for i, j in places]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [int(j) for _, j in places],
        "y": [int(i) for i, _ in places],
        "text": [written(v) for v in shown],
        "textfont": {
            "size": SMALL,
            "color": [GREY if abs(v) < 0.1 * most else (POSITIVE, NEGATIVE)[v < 0] for v in shown],
        },
        "hoverinfo": "skip",
    }

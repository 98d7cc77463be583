"""Many prompts: the circuit they share, who uses what, and whose circuit is another.

Data come as plain values, so that nothing here knows of sets.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from circuit_nb.figures.plots import LINE, axes, signed_map
from circuit_nb.figures.style import (
    GREY,
    LEADING,
    NEGATIVE,
    POSITIVE,
    SMALL,
    number,
    percent,
    plotly_text,
    shorten,
    text_width,
    token_text,
)

Place = tuple[int, int, int]
"""Layer, role and index of a node: layer -1 is a token, -2 the answer."""
NAME_LENGTH, MOST_EDGES, APART = 34, 60, 15
NARROW, LOW = 440.0, 300.0
"""Size of a map for which names are placed, pixels: in a wider one they lie farther apart."""
SIDES = {
    "top center": (0, 1),
    "bottom center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top right": (1, 1),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "bottom left": (-1, -1),
}
"""Where a name can stand beside its point, and which way that is."""


def average_circuit_figure(
    nodes: Mapping[Place, tuple[str, float, float]],
    edges: Sequence[tuple[Place, Place, float, float]],
    roles: Sequence[str],
    n_prompts: int,
    hollow: Container[Place] = (),
) -> go.Figure:
    """The circuit that prompts share: places along x, layers up y, size by share of the prompts.

    Args:
        nodes: Label, share of the prompts and mean influence of each feature.
        edges: Source, target, share of the prompts, and what passes along it on average, signed.
        roles: Names of the places, in reading order.
        n_prompts: How many prompts there are.
        hollow: Nodes that are drawn as rings.
    """
    drawn = sorted(edges, key=lambda e: -abs(e[3]))[:MOST_EDGES]
    ends = {end for a, b, *_ in drawn for end in (a, b)}
    features = sorted(n for n in {*nodes, *ends} if n[0] >= 0)
    columns = sorted({n[1] for n in {*features, *ends} if n[1] >= 0})
    heights = {layer: i + 1 for i, layer in enumerate(sorted({n[0] for n in features}))}
    top = len(heights) + 1
    x, widths = _spread(features, columns)
    places: dict[Place, tuple[float, float]] = {n: (x[n], float(heights[n[0]])) for n in features}
    centre = {c: widths[c] for c in columns}
    tokens = {(-1, c, -1): (centre[c], 0.0) for c in columns}
    answer: Place = (-2, -1, -1)
    at = {**places, **tokens, answer: (centre[columns[-1]] if columns else 0.0, float(top))}
    most = max((abs(e[3]) for e in drawn), default=1.0) or 1.0
    data = [_edge(at[a], at[b], flow, most) for a, b, _, flow in drawn]
    known = {n: nodes.get(n, (f"L{n[0]} #{n[2]}", float("nan"), 0.0)) for n in features}
    data.append(_points(places, known, hollow))
    ticks = [0, *heights.values(), top]
    layout = axes("", "", height=max(320, 34 * top + 110))
    layout["xaxis"] |= {
        "showline": False,
        "zeroline": False,
        "tickvals": [centre[c] for c in columns],
        "ticktext": [plotly_text(token_text(roles[c])) for c in columns],
        "tickangle": -45 if len(columns) > 6 else 0,
    }
    names = ["word", *(f"layer {k}" for k in heights), f"answer of {n_prompts} prompts"]
    layout["yaxis"] |= {"showline": False, "zeroline": False, "tickvals": ticks, "ticktext": names}
    layout["margin"] |= {"l": 150, "r": 130 if len(features) <= APART else 16, "b": 90}
    layout["showlegend"] = False
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": [p[0] for p in (*tokens.values(), at[answer])],
        "y": [p[1] for p in (*tokens.values(), at[answer])],
        "marker": {"symbol": "square", "size": 9, "color": GREY},
        "hoverinfo": "skip",
    }
    return go.Figure({"data": [*data, marks], "layout": layout})


def _spread(
    features: Sequence[Place], columns: Sequence[int]
) -> tuple[dict[Place, float], dict[int, float]]:
    """Where nodes lie side by side, and the middle of each place."""
    cells: dict[tuple[int, int], list[Place]] = {}
    for node in features:
        cells.setdefault((node[0], node[1]), []).append(node)
    x: dict[Place, float] = {}
    middle: dict[int, float] = {}
    left = 0.0
    for column in columns:
        wide = max((len(v) for (_, c), v in cells.items() if c == column), default=1)
        width = max(1.0, 0.55 * wide)
        middle[column] = left + width / 2
        for (_, c), here in cells.items():
            if c == column:
                for i, node in enumerate(here):
                    x[node] = middle[column] + (i - (len(here) - 1) / 2) * 0.55
        left += width
    return x, middle


def _edge(
    a: tuple[float, float], b: tuple[float, float], flow: float, most: float
) -> dict[str, Any]:
    strength = (abs(flow) / most) ** 0.5
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [a[0], b[0]],
        "y": [a[1], b[1]],
        "line": {"color": POSITIVE if flow > 0 else NEGATIVE, "width": 0.8 + 4 * strength},
        "opacity": 0.2 + 0.6 * strength,
        "hoverinfo": "skip",
    }


def _points(
    places: Mapping[Place, tuple[float, float]],
    known: Mapping[Place, tuple[str, float, float]],
    hollow: Container[Place],
) -> dict[str, Any]:
    order = list(places)
    few = len(order) <= APART
    words = [
        plotly_text(shorten(known[n][0].rpartition(" @ ")[0] or known[n][0], 24)) for n in order
    ]
    return {
        "type": "scatter",
        "mode": "markers+text" if few else "markers",
        "text": words if few else None,
        "textposition": "middle right",
        "textfont": {"size": SMALL, "color": GREY},
        "cliponaxis": False,
        "x": [places[n][0] for n in order],
        "y": [places[n][1] for n in order],
        "marker": {
            "size": [8 + 8 * (known[n][1] if known[n][1] == known[n][1] else 0) for n in order],
            "symbol": ["circle-open" if n in hollow else "circle" for n in order],
            "color": POSITIVE,
            "line": {"width": 1, "color": GREY},
        },
        "hovertext": [
            f"{plotly_text(known[n][0])}<br>{percent(known[n][1])} of the prompts, "
            f"mean influence {percent(known[n][2])}"
            for n in order
        ],
        "hoverinfo": "text",
    }


def usage_figure(
    prompts: Sequence[str], features: Sequence[str], influence: npt.NDArray[Any]
) -> go.Figure:
    """How influential features are on prompts, as a heat map; colours are square roots.

    Args:
        prompts: Names of the rows.
        features: Names of the columns.
        influence: (prompts, features).
    """
    rows = [shorten(p, NAME_LENGTH) for p in prompts]
    columns = [shorten(f, NAME_LENGTH) for f in features]
    hover = [
        [
            f"{plotly_text(f)}<br>{plotly_text(shorten(p, 80))}<br>influence {percent(v)}"
            for f, v in zip(features, row, strict=True)
        ]
        for p, row in zip(prompts, influence.tolist(), strict=True)
    ]
    cell = 20 if len(rows) <= 60 else max(4, 1200 // len(rows))
    spec = signed_map(
        np.sqrt(np.asarray(influence, dtype=np.float64)), rows, columns, hover, cell=cell
    )
    left = max((text_width(c, SMALL) for c in columns), default=0)
    layout = spec["layout"]
    layout["xaxis"] |= {"tickangle": -60, "tickfont": {"size": SMALL}}
    layout["margin"]["b"] = round(0.9 * left) + 24
    layout["margin"]["l"] = max(layout["margin"]["l"], round(0.5 * left))
    layout["height"] = cell * len(rows) + layout["margin"]["b"] + 24
    return go.Figure(spec)


def prompts_figure(
    points: npt.NDArray[Any],
    prompts: Sequence[str],
    likeness: npt.NDArray[Any],
    outliers: npt.NDArray[np.bool_],
    explained: tuple[float, float],
    picked: int | None = None,
) -> go.Figure:
    """Prompts by circuit: near each other where they use the same features.

    Args:
        points: (prompts, 2).
        prompts: Their names.
        likeness: To the others' average circuit, (prompts,).
        outliers: Whose circuit is another, (prompts,).
        explained: Share of the variance along each axis.
        picked: The prompt that has a ring around it.
    """
    hover = [
        f"{plotly_text(shorten(prompt, 80))}<br>likeness to the others {number(float(like))}"
        for prompt, like in zip(prompts, likeness, strict=True)
    ]
    data: list[dict[str, Any]] = []
    few = [m for m in (outliers, ~outliers) if m.sum() <= APART]
    named: list[int] = [i for mask in few for i in np.flatnonzero(mask).tolist()]
    sides = _sides(points, {i: shorten(prompts[i], 30) for i in named})
    for mask, colour, symbol, name in (
        (~outliers, POSITIVE, "circle", "like the others"),
        (outliers, NEGATIVE, "diamond", "another circuit"),
    ):
        here: list[int] = np.flatnonzero(mask).tolist()
        marker = {"size": 9, "color": colour, "symbol": symbol, "opacity": 0.75}
        data.append({**_prompt_points(points, hover, here, sides), "name": name, "marker": marker})
    if picked is not None:
        ring = {"symbol": "circle-open", "size": 17, "color": GREY, "line": {"width": 2}}
        at = {"x": [float(points[picked, 0])], "y": [float(points[picked, 1])]}
        data.append({"type": "scatter", "mode": "markers", **at, "marker": ring})
        data[-1] |= {"hoverinfo": "skip", "showlegend": False}
    layout = axes(
        f"first axis, {percent(explained[0])} of the variance",
        f"second axis, {percent(explained[1])}",
        height=420,
    )
    layout["showlegend"] = bool(outliers.any())
    for axis in ("xaxis", "yaxis"):
        layout[axis] |= {"zeroline": False, "showticklabels": False}
    layout["shapes"] = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": 0,
            "y1": 0,
            "line": {"color": LINE},
        }
    ]
    return go.Figure({"data": data, "layout": layout})


def _prompt_points(
    points: npt.NDArray[Any],
    hover: Sequence[str],
    here: list[int],
    sides: Mapping[int, tuple[str, str]],
) -> dict[str, Any]:
    """Some of the prompts as points, with the names that have room."""
    words = [sides.get(i, ("", "top center")) for i in here]
    return {
        "type": "scatter",
        "mode": "markers+text" if any(name for name, _ in words) else "markers",
        "x": points[here, 0].tolist(),
        "y": points[here, 1].tolist(),
        "text": [plotly_text(name) for name, _ in words],
        "textposition": [side for _, side in words],
        "textfont": {"size": SMALL, "color": GREY},
        "cliponaxis": False,
        "hovertext": [hover[i] for i in here],
        "hoverinfo": "text",
    }


def _sides(points: npt.NDArray[Any], names: Mapping[int, str]) -> dict[int, tuple[str, str]]:
    """The names, by number of the point, that have room beside it, and on which side.

    They lie on no other name and on no point.
    """
    span = np.ptp(points, axis=0)
    at = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0) * (NARROW, LOW)
    taken = [np.concatenate([p - 6, p + 6]) for p in at]
    found: dict[int, tuple[str, str]] = {}
    for i, name in names.items():
        half = np.array([text_width(name, SMALL), SMALL * LEADING]) / 2
        others = np.array(taken)
        for side, way in SIDES.items():
            middle = at[i] + np.array(way) * (half + 7)
            box = np.concatenate([middle - half, middle + half])
            inside = box[0] >= -10 and box[2] <= NARROW + 10
            meets = ((box[:2] < others[:, 2:]) & (others[:, :2] < box[2:])).all(axis=1)
            if inside and not meets.any():
                found[i] = name, side
                taken.append(box)
                break
    return found

"""Edges, rings and crosses as Plotly shapes, in the coordinates of the axes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import Path
from circuit_nb.figures.style import GREY, NEGATIVE, POSITIVE
from circuit_nb.figures.view import GraphView
from circuit_nb.graph import Node

Shape: TypeAlias = dict[str, Any]
"""Properties of one Plotly shape."""
Numbers: TypeAlias = npt.NDArray[np.int64]

BACKGROUND_EDGES, BACKGROUND_MASS = 300, 0.8
"""How many of the strongest edges are always drawn, faintly, and which share of what flows through
all of them they hold at most."""
STEPS = ((0.3, 2.6, 0.55), (0.08, 1.5, 0.4), (0.0, 0.8, 0.16))
"""Steps of an edge's strength: from which share of the strongest, its width, its opacity."""
PATH_WIDTH, PATH_OPACITY = 5.0, 0.9
SPACING = 5.0
"""Between the points of a curve that words keep away from, pixels: less than half a line."""


def curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    """One edge as a path: it leaves and arrives upright, so that columns can be followed.

    Args:
        start: Where it begins, in the coordinates of the axes.
        end: Where it ends.
    """
    (x0, y0), (x1, y1) = start, end
    if abs(x0 - x1) < 0.5:
        return f"M{x0:g} {y0:g}L{x1:g} {y1:g}"
    middle = round((y0 + y1) / 2, 1)
    return f"M{x0:g} {y0:g}C{x0:g} {middle:g} {x1:g} {middle:g} {x1:g} {y1:g}"


def points_along(start: tuple[float, float], end: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Points on an edge about `SPACING` pixels apart, (count, 2)."""
    (x0, y0), (x1, y1) = start, end
    t = np.linspace(0, 1, 2 + int((abs(x1 - x0) + abs(y1 - y0)) / SPACING))
    eased = t * t * (3 - 2 * t)  # of a cubic curve with upright ends
    return np.stack([x0 + (x1 - x0) * eased, y0 + (y1 - y0) * (1.5 * t - 1.5 * t**2 + t**3)], 1)


def curves(view: GraphView, sources: Numbers, targets: Numbers) -> str:
    """Edges as one path; an edge one of whose ends is not drawn is left out."""
    x, y, drawn = view.x.tolist(), view.y.tolist(), view.drawn
    return "".join(
        curve((x[s], y[s]), (x[t], y[t]))
        for s, t in zip(sources.tolist(), targets.tolist(), strict=True)
        if drawn[s] and drawn[t]
    )


def line(name: str, path: str, colour: str, width: float, opacity: float) -> list[Shape]:
    """A path as a shape under the nodes; none if there is nothing in it."""
    if not path:
        return []
    return [
        {
            "type": "path",
            "name": name,
            "path": path,
            "line": {"color": colour, "width": width},
            "opacity": opacity,
            "layer": "below",
            "xref": "x",
            "yref": "y",
        }
    ]


def strength_steps(strength: npt.NDArray[Any]) -> list[Numbers]:
    """Which of the edges fall in each step of strength, strongest first."""
    share = strength / max(float(strength.max(initial=0)), 1e-30)
    bounds = [np.inf, *(start for start, _, _ in STEPS)]
    return [np.flatnonzero((share < bounds[i]) & (share >= bounds[i + 1])) for i in range(3)]


def background(view: GraphView) -> list[Shape]:
    """The strongest edges between drawn nodes, faint, in three steps of strength."""
    graph, drawn = view.graph, view.drawn
    flow = view.measures.flow(drawn).ravel()
    rows = graph.rows[drawn[graph.rows]]
    columns = np.flatnonzero(drawn[: graph.blocks.tokens.stop])
    best = np.argsort(-flow, kind="stable")[:BACKGROUND_EDGES]
    best = best[(flow[best] > 0) & (np.cumsum(flow[best]) <= BACKGROUND_MASS * flow.sum())]
    row, column = np.divmod(best, max(len(columns), 1))
    sources, targets = columns[column], rows[row]
    shapes: list[Shape] = []
    for step, chosen in enumerate(strength_steps(flow[best])):
        path = curves(view, sources[chosen], targets[chosen])
        width, opacity = ((1.4, 0.28), (1.0, 0.2), (0.8, 0.13))[step]
        shapes += line(f"edges {step}", path, GREY, width, opacity)
    return shapes


def edges_of(view: GraphView, node: Node, links: str) -> tuple[Numbers, Numbers, Any]:
    """Sources, targets and weights of a node's edges in the picture.

    Args:
        view: What is drawn.
        node: The node.
        links: `inputs`, `outputs` or `both`.
    """
    graph = view.graph
    own = graph.number(node)
    sources, targets, weights = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    if links in ("inputs", "both"):
        into = graph.inputs(node)
        found = np.flatnonzero(into)
        sources, weights = np.append(sources, found), np.append(weights, into[found])
        targets = np.append(targets, np.full(len(found), own))
    if links in ("outputs", "both"):
        out = graph.outputs(node)
        found = np.flatnonzero(out)
        targets, weights = np.append(targets, graph.rows[found]), np.append(weights, out[found])
        sources = np.append(sources, np.full(len(found), own))
    drawn = view.drawn[sources] & view.drawn[targets]
    return sources[drawn], targets[drawn], weights[drawn]


def selected_edges(view: GraphView, node: Node, links: str = "both") -> list[Shape]:
    """A node's edges by sign and strength; those into it are measured apart from those out."""
    own = view.graph.number(node)
    sources, targets, weights = edges_of(view, node, links)
    shapes: list[Shape] = []
    # The weakest first, so that the strongest lie on top.
    for step in (2, 1, 0):
        for sign, name, colour in ((-1, "lowers", NEGATIVE), (1, "raises", POSITIVE)):
            path = ""
            for side in (targets == own, sources == own):
                inside = np.flatnonzero(side)
                chosen = inside[strength_steps(np.abs(weights[inside]))[step]]
                chosen = chosen[np.sign(weights[chosen]) == sign]
                path += curves(view, sources[chosen], targets[chosen])
            shapes += line(f"{name} {step}", path, colour, *STEPS[step][1:])
    return shapes


def path_lines(view: GraphView, paths: Sequence[Path]) -> list[Shape]:
    """Highlighted paths: each edge thick, coloured by the sign of its path."""
    shapes: list[Shape] = []
    for sign, name, colour in ((1, "path raises", POSITIVE), (-1, "path lowers", NEGATIVE)):
        sources, targets = steps_of(view, [p for p in paths if p.sign == sign])
        path = curves(view, sources, targets)
        shapes += line(name, path, colour, PATH_WIDTH, PATH_OPACITY)
    return shapes


def steps_of(view: GraphView, paths: Sequence[Path]) -> tuple[Numbers, Numbers]:
    """Sources and targets of the steps of paths, by number; those of other graphs are left out."""
    graph = view.graph
    pairs = dict.fromkeys(
        (graph.number(a), graph.number(b))
        for path in paths
        for a, b in zip(path.nodes, path.nodes[1:], strict=False)
        if a in graph and b in graph
    )
    ends = np.array([*pairs], dtype=np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


def rings(
    view: GraphView, name: str, nodes: Collection[Node], extra: float, colour: str, width: float
) -> list[Shape]:
    """A circle around each of the nodes, of fixed size, over the nodes."""
    shapes: list[Shape] = []
    for number in _drawn_numbers(view, nodes):
        half = (view.sizes[number] + extra) / 2
        shapes.append(
            {**_fixed(view, number, half), "type": "circle", "name": name}
            | {"line": {"color": colour, "width": width}, "fillcolor": "rgba(0,0,0,0)"}
        )
    return shapes


def crosses(view: GraphView, name: str, nodes: Collection[Node]) -> list[Shape]:
    """A cross over each of the nodes, of fixed size."""
    shapes: list[Shape] = []
    for number in _drawn_numbers(view, nodes):
        half = (view.sizes[number] + 4) / 2
        at = f"{half:.1f}"
        path = f"M-{at} -{at}L{at} {at}M-{at} {at}L{at} -{at}"
        shapes.append(
            {
                **{k: v for k, v in _fixed(view, number, half).items() if len(k) != 2},
                "type": "path",
                "name": name,
                "path": path,
                "line": {"color": NEGATIVE, "width": 2},
            }
        )
    return shapes


def _drawn_numbers(view: GraphView, nodes: Collection[Node]) -> list[int]:
    numbers = (view.graph.number(n) for n in nodes if n in view.graph)
    return [n for n in numbers if view.drawn[n]]


def _fixed(view: GraphView, number: int, half: float) -> Shape:
    """A place with sizes in pixels, whatever the zoom."""
    return {
        "xsizemode": "pixel",
        "ysizemode": "pixel",
        "xanchor": float(view.x[number]),
        "yanchor": float(view.y[number]),
        "x0": -half,
        "x1": half,
        "y0": -half,
        "y1": half,
        "layer": "above",
        "xref": "x",
        "yref": "y",
    }

"""The pinned nodes and supernodes as boxes: tokens at the bottom, the answer at the top."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from circuit_nb.analysis import supernode_weights
from circuit_nb.figures.arrangement import BOX, EDGE, ROW, arrange
from circuit_nb.figures.names import NO_LABELS, Labels, node_name, node_place
from circuit_nb.figures.placement import level
from circuit_nb.figures.style import (
    BODY,
    FONT,
    GREY,
    NEGATIVE,
    POSITIVE,
    SMALL,
    hue,
    percent,
    plotly_text,
    shorten,
    text_width,
)
from circuit_nb.figures.view import Spec, Trace
from circuit_nb.graph import AttributionGraph, Node, Supernode, TargetNode

Group: TypeAlias = Supernode | Node
"""What the subgraph draws as one box."""

NAME_LENGTH = 24
WEAKEST = 0.08
"""Edges that carry a smaller share of their target's input are left out."""
ALONG = (0.42, 0.55, 0.3, 0.68, 0.2, 0.8)
"""Where along an edge its number is tried, from its source."""
GREYED = 0.25
"""A node at or under this activation fraction is drawn faint."""


@dataclass(frozen=True)
class Box:
    """One drawn group, in pixels from the bottom left."""

    key: str
    """What a click on the box reports: `g` and the group's number."""
    name: str
    x: float
    y: float
    width: float
    colour: str
    faint: bool


def subgraph_figure(
    graph: AttributionGraph,
    groups: Sequence[Group],
    *,
    labels: Labels = NO_LABELS,
    fractions: Mapping[Group, float] | None = None,
    badges: Mapping[Group, str] | None = None,
    chosen: Collection[Group] = (),
) -> go.Figure:
    """Draw groups of nodes and what flows between them.

    An edge's number is the share of the target group's input that comes directly from the source
    group (`analysis.supernode_weights`).

    Args:
        graph: The graph.
        groups: Supernodes and single nodes.
        labels: Labels of features by (layer, index).
        fractions: Activation after an intervention over activation before, by group.
        badges: The intervention on a group in a few characters, e.g. `×−1`.
        chosen: Groups drawn with a thick border.

    Returns:
        The figure, of fixed size; it is not shown.
    """
    return go.Figure(
        subgraph_spec(
            graph, groups, labels=labels, fractions=fractions, badges=badges, chosen=chosen
        )
    )


def subgraph_spec(
    graph: AttributionGraph,
    groups: Sequence[Group],
    *,
    labels: Labels = NO_LABELS,
    fractions: Mapping[Group, float] | None = None,
    badges: Mapping[Group, str] | None = None,
    chosen: Collection[Group] = (),
) -> Spec:
    """What `subgraph_figure` draws, as plain data."""
    fractions = fractions or {}
    shares = _shares(graph, tuple(groups))
    boxes = _boxes(graph, groups, labels, fractions, shares)
    width = max((b.x + b.width / 2 for b in boxes), default=200.0) + EDGE
    height = max((b.y for b in boxes), default=0.0) + BOX / 2 + EDGE
    titles = [plotly_text(_title(graph, g, labels)) for g in groups]
    layout = _layout(width, height)
    layout["shapes"] = [
        _shape(box, 3.0 if group in chosen else 1.5, isinstance(group, Supernode))
        for group, box in zip(groups, boxes, strict=True)
    ]
    layout["meta"] = {b.key: t for b, t in zip(boxes, titles, strict=True)}
    handles = {
        "type": "scatter",
        "x": [b.x for b in boxes],
        "y": [b.y for b in boxes],
        "mode": "markers",
        "marker": {"size": BOX - 8, "opacity": 0, "symbol": "square"},
        "hovertext": titles,
        "hoverinfo": "text",
    }
    data = [
        *_edges(boxes, shares, [bool((badges or {}).get(g)) for g in groups]),
        *_texts(boxes, [fractions.get(g) for g in groups]),
        _badges(boxes, [(badges or {}).get(g, "") for g in groups]),
        handles,
    ]
    return {"data": data, "layout": layout}


_known_shares: WeakKeyDictionary[
    AttributionGraph, tuple[tuple[Group, ...], npt.NDArray[np.float64]]
] = WeakKeyDictionary()


def _shares(graph: AttributionGraph, groups: tuple[Group, ...]) -> npt.NDArray[np.float64]:
    """`supernode_weights`, remembered for the groups a graph was last asked for."""
    known = _known_shares.get(graph)
    if known is None or known[0] != groups:
        known = (groups, supernode_weights(graph, groups))
        _known_shares[graph] = known
    return known[1]


def _members(graph: AttributionGraph, group: Group) -> list[Node]:
    if isinstance(group, Supernode):
        return [f for f in group.features if f in graph] or list(group.features)
    return [group]


def _title(graph: AttributionGraph, group: Group, labels: Labels) -> str:
    if isinstance(group, Supernode):
        return f"{group.name}: {len(group.features)} features"
    return f"{node_name(graph, group, labels)}, {node_place(graph, group)}"


def _position(graph: AttributionGraph, node: Node) -> int:
    return len(graph.tokens) - 1 if isinstance(node, TargetNode) else node.position


def _boxes(
    graph: AttributionGraph,
    groups: Sequence[Group],
    labels: Labels,
    fractions: Mapping[Group, float],
    shares: npt.NDArray[np.float64],
) -> list[Box]:
    """Rows by mean layer; across by mean position, out of the way of edges."""
    members = [_members(graph, g) for g in groups]
    levels = [round(float(np.mean([level(graph, n) for n in m]))) for m in members]
    across = [float(np.mean([_position(graph, n) for n in m])) for m in members]
    names = [
        shorten(g.name if isinstance(g, Supernode) else node_name(graph, g, labels), NAME_LENGTH)
        for g in groups
    ]
    widths = [max(text_width(n, BODY), 58.0) + 22 for n in names]
    row_of = {value: row for row, value in enumerate(sorted(set(levels)))}
    rows = tuple(row_of[value] for value in levels)
    edges = tuple((int(s), int(t)) for t, s in np.argwhere(np.abs(shares) >= WEAKEST))
    x = arrange(rows, tuple(across), tuple(widths), edges)
    colours = iter(hue(i) for i in range(len(groups)))
    return [
        Box(
            key=f"g{i}",
            name=names[i],
            x=x[i],
            y=EDGE + BOX / 2 + rows[i] * ROW,
            width=widths[i],
            colour=next(colours) if isinstance(group, Supernode) else GREY,
            faint=fractions.get(group, 1.0) <= GREYED,
        )
        for i, group in enumerate(groups)
    ]


def _layout(width: float, height: float) -> dict[str, Any]:
    axis = {"visible": False, "fixedrange": True}
    return {
        "template": "none",
        "font": {"family": FONT, "size": BODY, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "width": round(width),
        "height": round(height),
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "hovermode": "closest",
        "showlegend": False,
        "xaxis": {**axis, "range": [0, round(width)]},
        "yaxis": {**axis, "range": [0, round(height)]},
    }


def _edges(
    boxes: Sequence[Box], shares: npt.NDArray[np.float64], badged: Sequence[bool]
) -> Iterator[Trace]:
    """Lines as wide as the share they carry, and the share where there is room for it."""
    told: list[tuple[float, float]] = []
    badges = [_corner(box) for box, badge in zip(boxes, badged, strict=True) if badge]
    taken = [(x - 16, y) for x, y in badges]
    texts: list[str] = []
    for flat in np.argsort(-np.abs(shares), axis=None).tolist():
        target, source = divmod(flat, len(boxes))
        share = float(shares[target, source])
        if abs(share) < WEAKEST:
            break
        x0, y0, x1, y1 = _ends(boxes[source], boxes[target])
        yield {
            "type": "scatter",
            "x": [x0, x1],
            "y": [y0, y1],
            "mode": "lines",
            "line": {"color": POSITIVE if share > 0 else NEGATIVE, "width": 1 + 7 * abs(share)},
            "opacity": 0.25 if boxes[source].faint else 0.75,
            "hoverinfo": "skip",
        }
        # To the right of a steep line, above a flat one.
        flat = abs(y1 - y0) < 0.5 * abs(x1 - x0)
        right, up = (-12.0, 10.0) if flat else (4 + 3.5 * abs(share), 0.0)
        places = ((x0 + part * (x1 - x0) + right, y0 + part * (y1 - y0) + up) for part in ALONG)
        at = next((p for p in places if _is_free(p, boxes, [*told, *taken])), None)
        if at is not None:
            told.append(at)
            texts.append(percent(round(share, 2)))
    yield _text_trace(told, texts, SMALL, side="middle right")


def _corner(box: Box) -> tuple[float, float]:
    """Where the middle of a box's badge is."""
    return box.x + box.width / 2 - 6, box.y + BOX / 2


def _ends(start: Box, end: Box) -> tuple[float, float, float, float]:
    """Where an edge begins and ends: at the boxes' near sides."""
    if start.y == end.y:
        way = float(np.sign(end.x - start.x))
        return start.x + way * start.width / 2, start.y, end.x - way * end.width / 2, end.y
    way = float(np.sign(end.y - start.y))
    return start.x, start.y + way * BOX / 2, end.x, end.y - way * BOX / 2


def _is_free(
    at: tuple[float, float], boxes: Sequence[Box], told: Sequence[tuple[float, float]]
) -> bool:
    """Whether the number of an edge would cover neither a box nor another number."""
    x, y = at[0] + 16, at[1]
    covered = any(abs(x - b.x) < b.width / 2 + 18 and abs(y - b.y) < BOX / 2 + 7 for b in boxes)
    return not covered and all(abs(at[0] - a) > 40 or abs(y - b) > 18 for a, b in told)


def _text_trace(
    at: Sequence[tuple[float, float]],
    texts: Sequence[str],
    size: int,
    *,
    side: str = "middle center",
    opacity: float = 1.0,
) -> Trace:
    """Texts, escaped already, at places."""
    return {
        "type": "scatter",
        "x": [x for x, _ in at],
        "y": [y for _, y in at],
        "mode": "text",
        "text": list(texts),
        "textposition": side,
        "textfont": {"size": size, "color": GREY},
        "opacity": opacity,
        "hoverinfo": "skip",
    }


def _shape(box: Box, border: float, filled: bool) -> dict[str, Any]:
    return {
        "type": "rect",
        "layer": "below",
        "name": box.key,
        "x0": box.x - box.width / 2,
        "x1": box.x + box.width / 2,
        "y0": box.y - BOX / 2,
        "y1": box.y + BOX / 2,
        "line": {"color": box.colour, "width": border},
        "fillcolor": f"rgba({','.join(str(c) for c in _channels(box.colour))},0.14)"
        if filled
        else "rgba(128,128,128,0.06)",
        "opacity": 0.55 if box.faint else 1.0,
    }


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _texts(boxes: Sequence[Box], fractions: Sequence[float | None]) -> Iterator[Trace]:
    """Names, and under them the activation fraction where it is known."""
    known = [f if f is not None and np.isfinite(f) else None for f in fractions]
    for faint in (False, True):
        chosen = [(b, f) for b, f in zip(boxes, known, strict=True) if b.faint == faint]
        opacity = 0.75 if faint else 1.0
        names = [(b.x, b.y + (8.0 if f is not None else 0.0)) for b, f in chosen]
        yield _text_trace(names, [plotly_text(b.name) for b, _ in chosen], BODY, opacity=opacity)
        told = [(b, percent(round(f, 2))) for b, f in chosen if f is not None]
        places = [(b.x, b.y - 9.0) for b, _ in told]
        yield _text_trace(places, [t for _, t in told], SMALL, opacity=opacity)


def _badges(boxes: Sequence[Box], badges: Sequence[str]) -> Trace:
    """The intervention in a dark disc on the box's upper right corner."""
    told = [(box, badge) for box, badge in zip(boxes, badges, strict=True) if badge]
    trace = _text_trace(
        [_corner(b) for b, _ in told], [plotly_text(badge) for _, badge in told], SMALL - 1
    )
    trace["mode"] = "markers+text"
    trace["marker"] = {"size": 30, "color": "#4d4d4d", "symbol": "circle", "line": {"width": 0}}
    trace["textfont"] = {"size": SMALL - 1, "color": "#ffffff"}
    return trace

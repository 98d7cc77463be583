"""The pinned nodes and supernodes as boxes: tokens at the bottom, the answer at the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from circuit_nb.analysis import supernode_weights
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
from circuit_nb.graph import AttributionGraph, Node, Supernode, TargetNode

Group: TypeAlias = Supernode | Node
"""What the subgraph draws as one box."""

BOX, ROW, GAP, EDGE = 40.0, 92.0, 18.0, 26.0
"""Height of a box, distance of two rows, space between boxes and at the edges, pixels."""
NAME_LENGTH = 24
WEAKEST = 0.02
"""Edges that carry a smaller share of their target's input are left out."""
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
    selected: Group | None = None,
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
        selected: The group drawn with a thick border.

    Returns:
        The figure, of fixed size; it is not shown.
    """
    fractions = fractions or {}
    boxes = _boxes(graph, groups, labels, fractions)
    width = max((b.x + b.width / 2 for b in boxes), default=200.0) + EDGE
    height = max((b.y for b in boxes), default=0.0) + BOX / 2 + EDGE
    figure = go.Figure(layout=_layout(width, height))
    _add_edges(figure, boxes, supernode_weights(graph, groups))
    for group, box in zip(groups, boxes, strict=True):
        chosen = selected is not None and group == selected
        figure.add_shape(**_shape(box, 3.0 if chosen else 1.5, isinstance(group, Supernode)))
    _add_texts(figure, boxes, [fractions.get(g) for g in groups])
    _add_badges(figure, boxes, [(badges or {}).get(g, "") for g in groups])
    titles = [_title(graph, g, labels) for g in groups]
    figure.add_scatter(
        x=[b.x for b in boxes],
        y=[b.y for b in boxes],
        mode="markers",
        marker={"size": BOX - 8, "opacity": 0, "symbol": "square"},
        hovertext=[plotly_text(t) for t in titles],
        hoverinfo="text",
    )
    figure.update_layout(meta={b.key: plotly_text(t) for b, t in zip(boxes, titles, strict=True)})
    return figure


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
) -> list[Box]:
    """Rows by mean layer, within a row from left to right by mean position."""
    members = [_members(graph, g) for g in groups]
    levels = [round(float(np.mean([level(graph, n) for n in m]))) for m in members]
    across = [float(np.mean([_position(graph, n) for n in m])) for m in members]
    names = [
        shorten(g.name if isinstance(g, Supernode) else node_name(graph, g, labels), NAME_LENGTH)
        for g in groups
    ]
    widths = [max(text_width(n, BODY), 58.0) + 22 for n in names]
    x = _spread(levels, across, widths)
    row_of = {value: row for row, value in enumerate(sorted(set(levels)))}
    colours = iter(hue(i) for i in range(len(groups)))
    return [
        Box(
            key=f"g{i}",
            name=names[i],
            x=x[i],
            y=EDGE + BOX / 2 + row_of[levels[i]] * ROW,
            width=widths[i],
            colour=next(colours) if isinstance(group, Supernode) else GREY,
            faint=fractions.get(group, 1.0) <= GREYED,
        )
        for i, group in enumerate(groups)
    ]


def _spread(levels: Sequence[int], across: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Centres of the boxes: by position in the prompt, pushed apart until none overlap."""
    if not levels:
        return []
    rows = {value: [i for i, v in enumerate(levels) if v == value] for value in set(levels)}
    needed = max(sum(widths[i] + GAP for i in row) for row in rows.values())
    low, high = min(across), max(across)
    room = max(needed, 420.0)
    wished = [EDGE + room * ((a - low) / (high - low) if high > low else 0.5) for a in across]
    x = list(wished)
    for row in rows.values():
        row.sort(key=lambda i: wished[i])
        left = EDGE
        for i in row:
            x[i] = max(wished[i], left + widths[i] / 2)
            left = x[i] + widths[i] / 2 + GAP
        right = EDGE + room
        for i in reversed(row):
            x[i] = min(x[i], right - widths[i] / 2)
            right = x[i] - widths[i] / 2 - GAP
    return x


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


def _add_edges(figure: go.Figure, boxes: Sequence[Box], shares: npt.NDArray[np.float64]) -> None:
    """Lines as wide as the share they carry, and the share on those that carry most."""
    strongest = np.argsort(-np.abs(shares), axis=None)
    told: list[tuple[float, float]] = []
    texts: list[str] = []
    for flat in strongest.tolist():
        target, source = divmod(flat, len(boxes))
        share = float(shares[target, source])
        if abs(share) < WEAKEST:
            break
        start, end = boxes[source], boxes[target]
        up = np.sign(end.y - start.y)
        y0, y1 = start.y + up * BOX / 2, end.y - up * BOX / 2
        figure.add_scatter(
            x=[start.x, end.x],
            y=[y0, y1],
            mode="lines",
            line={"color": POSITIVE if share > 0 else NEGATIVE, "width": 1 + 7 * abs(share)},
            opacity=0.25 if start.faint else 0.75,
            hoverinfo="skip",
        )
        at = (start.x + 0.42 * (end.x - start.x), y0 + 0.42 * (y1 - y0))
        if abs(share) >= 0.05 and all(abs(at[0] - x) > 40 or abs(at[1] - y) > 16 for x, y in told):
            told.append(at)
            texts.append(percent(round(share, 2)))
    figure.add_scatter(
        x=[x + 4 for x, _ in told],
        y=[y for _, y in told],
        mode="text",
        text=texts,
        textposition="middle right",
        textfont={"size": SMALL, "color": GREY},
        hoverinfo="skip",
    )


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
        "opacity": 0.4 if box.faint else 1.0,
    }


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _add_texts(figure: go.Figure, boxes: Sequence[Box], fractions: Sequence[float | None]) -> None:
    """Names, and under them the activation fraction where it is known."""
    known = [f if f is not None and np.isfinite(f) else None for f in fractions]
    for faint in (False, True):
        chosen = [(b, f) for b, f in zip(boxes, known, strict=True) if b.faint == faint]
        for shift, size, texts in (
            (None, BODY, [plotly_text(b.name) for b, _ in chosen]),
            (-9.0, SMALL, ["" if f is None else percent(round(f, 2)) for _, f in chosen]),
        ):
            figure.add_scatter(
                x=[b.x for b, _ in chosen],
                y=[b.y + (shift or (8.0 if f is not None else 0.0)) for b, f in chosen],
                mode="text",
                text=texts,
                textfont={"size": size, "color": GREY},
                opacity=0.55 if faint else 1.0,
                hoverinfo="skip",
            )


def _add_badges(figure: go.Figure, boxes: Sequence[Box], badges: Sequence[str]) -> None:
    """The intervention in a dark disc on the box's upper right corner."""
    told = [(box, badge) for box, badge in zip(boxes, badges, strict=True) if badge]
    figure.add_scatter(
        x=[b.x + b.width / 2 - 6 for b, _ in told],
        y=[b.y + BOX / 2 for b, _ in told],
        mode="markers+text",
        marker={"size": 30, "color": "#4d4d4d", "symbol": "circle", "line": {"width": 0}},
        text=[plotly_text(badge) for _, badge in told],
        textposition="middle center",
        textfont={"size": SMALL - 1, "color": "#ffffff"},
        hoverinfo="skip",
    )

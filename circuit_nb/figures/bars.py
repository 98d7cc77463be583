"""Bars: next-token probabilities before and after, logit effects, connections, densities."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from circuit_nb.figures.names import NO_LABELS, Labels, node_name, node_place
from circuit_nb.figures.style import (
    BODY,
    FONT,
    GREY,
    NEGATIVE,
    POSITIVE,
    SMALL,
    TICKS,
    distinct_tokens,
    number,
    percent,
    plotly_text,
    shorten,
    signed,
    text_width,
)
from circuit_nb.figures.view import Spec
from circuit_nb.graph import AttributionGraph, Node, TargetNode

ROW = 22
"""Height of one row of bars, pixels."""
PAIR = 28
"""Height of a row of two bars, before and after, pixels."""
TEXT_LENGTH = 34
LEAST, NEGLIGIBLE = 4, 0.001
"""Tokens always shown, and the probability under which the others are left out."""


def probability_figure(
    before: Mapping[str, float], after: Mapping[str, float] | None = None, *, most: int = 12
) -> go.Figure:
    """Next-token probabilities as bars; before an intervention (grey) and after it (blue).

    Args:
        before: Probability by token.
        after: Probability by token after the intervention; None draws `before` alone.
        most: How many tokens at most, those with the highest probability in either.

    Returns:
        The figure; it is not shown.
    """
    return go.Figure(probability_spec(before, after, most=most))


def probability_spec(
    before: Mapping[str, float], after: Mapping[str, float] | None = None, *, most: int = 12
) -> Spec:
    """What `probability_figure` draws, as plain data."""
    after_or_nothing = after or {}
    tokens = sorted(
        {**before, **after_or_nothing},
        key=lambda t: -max(before.get(t, 0.0), after_or_nothing.get(t, 0.0)),
    )[:most]
    tokens = [
        t
        for i, t in enumerate(tokens)
        if i < LEAST or max(before.get(t, 0.0), after_or_nothing.get(t, 0.0)) >= NEGLIGIBLE
    ]
    names = distinct_tokens(tokens)
    series: list[tuple[str, list[float], str]] = [
        ("before", [before.get(t, 0.0) for t in tokens], GREY)
    ]
    if after is not None:
        series.append(("after", [after.get(t, 0.0) for t in tokens], POSITIVE))
    spec = _rows(names, height=ROW if after is None else PAIR)
    for name, values, colour in series:
        spec["data"].append(
            {
                "type": "bar",
                "name": name,
                "orientation": "h",
                "y": list(range(len(tokens))),
                "x": values,
                "text": [percent(v) for v in values],
                "marker": {"color": colour, "opacity": 0.6 if colour == GREY and after else 1.0},
                "hovertext": [
                    plotly_text(f"{n}: {percent(v)} {name if after else ''}".strip())
                    for n, v in zip(names, values, strict=True)
                ],
                **_BAR,
            }
        )
    top = max([v for _, values, _ in series for v in values], default=1.0)
    spec["layout"]["xaxis"]["range"] = [0, max(top, 0.01) * 1.18]
    return spec


def effects_figure(
    promotes: Sequence[tuple[str, float]],
    suppresses: Sequence[tuple[str, float]] = (),
    *,
    most: int = 6,
) -> go.Figure:
    """The tokens a feature promotes and suppresses most, with the effect on their logits.

    Args:
        promotes: (token, logit effect), the strongest first.
        suppresses: (token, logit effect), the strongest first.
        most: How many of either at most.
    """
    return go.Figure(effects_spec(promotes, suppresses, most=most))


def effects_spec(
    promotes: Sequence[tuple[str, float]],
    suppresses: Sequence[tuple[str, float]] = (),
    *,
    most: int = 6,
) -> Spec:
    """What `effects_figure` draws, as plain data."""
    pairs = [*promotes[:most], *suppresses[:most]]
    names = distinct_tokens([t for t, _ in pairs])
    return _signed(names, [v for _, v in pairs], "logit effect")


def connections_figure(
    graph: AttributionGraph,
    node: Node,
    *,
    inputs: bool = True,
    labels: Labels = NO_LABELS,
    most: int = 12,
) -> go.Figure:
    """The strongest edges into a node, or out of it, as signed bars.

    Args:
        graph: The graph.
        node: The node.
        inputs: Edges into the node; False draws those out of it.
        labels: Labels of features by (layer, index).
        most: How many edges at most.
    """
    edges = connections(graph, node, inputs=inputs)[:most]
    names = [f"{node_name(graph, n, labels)} · {node_place(graph, n)}" for n, _ in edges]
    return go.Figure(_signed(names, [w for _, w in edges], "direct effect"))


def connections(
    graph: AttributionGraph, node: Node, *, inputs: bool = True
) -> list[tuple[Node, float]]:
    """The edges into a node, or out of it, as (other end, weight), the strongest first."""
    weights = graph.inputs(node) if inputs else graph.outputs(node)
    order = np.argsort(-np.abs(weights), kind="stable")
    others = range(graph.n_nodes) if inputs else graph.rows.tolist()
    return [(graph.nodes[others[i]], float(weights[i])) for i in order.tolist() if weights[i]]


def density_figure(counts: Sequence[float], edges: Sequence[float]) -> go.Figure:
    """How often a feature is how active.

    Args:
        counts: (bins,) how many tokens fall in each bin of activation.
        edges: (bins + 1,) the bins' bounds.
    """
    return go.Figure(density_spec(counts, edges))


def density_spec(counts: Sequence[float], edges: Sequence[float]) -> Spec:
    """What `density_figure` draws, as plain data."""
    bounds = list(edges)
    bins = list(itertools.pairwise(bounds))
    ticks = [bounds[0], bounds[-1]] if bounds else []
    layout = _layout(120, 14)
    layout["xaxis"].update(
        range=ticks or [0, 1], tickvals=ticks, ticktext=[number(t) for t in ticks]
    )
    layout["yaxis"].update(range=[0, 1.05 * (max(counts, default=1) or 1)], showticklabels=False)
    bars = {
        "type": "bar",
        "x": [(a + b) / 2 for a, b in bins],
        "y": list(counts),
        "width": [0.92 * (b - a) for a, b in bins],
        "marker": {"color": GREY, "line": {"width": 0}},
        "hovertext": [
            f"{number(c)} tokens from {number(a)} to {number(b)}"
            for c, (a, b) in zip(counts, bins, strict=True)
        ],
        "hoverinfo": "text",
    }
    return {"data": [bars], "layout": layout}


def targets_of(graph: AttributionGraph) -> dict[str, float]:
    """The probability of every target by its text: what `probability_figure` draws."""
    return {
        graph.targets[n.index]: float(graph.target_probabilities[n.index])
        for n in graph.nodes[graph.blocks.targets]
        if isinstance(n, TargetNode)
    }


_BAR: dict[str, Any] = {
    "textposition": "outside",
    "textfont": {"size": SMALL, "color": GREY, "family": FONT},
    "hoverinfo": "text",
    "cliponaxis": False,
}


def _signed(names: Sequence[str], values: Sequence[float], unit: str) -> Spec:
    spec = _rows(names)
    spec["data"].append(
        {
            "type": "bar",
            "orientation": "h",
            "y": list(range(len(names))),
            "x": list(values),
            "text": [signed(v) for v in values],
            "marker": {"color": [POSITIVE if v > 0 else NEGATIVE for v in values]},
            "hovertext": [
                plotly_text(f"{n}: {unit} {signed(v)}") for n, v in zip(names, values, strict=True)
            ],
            **_BAR,
        }
    )
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.22 * max(high - low, 1e-9)
    spec["layout"]["xaxis"]["range"] = [
        low - (room if low < 0 else 0),
        high + (room if high > 0 or low == 0 else 0),
    ]
    return spec


def _rows(names: Sequence[str], height: int = ROW) -> Spec:
    """An empty figure of one named row for each bar, the first at the top."""
    shown = [shorten(n, TEXT_LENGTH) for n in names]
    left = max((text_width(n, BODY) for n in shown), default=0.0) + 14
    layout = _layout(height * max(len(names), 1) + 12, left)
    layout.update(bargap=0.25, bargroupgap=0.08)
    layout["xaxis"]["showticklabels"] = False
    layout["yaxis"].update(
        tickvals=list(range(len(names))),
        ticktext=[plotly_text(n) for n in shown],
        range=[max(len(names), 1) - 0.5, -0.5],
    )
    return {"data": [], "layout": layout}


def _layout(height: float, left: float) -> dict[str, Any]:
    axis = {"showgrid": False, "zeroline": False, "fixedrange": True, **TICKS}
    return {
        "template": "none",
        "font": {"family": FONT, "size": BODY, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "height": round(height + 12),
        "margin": {"l": round(left), "r": 14, "t": 6, "b": 18 if left < 20 else 6},
        "showlegend": False,
        "barmode": "group",
        "xaxis": dict(axis),
        "yaxis": dict(axis),
    }

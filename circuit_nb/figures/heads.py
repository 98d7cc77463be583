"""Attention heads: how much of an edge each of them carried, and what made one look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from circuit_nb.figures.names import NO_LABELS, Labels, node_name, node_title
from circuit_nb.figures.plots import signed_map
from circuit_nb.figures.style import GREY, SMALL, plotly_text, shorten, signed, token_text
from circuit_nb.graph import AttributionGraph, Node

Numbers = npt.NDArray[np.floating[Any]]
NAME_LENGTH = 18


def heads_figure(flows: Numbers, past: Numbers) -> go.Figure:
    """How much of an edge each head carried, blocks from the lowest up.

    Args:
        flows: (blocks, heads).
        past: What went past each block's attention, (blocks,); written beside.

    Returns:
        The figure; it is not shown.
    """
    blocks, n_heads = flows.shape
    order = range(blocks - 1, -1, -1)
    hover = [
        [f"head {k}.{head}: {signed(value)}" for head, value in enumerate(flows[k].tolist())]
        for k in order
    ]
    names = [str(h) for h in range(n_heads)]
    spec = signed_map(flows[::-1], [str(k) for k in order], names, hover, legend="flow")
    spec["data"].append(
        {
            "type": "scatter",
            "mode": "text",
            "x": [n_heads + 0.6] * blocks,
            "y": list(range(blocks)),
            "text": [signed(past[k]) for k in order],
            "textfont": {"size": SMALL, "color": GREY},
            "hovertext": [f"past the attention of block {k}: {signed(past[k])}" for k in order],
            "hoverinfo": "text",
        }
    )
    layout = spec["layout"]
    layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"] = "head", "block"
    layout["xaxis"]["range"] = [-0.5, n_heads + 1.4]
    layout["xaxis"]["tickvals"].append(n_heads + 0.6)
    layout["xaxis"]["ticktext"].append("past")
    layout["margin"] |= {"l": 50, "b": 48}
    layout["height"] += 22
    return go.Figure(spec)


def looking_figure(
    graph: AttributionGraph,
    asked: Sequence[Node],
    answered: Sequence[Node],
    pairs: Numbers,
    labels: Labels = NO_LABELS,
    *,
    numbers: bool = True,
) -> go.Figure:
    """What each pair of a node that asked and one that answered adds to an attention score.

    Args:
        graph: The graph the nodes belong to.
        asked: Nodes of the query, a row each.
        answered: Nodes of the key, a column each.
        pairs: (asked + 2, answered + 2); after the nodes come all others, and biases.
        labels: Labels of features by (layer, index).
        numbers: Whether cells say their numbers, where there are at most 14 columns; a hover
            always does.

    Returns:
        The figure; it is not shown.
    """
    rows, columns = (
        [*(_name(graph, n, labels) for n in nodes), "all others", "biases"]
        for nodes in (asked, answered)
    )
    titles = [
        [*(node_title(graph, n, labels) for n in nodes), "all others", "biases"]
        for nodes in (asked, answered)
    ]
    hover = [
        [
            f"asked: {plotly_text(row)}<br>answered: {plotly_text(column)}<br>{signed(value)}"
            for column, value in zip(titles[1], values, strict=True)
        ]
        for row, values in zip(titles[0], pairs.tolist(), strict=True)
    ]
    written = _short if numbers and len(columns) <= 14 else None
    spec = signed_map(pairs, rows, columns, hover, written=written)
    layout = spec["layout"]
    layout["yaxis"]["title"]["text"] = "asked (query)"
    layout["xaxis"]["title"]["text"] = "answered (key)"
    layout["margin"]["l"] += 22
    layout["margin"]["b"] += 18
    layout["height"] += 18
    return go.Figure(spec)


def _short(value: float) -> str:
    return signed(round(value, 2))


def _name(graph: AttributionGraph, node: Node, labels: Labels) -> str:
    position = getattr(node, "position", None)
    place = "" if position is None else f" @ {token_text(graph.tokens[position])}"
    return f"{shorten(node_name(graph, node, labels), NAME_LENGTH)}{place}"

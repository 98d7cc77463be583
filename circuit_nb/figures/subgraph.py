"""The pinned nodes and supernodes as boxes: tokens at the left, the answer at the right."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from circuit_nb.figures.arrows import Box, samples
from circuit_nb.figures.circuit import Circuit, Group, circuit
from circuit_nb.figures.names import NO_LABELS, Labels
from circuit_nb.figures.style import BODY, FONT, GREY, NEGATIVE, POSITIVE, SMALL, plotly_text
from circuit_nb.figures.view import Spec, Trace
from circuit_nb.graph import AttributionGraph

__all__ = ["Group", "subgraph_figure", "subgraph_spec"]

WIDTH = 640.0
"""Pixels that the boxes are spread over, if they need less."""


def subgraph_figure(
    graph: AttributionGraph,
    groups: Sequence[Group],
    *,
    labels: Labels = NO_LABELS,
    fractions: Mapping[Group, float] | None = None,
    badges: Mapping[Group, str] | None = None,
    chosen: Collection[Group] = (),
    guests: Collection[Group] = (),
) -> go.Figure:
    """Draw groups of nodes and what flows between them.

    An arrow's number is the share of the target group's input that comes directly from the source
    group (`analysis.supernode_weights`).

    Args:
        graph: The graph.
        groups: Supernodes and single nodes.
        labels: Labels of features by (layer, index).
        fractions: Activation after an intervention over activation before, by group.
        badges: The intervention on a group in a few characters, e.g. `×−1`.
        chosen: Groups drawn with a thick border.
        guests: Groups that were taken from another prompt: drawn with a broken border.

    Returns:
        The figure, of fixed size; it is not shown.
    """
    return go.Figure(
        subgraph_spec(
            graph,
            groups,
            labels=labels,
            fractions=fractions,
            badges=badges,
            chosen=chosen,
            guests=guests,
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
    guests: Collection[Group] = (),
    width: float = WIDTH,
) -> Spec:
    """What `subgraph_figure` draws, as plain data; `width` is what the boxes are spread over."""
    drawn = circuit(
        graph,
        groups,
        labels=labels,
        fractions=fractions,
        badges=badges,
        guests=guests,
        width=width,
    )
    thick = [g in chosen for g in groups]
    layout = _layout(drawn.width, drawn.height)
    layout["shapes"] = [_shape(b, t) for b, t in zip(drawn.boxes, thick, strict=True)]
    layout["meta"] = {b.key: plotly_text(b.title) for b in drawn.boxes}
    handles = {
        "type": "scatter",
        "x": [b.x for b in drawn.boxes],
        "y": [b.y for b in drawn.boxes],
        "mode": "markers",
        "marker": {"size": 32, "opacity": 0, "symbol": "square"},
        "hovertext": [plotly_text(b.title) for b in drawn.boxes],
        "hoverinfo": "text",
    }
    return {"data": [*_arrows(drawn), *_names(drawn), handles], "layout": layout}


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
        "yaxis": {**axis, "range": [round(height), 0]},
    }


def _shape(box: Box, thick: bool) -> dict[str, Any]:
    red, green, blue = (int(box.colour[i : i + 2], 16) for i in (1, 3, 5))
    grouped = box.kind in ("group", "guest")
    return {
        "type": "rect",
        "layer": "below",
        "name": box.key,
        "x0": box.x - box.width / 2,
        "x1": box.x + box.width / 2,
        "y0": box.y - box.height / 2,
        "y1": box.y + box.height / 2,
        "line": {
            "color": box.colour,
            "width": 3.0 if thick else 1.5,
            "dash": "dash" if box.kind == "guest" else "solid",
        },
        "fillcolor": f"rgba({red},{green},{blue},0.14)" if grouped else "rgba(128,128,128,0.06)",
        "opacity": 0.55 if box.faint else 1.0,
    }


def _arrows(drawn: Circuit) -> Iterator[Trace]:
    for arrow in reversed(drawn.arrows):  # the strongest on top
        line = samples(arrow.points)
        yield {
            "type": "scatter",
            "x": [x for x, _ in line],
            "y": [y for _, y in line],
            "mode": "lines",
            "line": {
                "color": POSITIVE if arrow.share > 0 else NEGATIVE,
                "width": round(arrow.width, 1),
            },
            "opacity": 0.25 if drawn.boxes[arrow.source].faint else 0.75,
            "hoverinfo": "skip",
        }
    told = [(a.told, a.text) for a in drawn.arrows if a.told is not None]
    yield _texts([at for at, _ in told], [text for _, text in told], SMALL)


def _names(drawn: Circuit) -> Iterator[Trace]:
    """Names, and under them the setting of the switch and what is left of the activation."""
    for faint in (False, True):
        places: list[tuple[float, float]] = []
        texts: list[str] = []
        below: list[tuple[float, float]] = []
        settings: list[str] = []
        for box in drawn.boxes:
            if box.faint != faint:
                continue
            rows = len(box.name) + bool(box.told)
            top = box.y - 7.5 * (rows - 1)
            for k, line in enumerate(box.name):
                places.append((box.x, top + 15 * k))
                texts.append(plotly_text(line))
            if box.told:
                below.append((box.x, top + 15 * len(box.name)))
                settings.append(plotly_text(box.told))
        opacity = 0.75 if faint else 1.0
        yield _texts(places, texts, BODY, opacity=opacity)
        yield _texts(below, settings, SMALL, opacity=opacity)


def _texts(
    at: Sequence[tuple[float, float]], texts: Sequence[str], size: int, *, opacity: float = 1.0
) -> Trace:
    """Texts, escaped already, at places."""
    return {
        "type": "scatter",
        "x": [x for x, _ in at],
        "y": [y for _, y in at],
        "mode": "text",
        "text": list(texts),
        "textposition": "middle center",
        "textfont": {"size": size, "color": GREY},
        "opacity": opacity,
        "hoverinfo": "skip",
    }

"""What of an attribution graph is drawn, where, and the axes around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import influence, normalized, prune_masks
from circuit_nb.figures.placement import TOKEN_LENGTH, Placement, place
from circuit_nb.figures.style import (
    BODY,
    FONT,
    GREY,
    SMALL,
    TICKS,
    plotly_text,
    shorten,
    token_text,
)
from circuit_nb.graph import AttributionGraph, Node

Trace: TypeAlias = dict[str, Any]
"""Properties of one Plotly trace."""
Spec: TypeAlias = dict[str, Any]
"""A whole figure as Plotly's JSON, `data` and `layout`. Plain data is many times faster to make
than `go.Figure`, which checks every property; figures are made of it where they leave the library.
"""

STRONGEST, STRONG, WEAK = (0.2, 3.5, 0.95), (0.05, 2.0, 0.7), (0.0, 1.0, 0.35)
"""Steps of an edge's strength: from which share of the strongest, its width, its opacity."""
STEPS = (STRONGEST, STRONG, WEAK)


class Measures:
    """What drawing needs to know of a graph, computed once however often it is drawn.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: AttributionGraph) -> None:
        self.graph = graph
        self._kept: dict[float, npt.NDArray[np.bool_]] = {}

    @cached_property
    def influence(self) -> npt.NDArray[np.float32]:
        """Influence of every node on the targets, (n_nodes,)."""
        return influence(self.graph)

    @cached_property
    def flow(self) -> npt.NDArray[np.float32]:
        """Influence through every edge, the shape of `weights`."""
        reach = self.influence.copy()
        reach[self.graph.blocks.targets] = self.graph.target_probabilities
        return normalized(self.graph.weights) * reach[self.graph.rows][:, None]

    def kept(self, mass: float) -> npt.NDArray[np.bool_]:
        """Nodes that pruning at this share of the influence keeps, (n_nodes,)."""
        mass = round(mass, 3)
        if mass not in self._kept:
            every = np.ones(self.graph.n_nodes, dtype=np.bool_)
            self._kept[mass] = every if mass >= 1 else prune_masks(self.graph, mass, 0.98)[0]
        return self._kept[mass].copy()


@dataclass(frozen=True)
class GraphView:
    """A graph, what of it is drawn, and where; the part that a selection does not change."""

    measures: Measures
    kept: float = 0.8
    """Share of the influence whose nodes are drawn."""
    errors: bool = True
    """Whether error nodes are drawn."""
    always: frozenset[Node] = field(default_factory=frozenset[Node])
    """Nodes drawn whatever their influence, e.g. those pinned."""

    @property
    def graph(self) -> AttributionGraph:
        """The graph that is drawn."""
        return self.measures.graph

    @property
    def influence(self) -> npt.NDArray[np.float32]:
        """Influence of every node on the targets, (n_nodes,)."""
        return self.measures.influence

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Which nodes are drawn, (n_nodes,), in node order."""
        nodes = self.measures.kept(self.kept)
        if not self.errors:
            nodes[self.graph.blocks.errors] = False
        nodes[[self.graph.number(n) for n in self.always if n in self.graph]] = True
        return nodes

    @cached_property
    def placement(self) -> Placement:
        """Where the drawn nodes are."""
        return place(self.graph, self.shown)

    @cached_property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Numbers of the drawn nodes, ascending."""
        return np.flatnonzero(self.shown)

    def sizes(self) -> npt.NDArray[np.float64]:
        """Marker diameter of every node in pixels, by influence, (n_nodes,)."""
        top = float(self.influence[: self.graph.blocks.errors.stop].max(initial=0)) or 1.0
        strength = np.clip(self.influence / top, 0, 1)
        sizes = 6.0 + 9.0 * np.sqrt(strength)
        sizes[self.graph.blocks.tokens.start :] = 10.0
        return np.round(sizes, 1).astype(np.float64)

    def opacities(self) -> npt.NDArray[np.float64]:
        """Opacity of every node by influence, (n_nodes,)."""
        top = float(self.influence[: self.graph.blocks.errors.stop].max(initial=0)) or 1.0
        faint = 0.35 + 0.65 * np.clip(self.influence / top, 0, 1) ** 0.4
        faint[self.graph.blocks.tokens.start :] = 1.0
        return np.round(faint, 2).astype(np.float64)


def graph_layout(view: GraphView) -> dict[str, Any]:
    """The Plotly layout of a view: axes of tokens and layers, sizes in pixels."""
    graph, placement = view.graph, view.placement
    centres = [(left + right) / 2 for left, right in placement.columns]
    layers = list(range(graph.n_layers))
    step = max(1, round(18 / placement.row))
    axis = {"showgrid": False, "zeroline": False, "fixedrange": False, "tickfont": {"size": SMALL}}
    return {
        "template": "none",
        "font": {"family": FONT, "size": BODY, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 54, "r": 10, "t": 30, "b": 30},
        "height": round(placement.height + 96),
        "hovermode": "closest",
        "hoverlabel": {"font": {"family": FONT, "size": BODY}, "align": "left"},
        "dragmode": "pan",
        "showlegend": False,
        "xaxis": {
            **axis,
            "range": [0, round(placement.width, 1)],
            "tickvals": [round(c, 1) for c in centres],
            "ticktext": [plotly_text(shorten(token_text(t), TOKEN_LENGTH)) for t in graph.tokens],
            "tickangle": 0,
            **TICKS,
        },
        "yaxis": {
            **axis,
            "range": [-18, round(placement.height + 18, 1)],
            "tickvals": [0, *((n + 1) * placement.row for n in layers[::step]), placement.height],
            "ticktext": ["tokens", *(f"layer {n}" for n in layers[::step]), "output"],
            **TICKS,
        },
    }


def strength_steps(strength: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
    """Which of the edges fall in each step of strength, strongest first."""
    share = strength / max(float(strength.max(initial=0)), 1e-30)
    bounds = [np.inf, *(start for start, _, _ in STEPS)]
    return [np.flatnonzero((share < bounds[i]) & (share >= bounds[i + 1])) for i in range(3)]


def segments(placement: Placement, sources: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Trace:
    """Edges as one line with gaps; an edge one of whose ends is not drawn is left out."""
    ends = np.stack([np.asarray(sources, np.int64), np.asarray(targets, np.int64)], axis=1)
    x, y = placement.x[ends], placement.y[ends]
    drawn = ~np.isnan(x).any(axis=1)
    gap = np.full((int(drawn.sum()), 1), np.nan)
    return {
        "x": coordinates(np.concatenate([x[drawn], gap], axis=1)),
        "y": coordinates(np.concatenate([y[drawn], gap], axis=1)),
    }


def coordinates(values: npt.NDArray[Any]) -> list[float | None]:
    """Pixels with one decimal; gaps as None."""
    flat = np.round(values.ravel(), 1).tolist()
    return [None if v != v else v for v in flat]

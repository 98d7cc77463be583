"""Going from node to node along edges, as the arrow keys do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuit_nb.figures.edges import edges_of
from circuit_nb.figures.view import GraphView
from circuit_nb.graph import Node, TargetNode


@dataclass(frozen=True)
class Walk:
    """Where a reader stands, and how the reader came there."""

    at: Node | None = None
    origin: Node | None = None
    """The node from which an edge was followed."""
    way: str = ""
    """`up` or `down`, the way that edge was followed."""

    def step(self, view: GraphView, way: str) -> Walk:
        """One step on.

        `up` leads to the node that this one drives most, `down` to the one that drives it most;
        `right` and `left` from there to the next stronger or weaker of the same kind, or, where no
        edge was followed, to the neighbour in the row. Where there is nothing, nobody moves.

        Args:
            view: What is drawn; only drawn nodes are gone to.
            way: `up`, `down`, `left` or `right`.
        """
        if self.at is None or self.at not in view.graph:
            return Walk(TargetNode(0)) if TargetNode(0) in view.graph else self
        if way in ("up", "down"):
            found = _ends(view, self.at, way)
            return Walk(found[0], self.at, way) if found else self
        start = self.origin
        beside = _row(view, self.at) if start is None else _ends(view, start, self.way)
        if self.at not in beside:
            return self
        place = beside.index(self.at) + (1 if way == "right" else -1)
        if not 0 <= place < len(beside):
            return self
        return Walk(beside[place], self.origin, self.way)


def _ends(view: GraphView, node: Node, way: str) -> list[Node]:
    """The drawn ends of a node's edges above or below it, the strongest first."""
    sources, targets, weights = edges_of(view, node, "outputs" if way == "up" else "inputs")
    ends = targets if way == "up" else sources
    return [view.graph.nodes[n] for n in ends[np.argsort(-np.abs(weights), kind="stable")]]


def _row(view: GraphView, node: Node) -> list[Node]:
    """The drawn nodes of a node's row, from the left."""
    own = view.graph.number(node)
    row = next(b for b in view.placement.rows if b.low <= view.placement.y[own] <= b.high)
    inside = (view.placement.y >= row.low) & (view.placement.y <= row.high) & view.drawn
    numbers = np.flatnonzero(inside)
    return [view.graph.nodes[n] for n in numbers[np.argsort(view.placement.x[numbers])]]

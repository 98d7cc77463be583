"""What drawing needs to know of a graph, computed once however often it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import effects, influence, normalized, ubiquitous
from circuit_nb.graph import AttributionGraph

MOST = 120
"""About how many nodes are drawn where nobody says how many."""
FEW = 60
"""A graph of no more nodes than this is drawn whole."""
NEARLY_ALL = 0.99
"""Share of the influence that is drawn at most where nobody says how much."""

Mask: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float32]


class Measures:
    """Influence of nodes and edges, and which features fire on nearly everything.

    Args:
        graph: The graph.
        density: Share of all tokens on which features are active, 0 to 1, by (layer, index), where
            it is known.
    """

    def __init__(
        self, graph: AttributionGraph, density: Mapping[tuple[int, int], float] | None = None
    ) -> None:
        self.graph = graph
        self._density = dict(density or {})

    @cached_property
    def influence(self) -> Floats:
        """Influence of every node on the targets, (n_nodes,)."""
        return influence(self.graph)

    @cached_property
    def reach(self) -> Floats:
        """Influence of every node, a target's being its probability, (n_nodes,)."""
        reach = self.influence.copy()
        reach[self.graph.blocks.targets] = self.graph.target_probabilities
        return reach

    @cached_property
    def running(self) -> npt.NDArray[np.float64]:
        """Share of the influence that a node and all stronger ones hold, (n_nodes,)."""
        order = np.argsort(-self.influence, kind="stable")
        sums = np.cumsum(self.influence[order], dtype=np.float64)
        result = np.empty(len(order))
        result[order] = sums / max(float(sums[-1]), 1e-30)
        return result

    @cached_property
    def everywhere(self) -> Mask:
        """Which nodes are features that fire on nearly everything, (n_nodes,)."""
        return ubiquitous(self.graph, self._density)

    @cached_property
    def effects(self) -> Floats:
        """What every feature does to each target through all paths, (n_features, n_targets)."""
        return effects(self.graph).T

    @cached_property
    def usual(self) -> float:
        """Share of the influence whose nodes are drawn where nobody says another.

        So many that the picture holds about `MOST` nodes, whatever the size of the graph.
        """
        graph = self.graph
        if graph.n_nodes <= FEW:
            return 1.0
        ends = graph.blocks.tokens.start
        ranked = np.sort(self.running[:ends][~self.everywhere[:ends]])
        most = max(MOST - min(graph.n_nodes - ends, MOST // 2), 1)
        if len(ranked) <= most:
            return NEARLY_ALL
        return float(np.clip(np.floor(100 * ranked[most - 1]) / 100, 0.02, NEARLY_ALL))

    def kept(self, mass: float) -> Mask:
        """The nodes that together hold this share of the influence, tokens and targets, (n_nodes,).

        The last one goes beyond it.
        """
        before = self.running - self.influence / max(float(self.influence.sum()), 1e-30)
        nodes = before < mass + 1e-9 if mass < 1 else np.ones(self.graph.n_nodes, dtype=np.bool_)
        nodes[self.graph.blocks.tokens.start :] = True
        return nodes

    def flow(self, shown: Mask) -> Floats:
        """Influence through the edges between shown nodes, (shown targets, shown sources).

        Rows are the shown features and targets, columns the shown features, errors and tokens.
        """
        rows = self.graph.rows[shown[self.graph.rows]]
        columns = np.flatnonzero(shown[: self.graph.blocks.tokens.stop])
        shares = normalized(self.weights_into(rows))
        return shares[:, columns] * self.reach[rows][:, None]

    def weights_into(self, numbers: npt.NDArray[np.int64]) -> Floats:
        """Rows of `weights` of features and targets, by node number."""
        blocks = self.graph.blocks
        shift = blocks.targets.start - blocks.features.stop
        return self.graph.weights[
            np.where(numbers < blocks.features.stop, numbers, numbers - shift)
        ]

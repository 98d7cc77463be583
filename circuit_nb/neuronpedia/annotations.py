"""What a reader added to a graph: pins, groups, labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from circuit_nb.graph import Feature, Node, Supernode


@dataclass(frozen=True)
class Annotations:
    """What a reader added to a graph. Labels are text from outside: escape them."""

    labels: Mapping[Node, str] = field(default_factory=dict[Node, str])
    """What nodes are called."""
    pins: tuple[Node, ...] = ()
    """Nodes of the subgraph, in the order they were pinned."""
    supernodes: tuple[tuple[str, tuple[Node, ...]], ...] = ()
    """Named groups of nodes; tokens and targets can be members too."""
    selected: Node | None = None
    """The node last clicked."""
    node_threshold: float | None = None
    """Show nodes up to this cumulative influence, 0 to 1."""

    @property
    def groups(self) -> tuple[Supernode, ...]:
        """The supernodes that hold features, with their features alone."""
        members = (
            (name, [node for node in nodes if isinstance(node, Feature)])
            for name, nodes in self.supernodes
        )
        return tuple(Supernode(name, features) for name, features in members if features)

    @property
    def pinned(self) -> tuple[Node, ...]:
        """Pins, and members of supernodes that are no features, each once."""
        others = (n for _, nodes in self.supernodes for n in nodes if not isinstance(n, Feature))
        return tuple(dict.fromkeys((*self.pins, *others)))

    @property
    def feature_labels(self) -> dict[tuple[int, int], str]:
        """Labels of features by (layer, index); where positions differ, the first one's."""
        found: dict[tuple[int, int], str] = {}
        for node, text in self.labels.items():
            if isinstance(node, Feature) and text.strip():
                found.setdefault((node.layer, node.index), text.strip())
        return found

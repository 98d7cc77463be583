"""Supernodes that ship with a model, and what belongs beside supernodes in the circuit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuit_nb import analysis
from circuit_nb.atlas import shipped_with
from circuit_nb.graph import AttributionGraph, Feature, Node, Supernode, TargetNode, TokenNode

JOINED = 0.1
"""Share of a group's input that a token or, of an output's input, a group must carry to join."""
LIKELY = 0.02
"""Probability that an output but the first one must have to join."""


def joined_ends(graph: AttributionGraph, supernodes: Sequence[Supernode]) -> list[Node]:
    """The tokens that feed the supernodes, and the outputs they feed, by at least `JOINED`.

    The first output is there in any case; others are if they are `LIKELY`.
    """
    if not supernodes:
        return []
    tokens = [TokenNode(p) for p in range(1, len(graph.tokens))]
    targets = [TargetNode(i) for i in range(len(graph.targets))]
    groups = [*supernodes, *tokens, *targets]
    shares = np.abs(analysis.supernode_weights(graph, groups))
    n, m = len(supernodes), len(supernodes) + len(tokens)
    feeding = shares[:n, n:m].max(axis=0) >= JOINED
    fed = shares[m:, :n].max(axis=1) >= JOINED
    fed &= graph.target_probabilities >= LIKELY
    fed[:1] = True
    return [
        *(t for t, joined in zip(tokens, feeding.tolist(), strict=True) if joined),
        *(t for t, joined in zip(targets, fed.tolist(), strict=True) if joined),
    ]


def shipped(graph: AttributionGraph, features: Sequence[Feature]) -> list[Supernode]:
    """Concepts that ship with an embedded model, as far as they are among the features."""
    companions = shipped_with(graph.provenance)
    if companions is None:
        return []
    drawn = set(features)
    found = companions.supernodes(tuple(row) for row in graph.features.tolist())
    groups: list[Supernode] = []
    taken: set[Feature] = set()
    for name, rows in found.items():
        # All its features, those too weak to be drawn as well: else a switch would leave some on.
        members = [f for f in (Feature(*row) for row in rows) if f not in taken]
        if drawn.intersection(members):
            taken.update(members)
            groups.append(Supernode(name, members))
    return groups

"""Supernodes proposed by a stated rule; the reader accepts them with one click."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np

from circuit_nb import analysis
from circuit_nb.atlas import shipped_with
from circuit_nb.graph import AttributionGraph, Feature, Node, Supernode, TargetNode, TokenNode
from circuit_nb.panels.cards import Cards

RULE = (
    "Features become one supernode where they belong to one of the model's shipped concepts; "
    "else where they share a label; else where they sit at one position and promote the same token "
    "most; else where they sit at one position and one gets at least a quarter of its input from "
    "the other."
)
"""The rule of `propose` in words."""
LINKED = 0.25
"""Share of its input that makes a feature a strongly linked neighbour."""
JOINED = 0.1
"""Share of a group's input that a token or, of an output's input, a group must carry to join."""


def propose(
    graph: AttributionGraph,
    features: Sequence[Feature],
    cards: Cards,
    labels: Mapping[tuple[int, int], str],
) -> list[Supernode]:
    """Group features by `RULE`, the groups with most influence first.

    Args:
        graph: The graph they are in.
        features: The features to group; those that fit no group stay out.
        cards: What is known of them.
        labels: Labels by (layer, index).
    """
    groups = shipped(graph, features)
    rest = _without(features, groups)
    groups += _same(rest, lambda f: labels.get((f.layer, f.index), ""), "{}")
    for position in sorted({f.position for f in rest}):
        here = _without((f for f in rest if f.position == position), groups)
        groups += _same(here, lambda f: _top_promoted(cards, f), "promotes {}")
    rest = _without(rest, groups)
    groups += _linked(graph, rest, labels)
    strength = analysis.influence(graph)
    return sorted(groups, key=lambda g: -max(float(strength[graph.number(f)]) for f in g.features))


def joined_ends(graph: AttributionGraph, supernodes: Sequence[Supernode]) -> list[Node]:
    """The tokens that feed the supernodes, and the outputs they feed, by at least `JOINED`.

    The first output is there in any case.
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
    fed[:1] = True
    return [
        *(t for t, joined in zip(tokens, feeding.tolist(), strict=True) if joined),
        *(t for t, joined in zip(targets, fed.tolist(), strict=True) if joined),
    ]


def shipped(graph: AttributionGraph, features: Sequence[Feature]) -> list[Supernode]:
    """Concepts that ship with an embedded model, as far as they are among the features."""
    companions = shipped_with(graph.provenance.get("model"))
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


def _without(features: Iterable[Feature], groups: Iterable[Supernode]) -> list[Feature]:
    taken = {f for g in groups for f in g.features}
    return [f for f in features if f not in taken]


def _top_promoted(cards: Cards, feature: Feature) -> str:
    card = cards.card((feature.layer, feature.index))
    return card.promotes[0][0].strip() if card is not None and card.promotes else ""


def _same(
    features: Iterable[Feature], text_of: Callable[[Feature], str], name: str
) -> list[Supernode]:
    """Groups of at least two features of which a text is the same; an empty text is none."""
    members: dict[Hashable, list[Feature]] = {}
    shown: dict[Hashable, str] = {}
    for feature in features:
        text = text_of(feature).strip()
        if text:
            key = text.casefold()
            members.setdefault(key, []).append(feature)
            shown.setdefault(key, text)
    return [Supernode(name.format(shown[k]), m) for k, m in members.items() if len(m) > 1]


def _linked(
    graph: AttributionGraph, features: Sequence[Feature], labels: Mapping[tuple[int, int], str]
) -> list[Supernode]:
    """Chains of strongly linked neighbours at one position, named after the most influential."""
    shares = analysis.normalized(graph.weights)
    group_of = {f: f for f in features}

    def root(feature: Feature) -> Feature:
        while group_of[feature] != feature:
            feature = group_of[feature]
        return feature

    for target in features:
        row = shares[graph.number(target)]
        for source in features:
            if source.position == target.position and row[graph.number(source)] >= LINKED:
                group_of[root(source)] = root(target)
    members: dict[Feature, list[Feature]] = {}
    for feature in features:
        members.setdefault(root(feature), []).append(feature)
    strength = analysis.influence(graph)
    groups: list[Supernode] = []
    for linked in members.values():
        if len(linked) > 1:
            first = max(linked, key=lambda f: float(strength[graph.number(f)]))
            label = labels.get((first.layer, first.index)) or f"L{first.layer} #{first.index}"
            groups.append(Supernode(label, linked))
    return groups

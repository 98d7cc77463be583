"""`summary`: a circuit in words and as JSON, for readers that do not look at pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuit_nb.analysis.chains import Path
from circuit_nb.analysis.comparing import supernode_weights
from circuit_nb.analysis.flow import Scores, influence, scores
from circuit_nb.analysis.stories import story
from circuit_nb.finding import Labels, label_of
from circuit_nb.graph import (
    AttributionGraph,
    Feature,
    Node,
    Supernode,
    TargetNode,
    TokenNode,
)

FEATURES = 10
"""How many of the most influential features are told of."""
FEEDS = 0.05
"""A group that carries a smaller share of another's input is not said to feed it."""


@dataclass(frozen=True, repr=False)
class Summary:
    """What an attribution graph says, without a picture."""

    prompt: str
    outputs: tuple[tuple[str, float], ...]
    """(token, probability) of the graph's targets."""
    paths: tuple[tuple[float, tuple[str, ...]], ...]
    """(share of the answer's input, names from a word to the answer), as `story` tells them."""
    features: tuple[tuple[str, str, float], ...]
    """(node id, name, influence) of the most influential features, the strongest first."""
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    """(name, node ids) of the supernodes."""
    flows: tuple[tuple[str, str, float], ...]
    """(from, to, signed share of the input) between groups and outputs, the strongest first."""
    counts: Mapping[str, int]
    """How many features, active features, errors, tokens and edges there are."""
    scores: Scores
    """Replacement and completeness."""
    evidence: tuple[str, ...] = ()
    """What was measured, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values with stable keys."""
        return {
            "format": "circuit-nb summary",
            "version": 1,
            "prompt": self.prompt,
            "outputs": [{"token": t, "probability": p} for t, p in self.outputs],
            "paths": [{"share": s, "nodes": list(names)} for s, names in self.paths],
            "features": [{"id": i, "name": n, "influence": v} for i, n, v in self.features],
            "groups": [{"name": n, "features": list(ids)} for n, ids in self.groups],
            "flows": [{"from": a, "to": b, "share": s} for a, b, s in self.flows],
            "counts": dict(self.counts),
            "scores": {
                "replacement": float(self.scores.replacement),
                "completeness": float(self.scores.completeness),
            },
            "evidence": list(self.evidence),
        }

    def __str__(self) -> str:
        count = self.counts
        said = ", ".join(f"{t!r} {_percent(p)}" for t, p in self.outputs)
        lines = [
            f"Prompt: {self.prompt!r}",
            f"The model goes on with {said}.",
            f"The graph has {count['features']} of {count['active']} active features, "
            f"{count['errors']} error nodes and {count['edges']} edges.",
            f"Replacement score {self.scores.replacement:.2f} (influence that comes through "
            f"features), completeness {self.scores.completeness:.2f} (input that is no error).",
        ]
        lines += [
            f"Path, {_percent(s)} of the answer: {' → '.join(names)}" for s, names in self.paths
        ]
        lines += [f"{a} → {b}: {s:+.0%} of its input" for a, b, s in self.flows]
        lines += [f"Feature {name} ({i}): influence {_percent(v)}" for i, name, v in self.features]
        lines += self.evidence
        return "\n".join(lines)

    __repr__ = __str__


def _percent(share: float) -> str:
    """With a decimal; what is not nothing is not told as nothing."""
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def summary(
    graph: AttributionGraph,
    *,
    labels: Labels | None = None,
    groups: Sequence[Supernode] = (),
    evidence: Sequence[object] = (),
) -> Summary:
    """Tell a graph in words and numbers: strongest paths, features, groups, scores, evidence.

    Args:
        graph: The graph.
        labels: Labels, or cards, by (layer, index) or by feature.
        groups: Supernodes, between which the flow is told.
        evidence: What `circuit_nb.evidence` measured; each result says itself in a sentence.
    """
    known = labels or {}
    strength = influence(graph)
    features = np.argsort(-strength[graph.blocks.features], kind="stable")[:FEATURES].tolist()

    def name(node: Node) -> str:
        if isinstance(node, Feature):
            told = label_of(known, node).strip() or f"L{node.layer} #{node.index}"
            return f"{told} @{graph.tokens[node.position].strip()}"
        if isinstance(node, TokenNode):
            return repr(graph.tokens[node.position])
        return f"say {graph.targets[node.index]!r}" if isinstance(node, TargetNode) else str(node)

    return Summary(
        prompt=graph.prompt,
        outputs=tuple(
            (t, float(p)) for t, p in zip(graph.targets, graph.target_probabilities, strict=True)
        ),
        paths=tuple((p.share, tuple(map(name, p.nodes))) for p in _paths(graph, known)),
        features=tuple(
            (_id(node), name(node), float(strength[i]))
            for i in features
            for node in [graph.nodes[i]]
            if isinstance(node, Feature)
        ),
        groups=tuple((g.name, tuple(map(_id, g.features))) for g in groups),
        flows=tuple(_flows(graph, groups, name)),
        counts={
            "features": len(graph.features),
            "active": graph.n_active,
            "errors": len(graph.errors),
            "tokens": len(graph.tokens),
            "edges": int(np.count_nonzero(graph.weights)),
        },
        scores=scores(graph),
        evidence=tuple(map(str, evidence)),
    )


def _paths(graph: AttributionGraph, labels: Labels) -> list[Path]:
    return story(graph, labels) if len(graph.targets) else []


def _id(feature: Feature) -> str:
    return f"feature-{feature.layer}-{feature.position}-{feature.index}"


def _flows(
    graph: AttributionGraph, groups: Sequence[Supernode], name: Any
) -> list[tuple[str, str, float]]:
    """What flows between groups, and from them to the answer."""
    if not groups:
        return []
    ends: list[Node] = [TargetNode(0)] if graph.targets else []
    every: list[Supernode | Node] = [*groups, *ends]
    shares = supernode_weights(graph, every)
    names = [g.name for g in groups] + [name(n) for n in ends]
    found = [
        (names[s], names[t], float(shares[t, s]))
        for t in range(len(every))
        for s in range(len(every))
        if abs(shares[t, s]) >= FEEDS
    ]
    return sorted(found, key=lambda flow: -abs(flow[2]))

"""The story of an answer: from a word of the prompt, through features with names, to the output.

Of all chains of edges the strongest is a poor story: one edge beats any two, so it is the word
itself, or the last word echoed. A story leaves the word by a feature at the word's own place and
reaches the answer by one at the last place. Every step raises the next: where two minus signs
cancel, the chain is right and its reader misled. How long it may be is settled by the geometric
mean of its edges' shares, which favours neither few nor many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis.chains import Path
from circuit_nb.analysis.flow import LEAST_SUM, flow, influence
from circuit_nb.analysis.tracing import ubiquitous
from circuit_nb.finding import Labels, label_of
from circuit_nb.graph import AttributionGraph, Feature, Node, TargetNode, TokenNode

FEATURES = 600
"""The most influential features that a story may pass through."""
EDGES = 5
"""How many edges a story has at most."""
WORTH = 0.2
"""Share of the first word's influence that another word must have to be told of."""
ALSO = 0.7
"""Share of a chain's geometric mean that another of the same word must have to be told of."""

Numbers = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


class _Steps(NamedTuple):
    """What a story may be made of."""

    features: Numbers
    """Node numbers of the features, ascending; rows and columns below follow them."""
    shares: Shares
    """Signed share of each row's input that comes from each column; 0 where a story does not go.
    Rows: features, then what is explained; columns: features, then tokens."""


def story(
    graph: AttributionGraph,
    labels: Labels | None = None,
    *,
    target: Node | None = None,
    density: Mapping[tuple[int, int], float] | None = None,
    top_k: int = 3,
    ways: int = 1,
) -> list[Path]:
    """How the words of the prompt lead to an output, the word that matters most first.

    One chain a word, or several, each step of which raises the next. Words are ordered by their
    influence on the output through all chains of the kind; the last word, whose chains stay where
    they are, comes after all others.

    Args:
        graph: The graph.
        labels: Labels, or cards, by (layer, index) or by feature. Where there are any, a chain
            passes only through features that have one, unless there is no such chain.
        target: What is explained, an output or a feature; by default the most likely output.
        density: Share of all tokens on which a feature is active, by (layer, index), where known.
        top_k: How many words to tell of at most; those that have less than a fifth of the first
            one's influence are not told of.
        ways: How many chains of a word to return at most. They have no feature in common, and
            after the first come only such as are about as strong (`ALSO`).

    Returns:
        Chains of a token, one to four features and the target; none where there is no such chain.
        No chain passes a feature that stands back (`ubiquitous`), an error or the first token.

    Raises:
        ValueError: If the graph does not hold the target.
    """
    if target is None:
        if not len(graph.targets):
            return []
        target = TargetNode(int(graph.target_probabilities.argmax()))
    end = graph.number(target)
    if isinstance(target, TokenNode) or end not in graph.rows:
        return []
    last = target.position if isinstance(target, Feature) else len(graph.tokens) - 1
    able = ~ubiquitous(graph, density)[graph.blocks.features] & (_strength(graph) > 0)
    nodes = graph.nodes[: len(graph.features)]
    named = np.array(
        [isinstance(n, Feature) and bool(label_of(labels or {}, n).strip()) for n in nodes], bool
    )
    for allowed in (able & named, able):
        steps = _steps(graph, allowed, end, last)
        found = _chains(graph, steps, target, last, top_k, ways)
        if found:
            return found
    return []


def _strength(graph: AttributionGraph) -> npt.NDArray[np.float32]:
    """Influence of the features alone, (n_features,)."""
    return influence(graph)[graph.blocks.features]


def _steps(graph: AttributionGraph, allowed: npt.NDArray[np.bool_], end: int, last: int) -> _Steps:
    """Shares between the features a story may pass, and with the words and the end."""
    n, positions = len(graph.features), len(graph.tokens)
    order = np.argsort(-_strength(graph), kind="stable")
    features = np.sort(order[allowed[order]][:FEATURES])
    features = features[features != end]
    row = end if end < n else end - graph.blocks.targets.start + n
    rows = np.append(features, row)
    columns = np.append(features, np.arange(graph.blocks.tokens.start, graph.blocks.tokens.stop))
    per = 1 / np.maximum(flow(graph).sums[rows], LEAST_SUM)
    shares = graph.weights[np.ix_(rows, columns)].astype(np.float64) * per[:, None]
    at, k = graph.features[features, 1], len(features)
    shares[k, :k][at != last] = 0
    shares[k, k:] = 0
    shares[:k, k:] *= at[:, None] == np.arange(positions)
    shares[:, k] = 0  # the special first token tells nothing
    return _Steps(features, shares)


def _chains(
    graph: AttributionGraph, steps: _Steps, target: Node, last: int, top_k: int, ways: int
) -> list[Path]:
    """The best chains of each word, words in the order of their influence."""
    k, positions = len(steps.features), len(graph.tokens)
    arrived = np.zeros(k + 1)
    arrived[k] = 1
    strength = np.abs(steps.shares)
    for column in reversed(range(k)):  # columns are in the order of layers
        arrived[column] = arrived @ strength[:, column]
    words = arrived @ strength[:, k:]
    best = _best(steps.shares, k)
    told = [p for p in range(positions) if best.typical[:, k + p].any()]
    told.sort(key=lambda p: (p == last, -float(words[p])))
    told = [p for p in told if words[p] >= WORTH * words[told[0]]]
    found: list[Path] = []
    for position in told[:top_k]:
        for inside, share in itertools.islice(_ways(steps.shares, best, k + position), ways):
            nodes = (graph.nodes[steps.features[c]] for c in inside)
            found.append(Path((TokenNode(position), *nodes, target), share, 1))
    return found


def _ways(shares: Shares, best: _Best, column: int) -> Iterator[tuple[list[int], float]]:
    """Chains of a column without a feature in common, what they pass and their strengths."""
    least = 0.0
    while best.typical[:, column].max() > least:
        inside = best.chain(column)
        yield inside, float(best.strengths[len(inside), column])
        least = least or ALSO * float(best.typical[:, column].max())
        shares = shares.copy()
        shares[:, inside] = 0
        best = _best(shares, len(shares) - 1)


class _Best(NamedTuple):
    """The strongest chain of each length from every column to the last row."""

    strengths: Shares
    """(EDGES, columns), chains of one edge first; 0 where there is none."""
    came_by: Numbers
    """The row that each chain's first edge leads to, (EDGES, columns)."""

    @property
    def typical(self) -> Shares:
        """Geometric mean of each chain's edges, (EDGES, columns)."""
        return self.strengths ** (1 / np.arange(1, EDGES + 1))[:, None]

    def chain(self, column: int) -> list[int]:
        """What the best chain of a column passes, by number of the row."""
        passed = list[int]()
        for edge in range(int(self.typical[:, column].argmax()), 0, -1):
            column = int(self.came_by[edge, column])
            passed.append(column)
        return passed


def _best(shares: Shares, k: int) -> _Best:
    """The strongest chains to the last row whose every edge raises what it leads to."""
    raises = np.maximum(shares, 0)
    best = np.zeros((EDGES, shares.shape[1]))
    came_by = np.zeros((EDGES, shares.shape[1]), dtype=np.int64)
    value = np.zeros(k + 1)
    value[k] = 1
    for edges in range(EDGES):
        through = raises * value[:, None]
        came_by[edges] = through.argmax(axis=0)
        best[edges] = through.max(axis=0)
        value = np.append(best[edges, :k], 0)
    return _Best(best, came_by)

"""The story of an answer: from a word of the prompt, through features with names, to the output.

Of all chains of edges the strongest is a poor story: one edge beats any two, so it is the word
itself, or the last word echoed. A story leaves the word by a feature at the word's own place and
reaches the answer by one at the last place, and how long it may be is settled by the geometric
mean of its edges' shares, which favours neither few nor many.
"""

from __future__ import annotations

from collections.abc import Mapping
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

Numbers = npt.NDArray[np.int64]


class _Steps(NamedTuple):
    """What a story may be made of."""

    features: Numbers
    """Node numbers of the features, ascending; rows and columns below follow them."""
    shares: npt.NDArray[np.float64]
    """Signed share of each row's input that comes from each column; 0 where a story does not go.
    Rows: features, then what is explained; columns: features, then tokens."""


def story(
    graph: AttributionGraph,
    labels: Labels | None = None,
    *,
    target: Node | None = None,
    density: Mapping[tuple[int, int], float] | None = None,
    top_k: int = 3,
) -> list[Path]:
    """How the words of the prompt lead to an output, the word that matters most first.

    One chain a word, which raises the output. Words are ordered by their influence on the output
    through all chains of the kind; the last word, whose chains stay where they are, comes after
    all others.

    Args:
        graph: The graph.
        labels: Labels, or cards, by (layer, index) or by feature. Where there are any, a chain
            passes only through features that have one, unless there is no such chain.
        target: What is explained, an output or a feature; by default the most likely output.
        density: Share of all tokens on which a feature is active, by (layer, index), where known.
        top_k: How many chains to return at most, each from another word; words that have less
            than a fifth of the first one's influence are not told of.

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
        found = _chains(graph, steps, target, last, top_k)
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
    graph: AttributionGraph, steps: _Steps, target: Node, last: int, top_k: int
) -> list[Path]:
    """The best chain of each word, words in the order of their influence."""
    k, positions = len(steps.features), len(graph.tokens)
    arrived = np.zeros(k + 1)
    arrived[k] = 1
    strength = np.abs(steps.shares)
    for column in reversed(range(k)):  # columns are in the order of layers
        arrived[column] = arrived @ strength[:, column]
    words = arrived @ strength[:, k:]
    best, came_by = _best(steps.shares, k)
    lengths = 1 / np.arange(1, EDGES + 1)
    typical = best[:, k:] ** lengths[:, None]
    told = [p for p in range(positions) if typical[:, p].any()]
    told.sort(key=lambda p: (p == last, -float(words[p])))
    found: list[Path] = []
    for position in (p for p in told if words[p] >= WORTH * words[told[0]]):
        length = int(typical[:, position].argmax())
        column, sign, inside = k + position, 0, list[Node]()
        for edge in range(length, 0, -1):
            column, sign = came_by[edge, sign, column]
            inside.append(graph.nodes[steps.features[column]])
        nodes = (TokenNode(position), *inside, target)
        found.append(Path(nodes, float(best[length, k + position]), 1))
    return found[:top_k]


def _best(shares: npt.NDArray[np.float64], k: int) -> tuple[npt.NDArray[np.float64], Numbers]:
    """The strongest chains of each length to the last row that raise it.

    Returns:
        Their strengths, (EDGES, columns), those of one edge first; and the row that each chain's
        first edge leads to, with the sign its rest needs, (EDGES, 2, columns, 2): a chain that
        raises is continued by one that raises where the edge is positive, else by one that lowers.
    """
    raises, lowers = np.maximum(shares, 0), np.maximum(-shares, 0)
    columns = np.arange(shares.shape[1])
    value = np.zeros((2, k + 1))
    value[0, k] = 1
    best = np.zeros((EDGES, len(columns)))
    came_by = np.zeros((EDGES, 2, len(columns), 2), dtype=np.int64)
    for edges in range(EDGES):
        reached = np.zeros((2, len(columns)))
        for sign in (0, 1):
            same, other = raises * value[sign][:, None], lowers * value[1 - sign][:, None]
            strongest = np.maximum(same, other)
            row = strongest.argmax(axis=0)
            reached[sign] = strongest[row, columns]
            came_by[edges, sign, :, 0] = row
            turned = same[row, columns] < other[row, columns]
            came_by[edges, sign, :, 1] = np.where(turned, 1 - sign, sign)
        best[edges] = reached[0]
        value = np.zeros((2, k + 1))
        value[:, :k] = reached[:, :k]
    return best, came_by

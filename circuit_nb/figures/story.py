"""The path a picture opens on: from a word of the prompt to the answer, through named features.

Of all chains from a word to the answer the one is taken along which most of the word's influence
flows. The strongest chain by the product of its edges, as `analysis.paths` finds it, is mostly a
single hop, `is → is → Austin`; flow counts what reaches an edge in every way, and what leaves it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import Path, normalized
from circuit_nb.figures.measures import Floats, Mask, Measures
from circuit_nb.figures.names import NO_LABELS, Labels, is_named
from circuit_nb.graph import Node, TargetNode, TokenNode

CANDIDATES = 250
"""Features a path may lead through: so many of the most influential."""
LONGEST = 4
"""Features on a path at most."""


def story(
    measures: Measures, labels: Labels = NO_LABELS, target: TargetNode | None = None
) -> Path | None:
    """The path from the word whose influence reaches the answer most through named features.

    Words are tokens with a letter or digit in them, the first and the last token of the prompt
    left out where there are others. Features lie on the path only if they raise what follows, are
    named (any will do where none is), and do not fire on nearly everything.

    Args:
        measures: Of the graph.
        labels: Labels of features by (layer, index).
        target: The answer; by default the first output.

    Returns:
        The path, with two to four features if there is one, else with one; None if there is none.
    """
    graph = measures.graph
    target = target or TargetNode(0)
    if target not in graph or not len(graph.features):
        return None
    chosen = _candidates(measures, labels)
    raising = _Raising(measures, chosen, graph.number(target))
    words = _words(measures)
    if not len(chosen) or not len(words):
        return None
    word = int(words[np.argmax(raising.arriving[words])])
    chain = raising.chain(word, [_name(measures, labels, n) for n in chosen.tolist()])
    if not chain:
        return None
    numbers = [graph.blocks.tokens.start + word, *(int(chosen[i]) for i in chain)]
    return _path(measures, [*numbers, graph.number(target)])


def _candidates(measures: Measures, labels: Labels) -> npt.NDArray[np.int64]:
    graph = measures.graph
    allowed = ~measures.everywhere[graph.blocks.features]
    named = np.array([is_named(labels, (f, i)) for f, _, i in graph.features.tolist()])
    if (named & allowed).any():
        allowed = allowed & named
    ranked = np.argsort(-measures.influence[graph.blocks.features], kind="stable")
    return np.sort(ranked[allowed[ranked]][:CANDIDATES])


def _words(measures: Measures) -> npt.NDArray[np.int64]:
    """Positions of the tokens that a path may begin at."""
    graph = measures.graph
    last = len(graph.tokens) - 1
    spoken = [
        position
        for position, token in enumerate(graph.tokens)
        if any(c.isalnum() for c in token) and not token.strip().startswith("<")
    ]
    inner = [p for p in spoken if 0 < p < last]
    return np.array(inner or [p for p in spoken if p] or spoken, dtype=np.int64)


def _name(measures: Measures, labels: Labels, number: int) -> object:
    """What tells two steps of a path apart: the label, else the feature itself."""
    layer, _, index = measures.graph.features[number].tolist()
    return labels.get((layer, index), "").strip().casefold() or number


class _Raising:
    """Influence that runs from tokens to one target along raising edges between candidates.

    Args:
        measures: Of the graph.
        chosen: Numbers of the candidates, in ascending order and so in that of their layers.
        target: Number of the target.
    """

    def __init__(self, measures: Measures, chosen: npt.NDArray[np.int64], target: int) -> None:
        graph = measures.graph
        weights = measures.weights_into(np.append(chosen, target))
        raising = np.where(weights > 0, normalized(weights), 0)
        self._between: Floats = raising[:-1, chosen]
        self._last: Floats = raising[-1, chosen]
        self._tokens: Floats = raising[:-1, graph.blocks.tokens]
        self._at_end: Mask = graph.features[chosen, 1] == len(graph.tokens) - 1
        # Candidates ascend by layer and edges climb, so one pass down the rows meets every chain.
        self._onward = self._last.copy()
        for row in range(len(chosen) - 1, -1, -1):
            self._onward += self._onward[row] * self._between[row]
        self.arriving = self._onward @ self._tokens
        """(positions,) influence of each token on the target through at least one candidate."""

    def chain(self, word: int, names: list[object]) -> list[int]:
        """The candidates, by place, along which most of a word's influence flows.

        Two to `LONGEST`, the number for which the geometric mean of the edges' flow is largest; no
        two neighbours of one name, the last at the last token where there is such a one.
        """
        begun = self._tokens[:, word]
        before = begun.copy()
        for row in range(len(before)):
            before[row] += self._between[row] @ before
        with np.errstate(divide="ignore"):
            flow = np.log(before[None, :] * self._between * self._onward[:, None])
            entering = np.log(begun * self._onward)
            leaving = np.log(before * self._last)
        groups = np.unique([str(n) for n in names], return_inverse=True)[1]
        flow[groups[:, None] == groups[None, :]] = -np.inf
        ended = np.where(self._at_end, leaving, -np.inf)
        leaving = ended if np.isfinite(ended + entering).any() else leaving
        found = _best_chains(entering, flow, leaving)
        longer = {n: c for n, c in found.items() if n > 1} or found
        return max(longer.values(), default=(-np.inf, []))[1]


def _best_chains(
    entering: Floats, flow: Floats, leaving: Floats
) -> dict[int, tuple[float, list[int]]]:
    """For each number of steps, the mean over the edges and the chain for which it is largest."""
    found: dict[int, tuple[float, list[int]]] = {}
    best, came_by = entering, list[npt.NDArray[np.int64]]()
    for count in range(1, LONGEST + 1):
        total = best + leaving
        end = int(np.argmax(total))
        if np.isfinite(total[end]):
            chain = [end]
            for step in reversed(came_by):
                chain.insert(0, int(step[chain[0]]))
            found[count] = float(total[end]) / (count + 1), chain
        reached = flow + best[None, :]
        came_by.append(reached.argmax(axis=1))
        best = reached.max(axis=1)
    return found


def _path(measures: Measures, numbers: list[int]) -> Path:
    graph = measures.graph
    nodes: list[Node] = [graph.nodes[n] for n in numbers]
    shares = normalized(measures.weights_into(np.array(numbers[1:])))
    strengths = [float(shares[i, source]) for i, source in enumerate(numbers[:-1])]
    assert isinstance(nodes[0], TokenNode)
    return Path(tuple(nodes), float(np.prod(strengths)), 1)

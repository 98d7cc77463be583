"""Supernodes proposed as a draft that a person would have drawn: a few boxes, each one thing.

Two features are one thing where they stand at one position, get their input from the same words
and do the same to the outputs. The first is told by `analysis.origins`: everything a feature
receives, traced back through all paths to tokens and errors. The second by `analysis.pulls`: which
output's probability it raises, and at the expense of which. Both are grouped by Ward's method, each
feature weighing what its influence is. No labels are needed; they name the boxes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import influence, origins, pulls, ubiquitous
from circuit_nb.finding import Labels, label_of
from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.grouping.merging import directions, groups, merges
from circuit_nb.grouping.naming import common_label, distinct, plain, plain_name

RULE = (
    "Features become one supernode where they stand at one position and get their input from the "
    "same words; a large one is parted once more where its two halves make different outputs "
    "likelier. Features that are active at most positions stay out, and so do the weakest groups."
)
"""The rule of `propose` in words."""
FEWEST, MOST = 4, 9
"""How many boxes are proposed, where there are as many."""
GROUPED = 600
"""Features that are grouped at most, the most influential ones."""
ORIGINS = 0.02
"""Merging groups of different origins may cost this share of the influence."""
PULLS = 0.08
"""A box is parted where being one costs more than this share of the influence."""
DUST = 5e-4
"""Share of the strongest member's influence under which a feature is left out of its group."""
LARGEST = 20
"""Features of a box at most: of a whole graph's hundreds a person would take the strongest."""

Numbers = npt.NDArray[np.int64]


def propose(
    graph: AttributionGraph,
    labels: Labels | None = None,
    *,
    features: Iterable[Feature] | None = None,
) -> list[Supernode]:
    """Group a graph's features into boxes as a person would, by `RULE`.

    Args:
        graph: The graph, whole or pruned.
        labels: Labels, or cards, by (layer, index) or by feature; they name the boxes and group
            nothing.
        features: The features to group; by default all, or the most influential 600.

    Returns:
        Four to nine supernodes with different names, the most influential first, the members of
        each likewise and no more than 20; fewer where there are fewer groups, none where nothing
        has influence.

    Raises:
        ValueError: If the graph does not hold one of the features.
    """
    strength = influence(graph)[graph.blocks.features].astype(np.float64)
    chosen = _candidates(graph, strength, features)
    if not len(chosen):
        return []
    pull = pulls(graph)
    origin = origins(graph)
    boxes = _strongest(_by_origin(graph, chosen, origin, strength), strength)
    boxes = _parted(boxes, pull.T, strength, float(strength[chosen].sum()))
    boxes = [_members(box, strength) for box in boxes]
    boxes.sort(key=lambda box: -float(strength[box].sum()))
    names = [_name(graph, box, labels, strength, origin, pull) for box in boxes]
    return [
        Supernode(name, graph.features[box].tolist())
        for name, box in zip(distinct(names, *_marks(graph, boxes, pull)), boxes, strict=True)
    ]


def _candidates(
    graph: AttributionGraph, strength: npt.NDArray[np.float64], features: Iterable[Feature] | None
) -> Numbers:
    """Numbers of the features to group, ascending."""
    chosen = (strength > 0) & ~ubiquitous(graph)[graph.blocks.features]
    if features is not None:
        given = np.zeros_like(chosen)
        given[[graph.number(feature) for feature in features]] = True
        chosen &= given
    order = np.argsort(-strength, kind="stable")
    return np.sort(order[chosen[order]][:GROUPED])


def _by_origin(
    graph: AttributionGraph,
    chosen: Numbers,
    origin: npt.NDArray[np.float32],
    strength: npt.NDArray[np.float64],
) -> list[Numbers]:
    """Features of one position whose input comes from the same tokens and errors."""
    words = origin[chosen].copy()
    words[:, len(graph.errors)] = 0  # the special first token tells no feature from another
    limit = ORIGINS * float(strength[chosen].sum())
    found: list[Numbers] = []
    positions = graph.features[chosen, 1]
    for position in np.unique(positions):
        here = np.flatnonzero(positions == position)
        tree = merges(directions(words[here]), strength[chosen[here]])
        found += [chosen[here[group]] for group in groups(tree, len(here), limit)]
    return found


def _strongest(boxes: list[Numbers], strength: npt.NDArray[np.float64]) -> list[Numbers]:
    """As many of the strongest as there are before the widest gap, `FEWEST` to `MOST`."""
    sizes = np.array([strength[box].sum() for box in boxes])
    order = np.argsort(-sizes, kind="stable")
    counts = np.arange(FEWEST, min(MOST, len(boxes) - 1) + 1)
    if len(counts):
        ratios = sizes[order[counts - 1]] / sizes[order[counts]]
        order = order[: counts[ratios.argmax()]]
    return [boxes[i] for i in order]


def _parted(
    boxes: list[Numbers],
    pull: npt.NDArray[np.float32],
    strength: npt.NDArray[np.float64],
    total: float,
) -> list[Numbers]:
    """The boxes, those parted whose halves pull at the outputs most differently.

    A feature that pulls at nothing, as where there is but one output, parts nothing.
    """
    trees = [merges(directions(pull[box]), strength[box]) for box in boxes]
    last = {i: tree[-1] for i, tree in enumerate(trees) if tree}
    result = list(boxes)
    for i in sorted(last, key=lambda i: -last[i].cost)[: MOST - len(boxes)]:
        if last[i].cost > PULLS * total:
            result[i] = boxes[i][last[i].first]
            result.append(boxes[i][last[i].second])
    return result


def _members(box: Numbers, strength: npt.NDArray[np.float64]) -> Numbers:
    """The features of a box, the most influential first, without dust, and not too many."""
    order = box[np.argsort(-strength[box], kind="stable")][:LARGEST]
    return order[strength[order] >= DUST * strength[order[0]]]


def _name(
    graph: AttributionGraph,
    box: Numbers,
    labels: Labels | None,
    strength: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float32],
    pull: npt.NDArray[np.float32],
) -> str:
    texts = [label_of(labels or {}, Feature(*graph.features[number].tolist())) for number in box]
    name = common_label(texts, strength[box])
    if name:
        return name
    tokens = strength[box] @ origin[box, len(graph.errors) :]
    return plain_name(graph, int(graph.features[box[0], 1]), tokens, pull[:, box].sum(axis=1))


def _marks(
    graph: AttributionGraph, boxes: list[Numbers], pull: npt.NDArray[np.float32]
) -> tuple[list[str], ...]:
    """What tells boxes of one name apart: where they are, what they make likelier, or both."""
    at = [f" ({plain(graph.tokens[int(graph.features[box[0], 1])])})" for box in boxes]
    if not pull.any():
        return (at,)
    likelier = [int(pull[:, box].sum(axis=1).argmax()) for box in boxes]
    to = [f" → {plain(graph.targets[target])}" for target in likelier]
    return at, to, [a + b for a, b in zip(at, to, strict=True)]

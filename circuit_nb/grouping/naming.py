"""Names for groups of features: from their labels, else from where they come from and lead to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from circuit_nb.graph import AttributionGraph


def common_label(labels: Sequence[str], weights: npt.NDArray[Any]) -> str:
    """The label that most of the weight agrees with, word by word; empty where there is none.

    A label agrees with another by the share of their words that both have.
    """
    words = [frozenset(re.findall(r"\w+", label.casefold())) for label in labels]
    votes: Counter[frozenset[str]] = Counter()
    for own, weight in zip(words, np.asarray(weights).tolist(), strict=True):
        if own:
            votes[own] += weight
    support = {
        own: sum(w * len(own & other) / len(own | other) for other, w in votes.items())
        for own in votes
    }
    if not support:
        return ""
    best = max(support, key=lambda own: support[own])
    return next(label for label, own in zip(labels, words, strict=True) if own == best).strip()


def plain_name(
    graph: AttributionGraph, position: int, origin: npt.NDArray[Any], pull: npt.NDArray[Any]
) -> str:
    """The word a group gets its input from, where it is another's, and what it makes likelier.

    Args:
        graph: The graph.
        position: Where the group is.
        origin: Signed share of its input that comes from each token, (positions,).
        pull: What it does to each target's probability, (n_targets,).
    """
    tokens = [plain(token) for token in graph.tokens]
    strength = np.abs(origin)
    strength[0] = 0  # the special first token
    own = tokens[position]
    source = tokens[int(strength.argmax())] if strength.any() else own
    if position < len(tokens) - 1:
        return own if source == own else f"{source} at {own}"
    if source == own or not graph.targets:
        return own
    return f"{source} → {plain(graph.targets[int(pull.argmax())])}"


def plain(token: str) -> str:
    """A token without the blanks around it, or, where it is nothing else, in escapes."""
    return token.strip() or repr(token)[1:-1]


def distinct(names: Sequence[str], *marks: Sequence[str]) -> list[str]:
    """The names, those that stand more than once with something that tells them apart.

    Args:
        names: The names, some of them the same.
        marks: What may be added, one a name; the first of these is that differs among all names
            that are the same. Where none does they are numbered.
    """
    marked = list(names)
    for name, count in Counter(names).items():
        same = [i for i, other in enumerate(names) if other == name]
        options = ([mark[i] for i in same] for mark in marks)
        useful = next((o for o in options if len(set(o)) == count > 1), [""] * count)
        for i, mark in zip(same, useful, strict=True):
            marked[i] = name + mark
    result: list[str] = []
    for name in marked:
        free, number = name, 2
        while free in result:
            free, number = f"{name} {number}", number + 1
        result.append(free)
    return result

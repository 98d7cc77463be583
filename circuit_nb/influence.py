"""How much each column of a graph's weights matters to its targets, on plain arrays.

Edges climb layers, so one walk from the targets down, a block of rows at a time, finds the sum
over all paths: whatever reaches a feature has arrived before its own row is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.float32]"

ROWS = 128
"""Rows read at a time: few enough that they stay in the processor's cache."""
LEAST_SUM = 1e-10
"""What a row's strengths are divided by at least."""


@dataclass(frozen=True)
class Flow:
    """What one walk from the targets to the tokens finds."""

    sums: Floats
    """Sum of the strengths of each row of `weights`, (n_features + n_targets,)."""
    columns: Floats
    """Influence of what each column stands for, (n_features + n_errors + positions,)."""
    errors: Floats
    """Share of each row's input that comes from errors, (n_features + n_targets,)."""


def normalized(weights: Floats) -> Floats:
    """Rows of |weights| scaled to sum to one (all-zero rows stay zero), same shape."""
    strength = np.abs(weights)
    strength /= np.maximum(strength.sum(axis=1, keepdims=True), LEAST_SUM)
    return strength


def walk(
    weights: Floats, layers: npt.NDArray[np.int64], start: Floats, errors: slice = slice(0, 0)
) -> Flow:
    """Spread what the targets have over the columns, along the strengths of all paths.

    Args:
        weights: (features + targets, columns), the features' columns first.
        layers: Layer of each feature, ascending, (features,): edges lead to higher layers only.
        start: What each target begins with, (targets,).
        errors: Columns of error nodes.
    """
    n = len(layers)
    sums, lost = (np.zeros(len(weights), dtype=np.float32) for _ in range(2))
    columns = np.zeros(weights.shape[1], dtype=np.float32)
    for rows in _from_above(layers, len(weights)):
        strength = np.abs(weights[rows])
        sums[rows] = strength.sum(axis=1)
        per = 1 / np.maximum(sums[rows], LEAST_SUM)
        lost[rows] = strength[:, errors].sum(axis=1) * per
        arrived = columns[rows] if rows.start < n else start[rows.start - n : rows.stop - n]
        columns += (arrived * per) @ strength
    return Flow(sums, columns, lost)


def by_layer(layers: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where each layer's features begin and end, the lowest first; `layers` is ascending."""
    firsts = np.flatnonzero(np.diff(layers, prepend=-1)).tolist()
    return list(itertools.pairwise([*firsts, len(layers)]))


def _from_above(layers: npt.NDArray[np.int64], n_rows: int) -> Iterator[slice]:
    """Blocks of rows from the targets down, each of one layer."""
    for first, end in [(len(layers), n_rows), *reversed(by_layer(layers))]:
        for begin in range(first, end, ROWS):
            yield slice(begin, min(begin + ROWS, end))

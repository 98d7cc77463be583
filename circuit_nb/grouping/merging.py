"""Ward's method with weights: the tree of merges of a few hundred directions, in NumPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


class Merge(NamedTuple):
    """Two groups become one."""

    cost: float
    """By how much the weighted sum of squared distances to the groups' means grows."""
    first: Numbers
    """Rows of the one group."""
    second: Numbers
    """Rows of the other."""


def directions(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Rows scaled to length one; rows of zeros stay zero."""
    rows = np.asarray(vectors, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def merges(vectors: npt.NDArray[Any], weights: npt.NDArray[Any]) -> list[Merge]:
    """The cheapest merges in order, until all rows are one group (Ward 1963, Lance-Williams form).

    Costs never fall, so a limit on the cost cuts the tree.

    Args:
        vectors: (rows, dimensions).
        weights: Weight of each row, none negative, (rows,).

    Returns:
        One merge fewer than there are rows.
    """
    weight = np.asarray(weights, dtype=np.float64) + 1e-12  # so that no group weighs nothing
    products = vectors @ vectors.T
    squares = np.diag(products)
    apart = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    cost = apart * weight[:, None] * weight[None, :] / (weight[:, None] + weight[None, :])
    np.fill_diagonal(cost, np.inf)
    members = [np.array([row]) for row in range(len(weight))]
    found: list[Merge] = []
    for _ in range(len(weight) - 1):
        i, j = divmod(int(cost.argmin()), len(weight))
        found.append(Merge(float(cost[i, j]), members[i], members[j]))
        rest, both = np.isfinite(cost[i]), weight[i] + weight[j]
        rest[j] = False
        joined = np.full(len(weight), np.inf)
        joined[rest] = (
            (weight[rest] + weight[i]) * cost[i, rest]
            + (weight[rest] + weight[j]) * cost[j, rest]
            - weight[rest] * cost[i, j]
        ) / (weight[rest] + both)
        cost[i] = cost[:, i] = joined
        cost[j] = cost[:, j] = np.inf
        weight[i], members[i] = both, np.concatenate([members[i], members[j]])
    return found


def groups(found: list[Merge], n_rows: int, limit: float) -> list[Numbers]:
    """What is together once every merge up to a cost is made; rows in ascending order."""
    group_of = np.arange(n_rows)
    for merge in found:
        if merge.cost > limit:
            break
        group_of[merge.second] = group_of[merge.first[0]]
    return [np.flatnonzero(group_of == group) for group in np.unique(group_of)]

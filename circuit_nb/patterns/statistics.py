"""What chance could have done: intervals by resampling, labels shuffled, many comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
RESAMPLES = 1000
_AT_ONCE = 100
_WORK = 5e9
"""About so many multiplications are spent on shuffled labels."""
_FEWEST, _MOST = 2000, 20000


def resampled_means(values: npt.NDArray[Any], seed: int, n: int = RESAMPLES) -> Array:
    """Means over prompts drawn anew with replacement, (n, columns).

    Args:
        values: (prompts, columns).
        seed: Of the draws: the same prompts are drawn for every column.
        n: How often.
    """
    random, count = np.random.default_rng(seed), len(values)
    weights = random.multinomial(count, np.full(count, 1 / count), size=n) / count
    return weights @ np.asarray(values, dtype=np.float64)


def interval(samples: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Where that share of the samples lie, (columns,) each."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def shuffled(a: npt.NDArray[Any], b: npt.NDArray[Any], seed: int) -> Array:
    """How often shuffled labels part two groups as far as the true ones, (columns,).

    The permutation test of the difference of means: (1 + as far or farther) / (1 + shuffles).

    Args:
        a: Of the first group, (prompts, columns).
        b: Of the second.
        seed: Of the shuffles.
    """
    values = np.concatenate([a, b]).astype(np.float64)
    n, columns = values.shape
    observed = np.abs(a.mean(0) - b.mean(0))
    count = int(np.clip(_WORK / max(n * columns, 1), _FEWEST, _MOST))
    random = np.random.default_rng(seed)
    ours = np.zeros((_AT_ONCE, n))
    signs = np.concatenate([np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b))])
    reached, done = np.zeros(columns), 0
    while done < count:
        ours[:] = signs
        ours = random.permuted(ours, axis=1)
        # Sums in another order differ in the last digits: a tie is a tie.
        reached += (np.abs(ours @ values) >= observed * (1 - 1e-9)).sum(0)
        done += _AT_ONCE
    return (1 + reached) / (1 + done)


def adjusted(p: npt.NDArray[Any]) -> Array:
    """Of p-values, the share of false ones among all up to each (Benjamini and Hochberg 1995)."""
    order = np.argsort(p, kind="stable")
    ratios = np.asarray(p, dtype=np.float64)[order] * len(p) / np.arange(1, len(p) + 1)
    found = np.empty(len(p))
    found[order] = np.minimum(np.minimum.accumulate(ratios[::-1])[::-1], 1)
    return found


def cliffs_delta(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Array:
    """How much likelier one of the first is larger than one of the second than smaller, −1 to 1.

    Args:
        a: (prompts, columns).
        b: (others, columns).
    """
    found = np.empty(a.shape[1])
    for column in range(a.shape[1]):
        ordered = np.sort(b[:, column])
        below = np.searchsorted(ordered, a[:, column], side="left")
        upto = np.searchsorted(ordered, a[:, column], side="right")
        found[column] = float((below + upto - len(ordered)).mean()) / len(ordered)
    return found

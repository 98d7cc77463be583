"""What is kept of a layer's features while texts go by: counts, histograms, strongest pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from circuit_nb.cards.types import BINS, Histogram

EXAMPLES = 5

Active: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""What is active at some tokens, of which only those are numbered that count: the number of each
activation's token, its feature, and the activation itself; three vectors."""


class Found(NamedTuple):
    """What was found of a feature."""

    feature: int
    tokens: int
    """At how many tokens it was active."""
    histogram: Histogram
    """From 0 on; where an activation was negative, as many bins from minus the limit on."""
    strongest: list[tuple[int, list[float]]]
    """Number of each piece kept, and the activations in it, the strongest first."""


class Tally:
    """A layer's features, each with a row from when it first fires on.

    Args:
        width: Tokens of a piece, at most.
        wanted: Indices of the features wanted; by default all.
    """

    NAMES = ("features", "tokens", "limits", "counts", "peaks", "pieces", "values")

    features: Tensor
    """(rows,): index of each."""
    tokens: Tensor
    """(rows,): at how many tokens it was active."""
    limits: Tensor
    """(rows,): where the histogram ends; doubled when an activation lies farther from 0."""
    counts: Tensor
    """(rows, 2, bins) from 0 to the limit, and from 0 to minus the limit: a TopK activation is
    negative where few features are positive."""
    peaks: Tensor
    """(rows, examples): strongest activation in each of the pieces kept, falling; -inf: none."""
    pieces: Tensor
    """(rows, examples): their numbers."""
    values: Tensor
    """(rows, examples, width): activations there."""

    def __init__(self, width: int, wanted: Iterable[int] | None = None) -> None:
        self._wanted = None if wanted is None else torch.tensor(sorted(wanted), dtype=torch.int64)
        self.features = self.tokens = torch.zeros(0, dtype=torch.int64)
        self.limits = torch.zeros(0)
        self.counts = torch.zeros(0, 2, BINS, dtype=torch.int64)
        self.peaks = torch.zeros(0, EXAMPLES)
        self.pieces = torch.zeros(0, EXAMPLES, dtype=torch.int64)
        self.values = torch.zeros(0, EXAMPLES, width)

    def add(self, active: Active, counted: Tensor, pieces: Tensor) -> None:
        """Take in what was active in some pieces.

        Args:
            active: What was active at the tokens that count.
            counted: Which tokens of the pieces count, (pieces, positions).
            pieces: Their numbers, (pieces,).
        """
        token, feature, value = active
        if self._wanted is not None:
            kept = torch.isin(feature, self._wanted)
            token, feature, value = token[kept], feature[kept], value[kept]
        if not len(feature):
            return
        piece, position = (of[token] for of in counted.nonzero().unbind(1))
        fired, own = feature.unique(return_inverse=True)
        rows = self._rows(fired)
        self.tokens[rows] += torch.bincount(own)
        self._count(rows, own, value)
        pair = own * len(pieces) + piece
        peaks = torch.full((len(rows) * len(pieces),), -torch.inf)
        peaks.scatter_reduce_(0, pair, value, "amax")
        kept, places = self._compare(rows, peaks.view(len(rows), -1), pieces)
        # Where, among what is kept, the activations of a feature in a piece belong.
        place = torch.full((len(rows) * len(pieces),), -1)
        place[kept] = places
        there = (place[pair] >= 0).nonzero()[:, 0]
        values = self.values.view(-1, self.values.shape[2])
        values[place[pair[there]], position[there]] = value[there]

    def _rows(self, fired: Tensor) -> Tensor:
        """The row of each feature, made where there was none."""
        new = fired[~torch.isin(fired, self.features)]
        if len(new):
            for name in self.NAMES[1:]:
                old: Tensor = getattr(self, name)
                setattr(self, name, torch.cat([old, old.new_zeros(len(new), *old.shape[1:])]))
            self.peaks[len(self.features) :] = -torch.inf
            self.features = torch.cat([self.features, new])
        order = self.features.argsort()
        return order[torch.searchsorted(self.features[order], fired)]

    def _count(self, rows: Tensor, own: Tensor, values: Tensor) -> None:
        """Count activations, each of the row of which `own` says the number, in histograms."""
        farthest = torch.zeros(len(rows)).scatter_reduce_(0, own, values.abs(), "amax")
        limits, counts = self.limits[rows], self.counts[rows]
        limits = torch.where(limits == 0, farthest, limits)
        while (beyond := farthest > limits).any():
            half = _in_pairs(counts)
            wider = torch.cat([half, torch.zeros_like(half)], dim=2)
            counts = torch.where(beyond[:, None, None], wider, counts)
            limits = torch.where(beyond, 2 * limits, limits)
        bins = (values.abs() / limits[own] * BINS).long().clamp(0, BINS - 1)
        slots = (2 * own + (values < 0)) * BINS + bins
        counts += torch.bincount(slots, minlength=counts.numel()).view_as(counts)
        self.limits[rows], self.counts[rows] = limits, counts

    def _compare(self, rows: Tensor, new: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the strongest pieces, of equals the earlier ones.

        Args:
            rows: Rows of what fired.
            new: Strongest activation in each piece, (rows, pieces); -inf where there was none.
            pieces: Their numbers.

        Returns:
            Which of `new` are kept, as places in it when flat, and their places among all
            (row, example), where activations are 0 by now.
        """
        better = (new >= self.peaks[rows, -1:]) & (new > -torch.inf)
        which = better.any(1).nonzero()[:, 0]
        rows, new = rows[which], new[which]
        peaks = torch.cat([self.peaks[rows], new], dim=1)
        numbers = torch.cat([self.pieces[rows], pieces.expand(len(rows), -1)], dim=1)
        order = numbers.argsort(dim=1, stable=True)
        falling = peaks.gather(1, order).argsort(dim=1, descending=True, stable=True)
        best = order.gather(1, falling)[:, :EXAMPLES]
        old = best.clamp_max(EXAMPLES - 1)[:, :, None].expand(-1, -1, self.values.shape[2])
        values = self.values[rows].gather(1, old)
        fresh = (best >= EXAMPLES) & (peaks.gather(1, best) > -torch.inf)
        values[fresh] = 0
        self.peaks[rows], self.pieces[rows] = peaks.gather(1, best), numbers.gather(1, best)
        self.values[rows] = values
        row, slot = fresh.nonzero().unbind(1)
        kept = which[row] * len(pieces) + best[row, slot] - EXAMPLES
        return kept, rows[row] * EXAMPLES + slot

    def found(self) -> Iterator[Found]:
        """What was found of each feature, in the order of `features`."""
        negative = self.counts[:, 1].any(1)
        above, below = self.counts.unbind(1)
        both = torch.cat([_in_pairs(below).flip(1), _in_pairs(above)], dim=1)
        limits = self.limits.double()
        least = torch.where(negative, -limits, 0.0)
        steps = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
        edges = (least[:, None] + (limits - least)[:, None] * steps).tolist()
        bins = torch.where(negative[:, None], both, above).double().tolist()
        there = (self.peaks > -torch.inf).sum(1).tolist()
        rows = zip(
            self.features.tolist(), self.tokens.tolist(), bins, edges, there, self.pieces.tolist(),
            self.values, strict=True,
        )  # fmt: skip
        for feature, tokens, counts, at, n, pieces, values in rows:
            strongest = list(zip(pieces[:n], values[:n].tolist(), strict=True))
            yield Found(feature, tokens, Histogram(tuple(counts), tuple(at)), strongest)


def _in_pairs(counts: Tensor) -> Tensor:
    """Half as many bins, each as wide as two."""
    return counts[..., ::2] + counts[..., 1::2]

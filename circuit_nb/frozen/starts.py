"""Where gradients begin, and where they arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from torch import Tensor


@dataclass(frozen=True)
class Starts:
    """Where gradients begin: one row for each thing whose causes are asked for.

    Rows are sorted by group; within a group those that begin in the highest layer come first.
    """

    layers: Tensor
    """(rows,) int64 on the CPU: the layer that reads; `n_layers` for the output."""
    positions: Tensor
    """(rows,) int64 on the CPU."""
    vectors: Tensor
    """(rows, d_model): encoder rows, or directions in the final residual stream after its norm."""
    sizes: tuple[int, ...]
    """Rows in each group."""
    owners: tuple[int, ...] = ()
    """Which prompt each group belongs to, in ascending order; the first where none is given."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "owners", self.owners or (0,) * len(self.sizes))

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def lasts(self) -> list[int]:
        """The last position of each group."""
        return [int(part.max()) for part in self.positions.split(self.sizes)]

    def part(self, begin: int, end: int) -> Starts:
        """Some of the rows."""
        rows, ends = slice(begin, end), list(accumulate(self.sizes))
        inside = [min(b, end) - max(a, begin) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        kept = [(n, own) for n, own in zip(inside, self.owners, strict=True) if n > 0]
        sizes, owners = tuple(n for n, _ in kept), tuple(own for _, own in kept)
        return Starts(self.layers[rows], self.positions[rows], self.vectors[rows], sizes, owners)

    def by_owner(self) -> Iterator[tuple[int, slice, Starts]]:
        """The rows of each prompt: which prompt, which of the groups, and the rows."""
        begin = first = 0
        for owner, groups in groupby(self.owners):
            n = len(list(groups))
            end = begin + sum(self.sizes[first : first + n])
            yield owner, slice(first, first + n), self.part(begin, end)
            begin, first = end, first + n

    @classmethod
    def joined(cls, parts: Sequence[tuple[int, Starts]]) -> Starts:
        """The rows of several prompts, each with its number, in ascending order."""
        every = [part for _, part in parts]
        return cls(
            torch.cat([part.layers for part in every]),
            torch.cat([part.positions for part in every]),
            torch.cat([part.vectors for part in every]),
            tuple(n for part in every for n in part.sizes),
            tuple(owner for owner, part in parts for _ in part.sizes),
        )


@dataclass(frozen=True)
class Arrival:
    """Gradients that have arrived where a layer's MLP writes."""

    layer: int
    gradients: list[Tensor]
    """Of each group, (positions, rows, d_model), on the layer's device: positions from the prefix
    on, and the group's first rows, those that have joined."""

    def of(self, groups: slice) -> Arrival:
        """Those of some groups."""
        return Arrival(self.layer, self.gradients[groups])

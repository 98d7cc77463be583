"""Where gradients begin, and where they arrive."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

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
        sizes = tuple(size for size in inside if size > 0)
        return Starts(self.layers[rows], self.positions[rows], self.vectors[rows], sizes)


@dataclass(frozen=True)
class Arrival:
    """Gradients that have arrived where a layer's MLP writes."""

    layer: int
    gradients: list[Tensor]
    """Of each group, (positions, rows, d_model), on the layer's device: positions from the prefix
    on, and the group's first rows, those that have joined."""

"""The rows computed so far: kept by group, and in the end put together as the graph's matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.frozen.columns import Columns
from circuit_nb.frozen.starts import Starts


@dataclass(frozen=True)
class _Block:
    """The rows of one group."""

    numbers: slice
    """Their numbers: rows are counted as they were computed, targets first."""
    spans: dict[int, tuple[int, int]]
    """Of each layer, the first of the rows that begin there and the one after the last: a group's
    rows are sorted by layer."""
    edges: Tensor
    """(rows, columns kept up to the last position of the group)."""


class KnownRows:
    """Rows of edges, to the columns that are kept: at first all of them.

    Args:
        columns: The columns.
        most: How many rows there will be.

    Attributes:
        kept: The columns kept, ascending.
        sums: Sum of |edges| of each row, over all columns, (rows,).
    """

    def __init__(self, columns: Columns, most: int) -> None:
        self.columns = columns
        self.kept = torch.arange(columns.n)
        self.sums = torch.zeros(most)
        self._blocks: list[_Block] = []

    def __len__(self) -> int:
        return self._blocks[-1].numbers.stop if self._blocks else 0

    def add(self, starts: Starts, edges: Sequence[Tensor]) -> None:
        """Keep what was computed: all of it, or nothing if memory runs out on the way.

        Args:
            starts: The rows.
            edges: Of each group, (rows, columns up to its last position).
        """
        more: list[_Block] = []
        first = len(self)
        sums = [torch.linalg.vector_norm(found, ord=1, dim=1).cpu() for found in edges]
        for layers, found in zip(starts.layers.split(starts.sizes), edges, strict=True):
            if len(self.kept) < self.columns.n:
                found = found[:, self._kept_below(found.shape[1]).to(found.device)]
            numbers = slice(first, first + len(layers))
            more.append(_Block(numbers, _spans(layers), found.cpu()))
            first = numbers.stop
        self.sums[len(self) : first] = torch.cat(sums)
        self._blocks += more

    def at_layer(self, layer: int) -> Iterator[tuple[slice, Tensor]]:
        """The rows that begin at a layer: their numbers, and edges to the first columns kept."""
        for block in self._blocks:
            if layer in block.spans:
                (begin, end), first = block.spans[layer], block.numbers.start
                yield slice(first + begin, first + end), block.edges[begin:end]

    def narrow(self, kept: Tensor) -> None:
        """Keep only these of the columns, ascending, from now on."""
        self.kept = kept
        self._blocks = [
            _Block(b.numbers, b.spans, b.edges[:, self._kept_below(b.edges.shape[1])])
            for b in self._blocks
        ]

    def _kept_below(self, column: int) -> Tensor:
        return self.kept[: int(torch.searchsorted(self.kept, column))]

    def take_matrix(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Put all edges into a matrix, (rows, columns), letting each block go as it is copied.

        Args:
            rows: Which row of the matrix each row becomes.
            columns: The column of each of the matrix's columns; -1 for one that is empty.
        """
        places = torch.searchsorted(self.kept, columns)
        places[columns < 0] = -1
        edges = torch.zeros(len(rows), len(columns))
        while self._blocks:
            block = self._blocks.pop()
            inside = ((places >= 0) & (places < block.edges.shape[1])).nonzero()[:, 0]
            edges[rows[block.numbers, None], inside] = block.edges[:, places[inside]]
        return edges


def _spans(layers: Tensor) -> dict[int, tuple[int, int]]:
    there, counts = layers.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    begins = (ends - counts).tolist()
    return dict(zip(there.tolist(), zip(begins, ends.tolist(), strict=True), strict=True))

"""A few vectors carried through the whole frozen model: up from sources, down from targets.

The frozen model is linear. What a source wrote can be carried up through it, and what a target
reads down, the transpose; where the two meet, at any depth, their product is the edge. Unlike the
rows of a graph (`circuit_nb.frozen.descent`), which are many and are met by everything that
was written, these are few, and what they are at every block is what is asked for.

Depths count places in the residual stream: 2k is where it enters block k, 2k + 1 between attention
and MLP of block k, and twice the number of blocks is the end. A parallel block has no such between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from circuit_nb.frozen.block import FrozenBlock
from circuit_nb.frozen.buffer import Buffer


@dataclass(frozen=True)
class Placed:
    """Vectors in the residual stream; n of them, each belonging to one of several owners."""

    owners: Tensor
    """(n,) int64 on the CPU: a source may write at several places."""
    depths: Tensor
    """(n,) int64 on the CPU."""
    positions: Tensor
    """(n,) int64 on the CPU."""
    vectors: Tensor
    """(n, d_model) float32."""

    def of(self, owners: Tensor) -> Placed:
        """Those of some owners, (m,), numbered anew in that order."""
        number = torch.full((int(self.owners.max()) + 1,), -1)
        number[owners] = torch.arange(len(owners))
        number = number[self.owners]
        return replace(self._where(number >= 0), owners=number[number >= 0])

    def batches(self, n: int, size: int) -> Sequence[Tensor]:
        """The owners, n of them, in batches of those at like positions."""
        positions = torch.zeros(n, dtype=torch.int64)
        positions[self.owners] = self.positions
        return torch.argsort(positions, stable=True).split(size)

    def within(self, first: int, last: int) -> Placed:
        """Those at positions from one to another, both included."""
        return self._where((self.positions >= first) & (self.positions <= last))

    def ends(self, n: int, which: Literal["amin", "amax"]) -> tuple[Tensor, Tensor]:
        """The least or greatest position and depth of each of n owners, (n,) each."""
        fill = 2**62 if which == "amin" else -1
        found = (
            torch.full((n,), fill).scatter_reduce(0, self.owners, values, which)
            for values in (self.positions, self.depths)
        )
        return next(found), next(found)

    @cached_property
    def _by_depth(self) -> dict[int, Placed]:
        return {d: self._where(self.depths == d) for d in self.depths.unique().tolist()}

    def _where(self, mask: Tensor) -> Placed:
        vectors = self.vectors[mask.to(self.vectors.device)]
        return Placed(self.owners[mask], self.depths[mask], self.positions[mask], vectors)

    def add(self, depth: int, into: Tensor, first: int) -> Tensor:
        """`into` (positions, owners, d_model), with what is placed at a depth added in place.

        Args:
            depth: The depth.
            into: Changed in place.
            first: The position that it begins with.
        """
        here = self._by_depth.get(depth)
        if here is not None:
            where = ((here.positions - first).to(into.device), here.owners.to(into.device))
            into.index_put_(where, here.vectors.to(into.device), accumulate=True)
        return into

    def meet(self, depth: int, carried: Tensor, first: int, n: int) -> Tensor:
        """Products of what is placed at a depth with what is carried there.

        Args:
            depth: The depth.
            carried: (positions, others, d_model).
            first: The position that it begins with; what is placed outside meets nothing.
            n: How many owners there are.

        Returns:
            (owners, others) on the CPU.
        """
        found = torch.zeros(n, carried.shape[1])
        here = self._by_depth.get(depth)
        if here is not None:
            here = here.within(first, first + len(carried) - 1)
            for position in here.positions.unique().tolist():
                own = here.within(position, position)
                products = own.vectors.to(carried.device) @ carried[position - first].T
                found.index_add_(0, own.owners, products.cpu())
        return found


@dataclass(frozen=True)
class Level:
    """What is carried, at one depth. It is changed in place for the next: use it before that."""

    depth: int
    first: int
    """The position that it begins with."""
    x: Tensor
    """(positions, sources or targets, d_model)."""
    at_values: Tensor | None = None
    """Where sources enter a block, their shares in the values, (key-value heads, positions,
    sources, d_head). Where the heads write, what comes to the values through each head, (heads,
    positions, targets, d_head). Not kept in memory that is used again."""


def ascend(
    blocks: Sequence[FrozenBlock], sources: Placed, n: int, first: int, last: int
) -> Iterator[Level]:
    """Carry what sources wrote up through the frozen model.

    Args:
        blocks: The blocks, from the lowest; those above are left out if not asked for.
        sources: What they wrote.
        n: How many sources there are.
        first: The first position of any of them.
        last: The last position that is asked for.

    Yields:
        Every depth from where the first source enters a block to the end.
    """
    if not len(sources.owners) or not blocks:
        return
    scratch, start = Buffer(), int(sources.depths.min()) // 2
    shape = (last + 1 - first, n, sources.vectors.shape[1])
    begins, lowest = sources.ends(n, "amin")
    within = torch.arange(first, last + 1)[:, None] >= begins
    device = blocks[min(start, len(blocks) - 1)].block.device
    x = sources.add(2 * start, torch.zeros(shape, device=device), first)
    for frozen in blocks[start:]:
        x, depth = x.to(frozen.block.device), 2 * frozen.block.layer
        on = _on(within & (lowest <= depth), x)
        attention = frozen.attention(last + 1, scratch)
        values = attention.values(x, on)
        yield Level(depth, first, x, values)
        if frozen.block.parallel:
            skipped = frozen.skip(x.flatten(0, 1).index_select(0, on), first + on // n)
            attention.add(values, first, x, on)
        else:
            attention.add(values, first, x, on)
            yield Level(depth + 1, first, sources.add(depth + 1, x, first))
            on = _on(within & (lowest <= depth + 1), x)
            skipped = frozen.skip(x.flatten(0, 1).index_select(0, on), first + on // n)
        if skipped is not None:
            x.flatten(0, 1).index_add_(0, on, skipped)
        sources.add(depth + 2, x, first)
    yield Level(2 * len(blocks), first, x)


def descend(
    blocks: Sequence[FrozenBlock], targets: Placed, n: int, first: int, last: int
) -> Iterator[Level]:
    """Carry what targets read down through the frozen model; the transpose of `ascend`.

    Args:
        blocks: The blocks, from the lowest.
        targets: What they read.
        n: How many targets there are.
        first: The first position that is asked for.
        last: The last position of any of them.

    Yields:
        Every depth from above the first block below a target down to the embeddings. In a parallel
        block, what attention writes stands where there would be a depth between.
    """
    if not len(targets.owners):
        return
    scratch, start = Buffer(), (int(targets.depths.max()) + 1) // 2
    shape = (last + 1 - first, n, targets.vectors.shape[1])
    ends, highest = targets.ends(n, "amax")
    within = torch.arange(first, last + 1)[:, None] <= ends
    g = torch.zeros(shape, device=blocks[max(start, 1) - 1].block.device)
    targets.add(2 * start, g, first)
    for frozen in reversed(blocks[:start]):
        g, depth = g.to(frozen.block.device), 2 * frozen.block.layer
        yield Level(depth + 2, first, g)
        above = _on(within & (highest >= depth + 2), g)
        where = first + above // n
        written = frozen.write_back(g.flatten(0, 1).index_select(0, above), where)
        skipped = frozen.skip_back(written, where)
        if not frozen.block.parallel:
            if skipped is not None:
                g.flatten(0, 1).index_add_(0, above, skipped)
            targets.add(depth + 1, g, first)
        on = _on(within & (highest >= depth + 1), g)
        attention = frozen.attention(last + 1, scratch)
        at_values = attention.to_values(attention.heads(g, on), first)
        yield Level(depth + 1, first, g, at_values)
        if frozen.block.parallel and skipped is not None:
            g.flatten(0, 1).index_add_(0, above, skipped)
        attention.add_back(at_values, g, on)
        targets.add(depth, g, first)
    yield Level(0, first, g)


def _on(mask: Tensor, like: Tensor) -> Tensor:
    """Numbers of the pairs of position and vector, (positions, n), that may be more than 0."""
    return mask.flatten().nonzero()[:, 0].to(like.device)

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
from functools import partial
from typing import Any

import torch
from torch import Tensor

from circuit_nb.frozen.block import Attention, FrozenBlock
from circuit_nb.frozen.buffer import Buffer
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import Hook, ReplacementModel


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

    def within(self, first: int, last: int) -> Placed:
        """Those at positions from one to another, both included."""
        return self._where((self.positions >= first) & (self.positions <= last))

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
        here = self._where(self.depths == depth)
        if len(here.owners):
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
        inside = self.within(first, first + len(carried) - 1)
        here = inside._where(inside.depths == depth)
        if len(here.owners):
            there = carried[(here.positions - first).to(carried.device)]
            products = torch.bmm(there, here.vectors[:, :, None].to(carried.device))
            found.index_add_(0, here.owners, products[:, :, 0].cpu())
        return found


@dataclass(frozen=True)
class Rising:
    """Sources where they enter a block, and where its attention has added to them."""

    layer: int
    """Number of blocks at the end."""
    entering: Tensor
    """(positions, sources, d_model), at depth 2 × layer."""
    between: Tensor
    """The same at depth 2 × layer + 1; what enters, in a parallel block and at the end."""
    by_head: Tensor
    """What the heads read of them, summed over keys, (key-value heads, positions, group, sources,
    d_head)."""


@dataclass(frozen=True)
class Sinking:
    """Targets where a block's attention writes, and above the block."""

    layer: int
    """-1 at the embeddings."""
    above: Tensor
    """(positions, targets, d_model), at depth 2 × (layer + 1)."""
    by_head: Tensor
    """Where attention writes, carried to its heads, in the shape of `Rising.by_head`."""
    past: Tensor
    """The same as `above` for what goes past attention, to where the block begins."""


def by_query(attention: Attention, x: Tensor, first: int) -> Tensor:
    """What a block's heads read, (key-value heads, positions, group, vectors, d_head), of vectors
    (positions, vectors, d_model) that begin at a position."""
    n, vectors, _ = x.shape
    kv_heads, d_head, _ = attention.out_of_values.shape
    values = torch.matmul(x.flatten(0, 1), attention.out_of_values.transpose(1, 2))
    pattern = attention.pattern[:, first * attention.group :, first:]
    read = torch.bmm(pattern, values.view(kv_heads, n, vectors * d_head))
    return read.view(kv_heads, n, attention.group, vectors, d_head)


def into_heads(attention: Attention, gradient: Tensor) -> Tensor:
    """Gradients where a block's attention writes, carried to its heads: shapes as `by_query`."""
    n, vectors, _ = gradient.shape
    kv_heads, d_head, _ = attention.out_of_values.shape
    by_head = (gradient @ attention.into_heads).view(n, vectors, kv_heads, -1, d_head)
    return by_head.permute(2, 0, 3, 1, 4)


def attend(attention: Attention, read: Tensor) -> Tensor:
    """What attention adds to the residual stream, (positions, vectors, d_model), of `by_query`."""
    return read.permute(1, 3, 0, 2, 4).flatten(2) @ attention.into_heads.T


def attend_back(attention: Attention, by_head: Tensor, first: int) -> Tensor:
    """The transpose of `by_query`: of `into_heads`, what comes to the keys."""
    kv_heads, n, group, vectors, d_head = by_head.shape
    pattern = attention.pattern[:, first * group :, first:].transpose(1, 2)
    flat = by_head.reshape(kv_heads, n * group, vectors * d_head)
    values = torch.bmm(pattern, flat).view(kv_heads, n * vectors, d_head)
    back = torch.bmm(values, attention.out_of_values).sum(0)
    return back.view(n, vectors, -1)


def ascend(
    blocks: Sequence[FrozenBlock], sources: Placed, n: int, first: int, last: int
) -> Iterator[Rising]:
    """Carry what sources wrote up through the frozen model.

    Args:
        blocks: The blocks, from the lowest; those above are left out if not asked for.
        sources: What they wrote.
        n: How many sources there are.
        first: The first position of any of them.
        last: The last position that is asked for.

    Yields:
        One `Rising` a block from the first that a source enters, and one at the end.
    """
    if not len(sources.owners):
        return
    scratch, start = Buffer(), int(sources.depths.min()) // 2
    shape = (last + 1 - first, n, sources.vectors.shape[1])
    here = torch.arange(first, last + 1).repeat_interleave(n)
    device = blocks[min(start, len(blocks) - 1)].block.device
    x = sources.add(2 * start, torch.zeros(shape, device=device), first)
    for frozen in blocks[start:]:
        x, layer = x.to(frozen.block.device), frozen.block.layer
        attention = frozen.attention(last + 1, scratch)
        read = by_query(attention, x, first)
        after = x + attend(attention, read)
        if not frozen.block.parallel:
            sources.add(2 * layer + 1, after, first)
        between = x if frozen.block.parallel else after
        yield Rising(layer, x, between, read)
        x = after + frozen.skip(between.flatten(0, 1), here).view(shape)
        sources.add(2 * layer + 2, x, first)
    yield Rising(len(blocks), x, x, x.new_empty(0))


def descend(
    blocks: Sequence[FrozenBlock], targets: Placed, n: int, first: int, last: int
) -> Iterator[Sinking]:
    """Carry what targets read down through the frozen model; the transpose of `ascend`.

    Args:
        blocks: The blocks, from the lowest.
        targets: What they read.
        n: How many targets there are.
        first: The first position that is asked for.
        last: The last position of any of them.

    Yields:
        One `Sinking` a block, from the first below a target, and one at the embeddings.
    """
    if not len(targets.owners):
        return
    scratch, start = Buffer(), (int(targets.depths.max()) + 1) // 2
    shape = (last + 1 - first, n, targets.vectors.shape[1])
    here = torch.arange(first, last + 1).repeat_interleave(n)
    g = torch.zeros(shape, device=blocks[max(start, 1) - 1].block.device)
    targets.add(2 * start, g, first)
    for frozen in reversed(blocks[:start]):
        g, layer = g.to(frozen.block.device), frozen.block.layer
        skipped = frozen.skip_back(frozen.write_back(g.flatten(0, 1), here), here)
        past = g if skipped is None else g + skipped.view(shape)
        if not frozen.block.parallel:
            past = targets.add(2 * layer + 1, past.clone() if past is g else past, first)
        attention = frozen.attention(last + 1, scratch)
        by_head = into_heads(attention, g if frozen.block.parallel else past)
        yield Sinking(layer, g, by_head, past)
        back = attend_back(attention, by_head, first)
        g = targets.add(2 * layer, past + back, first)
    yield Sinking(-1, g, g.new_empty(0), g)


def biases(model: ReplacementModel, record: Record, layers: Sequence[int]) -> dict[int, Tensor]:
    """What biases alone put into the residual stream: one pass without tokens, features, errors.

    Position embeddings count as biases, and so do the MLPs at ignored positions.

    Args:
        model: The model.
        record: The recorded pass of the prompt.
        layers: Blocks.

    Returns:
        Where the stream enters each of the blocks, (positions, d_model) in float32.
    """
    t, found, read = model.transcoders, dict[int, Tensor](), dict[int, Tensor]()
    held = dict(record.scales)
    held |= {b.hook("pattern"): p for b, p in zip(model.blocks, record.patterns, strict=True)}
    held |= {"hook_embed": torch.zeros_like(record.embeddings)}

    def hold(x: Tensor, hook: Any, value: Tensor) -> Tensor:
        return value.to(x.dtype).expand_as(x)

    def keep(x: Tensor, hook: Any, into: dict[int, Tensor], layer: int) -> None:
        into[layer] = x[0]

    def write(x: Tensor, hook: Any, layer: int) -> Tensor:
        transcoder = t.layers[layer]
        constant = transcoder.b_dec.expand_as(x[0]).clone().to(x.dtype)
        early = slice(record.ignored)
        skipped = transcoder.skip(record.reads[layer][early])
        constant[early] = record.writes[layer][early] - skipped.to(x.dtype)
        return (constant + transcoder.skip(read[layer]).to(x.dtype))[None]

    hooks: list[Hook] = [(name, partial(hold, value=value)) for name, value in held.items()]
    for layer, block in enumerate(model.blocks):
        hooks.append((block.hook(t.input_hook), partial(keep, into=read, layer=layer)))
        hooks.append((block.hook(t.output_hook), partial(write, layer=layer)))
    enter = [(f"blocks.{k}.ln1.hook_in", partial(keep, into=found, layer=k)) for k in layers]
    model.run(record.token_ids[None], hooks + enter, last_only=True)
    return {layer: x.float() for layer, x in found.items()}

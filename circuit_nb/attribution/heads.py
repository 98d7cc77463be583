"""`heads`: through which attention heads an edge passes.

An edge is what one node wrote, carried by the frozen model to where another reads. At every block
on the way each head moves a part of it, and the rest goes past the block's attention. After
Kamath et al. 2025, *Tracing Attention Computation Through Feature Interactions*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from circuit_nb.attribution.ends import Reader, Source, record_of, sources_of, targets_of
from circuit_nb.frozen.ascent import Placed, ascend, descend
from circuit_nb.frozen.block import FrozenBlock
from circuit_nb.frozen.buffer import Buffer
from circuit_nb.graph import AttributionGraph
from circuit_nb.model.memory import free_memory
from circuit_nb.model.replacement import ReplacementModel

if TYPE_CHECKING:
    import plotly.graph_objects as go

Floats = npt.NDArray[np.float32]

KEPT_BYTES = 2**29
"""The most that is kept of a batch of targets, or that a batch of sources takes."""
SHARE_OF_MEMORY = 0.2
"""How much of the free memory either may take."""


class HeadFlow(NamedTuple):
    """What one head carried of one edge."""

    target: Reader
    source: Source
    layer: int
    head: int
    flow: float
    """In the edge's units: the target's pre-activation or logit."""
    share: float
    """Of the edge; more than 1 or less than 0 where other parts oppose."""


@dataclass(frozen=True)
class Heads:
    """The heads that carried edges. The heads of one block, and what goes past them, are the whole
    edge; those of different blocks are not to be added, since one path may pass through both."""

    targets: tuple[Reader, ...]
    sources: tuple[Source, ...]
    edges: Floats
    """The edges themselves, (targets, sources), in units of pre-activations and logits."""
    flows: Floats
    """Through each head, (targets, sources, blocks, heads)."""
    past: Floats
    """Past the attention of each block, (targets, sources, blocks): `flows.sum(-1) + past` is the
    edge at every block."""

    def top(self, k: int = 5) -> list[HeadFlow]:
        """The heads that carried most, by |flow|, over all edges."""
        order = np.argsort(-np.abs(self.flows), axis=None, kind="stable")[:k]
        places = zip(*np.unravel_index(order, self.flows.shape), strict=True)
        return [
            HeadFlow(
                self.targets[t],
                self.sources[s],
                int(layer),
                int(head),
                float(self.flows[t, s, layer, head]),
                float(self.flows[t, s, layer, head] / self.edges[t, s]),
            )
            for t, s, layer, head in places
            if self.flows[t, s, layer, head]
        ]

    def figure(self, target: int = 0, source: int = 0) -> go.Figure:
        """One edge as a map of blocks and heads.

        Args:
            target: Which of `targets`.
            source: Which of `sources`.
        """
        from circuit_nb.figures.heads import heads_figure

        return heads_figure(self.flows[target, source], self.past[target, source])

    def __str__(self) -> str:
        n = self.edges.size
        found = self.top(1)
        if not found:
            return f"No head carries {'this edge' if n == 1 else f'any of these {n} edges'}."
        best = found[0]
        of = "the edge" if n == 1 else f"the edge from {best.source} to {best.target}"
        return f"Head {best.layer}.{best.head} carries {best.flow:+.3g}, {best.share:.0%} of {of}."


@torch.inference_mode()
def heads(
    model: ReplacementModel,
    graph: AttributionGraph,
    sources: Sequence[Source],
    targets: Sequence[Reader],
) -> Heads:
    """Through which heads the edges between nodes pass, exactly.

    Args:
        model: The model the graph was made with.
        graph: The graph; its prompt is what is explained.
        sources: Features, errors, tokens; a supernode is the sum of its features.
        targets: Features, outputs of the graph, or `Target`s; a supernode as above.

    Returns:
        Every source with every target.

    Raises:
        ValueError: If a node is not of this prompt and model, or no cause or no effect.
    """
    record = record_of(model, graph)
    blocks = [FrozenBlock(model, record, layer) for layer in range(len(model.blocks))]
    wrote = sources_of(model, record, blocks, sources)
    reads = targets_of(model, graph, record, blocks, targets)
    shape = (len(targets), len(sources), len(blocks), len(model.blocks[0].W_O))
    found = (torch.zeros(shape[:2]), torch.zeros(shape), torch.zeros(shape[:3]))
    first = int(wrote.positions.min())
    length = max(1, 1 + int(reads.positions.max()) - first)
    one = 4 * length * (record.embeddings.shape[1] + model.blocks[0].W_O[..., 0].numel())
    most = min(KEPT_BYTES, int(SHARE_OF_MEMORY * free_memory(model.device))) // one
    for t in _batches(reads, len(targets), most // len(blocks)):
        sunk = _sink(blocks, reads.of(t), len(t), wrote, len(sources), first)
        for s in _batches(wrote, len(sources), most // 4):
            for whole, part in zip(found, _meet(blocks, sunk, wrote.of(s), s), strict=True):
                whole[t[:, None], s] = part
    return Heads(tuple(targets), tuple(sources), *(x.numpy() for x in found))


def _batches(placed: Placed, n: int, size: int) -> Sequence[Tensor]:
    """Owners, n of them, in batches of those that begin at like positions."""
    first = torch.full((n,), torch.iinfo(torch.int64).max)
    first.scatter_reduce_(0, placed.owners, placed.positions, "amin")
    return torch.argsort(first, stable=True).split(max(1, size))


@dataclass(frozen=True)
class _Sunk:
    """A batch of targets, carried down to the embeddings."""

    reads: Placed
    n: int
    first: int
    """First position carried."""
    last: int
    levels: dict[int, tuple[Tensor, Tensor]]
    """Of each block, `Sinking.by_head` and `Sinking.past`."""
    direct: Tensor
    """What they read of what sources wrote, (blocks + 1, targets, sources) by half its depth."""


def _sink(
    blocks: Sequence[FrozenBlock], reads: Placed, n: int, wrote: Placed, n_sources: int, first: int
) -> _Sunk:
    last = max(int(reads.positions.max()), first)
    reads = reads.within(first, last)
    levels: dict[int, tuple[Tensor, Tensor]] = {}
    direct = torch.zeros(len(blocks) + 1, n, n_sources)
    for level in descend(blocks, reads, n, first, last):
        direct[level.layer + 1] = wrote.meet(2 * level.layer + 2, level.above, first, n_sources).T
        levels[level.layer] = (level.by_head, level.past)
    return _Sunk(reads, n, first, last, levels, direct)


def _meet(
    blocks: Sequence[FrozenBlock], sunk: _Sunk, wrote: Placed, owners: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of sources, carried up to a batch of targets.

    Returns:
        Edges (targets, sources), flows (targets, sources, blocks, heads), and what goes past
        attention (targets, sources, blocks): what is written above it, what is read below it, and
        what is carried past it.
    """
    direct = sunk.direct[:, :, owners]
    written_above = direct.flip(0).cumsum(0).flip(0)[1:]
    flows = torch.zeros(*direct.shape[1:], len(blocks), len(blocks[0].block.W_O))
    past, read_below = written_above.clone(), torch.zeros(direct.shape[1:])
    top = int(sunk.reads.depths.max()) if len(sunk.reads.owners) else 0
    wrote = wrote.within(sunk.first, sunk.last)
    first = int(wrote.positions.min()) if len(wrote.positions) else sunk.last
    cut = first - sunk.first
    for level in ascend(blocks, wrote, len(owners), first, sunk.last):
        k = level.layer
        read_below += sunk.reads.meet(2 * k, level.entering, first, sunk.n)
        if 2 * k >= top:
            past[k:] += read_below
            break
        by_head, beside = sunk.levels[k]
        carried = torch.einsum("qtd,qsd->ts", beside[cut:], level.entering)
        past[k] += read_below + carried.cpu()
        through = torch.einsum("kqgtd,kqgsd->tskg", by_head[:, cut:], level.by_head)
        flows[:, :, k] = through.flatten(2).cpu()
        read_below += sunk.reads.meet(2 * k + 1, level.between, first, sunk.n)
    return direct.sum(0), flows, past.permute(1, 2, 0)


@torch.inference_mode()
def between(
    model: ReplacementModel,
    graph: AttributionGraph,
    source: Source,
    target: Reader,
    layer: int,
    head: int,
) -> Floats:
    """From which positions to which a head carried an edge.

    Args:
        model: The model the graph was made with.
        graph: The graph.
        source: Where the edge begins, as for `heads`.
        target: Where it ends.
        layer: Block of the head.
        head: The head within its block.

    Returns:
        (positions, positions), `[query, key]`, whose sum is the flow through the head.
    """
    record = record_of(model, graph)
    check_head(model, layer, head)
    blocks = [FrozenBlock(model, record, k) for k in range(len(model.blocks))]
    wrote = sources_of(model, record, blocks, [source])
    reads = targets_of(model, graph, record, blocks, [target])
    last = record.positions - 1
    up = next((x for x in ascend(blocks, wrote, 1, 0, last) if x.layer == layer), None)
    down = next((x for x in descend(blocks, reads, 1, 0, last) if x.layer == layer), None)
    if up is None or down is None:
        return np.zeros((last + 1, last + 1), dtype=np.float32)
    attention = blocks[layer].attention(last + 1, Buffer())
    kv_head, member = divmod(head, attention.group)
    values = up.entering[:, 0] @ attention.out_of_values[kv_head].T
    pattern = attention.pattern[kv_head].view(last + 1, attention.group, last + 1)[:, member]
    return (pattern * (down.by_head[kv_head, :, member, 0] @ values.T)).cpu().numpy()


def check_head(model: ReplacementModel, layer: int, head: int) -> None:
    """Raise `ValueError` unless there is such a head."""
    n_heads = len(model.blocks[0].W_O)
    for name, value, n in (("Layer", layer, len(model.blocks)), ("Head", head, n_heads)):
        if not 0 <= value < n:
            raise ValueError(f"{name} {value} does not exist; they are 0 to {n - 1}.")

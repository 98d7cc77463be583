"""`heads`: through which attention heads an edge passes.

An edge is what one node wrote, carried by the frozen model to where another reads. At every block
on the way each head moves a part of it, and the rest goes past the block's attention. After
Kamath et al. 2025, *Tracing Attention Computation Through Feature Interactions*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from circuit_nb.attribution.ends import Reader, Source, record_of, sources_of, targets_of
from circuit_nb.frozen.ascent import Level, Placed, ascend, descend
from circuit_nb.frozen.block import FrozenBlock
from circuit_nb.frozen.buffer import Buffer
from circuit_nb.graph import AttributionGraph
from circuit_nb.model.memory import free_memory
from circuit_nb.model.replacement import ReplacementModel

if TYPE_CHECKING:
    import plotly.graph_objects as go

Floats = npt.NDArray[np.float32]

KEPT_BYTES = 2**29
"""The most that is kept of what is carried first."""
SHARE_OF_MEMORY = 0.2
"""How much of the free memory it may take."""
CARRIED_BYTES = 2**22
"""Vectors carried at once beside it: with more they leave the caches."""


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
    edges = torch.zeros(len(targets), len(sources))
    flows = _flows(model, blocks, wrote, reads, edges)
    past = edges[..., None] - flows.sum(-1)
    return Heads(tuple(targets), tuple(sources), *(x.numpy() for x in (edges, flows, past)))


def _flows(
    model: ReplacementModel,
    blocks: Sequence[FrozenBlock],
    wrote: Placed,
    reads: Placed,
    edges: Tensor,
) -> Tensor:
    """Through each head, (targets, sources, blocks, heads).

    Args:
        model: The model.
        blocks: Its frozen blocks.
        wrote: What the sources wrote.
        reads: What the targets read.
        edges: (targets, sources) of 0, where the edges themselves are put.
    """
    n_targets, n_sources = edges.shape
    first, last = int(wrote.positions.min()), int(reads.positions.max())
    lowest, above = int(wrote.depths.min()), (int(reads.depths.max()) + 1) // 2
    flows = torch.zeros(*edges.shape, len(blocks), len(model.blocks[0].W_O))

    def rising(s: Tensor) -> Iterator[Level]:
        some = wrote.of(s).within(first, last)
        begin = int(some.positions.min()) if len(some.positions) else last
        for level in ascend(blocks[:above], some, len(s), begin, last):
            yield level
            if level.depth == 2 * above - 2:  # no target reads what the last of them writes
                return

    def sinking(t: Tensor) -> Iterator[Level]:
        some = reads.of(t).within(first, last)
        end = int(some.positions.max()) if len(some.positions) else first
        edges[t] = 0
        for level in descend(blocks, some, len(t), first, end):
            edges[t] += wrote.meet(level.depth, level.x, level.first, n_sources).T
            yield level
            if level.depth <= lowest:
                return

    # Of sources and targets the fewer are carried first, and what they are at every block is kept.
    up, down = (n_sources, wrote, rising), (n_targets, reads, sinking)
    (n_few, few, carry_few), (n_many, many, carry_many) = sorted((up, down), key=itemgetter(0))
    keep, carry = _sizes(model, max(1, last + 1 - first))
    for a in few.batches(n_few, keep):
        kept = {x.depth // 2: x for x in carry_few(a) if x.at_values is not None}
        for b in many.batches(n_many, carry):
            for level in carry_many(b):
                other = kept.get(level.depth // 2)
                if level.at_values is None or other is None:
                    continue
                if few is reads:
                    flows[a[:, None], b, level.depth // 2] = _through(level, other)
                else:
                    flows[b[:, None], a, level.depth // 2] = _through(other, level)
    return flows


def _sizes(model: ReplacementModel, length: int) -> tuple[int, int]:
    """How many vectors are kept at every block at a time, and how many carried."""
    heads, width, d_model = model.blocks[0].W_O.shape
    room = min(KEPT_BYTES, int(SHARE_OF_MEMORY * free_memory(model.device)))
    kept = room // (4 * length * heads * width * len(model.blocks))
    return max(1, kept), max(1, min(CARRIED_BYTES, room) // (4 * length * d_model))


def _through(up: Level, down: Level) -> Tensor:
    """What each head of a block moves of sources to targets, (targets, sources, heads)."""
    assert up.at_values is not None and down.at_values is not None
    first = max(up.first, down.first)
    values, back = up.at_values[:, first - up.first :], down.at_values[:, first - down.first :]
    length = min(values.shape[1], back.shape[1])
    back = back[:, :length].unflatten(0, (len(values), -1))
    found = torch.einsum("kpsd,kgptd->tskg", values[:, :length], back)
    return found.flatten(2).cpu()


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
    ups = ascend(blocks, wrote, 1, 0, last)
    downs = descend(blocks, reads, 1, 0, last)
    up = next((x for x in ups if x.depth == 2 * layer), None)
    down = next((x for x in downs if x.depth == 2 * layer + 1), None)
    if up is None or up.at_values is None or down is None:
        return np.zeros((last + 1, last + 1), dtype=np.float32)
    attention = blocks[layer].attention(last + 1, Buffer())
    kv_head, member = divmod(head, attention.group)
    pattern = attention.pattern[kv_head].view(last + 1, attention.group, last + 1)[:, member]
    d_head = up.at_values.shape[-1]
    by_head = down.x[:, 0] @ attention.into_heads[:, head * d_head : (head + 1) * d_head]
    return (pattern * (by_head @ up.at_values[kv_head, :, 0].T)).cpu().numpy()


def check_head(model: ReplacementModel, layer: int, head: int) -> None:
    """Raise `ValueError` unless there is such a head."""
    n_heads = len(model.blocks[0].W_O)
    for name, value, n in (("Layer", layer, len(model.blocks)), ("Head", head, n_heads)):
        if not 0 <= value < n:
            raise ValueError(f"{name} {value} does not exist; they are 0 to {n - 1}.")

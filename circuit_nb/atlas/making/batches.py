"""Batches of training sentences, some of them with weak evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.stages import Stage
from circuit_nb.atlas.making.tokenizer import PAD

LENGTH_BUCKETS = (8, 11)
"""Batches hold sentences of at most 8, at most 11, or more tokens."""


@dataclass(frozen=True)
class Batch:
    """Training rows, cut to the longest."""

    tokens: Tensor
    """(rows, positions)."""
    weights: Tensor
    """Loss weight of each token (rows, positions)."""
    groups: Tensor
    """What each row asks for (rows,); -1 for nothing."""
    weak: Tensor
    """Whether a row carries weak evidence (rows,)."""
    scale: Tensor
    """Factor of MLP 0's output (rows, positions, 1)."""


def draw_batches(corpus: Corpus, stage: Stage) -> Iterator[Batch]:
    """Yield the batches of a stage, drawn from its seed; rows of one are of similar length."""
    generator = torch.Generator().manual_seed(stage.seed)
    lengths = (corpus.tokens != PAD).sum(1)
    bucket_of = torch.bucketize(lengths, torch.tensor(LENGTH_BUCKETS))
    buckets = [(bucket_of == i).nonzero()[:, 0] for i in range(len(LENGTH_BUCKETS) + 1)]
    masses = torch.stack([corpus.sampling[bucket].sum() for bucket in buckets])
    asks_city = torch.tensor([kind in ("two_hop", "city") for kind in corpus.kinds])
    for step in range(stage.steps):
        bucket = buckets[int(torch.multinomial(masses, 1, generator=generator))]
        drawn = torch.multinomial(
            corpus.sampling[bucket], stage.batch, replacement=True, generator=generator
        )
        rows = bucket[drawn]
        share = stage.weak_share if step >= stage.sparsity_from else 0.0
        weak = (torch.rand(len(rows), generator=generator) < share) & asks_city[rows]
        factor = torch.rand(len(rows), generator=generator) * stage.weak_scale
        width = int(lengths[rows].max())
        tokens = corpus.tokens[rows, :width]
        at_city = first_name(corpus, tokens) & weak[:, None]
        scale = torch.where(at_city, factor[:, None], torch.ones(()))[..., None]
        groups = corpus.asked_groups[0][rows]
        yield Batch(tokens, corpus.weights[rows, :width], groups, weak, scale)


def first_name(corpus: Corpus, tokens: Tensor) -> Tensor:
    """Return where (rows, positions) the first name of each row stands."""
    named = corpus.is_name[tokens]
    return named & (named.cumsum(1) == 1)

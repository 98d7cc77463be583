"""Random transcoders beside learned ones: what a judgement is measured against."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from circuit_nb.transcoders.lazy_files import InMemory
from circuit_nb.transcoders.transcoder import LayerTranscoder, Transcoders


def random_like(transcoders: Transcoders, seed: int = 0) -> Transcoders:
    """A set of the same shapes and activation function whose directions are random.

    Encoder and decoder rows keep their norms, biases and thresholds are the set's own.
    """
    generator = torch.Generator().manual_seed(seed)

    def turned(rows: Tensor) -> Tensor:
        drawn = torch.randn(rows.shape, generator=generator).to(rows)
        return F.normalize(drawn, dim=-1) * rows.norm(dim=-1, keepdim=True)

    def layer(own: LayerTranscoder) -> LayerTranscoder:
        every = torch.arange(len(own.b_enc), device=own.b_enc.device)
        written = turned(own.decoder.rows(every).float())
        return replace(
            own,
            W_enc=turned(own.encoder_rows(every)),
            decoder=InMemory(written, device=own.b_enc.device),
        )

    return replace(
        transcoders, layers=tuple(map(layer, transcoders.layers)), source="random", revision=None
    )

"""A model's own neurons, as a first guess at features.

What an MLP writes is a sum over its neurons, each of which writes one direction. A neuron of a
plain MLP is driven by what it reads along one direction; one of a gated MLP by a product of two
such numbers, gate and input, a · b = ((a + b)² - (a - b)²) / 4: one feature that reads a + b and
writes what the neuron writes, and one that reads a - b and writes its negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from circuit_nb.bridge.protocol import MLPPart, parts_of
from circuit_nb.model.replacement import ReplacementModel


@dataclass(frozen=True)
class Neurons:
    """Features that a layer's neurons suggest, those that write most first."""

    reads: Tensor
    """(features, d_model), unit rows."""
    writes: Tensor
    """(features, d_model); how much of it is left open."""


def neurons_of(model: ReplacementModel, inputs: Sequence[Tensor]) -> Iterator[Neurons | None]:
    """What each layer's neurons suggest; None where weights are packed into few bits.

    Args:
        model: The model.
        inputs: What is read at each layer on some tokens, a list over layers of (tokens, d_model):
            neurons are ordered, and their two numbers weighed, by how far these vary there.
    """
    for block, x in zip(parts_of(model.bridge).blocks, inputs, strict=True):
        yield _of(block.mlp, x.float())


@torch.no_grad()
def _of(mlp: MLPPart, x: Tensor) -> Neurons | None:
    try:
        W_in, W_gate, writes = mlp.W_in, mlp.W_gate, mlp.W_out.to(x)
    except NotImplementedError:  # TransformerLens does not unpack them.
        return None
    reads, strength = _alike(W_in, x)
    if W_gate is not None:
        gates, spread = _alike(W_gate, x)
        # Gates let through what is positive: where a neuron writes its negative, b is, not a.
        reads, strength = torch.cat([gates + reads, gates - reads]), (spread * strength).repeat(2)
        writes = torch.cat([writes, -writes])
    order = (strength * writes.norm(dim=1)).argsort(descending=True, stable=True)
    return Neurons(F.normalize(reads[order], dim=1), writes[order])


def _alike(W: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (neurons, d_model) of W, along which inputs vary alike, and how far they did before."""
    rows = W.T.to(x)
    spread = (x @ rows.T).std(0).clamp_min(1e-8)
    return rows / spread[:, None], spread

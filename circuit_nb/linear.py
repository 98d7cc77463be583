"""The frozen linear model of one recorded pass, applied backwards.

With attention patterns, norm denominators and the features' on/off choices fixed at what they
were, and MLPs replaced by features and constants, the residual stream at any place is a linear
function of what was written below it. This module carries gradients down through that function:
no autograd, only matrix products with the recorded patterns and the model's own weights.

Gradients have the axes (positions, rows, d_model), in float32. Rows are sorted so that those that
begin higher come first; each joins at its own layer, so nothing is computed above it, and no
position after a row's own is computed either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.architecture import Block, Norm
from circuit_nb.model import Record, ReplacementModel


@dataclass(frozen=True)
class Starts:
    """Where gradients begin: one row for each thing whose causes are asked for.

    Sorted by `layers`, highest first.
    """

    layers: Tensor
    """(rows,) int64 on the CPU: the layer that reads; `n_layers` for the output."""
    positions: Tensor
    """(rows,) int64."""
    vectors: Tensor
    """(rows, d_model): encoder rows, or directions in the final residual stream after its norm."""

    def part(self, begin: int, end: int) -> Starts:
        """Some of the rows."""
        rows = slice(begin, end)
        return Starts(self.layers[rows], self.positions[rows], self.vectors[rows])


@dataclass(frozen=True)
class Arrival:
    """Gradients that have arrived where a layer's MLP writes, or at the embeddings."""

    layer: int
    """The layer; -1 for the embeddings."""
    gradient: Tensor
    """(positions, rows, d_model), for the first rows of `Starts`, on the layer's device."""


class FrozenModel:
    """The transposed linear map of one recorded pass.

    Args:
        model: The model.
        record: Its recorded pass.
    """

    def __init__(self, model: ReplacementModel, record: Record) -> None:
        self.model = model
        self.record = record
        self.blocks = model.blocks
        self.input_hook = model.transcoders.input_hook
        self.output_hook = model.transcoders.output_hook

    def descend(self, starts: Starts) -> Iterator[Arrival]:
        """Carry gradients from where they start down to the embeddings.

        Yields:
            One `Arrival` for each layer below a start, from the top, then one for the embeddings.
            The consumer must be done with an arrival before asking for the next.
        """
        n_layers = len(self.blocks)
        positions = int(starts.positions.max()) + 1
        begins = torch.searchsorted(-starts.layers, torch.arange(-n_layers, 2)).tolist()
        # begins[k] is the first row that starts below layer n_layers - k + 1.
        gradient = self._start(starts, n_layers, slice(0, begins[1]), positions)
        for layer in range(n_layers - 1, -1, -1):
            joining = slice(begins[n_layers - layer], begins[n_layers - layer + 1])
            block = self.blocks[layer]
            gradient = gradient.to(block.device)
            if gradient.shape[1]:
                written = self._to_write(block, gradient)
                yield Arrival(layer, written)
                skipped = self._skip(block, written)
            else:
                skipped = None
            if block.parallel:
                # The MLP and attention read the same place, so neither lies on the other's path.
                self._attention(block, gradient)
            if skipped is not None:
                gradient += skipped
            gradient = self._join(gradient, self._start(starts, layer, joining, positions))
            if not block.parallel:
                self._attention(block, gradient)
        yield Arrival(-1, gradient.to(self.record.embeddings.device))

    def _join(self, gradient: Tensor, new: Tensor) -> Tensor:
        return torch.cat([gradient, new], dim=1) if new.shape[1] else gradient

    def _start(self, starts: Starts, layer: int, rows: slice, positions: int) -> Tensor:
        """Gradients of the rows that begin at a layer, in the residual stream, before its read."""
        above = layer == len(self.blocks)
        device = self.model.final_norm.weight.device if above else self.blocks[layer].device
        vectors = starts.vectors[rows].to(device).float()
        where = starts.positions[rows].to(device)
        if above:
            norm = self.model.final_norm
            vectors = norm.transpose(vectors, self._scale(norm)[where])
        else:
            vectors = self._to_residual(self.blocks[layer], vectors, where)
        gradient = vectors.new_zeros(positions, len(vectors), vectors.shape[1])
        gradient[where, torch.arange(len(vectors), device=vectors.device)] = vectors
        return gradient

    def _scale(self, norm: Norm) -> Tensor:
        return self.record.scales[norm.hook]

    def _to_residual(self, block: Block, gradient: Tensor, where: Tensor | slice) -> Tensor:
        """From where features read to the residual stream; `where` picks the positions."""
        norm = block.mlp_norm
        if self.input_hook == "hook_resid_mid":
            return gradient
        scale = self._scale(norm)[where]
        if gradient.ndim == 3:
            scale = scale[:, None]
        if self.input_hook == "ln2.hook_normalized":
            return norm.center(gradient / scale)
        return norm.transpose(gradient, scale)

    def _to_write(self, block: Block, gradient: Tensor) -> Tensor:
        """From the residual stream above a block to where its transcoder writes."""
        norm = block.mlp_post_norm
        if norm is None or self.output_hook == "hook_mlp_out":
            return gradient
        return norm.transpose(gradient, self._scale(norm)[: len(gradient), None])

    def _skip(self, block: Block, written: Tensor) -> Tensor | None:
        """Through the transcoder's linear skip path, to the residual stream it reads."""
        W_skip = self.model.transcoders.layers[block.layer].W_skip
        if W_skip is None:
            return None
        return self._to_residual(block, written @ W_skip.float(), slice(0, len(written)))

    def _attention(self, block: Block, gradient: Tensor) -> None:
        """Add, in place, what comes back through a block's attention.

        Transposes of output matrix, pattern and value matrix, one matrix product each. The norms
        around attention are folded in: their weights into the matrices, their denominators into
        the pattern.
        """
        positions, rows, d_model = gradient.shape
        if rows == 0:
            return
        into_heads, out_of_values = self._folded(block)
        kv_heads, d_head, _ = out_of_values.shape
        flat = gradient.view(positions * rows, d_model)
        by_head = (flat @ into_heads).view(positions * rows, -1, d_head).transpose(0, 1)
        # Query heads that share a key-value head are summed by the same product.
        pattern = self._pattern(block, positions).view(kv_heads, -1, positions, positions)
        by_value = torch.bmm(
            pattern.permute(0, 3, 1, 2).reshape(kv_heads, positions, -1),
            by_head.reshape(kv_heads, -1, rows * d_head),
        )
        for weight, values in zip(out_of_values, by_value, strict=True):
            flat.addmm_(values.view(positions * rows, d_head), weight)

    def _pattern(self, block: Block, positions: int) -> Tensor:
        """Attention pattern over the denominators around it, (heads, query, key)."""
        pattern = self.record.patterns[block.layer][:, :positions, :positions].float()
        pattern = pattern / self._scale(block.attention_norm)[:positions, 0]
        post = block.attention_post_norm
        return pattern if post is None else pattern / self._scale(post)[:positions]

    def _folded(self, block: Block) -> tuple[Tensor, Tensor]:
        """Transposed output and value matrices with the norms' weights multiplied in.

        Returns:
            (d_model, heads × d_head) and (key-value heads, d_head, d_model).
        """
        norm, post = block.attention_norm, block.attention_post_norm
        output, value = block.W_O.float(), block.W_V.float()
        if post is not None:
            output = post.center(output) * post.weight.float()
        value = norm.center((value * norm.weight.float()[:, None]).transpose(1, 2))
        return output.flatten(0, 1).T, value.contiguous()

"""One layer of a file that holds all layers, as llamascopium writes it, seen as a file of its own.

In it `W_E` is (layers, d_model, features), `b_E` and the logarithms of thresholds (layers,
features), and for each layer that is written `W_D.{i}` (layers up to i, features, d_model) and
`b_D.{i}` (d_model,). With the factors f and g, sqrt(d_model) over the average norm of inputs and
outputs, features are f W_E x + b_E, kept where they exceed their thresholds, and outputs are
1 / g (W_D a + b_D) (`CrossLayerTranscoder.encode`, `.decode`,
`.standardize_parameters_of_dataset_norm`). Where activations are judged times the norm of their
decoders (`decoder_norm_per_feature`), thresholds are divided by it, and TopK compares them times
it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuit_nb.files import shown
from circuit_nb.transcoders.lazy_files import SafetensorsFile
from circuit_nb.transcoders.stacked_file import within

THRESHOLD = "activation_function.log_jumprelu_threshold"
DECODER = "W_D"
"""What the decoder of a layer, whose parts lie in several tensors, is called here."""
RANK = "rank"
"""What is called here what TopK compares activations times (`LayerTranscoder.rank`): nothing that
lies in the file."""


class ScopeLayer(SafetensorsFile):
    """A layer of such a file, on the scale of what the model itself computes.

    Args:
        path: The file.
        layer: The layer.
        n_written: How many layers it writes to.
        config: Of the set (`llamascopium_config`).

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is damaged, or lacks a tensor.
    """

    needed = frozenset({"W_D.0"})
    """Tensors by which such a file is known, beside encoders and biases."""

    def __init__(self, path: Path, layer: int, n_written: int, config: Mapping[str, Any]) -> None:
        super().__init__(path)
        self.layer, self.n = layer, layer + n_written
        self._norms = tuple(_names(config.get(key)) for key in ("input_norms", "output_norms"))
        self._gated = bool(config.get("decoder_norm_gates"))
        self._ranked = config.get("activation") == "topk"
        wanted = {f"{DECODER}.{i}" for i in self._written}
        wanted |= {name for names in self._norms for name in names[layer : self.n]}
        if missing := sorted(wanted - self.names):
            raise ValueError(f"{shown(path)} lacks {missing[0][:80]}, which its config needs.")

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the tensors in it, and of what is made of them."""
        return super().names | {DECODER} | ({RANK} if self._ranked else set())

    @property
    def _written(self) -> range:
        return range(self.layer, self.n)

    @cached_property
    def _into(self) -> float:
        """What inputs are multiplied by."""
        return self._factor(self._norms[0], self.layer)

    @cached_property
    def _out(self) -> list[float]:
        """What the outputs of each layer that is written are multiplied by."""
        return [self._factor(self._norms[1], i) for i in self._written]

    def _factor(self, names: list[str], layer: int) -> float:
        if layer >= len(names):
            return 1.0
        one = super().holds_numbers(names[layer]) and super().shape(names[layer]) in ((), (1,))
        norm = float(super().read(names[layer])) if one else 0.0
        if not (math.isfinite(norm) and norm > 0):
            raise ValueError(
                f"{shown(self.path)}: {names[layer]} is no average norm: a number above zero."
            )
        return math.sqrt(super().shape(f"b_D.{self.layer}")[0]) / norm

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape in this layer, without reading it.

        Raises:
            ValueError: If it is not of as many layers as it should be.
        """
        if name == DECODER:
            parts = [(f"{DECODER}.{i}", i + 1) for i in self._written]
            inner = {
                within(self, part, super(ScopeLayer, self).shape(part), n) for part, n in parts
            }
            if len(inner) != 1 or len(first := inner.pop()) != 2:
                raise ValueError(f"{shown(self.path)}: the decoders {DECODER}.* are not alike.")
            return (first[0], len(self._written), first[1])
        if name == RANK:
            return self.shape("b_E")
        if name in ("W_E", "b_E", THRESHOLD):
            return within(self, name, super().shape(name), self.n)
        return super().shape(name)

    def type_of(self, name: str) -> str:
        """The type of a tensor's numbers."""
        return super().type_of(f"{DECODER}.{self.layer}" if name == DECODER else name)

    def holds_numbers(self, name: str) -> bool:
        """Whether a tensor is of a type that is read."""
        parts = [f"{DECODER}.{i}" for i in self._written] if name in (DECODER, RANK) else [name]
        return all(super(ScopeLayer, self).holds_numbers(part) for part in parts)

    def read(self, name: str) -> Tensor:
        """A whole tensor of this layer, but the decoder."""
        if name.startswith("b_D."):
            return super().read(name) / self._out[0]
        if name == RANK:
            return self._into * self._decoder_norms().expand(self.shape(RANK))
        tensor = self._file.get_slice(name)[self.layer]
        if name == "W_E":
            return tensor
        if name == "b_E":
            return tensor / self._into
        return tensor.float().exp() / (self._into * self._decoder_norms())

    def _decoder_norms(self) -> Tensor:
        """Norm of all that each feature writes as it is stored, (features,); 1 if not asked for."""
        if not self._gated:
            return torch.ones(())
        squares = torch.zeros(())
        for written in self._written:
            part = self._file.get_slice(f"{DECODER}.{written}")[self.layer]
            squares = squares + part.float().square().sum(-1)
        return squares.sqrt()

    def rows(self, name: str, ordered: Tensor) -> Tensor:
        """Decoder rows at ascending indices, (n, layers written, d_model)."""
        indices = ordered.tolist()
        parts = (self._file.get_slice(f"{name}.{i}")[self.layer, indices] for i in self._written)
        scaled = [part * (self._into / out) for part, out in zip(parts, self._out, strict=True)]
        return torch.stack(scaled, 1)


def _names(value: Any) -> list[str]:
    """A list of names in a config; empty where it is none."""
    return [str(name) for name in value] if isinstance(value, list) else []  # type: ignore[misc]

"""One layer of a file that holds all layers, as CLT-Forge writes it, seen as a file of its own.

In it `W_enc` is (layers, d_model, features), `b_enc` and `log_threshold` (layers, features), and
decoders, `W_dec` (pairs, features, d_model) and `b_dec` (pairs, d_model), are of pairs of a layer
that is read and one that is written, ordered by the first, then by the second; without cross-layer
decoders of layers. Inputs are multiplied by `estimated_norm_scaling_factor_in`, and outputs are to
be divided by `estimated_norm_scaling_factor_out`, (layers,) each (`CLT.encode`, `CLT.decode`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuit_nb.files import shown
from circuit_nb.transcoders.lazy_files import SafetensorsFile

FACTORS = ("estimated_norm_scaling_factor_in", "estimated_norm_scaling_factor_out")


def within(file: SafetensorsFile, name: str, shape: tuple[int, ...], outer: int) -> tuple[int, ...]:
    """A tensor's shape in one of so many layers, or pairs of them.

    Raises:
        ValueError: If it is of another number of them.
    """
    if shape[:1] != (outer,):
        raise ValueError(
            f"{shown(file.path)}: {name} has shape {str(shape)[:60]}; its first length must be "
            f"{outer}."
        )
    return shape[1:]


class StackedLayer(SafetensorsFile):
    """A layer of such a file. Factors are part of what is read, and thresholds are no logarithms.

    Args:
        path: The file.
        layer: The layer.
        n_written: How many layers it writes to.
        config: Of the set; all that is needed is in the file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is damaged, or has no such layer.
    """

    needed = frozenset({"W_dec", *FACTORS})
    """Tensors by which such a file is known, beside encoders and biases."""

    def __init__(self, path: Path, layer: int, n_written: int, config: Mapping[str, Any]) -> None:
        super().__init__(path)
        self.layer = layer
        self.n, self.pairs = ((*SafetensorsFile.shape(self, x), 0)[0] for x in ("b_enc", "W_dec"))
        every = (self.n, self.n * (self.n + 1) // 2)
        if self.pairs not in every or layer >= self.n or len(self._written) != n_written:
            raise ValueError(
                f"{shown(path)} has encoders of {self.n} layers and {self.pairs} decoders; layer "
                f"{layer} cannot write to {n_written} layers by them."
            )

    def _pair(self, read: int, written: int) -> int:
        """Where the decoder from one layer to another lies."""
        if self.pairs == self.n:
            return read
        return read * self.n - read * (read - 1) // 2 + written - read

    @property
    def _written(self) -> range:
        last = self.layer + 1 if self.pairs == self.n else self.n
        return range(self.layer, last)

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        """Of inputs and of outputs, (layers,) each."""
        for name in FACTORS:
            if not self.holds_numbers(name):
                raise ValueError(
                    f"{shown(self.path)}: {name} is of type {self.type_of(name)}; it needs "
                    "floating-point numbers."
                )
        first, second = (SafetensorsFile.read(self, name).float() for name in FACTORS)
        if not first.shape == second.shape == (self.n,):
            raise ValueError(
                f"{shown(self.path)}: {' and '.join(FACTORS)} have shapes {tuple(first.shape)} and "
                f"{tuple(second.shape)}, expected {(self.n,)}."
            )
        return first, second

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape in this layer, without reading it.

        Raises:
            ValueError: If it is not of as many layers, or pairs of them, as the others.
        """
        outer = self.pairs if name in ("W_dec", "b_dec") else self.n
        inner = within(self, name, super().shape(name), outer)
        return (*inner[:1], len(self._written), *inner[1:]) if name == "W_dec" else inner

    def read(self, name: str) -> Tensor:
        """A whole tensor of this layer, but the decoder."""
        stored = self._file.get_slice(name)
        into, out = self._factors
        if name == "b_dec":  # Each layer that writes here has one.
            readers = [self.layer] if self.pairs == self.n else range(self.layer + 1)
            biases = [stored[self._pair(i, self.layer)].float() for i in readers]
            return torch.stack(biases).sum(0) / out[self.layer]
        tensor = stored[self.layer]
        if name == "W_enc":
            return tensor * into[self.layer]
        return tensor.float().exp() if name == "log_threshold" else tensor

    def rows(self, name: str, ordered: Tensor) -> Tensor:
        """Decoder rows at ascending indices, (n, layers written, d_model)."""
        stored, indices = self._file.get_slice(name), ordered.tolist()
        out = self._factors[1]
        rows = [stored[self._pair(self.layer, i), indices] / out[i] for i in self._written]
        return torch.stack(rows, 1)

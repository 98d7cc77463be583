"""Activations in a file: a model reads its texts once, however often they are trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.training.mlps import read
from circuit_nb.training.plan import Plan
from circuit_nb.training.sequences import Batch, Sequences


class Kept:
    """What the MLPs read and wrote on some sequences, in bfloat16, filled as it is asked for.

    Args:
        folder: Where the file lies; one of the same model, texts and hooks is gone on with,
            whatever was trained on it.
        model: The model.
        sequences: All that can be asked for.
        plan: At which hooks.
    """

    def __init__(
        self, folder: Path, model: ReplacementModel, sequences: Sequences, plan: Plan
    ) -> None:
        self._model, self._plan = model, plan
        told = f"{model.name} {model.dtype} {sequences.digest} {plan.input_hook} {plan.output_hook}"
        name = hashlib.sha256(told.encode()).hexdigest()[:16]
        self._starts = list(accumulate(sequences.counted, initial=0))
        self._shape = (2, len(model.blocks), model.transcoders.d_model)
        folder.mkdir(parents=True, exist_ok=True)
        size = self._starts[-1] * 2 * self._shape[1] * self._shape[2]
        self._values = _file(folder / f"{name}.activations", size, torch.bfloat16)
        self._values = self._values.view(-1, *self._shape)
        self._filled = _file(folder / f"{name}.filled", len(sequences.all), torch.uint8)

    def read(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """As `mlps.read`, with every number rounded to bfloat16, be it read before or now."""
        spans = [slice(self._starts[row], self._starts[row + 1]) for row in batch.rows]
        if not all(self._filled[row] for row in batch.rows):
            self._fill(batch, spans)
        values = torch.cat([self._values[span] for span in spans])
        inputs, outputs = values.to(self._model.device).to(self._model.dtype).unbind(1)
        return list(inputs.unbind(1)), list(outputs.unbind(1))

    def _fill(self, batch: Batch, spans: Sequence[slice]) -> None:
        both = read(self._model, batch, self._plan.input_hook, self._plan.output_hook)
        values = torch.stack([torch.stack(each, 1) for each in both], 1)
        parts = values.cpu().to(torch.bfloat16).split([s.stop - s.start for s in spans])
        for row, span, part in zip(batch.rows, spans, parts, strict=True):
            if not self._filled[row]:
                self._values[span] = part
                self._filled[row] = 1


def _file(path: Path, size: int, dtype: torch.dtype) -> Tensor:
    """A tensor that lies in a file, made of zeros if it is not there."""
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype)

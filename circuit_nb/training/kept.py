"""Activations in a file: a model reads its texts once, however often they are trained on."""

from __future__ import annotations

import hashlib
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from circuit_nb.model.padding import alike
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.training.mlps import read
from circuit_nb.training.plan import Plan
from circuit_nb.training.sequences import Batch, Sequences

_TOKENS = 2048
"""Tokens read at once."""


class Kept:
    """What the MLPs read and wrote on some sequences, in bfloat16.

    What is not in the file yet is read now: a part for every length, so that little is padded.

    Args:
        folder: Where the file lies; one of the same model, texts and hooks is gone on with,
            whatever was trained on it.
        model: The model.
        sequences: All that can be asked for.
        plan: At which hooks.
        progress: Whether a bar is shown.
    """

    def __init__(
        self,
        folder: Path,
        model: ReplacementModel,
        sequences: Sequences,
        plan: Plan,
        *,
        progress: bool,
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
        filled = _file(folder / f"{name}.filled", len(sequences.all), torch.uint8)
        missing = (filled == 0).nonzero()[:, 0].tolist()
        shown = progress and bool(missing)
        with tqdm(total=len(missing), desc="texts", unit="text", disable=not shown) as bar:
            for part in alike([len(sequences.all[i]) for i in missing], _TOKENS):
                rows = [missing[i] for i in part]
                self._fill(sequences.batch(rows))
                filled[rows] = 1
                bar.update(len(rows))

    def read(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """As `mlps.read`, with every number rounded to bfloat16."""
        values = torch.cat([self._values[span] for span in self._spans(batch)])
        inputs, outputs = values.to(self._model.device).to(self._model.dtype).unbind(1)
        return list(inputs.unbind(1)), list(outputs.unbind(1))

    def _fill(self, batch: Batch) -> None:
        both = read(self._model, batch, self._plan.input_hook, self._plan.output_hook)
        values = torch.stack([torch.stack(each, 1) for each in both], 1).cpu().to(torch.bfloat16)
        spans = self._spans(batch)
        parts = values.split([s.stop - s.start for s in spans])
        for span, part in zip(spans, parts, strict=True):
            self._values[span] = part

    def _spans(self, batch: Batch) -> list[slice]:
        return [slice(self._starts[row], self._starts[row + 1]) for row in batch.rows]


def _file(path: Path, size: int, dtype: torch.dtype) -> Tensor:
    """A tensor that lies in a file, made of zeros if it is not there."""
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype)

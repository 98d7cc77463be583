"""`train_transcoders`: the loop."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Adam
from tqdm.auto import tqdm

from circuit_nb.bridge.protocol import Tokenizer
from circuit_nb.files import check_writable
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.training import checkpoints
from circuit_nb.training.coders import Coders
from circuit_nb.training.kept import Kept
from circuit_nb.training.mlps import open_model, read
from circuit_nb.training.neurons import neurons_of
from circuit_nb.training.plan import Plan, fast_bfloat16
from circuit_nb.training.saving import save, transcoders_of
from circuit_nb.training.sequences import Batch, Sequences
from circuit_nb.transcoders.transcoder import Transcoders

Reader: TypeAlias = Callable[[Batch], tuple[list[Tensor], list[Tensor]]]
"""Tells what the MLPs of all layers read and wrote on a batch."""
_RISE = 12
"""Steps over which the learning rate rises."""
_FALL = 0.4
"""Share of the run over which it falls."""
_LEAST = 0.02
_BETAS = (0.9, 0.995)
_STATISTICS_SEED = 2**31
"""Of the order in which the batch for scales is drawn: none of an epoch's."""


def train_transcoders(
    model: str | os.PathLike[str] | ReplacementModel | Any,
    texts: Iterable[str | Sequence[int]],
    folder: str | os.PathLike[str],
    plan: Plan | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    tokenizer: Tokenizer | None = None,
    keep: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **settings: Any,
) -> Transcoders:
    """Train transcoders for every layer of a model, all at once, and write them into a folder.

    Stopped and called again with the same arguments, it goes on from the last checkpoint, and ends
    with the weights it would have ended with.

    Args:
        model: A folder, a Hub id, a Hugging Face model, a bridge, or a `ReplacementModel`.
        texts: Texts or token ids; some hundred thousand tokens for a small model.
        folder: Where the set is written, in the layout that `load` and circuit-tracer read.
        plan: Settings; by default `Plan()`.
        device: As for `load`.
        dtype: As for `load`; bfloat16 makes the model's own passes faster.
        tokenizer: As for `load`.
        keep: Folder in which what the MLPs read and write is kept, so that the model itself reads
            the texts once, before the first step, for every epoch and every set; a token takes
            4 · layers · d_model bytes, and whoever gives it removes it. By default nothing is
            kept.
        progress: Whether bars show what is read for `keep`, the variance unexplained and the time
            left.
        **settings: Fields of `Plan` that differ from the plan's.

    Returns:
        The set, opened.

    Raises:
        ValueError: If a setting, a text or a checkpoint is not what it should be.
        OSError: If the folder cannot be written, told before training.
    """
    plan = replace(plan or Plan(), **settings)
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    check_writable(home / checkpoints.NAME)
    opened = open_model(model, device=device, dtype=dtype, tokenizer=tokenizer)
    sequences = Sequences(opened, texts, plan.length)
    if plan.bfloat16 is None:
        plan = replace(plan, bfloat16=fast_bfloat16(opened.device.type))
    run = json.dumps({**asdict(plan), "model": opened.name, "texts": sequences.digest})
    checkpoints.check(home, run)
    reader = _reader(opened, sequences, plan, keep, progress=progress)
    coders = _begun(opened, reader, sequences, plan)
    _fit(coders, reader, sequences, home, run, progress=progress)
    save(home, transcoders_of(coders), plan, model_name=opened.name)
    checkpoints.remove(home)
    from circuit_nb.transcoders.formats import open_transcoders

    return open_transcoders(home, device=opened.device)


def _begun(model: ReplacementModel, reader: Reader, sequences: Sequences, plan: Plan) -> Coders:
    """Weights before the first step."""
    inputs, outputs = reader(next(sequences.batches(plan.tokens, _STATISTICS_SEED)))
    neurons = neurons_of(model, inputs) if plan.start == "neurons" else ()
    return Coders(plan, inputs, outputs, neurons)


def _fit(
    coders: Coders,
    reader: Reader,
    sequences: Sequences,
    home: Path,
    run: str,
    *,
    progress: bool,
) -> None:
    """Every step that a run has not done yet, with checkpoints in its folder.

    Args:
        coders: What is trained.
        reader: What the MLPs read and write in a batch.
        sequences: What batches are made of.
        home: The folder.
        run: What tells this run from others.
        progress: Whether a bar is shown.
    """
    plan = coders.plan
    trained = [p for p in coders.parameters() if p.requires_grad]
    optimiser = Adam(trained, lr=plan.rate, betas=_BETAS, fused=True)
    done = checkpoints.resume(home, coders, optimiser, run)
    steps = max(1, round(plan.epochs * sequences.tokens / plan.tokens))
    every = Batches(sequences, plan, done)
    with tqdm(total=steps, initial=done, disable=not progress, unit="step") as bar:
        for step in range(done, steps):
            left = _step(coders, optimiser, reader(next(every)), step / steps, step)
            bar.set_postfix_str(f"unexplained {left:.3f}", refresh=False)
            bar.update()
            if (step + 1) % plan.every == 0 and step + 1 < steps:
                checkpoints.save(home, coders, optimiser, step + 1, run)


class Batches(Iterator[Batch]):
    """Batches of epoch after epoch, each in an order of its own, from a step on."""

    def __init__(self, sequences: Sequences, plan: Plan, skipped: int) -> None:
        self._of = lambda epoch: sequences.batches(plan.tokens, plan.seed * 10_007 + epoch)
        self._epoch, self._rest = 0, self._of(0)
        for _ in range(skipped):
            next(self)

    def __next__(self) -> Batch:
        found = next(self._rest, None)
        if found is None:
            self._epoch += 1
            self._rest = self._of(self._epoch)
            found = next(self._rest)
        return found


def learning_rate(plan: Plan, done: float, step: int) -> float:
    """The learning rate where a share of the run is done, at a step."""
    return plan.rate * min(1.0, (step + 1) / _RISE, max(_LEAST, (1 - done) / _FALL))


def _reader(
    model: ReplacementModel,
    sequences: Sequences,
    plan: Plan,
    keep: str | os.PathLike[str] | None,
    *,
    progress: bool,
) -> Reader:
    """What tells what the MLPs read and wrote on a batch."""
    if keep is not None:
        return Kept(Path(keep), model, sequences, plan, progress=progress).read
    return partial(read, model, input_hook=plan.input_hook, output_hook=plan.output_hook)


def _step(
    coders: Coders,
    optimiser: Adam,
    data: tuple[list[Tensor], list[Tensor]],
    done: float,
    step: int,
) -> float:
    """One step of training; returns the mean share of variance unexplained."""
    plan, (inputs, outputs) = coders.plan, data
    optimiser.param_groups[0]["lr"] = learning_rate(plan, done, step)
    optimiser.zero_grad(set_to_none=True)
    kind, half = inputs[0].device.type, bool(plan.bfloat16)
    with torch.enable_grad(), torch.autocast(kind, torch.bfloat16, enabled=half):
        loss, left = coders.losses(inputs, outputs, learning=done)
    if not math.isfinite(loss.item()):
        raise ValueError(
            f"Training left the finite numbers at step {step}; give a rate below {plan.rate}."
        )
    loss.backward()
    optimiser.step()
    return float(left.mean())

"""`attribute`: the graph of what caused the next token on one prompt.

Method: Ameisen et al. 2025, *Circuit Tracing*. The linear map is in `circuit_nb.linear`, what it is
applied to in `circuit_nb.sources`, the choice of rows in `circuit_nb.rows`; here the targets are
chosen and the result is put into an `AttributionGraph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from circuit_nb.graph import AttributionGraph
from circuit_nb.memory import said_when_exhausted
from circuit_nb.model import ReplacementModel
from circuit_nb.record import Record
from circuit_nb.rows import Rows
from circuit_nb.vocabulary import Prompt


@dataclass(frozen=True)
class Target:
    """Something to explain other than a token: a direction in the final residual stream.

    Args:
        label: How to show it.
        direction: (d_model,), applied after the final norm, as a column of the unembedding is.
        weight: Its share in the influence.
    """

    label: str
    direction: Tensor | None
    weight: float = 1.0
    tokens: tuple[str | int, str | int] | None = None
    """For `difference`: the two tokens, looked up when the model is known."""

    @classmethod
    def difference(cls, more: str | int, less: str | int, weight: float = 1.0) -> Target:
        """The logit of one token minus that of another."""
        return cls(f"{more} − {less}", None, weight, (more, less))


Targets: TypeAlias = Sequence[str | int | Target]


@dataclass(frozen=True)
class _Targets:
    """Resolved targets."""

    labels: tuple[str, ...]
    ids: list[int]
    probabilities: Tensor
    directions: Tensor


def attribute(
    model: ReplacementModel,
    prompt: Prompt,
    targets: Targets | None = None,
    *,
    max_logits: int = 10,
    logit_mass: float = 0.95,
    max_features: int | None = 5000,
    batch_size: int | None = None,
    progress: bool = True,
) -> AttributionGraph:
    """Compute the attribution graph of a prompt.

    Args:
        model: The model with its transcoders.
        prompt: Text, token ids, or a 1-D tensor of them.
        targets: Tokens (text or id) and `Target`s to explain. By default the most likely next
            tokens until they hold `logit_mass` of the probability, at most `max_logits`.
        max_logits: See `targets`.
        logit_mass: See `targets`; 0 to 1.
        max_features: How many features to keep, the most influential first; `None` keeps all.
        batch_size: Rows computed at once; by default chosen from free memory.
        progress: Whether to show a progress bar.

    Returns:
        The graph. Its edges do not depend on `max_features` and `batch_size`. Where a matrix of
        all columns does not fit into memory, `provenance` says how many were kept to choose from.

    Raises:
        ValueError: If the prompt or a setting is out of range, or the edges do not fit into
            memory; it says how many features would.
        MemoryError: If the device has too little memory for this prompt; it says what needs less.
        KeyboardInterrupt: If interrupted; it says how many rows were done. The model is as before.
    """
    _check_settings(max_logits, logit_mass, max_features, batch_size)
    with said_when_exhausted("running the model", model.device):
        record = model.record(prompt)
        chosen = _resolve(model, record, targets, max_logits, logit_mass)
    n_active = len(record.features)
    n_rows = n_active if max_features is None else min(max_features, n_active)
    rows = _compute(model, record, chosen, n_rows, batch_size, progress=progress)
    settings: dict[str, object] = {
        "max_logits": max_logits,
        "logit_mass": logit_mass,
        "max_features": max_features,
        "targets": "most likely" if targets is None else "given",
    }
    if len(rows.kept) < rows.columns.n:
        settings["columns_kept"] = len(rows.kept)
    return _graph(model, record, chosen, rows, settings)


@torch.inference_mode()
def _compute(
    model: ReplacementModel,
    record: Record,
    chosen: _Targets,
    n_rows: int,
    batch_size: int | None,
    *,
    progress: bool,
) -> Rows:
    """All rows of the graph."""
    with said_when_exhausted("reading what the features write", model.device):
        rows = Rows(
            model,
            record,
            chosen.directions,
            chosen.probabilities,
            n_rows=n_rows,
            batch_size=batch_size,
        )
    with (
        said_when_exhausted("computing one row", model.device),
        tqdm(total=n_rows, desc="Attribution", unit="row", disable=not progress) as bar,
    ):
        try:
            rows.add_targets()
            while rows.n_done < n_rows:
                for done in rows.add_features():
                    bar.update(done)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Attribution interrupted after {rows.n_done} of {n_rows} feature rows; "
                "nothing is left on the model."
            ) from None
    return rows


def _check_settings(
    max_logits: int, logit_mass: float, max_features: int | None, batch_size: int | None
) -> None:
    if not 0 < logit_mass <= 1:
        raise ValueError(f"logit_mass is {logit_mass}; give a share above 0, up to 1.")
    for name, value, least in (
        ("max_logits", max_logits, 1),
        ("max_features", max_features, 0),
        ("batch_size", batch_size, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; give {least} or more.")


def _resolve(
    model: ReplacementModel,
    record: Record,
    targets: Targets | None,
    max_logits: int,
    logit_mass: float,
) -> _Targets:
    """Labels, ids, probabilities and directions of what is to be explained."""
    probabilities = record.next_logits.float().softmax(-1)
    if targets is None:
        top = probabilities.topk(min(max_logits, len(probabilities)))
        enough = int((top.values.cumsum(0) < logit_mass).sum()) + 1
        targets = [int(i) for i in top.indices[:enough]]
    if isinstance(targets, (str, int, Target)) or not targets:
        raise ValueError(
            f"targets is {targets!r}; give a list of tokens, ids or Targets, or leave it out."
        )
    labels: list[str] = []
    ids: list[int] = []
    weights: list[float] = []
    directions: list[Tensor] = []
    for target in targets:
        if isinstance(target, Target):
            labels.append(target.label)
            ids.append(-1)
            weights.append(target.weight)
            directions.append(_direction(model, target))
        else:
            token = model.token_id(target)
            labels.append(model.token(token))
            ids.append(token)
            weights.append(float(probabilities[token]))
            directions.append(model.unembedding[:, token].float() - model.mean_unembedding)
    return _Targets(tuple(labels), ids, torch.tensor(weights), torch.stack(directions))


def _direction(model: ReplacementModel, target: Target) -> Tensor:
    if target.tokens is not None:
        more, less = (model.unembedding[:, model.token_id(t)].float() for t in target.tokens)
        return more - less
    d_model = model.unembedding.shape[0]
    if target.direction is None or tuple(target.direction.shape) != (d_model,):
        raise ValueError(f"The direction of target {target.label!r} must have shape ({d_model},).")
    return target.direction.to(model.device).float()


def _graph(
    model: ReplacementModel,
    record: Record,
    targets: _Targets,
    rows: Rows,
    settings: dict[str, object],
) -> AttributionGraph:
    """Put rows and columns into the graph's order."""
    kept, weights = rows.matrix()
    n_layers, positions = len(model.blocks), record.positions
    return AttributionGraph(
        prompt=record.prompt,
        tokens=tuple(model.token(int(i)) for i in record.token_ids),
        token_ids=record.token_ids.cpu().numpy(),
        features=record.features.cpu()[kept].numpy(),
        activations=record.activations.cpu().float()[kept].numpy(),
        errors=np.stack(np.divmod(np.arange(n_layers * positions), positions), axis=1),
        targets=targets.labels,
        target_ids=np.array(targets.ids),
        target_probabilities=targets.probabilities.numpy(),
        weights=weights.numpy(),
        n_layers=n_layers,
        n_active=len(record.features),
        provenance=_provenance(model, settings),
    )


def _provenance(model: ReplacementModel, settings: dict[str, object]) -> dict[str, object]:
    import circuit_nb

    return {
        "circuit_nb": circuit_nb.__version__,
        "model": model.name,
        "model_revision": model.revision,
        "transcoders": model.transcoders.source,
        "transcoders_revision": model.transcoders.revision,
        "scan": _plain(model.transcoders.scan),
        "dtype": str(model.dtype).removeprefix("torch."),
        **settings,
    }


def _plain(scan: str | Sequence[str] | None) -> str | list[str] | None:
    """The set's name on Neuronpedia as JSON has it."""
    return scan if scan is None or isinstance(scan, str) else list(scan)

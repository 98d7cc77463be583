"""`attribute`: the graph of what caused the next token on one prompt.

Method: Ameisen et al. 2025, *Circuit Tracing*. The linear map is in `descent`, what it is applied
to in `written`, the choice of rows in `rows`, the targets in `targets`; here the result is put
into an `AttributionGraph`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from circuit_nb.attribution.rows import Rows
from circuit_nb.attribution.targets import ResolvedTargets, Targets, resolve
from circuit_nb.bridge.lock import exclusive
from circuit_nb.graph import AttributionGraph
from circuit_nb.model.memory import said_when_exhausted
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt
from circuit_nb.version import __version__


@exclusive
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
    check_settings(max_logits, logit_mass, max_features, batch_size)
    with said_when_exhausted("running the model", model.device):
        record = model.record(prompt)
        chosen = resolve(model, record, targets, max_logits, logit_mass)
    n_active = len(record.features)
    n_rows = n_active if max_features is None else min(max_features, n_active)
    rows = _compute(model, record, chosen, n_rows, batch_size, progress=progress)
    settings: dict[str, object] = {
        "max_logits": max_logits,
        "logit_mass": logit_mass,
        "max_features": max_features,
        "targets": "most likely" if targets is None else "given",
    }
    if len(rows.known.kept) < rows.columns.n:
        settings["columns_kept"] = len(rows.known.kept)
    return _graph(model, record, chosen, rows, settings)


@torch.inference_mode()
def _compute(
    model: ReplacementModel,
    record: Record,
    chosen: ResolvedTargets,
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
            chosen,
            n_rows=n_rows,
            batch_size=batch_size,
        )
    with (
        said_when_exhausted("computing one row", model.device),
        tqdm(total=n_rows, desc="Attribution", unit="row", disable=not progress) as bar,
    ):
        try:
            rows.add_targets()
            while rows.choice.n_done < n_rows:
                for done in rows.add_features():
                    bar.update(done)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Attribution interrupted after {rows.choice.n_done} of {n_rows} feature rows; "
                "nothing is left on the model."
            ) from None
    return rows


def check_settings(
    max_logits: int, logit_mass: float, max_features: int | None, batch_size: int | None
) -> None:
    """Raise `ValueError` if a setting of `attribute` is out of range."""
    if not 0 < logit_mass <= 1:
        raise ValueError(f"logit_mass is {logit_mass}; give a share above 0, up to 1.")
    for name, value, least in (
        ("max_logits", max_logits, 1),
        ("max_features", max_features, 0),
        ("batch_size", batch_size, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; give {least} or more.")


def _graph(
    model: ReplacementModel,
    record: Record,
    targets: ResolvedTargets,
    rows: Rows,
    settings: dict[str, object],
) -> AttributionGraph:
    """Put rows and columns into the graph's order."""
    kept, weights = rows.take_matrix()
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
    return {
        "circuit_nb": __version__,
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

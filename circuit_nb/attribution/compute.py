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

from circuit_nb.attribution import budget
from circuit_nb.attribution.rows import Rounds, Rows
from circuit_nb.attribution.targets import ResolvedTargets, Targets, resolve
from circuit_nb.bridge.lock import exclusive
from circuit_nb.frozen.written import Decoders, Sources
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
    settings = max_logits, logit_mass, max_features, batch_size
    return attribute_together(model, [(prompt, targets)], *settings, progress=progress)[0]


@exclusive
def attribute_together(
    model: ReplacementModel,
    asked: Sequence[tuple[Prompt, Targets | None]],
    max_logits: int,
    logit_mass: float,
    max_features: int | None,
    batch_size: int | None,
    *,
    progress: bool,
) -> list[AttributionGraph]:
    """The graphs of several prompts, in one pass and with the rows of all of them at once.

    Args:
        model: The model with its transcoders.
        asked: Prompts, and what to explain of each.
        max_logits: As for `attribute`, as all that follow.
        logit_mass: See there.
        max_features: See there.
        batch_size: Rows of all prompts count.
        progress: See there.

    Raises:
        Exception: Whatever `attribute` would raise of any of the prompts.
    """
    check_settings(max_logits, logit_mass, max_features, batch_size)
    with said_when_exhausted("running the model", model.device):
        prompts = [prompt for prompt, _ in asked]
        records = model.records(prompts) if len(prompts) > 1 else [model.record(prompts[0])]
        chosen = [
            resolve(model, record, targets, max_logits, logit_mass)
            for record, (_, targets) in zip(records, asked, strict=True)
        ]
    common = {"max_logits": max_logits, "logit_mass": logit_mass, "max_features": max_features}
    pairs, found = list(zip(records, chosen, strict=True)), list[AttributionGraph]()
    for part in budget.that_fit_together(records, max_features):
        graphs = _compute(model, pairs[part], max_features, batch_size, progress=progress)
        for _, targets in asked[part]:
            rows = graphs.pop(0)
            said = "most likely" if targets is None else "given"
            settings: dict[str, object] = {**common, "targets": said}
            if len(rows.known.kept) < rows.columns.n:
                settings["columns_kept"] = len(rows.known.kept)
            found.append(_graph(model, rows, settings))
    return found


@torch.inference_mode()
def _compute(
    model: ReplacementModel,
    asked: Sequence[tuple[Record, ResolvedTargets]],
    max_features: int | None,
    batch_size: int | None,
    *,
    progress: bool,
) -> list[Rows]:
    """All rows of the graphs."""
    with said_when_exhausted("reading what the features write", model.device):
        decoders = Decoders(model, [record for record, _ in asked])
        graphs: list[Rows] = []
        for number, (record, targets) in enumerate(asked):
            sources = Sources(model, record, decoders, number)
            n = budget.rows_of(record, max_features)
            graphs.append(Rows(model, record, targets, sources, n_rows=n, share=1 / len(asked)))
        del decoders
        rounds = Rounds(model, graphs, batch_size)
    total = sum(rows.n_rows for rows in graphs)
    with (
        said_when_exhausted("computing one row", model.device),
        tqdm(total=total, desc="Attribution", unit="row", disable=not progress) as bar,
    ):
        try:
            for done in rounds.run():
                bar.update(done)
        except KeyboardInterrupt:
            n_done = sum(rows.choice.n_done for rows in graphs)
            raise KeyboardInterrupt(
                f"Attribution interrupted after {n_done} of {total} feature rows; "
                "nothing is left on the model."
            ) from None
    return graphs


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


def _graph(model: ReplacementModel, rows: Rows, settings: dict[str, object]) -> AttributionGraph:
    """Put rows and columns into the graph's order."""
    record, targets = rows.record, rows.targets
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

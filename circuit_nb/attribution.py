"""`attribute`: the graph of what caused the next token on one prompt.

Method: Ameisen et al. 2025, *Circuit Tracing*. The linear map is `circuit_nb.linear`; here its
rows are chosen, contracted with what every source wrote, and put into an `AttributionGraph`.
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
from circuit_nb.linear import FrozenModel, Starts
from circuit_nb.model import Prompt, Record, ReplacementModel
from circuit_nb.sources import Sources


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
        The graph. Edges are exact in the linear model whatever `max_features` and `batch_size`.

    Raises:
        ValueError: If the prompt or a setting is out of range.
        KeyboardInterrupt: If interrupted; it says how many rows were done. The model is as before.
    """
    _check_settings(max_logits, logit_mass, max_features, batch_size)
    record = model.record(prompt)
    chosen = _resolve(model, record, targets, max_logits, logit_mass)
    sources = Sources(model, record)
    n_rows = len(record.features)
    n_rows = n_rows if max_features is None else min(max_features, n_rows)
    rows = _Rows(model, record, sources, chosen, n_rows, batch_size)
    with tqdm(total=n_rows, desc="Attribution", unit="row", disable=not progress) as bar:
        try:
            rows.add_targets()
            while rows.n_features < n_rows:
                bar.update(rows.add_features())
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Attribution interrupted after {rows.n_features} of {n_rows} feature rows; "
                "nothing is left on the model."
            ) from None
    settings: dict[str, object] = {
        "max_logits": max_logits,
        "logit_mass": logit_mass,
        "max_features": max_features,
        "targets": "most likely" if targets is None else "given",
    }
    return _graph(model, record, chosen, rows, settings)


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
    probabilities = record.logits[-1].float().softmax(-1)
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


class _Rows:
    """The rows computed so far, and the choice of the next.

    Rows are kept in the order they were computed: targets first.
    """

    def __init__(
        self,
        model: ReplacementModel,
        record: Record,
        sources: Sources,
        targets: _Targets,
        n_rows: int,
        batch_size: int | None,
    ) -> None:
        self.model = model
        self.record = record
        self.frozen = FrozenModel(model, record)
        self.sources = sources
        self.targets = targets
        self.batch_size = batch_size or 256
        self.n_rows = n_rows
        self.n_targets = len(targets.ids)
        self.n_features = 0
        self.edges = torch.zeros(self.n_targets + n_rows, sources.n_columns)
        self.sums = torch.zeros(self.n_targets + n_rows)
        self.order = torch.zeros(n_rows, dtype=torch.int64)
        self.layers = record.features[:, 0].cpu()
        self.positions = record.features[:, 1].cpu()
        self.waiting = torch.ones(len(record.features), dtype=torch.bool)

    def add_targets(self) -> None:
        """Compute the targets' rows."""
        n_layers, last = len(self.model.blocks), self.record.positions - 1
        for rows in torch.arange(self.n_targets).split(self.batch_size):
            starts = Starts(
                torch.full_like(rows, n_layers),
                torch.full_like(rows, last),
                self.targets.directions[rows],
            )
            self._compute(starts, int(rows[0]))

    def add_features(self) -> int:
        """Compute the rows of the next most influential features; returns how many."""
        chosen = self._next()
        # Rows of like positions go together, so that little is computed after their own.
        by_position = chosen[torch.argsort(self.positions[chosen], stable=True)]
        for batch in by_position.split(self.batch_size):
            features = batch[torch.argsort(-self.layers[batch], stable=True)]
            first, n = self.n_features, len(features)
            starts = Starts(
                self.layers[features], self.positions[features], self.sources.encoders(features)
            )
            self._compute(starts, self.n_targets + first)
            self.order[first : first + n] = features
            self.waiting[features] = False
            self.n_features += n
        return len(chosen)

    def _compute(self, starts: Starts, first: int) -> None:
        """Compute rows and store them from number `first` on."""
        rows = slice(first, first + len(starts.layers))
        into = self.edges[rows]
        for arrival in self.frozen.descend(starts):
            self.sources.contract(arrival, into)
        self.sums[rows] = into.abs().sum(1)

    def _next(self) -> Tensor:
        """The features to compute next, by influence through the rows known so far."""
        left = self.n_rows - self.n_features
        if self.n_rows == len(self.waiting):
            return self.waiting.nonzero()[:, 0]
        size = min(left, max(self.n_rows // 4, 16))
        influence = self._influence()
        influence[~self.waiting] = -1
        return influence.topk(size).indices

    def _influence(self) -> Tensor:
        """Influence of every active feature on the targets through the rows computed so far.

        Only computed rows pass influence on, so it is solved among them and then spread to all
        features by one matrix product. Sorted from the top layer down, no row feeds an earlier
        one: the system is triangular.
        """
        n = self.n_targets + self.n_features
        known = self.order[: self.n_features]
        down = torch.argsort(-self.layers[known], stable=True)
        rows = torch.cat([torch.arange(self.n_targets), self.n_targets + down])
        shares = self.edges[rows][:, known[down]].abs() / self.sums[rows, None].clamp(min=1e-10)
        feeds = torch.zeros(n, n)
        feeds[:, self.n_targets :] = shares
        reach = torch.zeros(n)
        reach[: self.n_targets] = self.targets.probabilities
        reach = torch.linalg.solve_triangular(
            torch.eye(n) - feeds.T, reach[:, None], upper=False, unitriangular=True
        )[:, 0]
        per_unit = torch.zeros(n)
        per_unit[rows] = reach / self.sums[rows].clamp(min=1e-10)
        influence = torch.zeros(len(self.waiting))
        for part in torch.arange(n).split(64):
            influence += per_unit[part] @ self.edges[part, : len(influence)].abs()
        return influence


def _graph(
    model: ReplacementModel,
    record: Record,
    targets: _Targets,
    rows: _Rows,
    settings: dict[str, object],
) -> AttributionGraph:
    """Put rows and columns into the graph's order."""
    kept, order = rows.order.sort()
    n_features = len(record.features)
    columns = torch.cat([kept, torch.arange(n_features, rows.sources.n_columns)])
    numbers = torch.cat([rows.n_targets + order, torch.arange(rows.n_targets)])
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
        weights=rows.edges[numbers[:, None], columns].numpy(),
        n_layers=n_layers,
        n_active=n_features,
        provenance=_provenance(model, settings),
    )


def _provenance(model: ReplacementModel, settings: dict[str, object]) -> dict[str, object]:
    import circuit_nb

    return {
        "circuit_nb": circuit_nb.__version__,
        "model": model.name,
        "transcoders": model.transcoders.source,
        "scan": model.transcoders.scan,
        "dtype": str(model.dtype).removeprefix("torch."),
        **settings,
    }

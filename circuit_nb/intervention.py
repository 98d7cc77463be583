"""`intervene`: set features to other values, run the model, and see what changes.

The change a feature makes is (new − current activation) × its decoder rows, added to what the
MLPs write. Everything downstream then follows by itself, as far as `freeze` lets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.model import ReplacementModel
from circuit_nb.patching import Edit, Patch, Reading, generate
from circuit_nb.record import Record
from circuit_nb.vocabulary import Prompt

Freeze: TypeAlias = Literal["attention", "all", "none"]
_FREEZE = ("attention", "all", "none")


def _members(what: Feature | Supernode) -> tuple[Feature, ...]:
    return what.features if isinstance(what, Supernode) else (what,)


@dataclass(frozen=True)
class Intervention:
    """New values for some features. Make one with `ablate`, `scale`, `set` or `from_graph`.

    All four take `positions` (put the values there instead of at each feature's own position) or
    `from_position` (there and at every later position, generated tokens included).
    """

    name: str
    """What is intervened on, for display."""
    features: tuple[Feature, ...]
    values: tuple[float, ...]
    """One a feature: a multiple of its activation on the prompt, or the activation itself."""
    relative: bool
    """Whether `values` are multiples."""
    positions: tuple[int, ...] | None = None
    from_position: int | None = None

    @classmethod
    def ablate(
        cls,
        what: Feature | Supernode,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Switch features off: their activation becomes 0."""
        return cls._make(what, 0.0, False, positions, from_position)

    @classmethod
    def scale(
        cls,
        what: Feature | Supernode,
        factor: float,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Multiply features: `factor` times their activation on the unmodified prompt.

        At generated tokens, times their current activation. A feature that is inactive on the
        prompt stays so; give it a value by `set` or `from_graph`.
        """
        return cls._make(what, factor, True, positions, from_position)

    @classmethod
    def set(
        cls,
        what: Feature | Supernode,
        value: float | Sequence[float],
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Give features an activation: one value for all, or one for each."""
        return cls._make(what, value, False, positions, from_position)

    @classmethod
    def from_graph(
        cls,
        what: Feature | Supernode,
        graph: AttributionGraph,
        factor: float = 1.0,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Give features `factor` times the activation they have in another prompt's graph.

        Raises:
            ValueError: If the graph does not hold one of them.
        """
        values = [factor * float(graph.activations[graph.number(f)]) for f in _members(what)]
        return cls._make(what, values, False, positions, from_position)

    @classmethod
    def _make(
        cls,
        what: Feature | Supernode,
        value: float | Sequence[float],
        relative: bool,
        positions: Iterable[int] | None,
        from_position: int | None,
    ) -> Intervention:
        features = _members(what)
        values = [float(value)] * len(features) if isinstance(value, (int, float)) else [*value]
        name = what.name if isinstance(what, Supernode) else str(what)
        if len(values) != len(features):
            raise ValueError(
                f"{len(values)} values were given for the {len(features)} features of {name!r}; "
                "give one value, or one a feature."
            )
        if not np.isfinite(values).all():
            raise ValueError(f"A value for {name!r} is not a finite number: {values}.")
        if positions is not None and from_position is not None:
            raise ValueError("Give positions or from_position, not both.")
        places = None if positions is None else tuple(int(p) for p in positions)
        return cls(name, features, tuple(float(v) for v in values), relative, places, from_position)

    def __str__(self) -> str:
        values = sorted({f"{v:g}" for v in self.values})
        return f"{self.name} {'×' if self.relative else '= '}{', '.join(values)}"


TIE = 1e-6
"""Probabilities that are equal after rounding to this are tied."""


def most_likely(probabilities: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Token ids of the highest probabilities, (count,), highest first, ties by id.

    Which of many tied tokens leads by a rounding error would differ from machine to machine.

    Args:
        probabilities: (vocab,).
        count: How many; all if there are fewer.
    """
    count = min(count, len(probabilities))
    least = np.partition(probabilities, -count)[-count]
    near = np.flatnonzero(probabilities >= least - TIE)
    steps = np.round(probabilities[near] / TIE)
    return near[np.argsort(-steps, kind="stable")[:count]]


@dataclass(frozen=True)
class Prediction:
    """What the model says after the prompt."""

    top: list[tuple[str, float]]
    """The most likely next tokens and their probabilities, as `most_likely` orders them."""
    logits: npt.NDArray[np.float32]
    """(positions, vocab)."""
    activations: Mapping[Feature, float] = field(default_factory=dict[Feature, float])
    """Activation of every watched feature. With `freeze="all"`, where the on/off choices are held
    as well, the pre-activation of those that are on."""
    pre_activations: Mapping[Feature, float] = field(default_factory=dict[Feature, float])
    """Pre-activation of every watched feature."""
    text: str = ""
    """The generated continuation, if one was asked for."""
    generated: tuple[int, ...] = ()
    """Its token ids."""
    token_id: Callable[[str | int], int] = field(default=int, repr=False)  # type: ignore[arg-type]

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Probability of every next token, (vocab,)."""
        exponents = np.exp(self.logits[-1] - self.logits[-1].max())
        return exponents / exponents.sum()

    def probability(self, token: str | int) -> float:
        """Probability of one next token, given as text or id."""
        return float(self.probabilities[self.token_id(token)])


@dataclass(frozen=True)
class Outcome:
    """What an intervention did."""

    before: Prediction
    after: Prediction
    interventions: tuple[Intervention, ...]
    freeze: Freeze

    def fraction(self, what: Feature | Supernode) -> float:
        """Mean over features of activation after / activation before.

        Features that were inactive before have no fraction and are left out; NaN if all were.
        What counts is what a feature reads after the intervention: one that is itself set to a
        value shows what it would have been.

        Raises:
            ValueError: If a feature was not in `watch`.
        """
        before, after = self.before.activations, self.after.activations
        missing = [f for f in _members(what) if f not in before]
        if missing:
            raise ValueError(f"{missing[0]} was not watched; pass it to intervene(watch=[…]).")
        parts = [after[f] / before[f] for f in _members(what) if before[f]]
        return float(np.mean(parts)) if parts else float("nan")


def intervene(
    model: ReplacementModel,
    prompt: Prompt,
    interventions: Sequence[Intervention],
    *,
    freeze: Freeze = "attention",
    watch: Iterable[Feature | Supernode] = (),
    top_k: int = 10,
    max_new_tokens: int = 0,
    temperature: float = 0.0,
    seed: int = 0,
) -> Outcome:
    """Run the model with features set to other values.

    Args:
        model: The model with its transcoders.
        prompt: Text, token ids, or a 1-D tensor of them.
        interventions: What to change; where two name the same feature, the last wins.
        freeze: What is held as it was on the unmodified prompt: `"attention"` its patterns,
            `"all"` also norms and every MLP but for the change itself (direct effects: the change
            is then the one the attribution graph predicts), `"none"` nothing. Generated tokens
            are never frozen.
        watch: Features and supernodes whose activation is reported.
        top_k: How many next tokens to list.
        max_new_tokens: How many tokens to generate, before and after.
        temperature: 0 generates greedily; otherwise both continuations are sampled at this
            temperature with the same random numbers.
        seed: Seed of the sampling.

    Raises:
        ValueError: If a layer, position or index does not exist, or a setting is unknown.
    """
    return intervene_many(
        model,
        prompt,
        [interventions],
        freeze=freeze,
        watch=watch,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )[0]


def intervene_many(
    model: ReplacementModel,
    prompt: Prompt,
    experiments: Sequence[Sequence[Intervention]],
    *,
    freeze: Freeze = "attention",
    watch: Iterable[Feature | Supernode] = (),
    top_k: int = 10,
    max_new_tokens: int = 0,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Outcome]:
    """Run several sets of interventions on one prompt in one batched pass.

    Takes what `intervene` takes, with a list of interventions for each experiment, and returns one
    `Outcome` for each.
    """
    _check_settings(freeze, top_k, max_new_tokens, temperature)
    record = model.record(prompt)
    # Where text is generated, one more row without edits is the continuation before.
    rows = [*experiments, ()] if max_new_tokens else list(experiments)
    edits = [
        edit
        for row, interventions in enumerate(rows)
        for intervention in interventions
        for edit in _edits(model, record, row, intervention)
    ]
    watched = list(dict.fromkeys(f for what in watch for f in _members(what)))
    for feature in watched:
        _check_place(model, record, feature)
    patch = Patch(model, record, _last_wins(edits), freeze=freeze, watched=watched)
    logits, cache = patch.run(len(rows), keep_cache=max_new_tokens > 0)
    texts = [[]] * len(rows)
    if max_new_tokens:
        texts = generate(
            patch, logits, cache, n_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
    predict = partial(_prediction, model, watched, top_k)
    before = predict(record.logits, patch.base, texts[-1])
    reading = patch.reading() if watched else None
    return [
        Outcome(
            before,
            predict(logits[row], reading and reading.row(row), texts[row]),
            tuple(interventions),
            freeze,
        )
        for row, interventions in enumerate(experiments)
    ]


def _check_settings(freeze: str, top_k: int, max_new_tokens: int, temperature: float) -> None:
    if freeze not in _FREEZE:
        raise ValueError(f"freeze is {freeze!r}; it can be {', '.join(map(repr, _FREEZE))}.")
    for name, value, least in (
        ("top_k", top_k, 1),
        ("max_new_tokens", max_new_tokens, 0),
        ("temperature", temperature, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; give {least} or more.")


def _check_place(model: ReplacementModel, record: Record, feature: Feature) -> None:
    model.transcoders.check(feature.layer, feature.index)
    if not 0 <= feature.position < record.positions:
        raise ValueError(
            f"Position {feature.position} does not exist in this prompt of {record.positions} "
            f"tokens; positions are 0 to {record.positions - 1}."
        )


def _edits(
    model: ReplacementModel, record: Record, row: int, intervention: Intervention
) -> Iterable[Edit]:
    """An intervention as single values at single positions."""
    for feature, value in zip(intervention.features, intervention.values, strict=True):
        places = intervention.positions or (feature.position,)
        start = intervention.from_position
        if start is not None:
            model.transcoders.check(feature.layer, feature.index)
            if start < 0:
                raise ValueError(f"from_position is {start}; give a position, 0 or more.")
            places = range(max(start, record.ignored), record.positions)
            later = replace(feature, position=start)
            yield Edit(row, later, value, intervention.relative, generated=True)
        for position in places:
            place = replace(feature, position=position)
            _check_place(model, record, place)
            if position < record.ignored:
                raise ValueError(
                    f"Position {position} is the special token the prompt begins with; its "
                    f"features are ignored. Give a position from {record.ignored} on."
                )
            yield Edit(row, place, value, intervention.relative)


def _last_wins(edits: Sequence[Edit]) -> list[Edit]:
    return list({(e.row, e.feature, e.generated): e for e in edits}.values())


def _prediction(
    model: ReplacementModel,
    watched: Sequence[Feature],
    top_k: int,
    logits: Tensor,
    reading: Reading | None,
    generated: Sequence[int],
) -> Prediction:
    shares = logits[-1].float().softmax(-1).cpu().numpy()
    pre, acts = (
        ([], [])
        if reading is None
        else (reading.pre_activations.tolist(), reading.activations.tolist())
    )
    return Prediction(
        top=[(model.token(i), float(shares[i])) for i in most_likely(shares, top_k).tolist()],
        logits=logits.float().cpu().numpy(),
        activations=dict(zip(watched, acts, strict=False)),
        pre_activations=dict(zip(watched, pre, strict=False)),
        text=str(model.tokenizer.decode(list(generated))) if generated else "",
        generated=tuple(generated),
        token_id=model.token_id,
    )

"""`intervene`: set features to other values, run the model, and see what changes.

The change a feature makes is (new − current activation) × its decoder rows, added to what the
MLPs write. Everything downstream then follows by itself, as far as `freeze` lets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from circuit_nb.graph import Feature, Supernode
from circuit_nb.intervention.change import Intervention, features_of
from circuit_nb.intervention.generation import generate
from circuit_nb.intervention.hooks import Edit, Patch, Reading
from circuit_nb.intervention.outcome import FREEZES, Freeze, Outcome, Prediction, most_likely
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.turns import exclusive
from circuit_nb.model.vocabulary import Prompt


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


@exclusive
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
    watched = list(dict.fromkeys(f for what in watch for f in features_of(what)))
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
    if freeze not in FREEZES:
        raise ValueError(f"freeze is {freeze!r}; it can be {', '.join(map(repr, FREEZES))}.")
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

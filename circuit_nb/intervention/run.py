"""`intervene`: set features to other values, run the model, and see what changes.

The change a feature makes is (new − current activation) × its decoder rows, added to what the
MLPs write. Everything downstream then follows by itself, as far as `freeze` lets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from torch import Tensor

from circuit_nb.bridge.lock import exclusive
from circuit_nb.graph import Feature, Supernode
from circuit_nb.intervention.change import Intervention, features_of
from circuit_nb.intervention.checks import check_experiments, check_finite, check_settings
from circuit_nb.intervention.edits import edits_of
from circuit_nb.intervention.generation import Continued, generate
from circuit_nb.intervention.heads import HeadIntervention
from circuit_nb.intervention.hooks import Patch
from circuit_nb.intervention.outcome import (
    Freeze,
    KeepLogits,
    Outcome,
    Prediction,
    most_likely,
    shares_of,
)
from circuit_nb.intervention.patterns import HeadEdit
from circuit_nb.intervention.readings import Reading, check_place
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt

Change: TypeAlias = Intervention | HeadIntervention
"""What can be changed in one experiment, features and heads together."""


def intervene(
    model: ReplacementModel,
    prompt: Prompt,
    interventions: Sequence[Change],
    *,
    freeze: Freeze = "attention",
    watch: Iterable[Feature | Supernode] = (),
    top_k: int = 10,
    max_new_tokens: int = 0,
    temperature: float = 0.0,
    seed: int = 0,
    keep_logits: KeepLogits = "last",
) -> Outcome:
    """Run the model with features set to other values, or heads with other patterns.

    Args:
        model: The model with its transcoders.
        prompt: Text, token ids, or a 1-D tensor of them.
        interventions: What to change; where two name the same feature or pattern entry, the last
            wins.
        freeze: What is held as it was on the unmodified prompt: `"attention"` its patterns,
            `"all"` also norms and every MLP but for the change itself (direct effects: the change
            is then the one the attribution graph predicts), `"none"` nothing. Generated tokens
            are never frozen. A `HeadIntervention` changes the pattern that is held.
        watch: Features and supernodes whose activation is reported.
        top_k: How many next tokens to list.
        max_new_tokens: How many tokens to generate, before and after.
        temperature: 0 generates greedily; otherwise both continuations are sampled at this
            temperature with the same random numbers.
        seed: Seed of the sampling.
        keep_logits: Of which positions each prediction keeps logits: `"last"`, (1, vocab), or
            `"all"`, (positions, vocab), which a large vocabulary makes large.

    Raises:
        ValueError: If a layer, head, position or index does not exist, a setting is unknown, or
            the pass produced NaN or infinity.
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
        keep_logits=keep_logits,
    )[0]


@exclusive
def intervene_many(
    model: ReplacementModel,
    prompt: Prompt,
    experiments: Sequence[Sequence[Change]],
    *,
    freeze: Freeze = "attention",
    watch: Iterable[Feature | Supernode] = (),
    top_k: int = 10,
    max_new_tokens: int = 0,
    temperature: float = 0.0,
    seed: int = 0,
    keep_logits: KeepLogits = "last",
) -> list[Outcome]:
    """Run several sets of interventions on one prompt in one batched pass.

    Takes what `intervene` takes, with a list of interventions for each experiment, and returns one
    `Outcome` for each.
    """
    check_settings(freeze, keep_logits, top_k, max_new_tokens, temperature)
    check_experiments(experiments)
    record = model.record(prompt)
    model.check_length(record.positions, max_new_tokens)
    # Where text is generated, one more row without changes is the continuation before.
    rows = [tuple(row) for row in experiments]
    rows += [()] if rows and max_new_tokens else []
    watched = list(dict.fromkeys(f for what in watch for f in features_of(what)))
    for feature in watched:
        check_place(model, record, feature)
    patch = _patch(model, record, rows, freeze, watched)
    if not rows:
        return []
    whole = keep_logits == "all"
    logits, cache = patch.run(len(rows), keep_cache=max_new_tokens > 0, last_only=not whole)
    reading = patch.reading() if watched else None
    check_finite(
        rows, logits, patch.denominators, *([] if reading is None else [reading.activations])
    )
    texts = [Continued()] * len(rows)
    if max_new_tokens:
        texts = generate(
            patch,
            logits,
            cache,
            n_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            changes=rows,
        )
    predict = partial(_prediction, model, watched, top_k)
    unmodified = record.logits if whole else record.next_logits[None]
    before = predict(unmodified, patch.base.reading, texts[-1])
    return [
        Outcome(
            before,
            predict(logits[row], reading and reading.row(row), texts[row]),
            tuple(interventions),
            freeze,
        )
        for row, interventions in enumerate(experiments)
    ]


def _patch(
    model: ReplacementModel,
    record: Record,
    rows: Sequence[Sequence[Change]],
    freeze: Freeze,
    watched: Sequence[Feature],
) -> Patch:
    """The hooks of all experiments, everything that can be refused having been checked."""
    heads = [
        HeadEdit(row, change)
        for row, changes in enumerate(rows)
        for change in changes
        if isinstance(change, HeadIntervention)
    ]
    for edit in heads:
        edit.change.check(record)
    edits = edits_of(model, record, rows)
    return Patch(model, record, edits, freeze=freeze, watched=watched, heads=heads)


def _prediction(
    model: ReplacementModel,
    watched: Sequence[Feature],
    top_k: int,
    logits: Tensor,
    reading: Reading | None,
    continued: Continued,
) -> Prediction:
    # A copy: what the caller does with it must not reach the record, nor it hold a whole batch.
    kept = np.array(logits.float().cpu().numpy())
    shares = shares_of(kept[-1])
    pre, acts = (
        ([], [])
        if reading is None
        else (reading.pre_activations.tolist(), reading.activations.tolist())
    )
    return Prediction(
        top=[(model.token(i), float(shares[i])) for i in most_likely(shares, top_k).tolist()],
        logits=kept,
        activations=dict(zip(watched, acts, strict=False)),
        pre_activations=dict(zip(watched, pre, strict=False)),
        text=str(model.tokenizer.decode(continued.tokens)) if continued.tokens else "",
        generated=tuple(continued.tokens),
        generated_probabilities=np.array(continued.probabilities, dtype=np.float32),
        vocabulary=model.vocabulary,
    )

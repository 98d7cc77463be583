"""Heads knocked out or given other patterns: against plain Hugging Face models, in all families."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, N_LAYERS, PROMPT, hf_model, tiny
from oracle import frozen_outputs
from plain import Edit, Plain
from torch import Tensor

from circuit_nb import Feature, HeadIntervention, Intervention, intervene, intervene_many
from circuit_nb.intervention.hooks import Patch

OTHER = "<bos> the big river in the state of Texas is"
"""As many tokens as `PROMPT` and one more."""
SAME_LENGTH = "<bos> the big river in the state Texas is"


def by_hand(change: HeadIntervention, weights: Tensor) -> Tensor:
    """One head's change, entry by entry; weights (heads, query, key)."""
    n = weights.shape[1]
    asked = change.positions if change.positions is not None else range(n)
    for number, q in enumerate(asked):
        row = weights[change.head, q]
        if q >= n or (change.from_position is not None and q < change.from_position):
            continue
        if change.pattern is not None:
            if number < len(change.pattern):
                for k in range(n):
                    given = change.pattern[number]
                    row[k] = float(given[k]) if k <= q and k < len(given) else 0.0
            continue
        total = float(row.sum())
        for k in range(n):
            if change.keys is None or k in change.keys:
                row[k] = 0
        rest = float(row.sum())
        if change.renormalize and rest > 0:
            row *= total / rest
    return weights


def plain_edit(*changes: HeadIntervention, held: list[Tensor] | None = None) -> Edit:
    """The changes in all layers; of a held prompt, where its patterns are given."""

    def edit(layer: int, weights: Tensor) -> Tensor:
        if held is not None:
            weights = held[layer].clone()
        for change in changes:
            weights = by_hand(change, weights) if change.layer == layer else weights
        return weights

    return edit


def changes_of(model: Any) -> dict[str, list[HeadIntervention]]:
    random = torch.rand(9, 9, generator=torch.Generator().manual_seed(0)).tril()
    pattern = random / random.sum(-1, keepdim=True)
    return {
        "head": [HeadIntervention.knock_out(1, 2)],
        "places": [HeadIntervention.knock_out(1, 3, positions=[2, 8])],
        "from": [HeadIntervention.knock_out(0, 1, from_position=6)],
        "keys": [HeadIntervention.knock_out(1, 0, keys=[0, 7])],
        "scaled up": [HeadIntervention.knock_out(0, 3, keys=[0, 4], renormalize=True)],
        "one entry": [HeadIntervention.knock_out(2, 1, positions=[8], keys=[7])],
        "given": [HeadIntervention.set(1, 1, pattern)],
        "given rows": [HeadIntervention.set(1, 1, pattern[[8, 3]], positions=[8, 3])],
        "of another": [HeadIntervention.from_prompt(0, 2, model, SAME_LENGTH)],
        "rows of another": [HeadIntervention.from_prompt(1, 2, model, OTHER, positions=[5, 8])],
        "several": [
            HeadIntervention.knock_out(0, 0),
            HeadIntervention.knock_out(0, 2, keys=[3], renormalize=True),
            HeadIntervention.set(2, 3, pattern),
            HeadIntervention.knock_out(2, 3, keys=[1]),
        ],
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_do_what_a_plain_model_does(family: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer)
    ids, hf = model.tokenize(PROMPT).tolist(), hf_model(family)
    clean = Plain(hf)
    unmodified, cases = clean.logits(ids), changes_of(model)
    settings: Any
    for freeze, held in (("none", None), ("attention", clean.patterns)):
        settings = {"freeze": freeze, "keep_logits": "all"}
        outcomes = intervene_many(model, PROMPT, list(cases.values()), **settings)
        for (name, changes), out in zip(cases.items(), outcomes, strict=True):
            expected = Plain(hf, plain_edit(*changes, held=held)).logits(ids)
            np.testing.assert_allclose(out.after.logits, expected, atol=2e-5, err_msg=name)
            np.testing.assert_allclose(out.before.logits, unmodified, atol=2e-5)
            assert float((expected - unmodified).abs().max()) > 1e-3, name
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "qwen2", "neox-sequential"])
@pytest.mark.parametrize("settings", [{}, {"skip": True}, {"cross_layer": True}])
def test_with_all_held_the_frozen_model_is_what_runs(
    family: str, settings: Any, tokenizer: Any
) -> None:
    """Against an own pass with norms, MLPs and the changed patterns held."""
    model = tiny(family, tokenizer, **settings)
    record = model.record(PROMPT)
    every = [Feature(layer, 8, i) for layer in range(N_LAYERS) for i in range(40)]
    for changes in changes_of(model).values():
        out = intervene(model, PROMPT, changes, freeze="all", watch=every)
        edit = plain_edit(*changes)
        patterns = tuple(edit(i, p.clone()) for i, p in enumerate(record.patterns))
        writes = {
            i: record.writes[i] - layer.skip(record.reads[i])
            for i, layer in enumerate(model.transcoders.layers)
        }
        pre, logits = frozen_outputs(
            model, replace(record, patterns=patterns), record.embeddings, writes
        )
        found = np.array(list(out.after.pre_activations.values())).reshape(N_LAYERS, 40)
        np.testing.assert_allclose(found, pre[:, 8].numpy(), atol=2e-5)
        after = out.after.logits[-1] - out.after.logits[-1].mean()
        np.testing.assert_allclose(after, logits[-1].numpy(), atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "neox", "qwen3"])
def test_heads_and_features_together_in_one_batch(family: str, tokenizer: Any) -> None:
    model, hf = tiny(family, tokenizer), hf_model(family)
    ids = model.tokenize(PROMPT).tolist()
    heads = changes_of(model)["several"]
    set_to = [(1, 8, 3, 4.0), (2, 5, 7, -2.0)]
    features = [Intervention.set(Feature(*place), value) for *place, value in set_to]
    rows = [[*heads, *features], heads, features, [*features, *heads], []]
    outcomes = intervene_many(model, PROMPT, rows, freeze="none", keep_logits="all")
    edit = plain_edit(*heads)
    expected = [
        Plain(hf, edit, set_to, model.transcoders),
        Plain(hf, edit),
        Plain(hf, features=set_to, transcoders=model.transcoders),
        Plain(hf, edit, set_to, model.transcoders),
        Plain(hf),
    ]
    for out, plain in zip(outcomes, expected, strict=True):
        np.testing.assert_allclose(out.after.logits, plain.logits(ids), atol=3e-5)


@pytest.mark.parametrize("family", [*FAMILIES, "gemma2-window"])
def test_generated_tokens_are_looked_at_as_said(
    family: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads off everywhere, off from a place, and blind to a key; a window drops old keys."""
    name, config = FAMILIES["gemma2"]
    monkeypatch.setitem(FAMILIES, "gemma2-window", (name, {**config, "sliding_window": 4}))
    seen: list[Tensor] = []
    step = Patch.step

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = step(self, *args, **kwargs)
        seen.append(found[0])
        return found

    monkeypatch.setattr(Patch, "step", watched)
    model, hf = tiny(family, tokenizer), hf_model(family)
    model.bridge.original_model.generation_config.eos_token_id = None
    monkeypatch.setattr("circuit_nb.intervention.generation.end_tokens", lambda model: frozenset())
    ids = model.tokenize(PROMPT).tolist()
    cases = [
        [HeadIntervention.knock_out(1, 2)],
        [HeadIntervention.knock_out(0, 1, from_position=10)],
        [HeadIntervention.knock_out(1, 0, keys=[0, 7, 8], renormalize=True)],
        [HeadIntervention.knock_out(2, 1, from_position=8, keys=[6, 8])],
        [HeadIntervention.from_prompt(0, 2, model, SAME_LENGTH)],
        [HeadIntervention.knock_out(1, 1, positions=[3, 8])],
        [],
    ]
    outcomes = intervene_many(model, PROMPT, cases, freeze="none", max_new_tokens=4)
    steps = torch.stack(seen)
    for row, (changes, out) in enumerate(zip(cases, outcomes, strict=True)):
        expected = Plain(hf, plain_edit(*changes)).greedy(ids, 3)
        np.testing.assert_allclose(out.after.logits[-1], expected[0], atol=3e-5)
        np.testing.assert_allclose(steps[:, row], torch.stack(expected[1:]), atol=3e-5)
        assert list(out.after.generated) == [int(e.argmax()) for e in expected]
    ours = [out.after.logits[-1] for out in outcomes]
    assert np.abs(ours[1] - ours[-1]).max() < 1e-5  # not before the generated tokens
    assert float((steps[1:, 1] - steps[1:, -1]).abs().max()) > 1e-4


def test_generation_is_the_same_without_a_cache(tokenizer: Any) -> None:
    model = tiny("gemma2", tokenizer)
    changes = [
        HeadIntervention.knock_out(1, 2, keys=[3, 8], renormalize=True),
        HeadIntervention.knock_out(0, 1, from_position=10),
    ]
    cached = intervene(model, PROMPT, changes, max_new_tokens=5, temperature=1.5)
    model.cached.trusted = False
    anew = intervene(model, PROMPT, changes, max_new_tokens=5, temperature=1.5)
    assert cached.after.generated == anew.after.generated
    assert cached.before.generated == anew.before.generated


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny("llama", tokenizer)


_EYE = np.eye(9, dtype=np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HeadIntervention.knock_out(3, 0), "Layer 3 does not exist; layers are 0 to 2"),
        (lambda: HeadIntervention.knock_out(-1, 0), "layer is -1; give a whole number"),
        (lambda: HeadIntervention.knock_out(0, 4), "Head 4 does not exist; the heads of layer 0"),
        (lambda: HeadIntervention.knock_out(0, 1.5), "head is 1.5; give a whole number"),
        (lambda: HeadIntervention.knock_out(0, 0, positions=[]), "positions is empty"),
        (lambda: HeadIntervention.knock_out(0, 0, positions="8"), "positions is '8'"),
        (lambda: HeadIntervention.knock_out(0, 0, positions=[9]), "Position 9 does not exist"),
        (lambda: HeadIntervention.knock_out(0, 0, keys=[12]), "Position 12 does not exist"),
        (lambda: HeadIntervention.knock_out(0, 0, keys=[]), "keys is empty"),
        (lambda: HeadIntervention.knock_out(0, 0, from_position=-1), "from_position is -1"),
        (
            lambda: HeadIntervention.knock_out(0, 0, positions=[1], from_position=2),
            "positions or from_position, not both",
        ),
        (
            lambda: HeadIntervention.knock_out(0, 0, positions=[2, 3], keys=[4, 5]),
            "never looks from position 3 or before at position 4",
        ),
        (lambda: HeadIntervention.knock_out(0, 0, renormalize=True), "renormalize needs keys"),
        (lambda: HeadIntervention.set(0, 0, _EYE[:4, :4]), "has 4 rows, but this prompt has 9"),
        (lambda: HeadIntervention.set(0, 0, _EYE, positions=[1]), r"has shape \(9, 9\)"),
        (lambda: HeadIntervention.set(0, 0, _EYE[0]), r"has shape \(9,\)"),
        (lambda: HeadIntervention.set(0, 0, _EYE * np.nan), "holds NaN or infinity"),
        (lambda: HeadIntervention.set(0, 0, np.ones((9, 9))), "looks at later tokens"),
        (lambda: HeadIntervention.set(0, 0, [[1.0], [1.0, 2.0]]), "no table of numbers"),
        (lambda: HeadIntervention.set(0, 0, "pattern"), "no table of numbers"),
    ],
)
def test_bad_head_interventions_are_said(make: Any, message: str, model: Any) -> None:
    with pytest.raises(ValueError, match=message) as told:
        intervene(model, PROMPT, [make()])
    assert len(str(told.value)) < 300
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())


def test_a_pattern_of_another_prompt_needs_its_places(model: Any) -> None:
    longer = HeadIntervention.from_prompt(0, 0, model, OTHER)
    with pytest.raises(ValueError, match="has 10 rows, but this prompt has 9 tokens"):
        intervene(model, PROMPT, [longer])
    with pytest.raises(ValueError, match="Position 10 does not exist in this prompt of 10"):
        HeadIntervention.from_prompt(0, 0, model, OTHER, positions=[10])
    with pytest.raises(ValueError, match="Head 9 does not exist"):
        HeadIntervention.from_prompt(0, 9, model, OTHER)
    last = HeadIntervention.from_prompt(0, 0, model, OTHER, positions=[9])
    with pytest.raises(ValueError, match="Position 9 does not exist in this prompt of 9"):
        intervene(model, PROMPT, [last])


def test_a_pattern_is_taken_as_it_is(model: Any) -> None:
    """The prompt's own pattern changes nothing, given as array, tensor or from the prompt."""
    own = model.record(PROMPT).patterns[1][2]
    for same in (
        HeadIntervention.from_prompt(1, 2, model, PROMPT),
        HeadIntervention.set(1, 2, own),
        HeadIntervention.set(1, 2, own.numpy()[[4, 8]], positions=np.array([4, 8])),
    ):
        out = intervene(model, PROMPT, [same])
        np.testing.assert_allclose(out.after.logits, out.before.logits, atol=1e-6)


def test_head_interventions_are_told_in_words(model: Any) -> None:
    assert str(HeadIntervention.knock_out(2, 5)) == "head 2.5 knocked out"
    told = str(HeadIntervention.knock_out(2, 5, positions=[9], keys=[4], renormalize=True))
    assert told == "head 2.5 not looking at 4 at 9 (renormalized)"
    told = str(HeadIntervention.knock_out(0, 1, from_position=3))
    assert told == "head 0.1 knocked out from 3 on"
    assert str(HeadIntervention.set(0, 1, _EYE)) == "head 0.1 with another pattern"
    change = HeadIntervention.knock_out(1, 0)
    assert "head 1.0 knocked out" in repr(intervene(model, PROMPT, [change]))

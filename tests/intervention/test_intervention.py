"""Interventions: against circuit-tracer, against the graph's own prediction, and in generation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from families import PROMPT, Case, tiny

from circuit_nb import Feature, Intervention, Supernode, attribute, intervene
from circuit_nb.graph import TargetNode
from circuit_nb.intervention import intervene_many

MODES = {"direct": "all", "frozen": "attention", "free": "none"}


@pytest.mark.parametrize("mode", MODES)
def test_agrees_with_circuit_tracer(case: Case, case_model: Any, mode: str) -> None:
    data = case.data
    changes = [
        Intervention.set(Feature(int(layer), int(position), int(index)), value)
        for layer, position, index, value in data["iv.spec"]
    ]
    shape = data["base.activations"].shape
    every = [Feature(*map(int, place)) for place in np.ndindex(shape)]
    out = intervene(
        case_model,
        case.settings["prompt"],
        changes,
        freeze=MODES[mode],
        watch=every,
        keep_logits="all",
    )
    # Nothing is read on the ignored first position, where ours says 0.
    shown = out.after.pre_activations if mode == "direct" else out.after.activations
    values = np.array([shown[f] for f in every]).reshape(shape)
    np.testing.assert_allclose(out.before.logits, data["base.logits"], atol=1e-4)
    np.testing.assert_allclose(out.after.logits, data[f"iv.{mode}.logits"], atol=1e-4)
    np.testing.assert_allclose(values[:, 1:], data[f"iv.{mode}.activations"][:, 1:], atol=1e-4)
    before = np.array([out.before.activations[f] for f in every]).reshape(shape)
    np.testing.assert_allclose(before, data["base.activations"], atol=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "llama", "gpt2", "neox"])
@pytest.mark.parametrize("settings", [{}, {"cross_layer": True}, {"skip": True}])
def test_everything_frozen_gives_the_change_the_graph_predicts(
    family: str, settings: dict[str, Any], tokenizer: Any
) -> None:
    model = tiny(family, tokenizer, **settings)
    graph = attribute(model, PROMPT, targets=[10], max_features=None, progress=False)
    features = [n for n in graph.nodes if isinstance(n, Feature)]
    strength = np.abs(graph.weights[-1, : len(features)])
    source = features[int(strength.argmax())]
    out = intervene(model, PROMPT, [Intervention.scale(source, 3.0)], freeze="all", watch=features)
    predicted = 2 * graph.outputs(source)
    changes = [out.after.pre_activations[f] - out.before.pre_activations[f] for f in features]
    mean_logit = [p.logits[-1].mean() for p in (out.before, out.after)]
    if family != "gemma2":  # its final softcap is not linear
        changes.append(
            out.after.logits[-1, 10] - out.before.logits[-1, 10] - (mean_logit[1] - mean_logit[0])
        )
    gap = np.abs(np.array(changes) - predicted[: len(changes)]).max()
    assert np.abs(predicted).max() > 1e-3
    assert gap < 1e-5 * max(1.0, float(np.abs(predicted).max()))
    assert graph.number(TargetNode(0)) == graph.n_nodes - 1


def _active(model: Any, layer: int | None = None) -> list[Feature]:
    rows = model.record(PROMPT).features.tolist()
    return [Feature(*r) for r in rows if layer is None or r[0] == layer]


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny("llama", tokenizer)


def test_ablate_scale_and_set_say_the_same_in_other_words(model: Any) -> None:
    feature = _active(model)[7]
    off = intervene(model, PROMPT, [Intervention.ablate(feature)], watch=[feature])
    same = [
        Intervention.scale(feature, 0.0),
        Intervention.set(feature, 0.0),
        Intervention.ablate(Supernode("one", [feature])),
    ]
    for change in same:
        other = intervene(model, PROMPT, [change])
        np.testing.assert_array_equal(other.after.logits, off.after.logits)
    current = off.before.activations[feature]
    double = intervene(model, PROMPT, [Intervention.scale(feature, 2.0)])
    given = intervene(model, PROMPT, [Intervention.set(feature, 2 * current)])
    np.testing.assert_allclose(double.after.logits, given.after.logits, atol=1e-6)
    nothing = intervene(model, PROMPT, [Intervention.scale(feature, 1.0)])
    np.testing.assert_allclose(nothing.after.logits, nothing.before.logits, atol=1e-5)


def test_where_two_name_a_feature_the_last_wins(model: Any) -> None:
    feature = _active(model)[0]
    both = [Intervention.set(feature, 5.0), Intervention.set(feature, -1.0)]
    a, b = intervene(model, PROMPT, both), intervene(model, PROMPT, both[1:])
    np.testing.assert_array_equal(a.after.logits, b.after.logits)


def test_an_inactive_feature_can_be_given_a_value(model: Any) -> None:
    active = set(_active(model))
    feature = next(f for i in range(40) if (f := Feature(1, 5, i)) not in active)
    scaled = intervene(model, PROMPT, [Intervention.scale(feature, 9.0)])
    np.testing.assert_allclose(scaled.after.logits, scaled.before.logits, atol=1e-5)
    given = intervene(model, PROMPT, [Intervention.set(feature, 9.0)], watch=[feature])
    assert np.abs(given.after.logits - given.before.logits).max() > 1e-3
    assert math.isnan(given.fraction(feature))


def test_values_from_another_prompts_graph_at_another_position(model: Any) -> None:
    other = attribute(model, "<bos> the big river in Texas is", max_features=None, progress=False)
    features = [n for n in other.nodes if isinstance(n, Feature) and n.position == 5][:2]
    values = [float(other.activations[other.number(f)]) for f in features]
    group = Supernode("Texas", features)
    moved = intervene(model, PROMPT, [Intervention.from_graph(group, other, 2.0, positions=[7])])
    by_hand = [
        Intervention.set(Feature(f.layer, 7, f.index), 2 * v)
        for f, v in zip(features, values, strict=True)
    ]
    expected = intervene(model, PROMPT, by_hand)
    np.testing.assert_allclose(moved.after.logits, expected.after.logits, atol=1e-6)
    with pytest.raises(ValueError, match="not in this graph"):
        Intervention.from_graph(Feature(0, 1, 39), attribute(model, PROMPT, max_features=0))


def test_many_in_one_pass_are_the_same_as_one_by_one(model: Any) -> None:
    features = _active(model)[:6]
    experiments = [[Intervention.ablate(f)] for f in features] + [[]]
    together = intervene_many(model, PROMPT, experiments, watch=features, max_new_tokens=4)
    for changes, outcome in zip(experiments, together, strict=True):
        alone = intervene(model, PROMPT, changes, watch=features, max_new_tokens=4)
        np.testing.assert_allclose(outcome.after.logits, alone.after.logits, atol=1e-5)
        assert outcome.after.generated == alone.after.generated
        for f in features:
            assert outcome.after.activations[f] == pytest.approx(
                alone.after.activations[f], abs=1e-5
            )


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "neox"])
def test_cached_generation_equals_running_every_prefix_anew(family: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer)
    feature = max(_active(model), key=lambda f: (f.position == 8, f.layer))
    change = Intervention.set(feature, 6.0, from_position=4)
    out = intervene(model, PROMPT, [change], freeze="none", max_new_tokens=5)
    ids = model.tokenize(PROMPT).tolist()
    for token in out.after.generated:
        step = intervene(model, ids, [change], freeze="none")
        assert int(step.after.logits[-1].argmax()) == token
        ids.append(token)
    assert len(out.after.generated) + len(out.before.generated) > 0
    plain = model.tokenize(PROMPT).tolist()
    for token in out.before.generated:
        assert int(model.record(plain).logits[-1].argmax()) == token
        plain.append(token)


def test_sampling_uses_the_same_random_numbers_before_and_after(model: Any) -> None:
    same = intervene(model, PROMPT, [], max_new_tokens=6, temperature=2.0, seed=3)
    assert same.before.generated == same.after.generated
    other = intervene(model, PROMPT, [], max_new_tokens=6, temperature=2.0, seed=4)
    assert other.before.generated != same.before.generated


def test_top_probabilities_and_fractions(model: Any) -> None:
    a, b = _active(model, 0)[:2]
    change = [Intervention.scale(a, 0.5), Intervention.scale(b, 0.0)]
    out = intervene(model, PROMPT, change, freeze="all", watch=[a, b], top_k=3)
    assert len(out.after.top) == 3
    token, probability = out.after.top[0]
    assert out.after.probability(token) == pytest.approx(probability, rel=1e-5)
    assert out.before.probabilities.sum() == pytest.approx(1, rel=1e-5)
    # Nothing above a layer-0 feature reaches it, so its own reading is unchanged by the edit.
    assert out.fraction(Supernode("both", [a, b])) == pytest.approx(1)
    with pytest.raises(ValueError, match="was not watched"):
        out.fraction(Feature(2, 2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [Intervention.ablate(Feature(3, 1, 0))], "Layer 3 does not exist"),
        (lambda: [Intervention.ablate(Feature(-1, 1, 0))], "Layer -1 does not exist"),
        (lambda: [Intervention.ablate(Feature(0, 9, 0))], "Position 9 does not exist"),
        (lambda: [Intervention.ablate(Feature(0, 1, 40))], "index 40 does not exist at layer 0"),
        (lambda: [Intervention.ablate(Feature(0, 0, 1))], "is the special token"),
        (lambda: [Intervention.set(Feature(0, 1, 1), float("nan"))], "not a finite number"),
        (lambda: [Intervention.set(Feature(0, 1, 1), [1.0, 2.0])], "2 values were given"),
        (
            lambda: [Intervention.ablate(Feature(0, 1, 1), positions=[1], from_position=2)],
            "not both",
        ),
        (lambda: [Intervention.ablate(Feature(0, 1, 1), from_position=-2)], "from_position is -2"),
    ],
)
def test_bad_interventions_are_said(make: Any, message: str, model: Any) -> None:
    with pytest.raises(ValueError, match=message):
        intervene(model, PROMPT, make())
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"freeze": "some"}, "freeze is 'some'"),
        ({"top_k": 0}, "top_k is 0"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"watch": [Feature(0, 99, 0)]}, "Position 99 does not exist"),
    ],
)
def test_bad_settings_are_said(setting: dict[str, Any], message: str, model: Any) -> None:
    with pytest.raises(ValueError, match=message):
        intervene(model, PROMPT, [], **setting)


def test_the_model_is_clean_after_a_failed_pass(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature = _active(model)[0]
    expected = model.run(model.tokenize(PROMPT)[None])
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="on purpose"):

        def fail(*args: Any) -> None:
            raise RuntimeError("on purpose")

        patch.setattr("circuit_nb.intervention.hooks.Patch._add", fail)
        intervene(model, PROMPT, [Intervention.ablate(feature)])
    torch.testing.assert_close(model.run(model.tokenize(PROMPT)[None]), expected)


def test_ties_are_told_in_the_same_order_everywhere() -> None:
    from circuit_nb.intervention import most_likely

    flat = np.full(8, 0.1, dtype=np.float32)
    flat[5] = 0.3
    for noise in (1e-8, -1e-8):
        shaken = flat + np.linspace(0, noise, 8, dtype=np.float32)
        assert most_likely(shaken, 4).tolist() == [5, 0, 1, 2]
    assert most_likely(flat, 99).tolist() == [5, 0, 1, 2, 3, 4, 6, 7]
    clear = np.array([0.1, 0.1001, 0.5], dtype=np.float32)
    assert most_likely(clear, 3).tolist() == [2, 1, 0]

"""The record that is kept goes when what it depends on changes, and says the right prompt."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from families import D_MODEL, PROMPT, hf_model, tiny, transcoders

from circuit_nb import Feature, Supernode, attribute, load


def _scaled(name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        with torch.no_grad():
            dict(model.bridge.original_model.named_parameters())[name].mul_(1.5)

    return change


def _parameter(model: Any, part: str) -> torch.nn.Parameter:
    named = model.bridge.original_model.named_parameters()
    return next(p for name, p in named if part in name and p.ndim == 2)


def _through_data(model: Any) -> None:
    _parameter(model, "down_proj").data.mul_(1.5)


def _replaced_data(model: Any) -> None:
    weight = _parameter(model, "o_proj")
    weight.data = 2 * weight.data


def _loaded(model: Any) -> None:
    other = hf_model("llama", seed=7)
    mine = dict(model.bridge.original_model.named_parameters())
    given = sorted(p.shape for p in other.parameters())
    assert given == sorted(p.shape for p in mine.values())
    with torch.no_grad():
        for (_, into), weight in zip(mine.items(), _like(other, mine), strict=True):
            into.copy_(weight)


def _like(other: Any, mine: dict[str, Any]) -> list[torch.Tensor]:
    """Another model's weights in the order of shapes that a bridge has them in."""
    left = list(other.parameters())
    found = []
    for parameter in mine.values():
        at = next(i for i, p in enumerate(left) if p.shape == parameter.shape)
        found.append(left.pop(at))
    return found


def _threshold(model: Any) -> None:
    model.transcoders.layers[1].threshold.add_(0.5)


def _encoder_through_data(model: Any) -> None:
    model.transcoders.layers[0].W_enc.data.mul_(0.5)


CHANGES: dict[str, Callable[[Any], None]] = {
    "a weight in place": lambda m: _parameter(m, "down_proj").requires_grad_(False).mul_(1.5),
    "through .data": _through_data,
    "other .data": _replaced_data,
    "weights loaded": _loaded,
    "a threshold": _threshold,
    "an encoder through .data": _encoder_through_data,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_goes_when_the_model_changes(change: str, tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    before = model.record(PROMPT)
    old = attribute(model, PROMPT, targets=[10], max_features=None, progress=False)
    assert model.record(PROMPT) is before
    CHANGES[change](model)
    after = model.record(PROMPT)
    assert after is not before
    # What a model opened now would say, it says too: nothing is kept of the old weights.
    graph = attribute(model, PROMPT, targets=[10], max_features=None, progress=False)
    fresh = type(model)(model.bridge, model.transcoders)
    expected = attribute(fresh, PROMPT, targets=[10], max_features=None, progress=False)
    np.testing.assert_array_equal(graph.weights, expected.weights)
    assert graph.weights.shape != old.weights.shape or (graph.weights != old.weights).any()
    assert model.record(PROMPT) is model.record(PROMPT)


def test_other_transcoders_are_other_features(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    before = model.record(PROMPT)
    model.transcoders = transcoders(seed=5)
    after = model.record(PROMPT)
    assert after.features.tolist() != before.features.tolist()
    assert model.record(PROMPT) is after
    too_few = replace(model.transcoders, layers=model.transcoders.layers[:2])
    with pytest.raises(ValueError, match="are for 2 layers"):
        model.transcoders = too_few
    assert model.record(PROMPT) is after


def test_another_type_or_place_of_the_weights_is_noticed(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    before = model.record(PROMPT)
    model.bridge.to(torch.bfloat16)
    after = model.record(PROMPT)
    assert after is not before and after.next_logits.dtype == torch.bfloat16
    assert model.blocks[0].W_O.dtype == model.dtype == torch.bfloat16


def test_weights_processed_after_opening_are_refused(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    model.record(PROMPT)
    model.bridge.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(ValueError, match=r"weights were processed.*no_processing=True"):
        attribute(model, PROMPT, progress=False)


def test_one_prompts_text_is_not_anothers(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    short = PROMPT.removeprefix("<bos> ")
    assert model.tokenize(short).tolist() == model.tokenize(PROMPT).tolist()
    assert model.record(PROMPT).prompt == PROMPT
    assert model.record(short).prompt == short
    assert attribute(model, short, progress=False).prompt == short
    ids = model.tokenize(PROMPT).tolist()
    assert model.record(ids).prompt == tokenizer.decode(ids)
    first, second = model.record(short), model.record(PROMPT)
    assert first.patterns is second.patterns  # the pass is the same, and was run once


def test_a_record_does_not_keep_the_model(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    record = model.record(PROMPT)
    logits = record.logits
    kept = model.record([1, 4, 5])
    gone = weakref.ref(model), weakref.ref(model.bridge.original_model)
    del model
    gc.collect()
    assert gone[0]() is None and gone[1]() is None
    assert torch.equal(record.logits, logits)
    with pytest.raises(RuntimeError, match=r"model, which is gone.*next_logits"):
        _ = kept.logits
    torch.testing.assert_close(logits[-1], record.next_logits)


def test_activations_are_those_of_the_graph_and_of_features_outside_it(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    graph = attribute(model, PROMPT, max_features=20, progress=False)
    rows = graph.features.tolist()
    np.testing.assert_array_equal(model.activations(PROMPT, graph.features), graph.activations)
    np.testing.assert_array_equal(
        model.activations(PROMPT, [Feature(*row) for row in rows]), graph.activations
    )
    group = Supernode("some", rows[:3])
    assert model.activations(PROMPT, group).tolist() == graph.activations[:3].tolist()
    record = model.record(PROMPT)
    every = model.activations(PROMPT, [Feature(1, 4, i) for i in range(40)])
    t = model.transcoders.layers[1]
    expected = t.activate(t.pre_activations(record.reads[1][4]))
    np.testing.assert_allclose(every, expected.numpy(), atol=1e-6)
    assert every.dtype == np.float32 and (every == 0).any() and (every != 0).any()
    at_bos = model.activations(PROMPT, [Feature(0, 0, i) for i in range(40)])
    assert not at_bos.any()
    assert model.activations(PROMPT, []).shape == (0,)
    assert model.activations(PROMPT, Feature(*rows[0])).shape == (1,)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (Feature(3, 1, 0), "Layer 3 does not exist"),
        (Feature(0, 9, 0), "Position 9 does not exist in this prompt of 9 tokens"),
        (Feature(0, 1, 40), "index 40 does not exist"),
        ((0, 1.5, 3), r"position is 1\.5; give a whole number"),
    ],
)
def test_activations_of_what_is_not_there_are_refused(
    feature: Any, message: str, tokenizer: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("llama", tokenizer).activations(PROMPT, [feature])


def test_one_pass_and_no_attribution_for_activations(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama", tokenizer)
    runs: list[int] = []
    real = type(model).run

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        runs.append(1)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "run", run)
    model.activations(PROMPT, [Feature(0, 2, 3), Feature(2, 5, 7)])
    assert runs == [1]


def test_the_callers_weights_are_watched_too(tokenizer: Any) -> None:
    """A model in memory shares its weights: what is trained further is noticed."""
    hf = hf_model("llama")
    model = load(hf, transcoders(), tokenizer=tokenizer)
    before = model.record(PROMPT)
    with torch.no_grad():
        hf.model.layers[0].mlp.down_proj.weight.add_(0.1)
    after = model.record(PROMPT)
    assert not torch.equal(after.next_logits, before.next_logits)
    own = hf(after.token_ids[None]).logits[0, -1]
    torch.testing.assert_close(after.next_logits, own, atol=1e-5, rtol=0)
    assert len(model.mean_unembedding) == D_MODEL

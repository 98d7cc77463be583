"""Generated tokens see everything before them, with a key-value cache and without one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from families import FAMILIES, tiny
from transformers.cache_utils import Cache

from circuit_nb import Feature, Intervention, attribute, intervene
from circuit_nb.intervention.hooks import Edit, Patch

IDS = [1, 5, 9, 12, 7]
N = 8


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, tokenizer: Any) -> Any:
    return tiny(request.param, tokenizer)


def greedy(model: Any, next_logits: Callable[[list[int]], torch.Tensor]) -> tuple[int, ...]:
    """N tokens, each from a pass over everything before it."""
    ids = list(IDS)
    for _ in range(N):
        token = int(next_logits(ids).argmax())
        if token == model.tokenizer.eos_token_id:
            break
        ids.append(token)
    return tuple(ids[len(IDS) :])


def plain(model: Any) -> tuple[int, ...]:
    return greedy(model, lambda ids: model.run(torch.tensor([ids]))[0, -1])


def hooks_on(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.bridge.modules())


@contextmanager
def said() -> Iterator[list[str]]:
    """What is warned of within, in a list that fills at the end."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += [str(w.message) for w in caught]


# How a release can part cache and attention: every one keeps the model itself right.
UPDATE = Cache.update


def keeps_nothing(self: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
    return k, v


def keeps_first_layer(self: Any, k: Any, v: Any, layer: int, *args: Any, **kwargs: Any) -> Any:
    return UPDATE(self, k, v, layer, *args, **kwargs) if layer == 0 else (k, v)


def hands_back_the_new_only(self: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
    UPDATE(self, k, v, *args, **kwargs)
    return k, v


def swaps_positions(self: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
    keys, values = UPDATE(self, k, v, *args, **kwargs)
    return (keys, values) if k.shape[-2] > 1 else (keys, values.flip(-2))


def forgets_later(self: Any, k: Any, v: Any, layer: int, *args: Any, **kwargs: Any) -> Any:
    """Right for three tokens, then nothing is kept."""
    late = self.get_seq_length(layer) > len(IDS) + 2
    return (k, v) if late else UPDATE(self, k, v, layer, *args, **kwargs)


BREAKS = [
    keeps_nothing,
    keeps_first_layer,
    hands_back_the_new_only,
    swaps_positions,
    forgets_later,
]


def test_a_token_is_what_a_pass_over_everything_before_it_says(model: Any) -> None:
    model.run(torch.tensor([IDS]))  # transformers hangs its own hooks at the first pass
    before = hooks_on(model)
    with said() as texts:
        out = intervene(model, IDS, [], max_new_tokens=N)
    assert out.before.generated == out.after.generated == plain(model)
    assert model.cached.trusted, "the cache is in use"
    assert not texts, "nothing of other libraries either"
    assert hooks_on(model) == before


def test_edits_from_a_position_on_are_those_of_a_longer_prompt(model: Any) -> None:
    graph = attribute(model, IDS, progress=False)
    strongest = Feature(*graph.features[abs(graph.activations).argmax()].tolist())
    changes = [
        Intervention.set(strongest, 40.0, from_position=2),
        Intervention.ablate(Feature(1, 3, 5), from_position=len(IDS) + 1),
    ]

    def next_logits(ids: list[int]) -> torch.Tensor:
        there = [c for c in changes if (c.from_position or 0) < len(ids)]
        return torch.tensor(intervene(model, ids, there, freeze="none").after.logits[-1])

    out = intervene(model, IDS, changes, freeze="none", max_new_tokens=N)
    assert model.cached.trusted
    assert out.after.generated == greedy(model, next_logits)


@pytest.mark.parametrize("freeze", ["attention", "all", "none"])
def test_a_step_equals_a_pass_anew(model: Any, freeze: str) -> None:
    edits = [
        Edit(0, Feature(0, 2, 3), 8.0, relative=False),
        Edit(0, Feature(1, 4, 5), 3.0, relative=True),
        Edit(0, Feature(2, 3, 7), 9.0, relative=False, generated=True),
        Edit(0, Feature(1, len(IDS) + 1, 2), 6.0, relative=False, generated=True),
    ]
    patch = Patch(model, model.record(IDS), edits, freeze=freeze, watched=[])
    _, cache = patch.run(2, keep_cache=True)
    tokens = torch.tensor([[4, 9, 3, 11], [6, 2, 8, 13]])
    for i in range(tokens.shape[1]):
        assert cache is not None
        logits, cache = patch.step(tokens[:, i], len(IDS) + i, cache)
        anew = patch.anew(tokens[:, : i + 1])
        torch.testing.assert_close(logits, anew, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("broken", BREAKS)
def test_a_cache_that_is_lost_is_done_without(
    model: Any, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = [Intervention.set(Feature(1, 3, 5), 40.0, from_position=2)]
    expected = intervene(model, IDS, change, max_new_tokens=N)
    assert model.cached.trusted
    model.cached = type(model.cached)(model.bridge, model.name)
    before = hooks_on(model)
    monkeypatch.setattr(Cache, "update", broken)
    with said() as texts:
        outcomes = [intervene(model, IDS, change, max_new_tokens=N) for _ in range(2)]
    for out in outcomes:
        assert out.before.generated == expected.before.generated
        assert out.after.generated == expected.after.generated
    assert len(texts) == 1 and "\n" not in texts[0]
    assert f"transformers {transformers.__version__}" in texts[0]
    assert "TransformerLens 4." in texts[0]
    assert hooks_on(model) == before


def test_a_cache_that_cannot_be_made_is_done_without(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renamed(*args: Any, **kwargs: Any) -> Any:
        raise TypeError("no argument 'config'")

    model = tiny("llama", tokenizer)
    monkeypatch.setattr("transformers.DynamicCache", renamed)
    with pytest.warns(UserWarning, match="does not work with transformers"):
        out = intervene(model, IDS, [], max_new_tokens=N)
    assert out.after.generated == plain(model)


def test_an_error_that_is_no_fault_of_the_cache_gives_nothing_up(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)

    def wrong(tensor: Any, hook: Any) -> Any:
        raise TypeError("a hook's own")

    patch = Patch(model, model.record(IDS), [], freeze="none", watched=[])
    patch._prompt_hooks = lambda: [("hook_embed", wrong)]
    with said() as texts, pytest.raises(TypeError, match="a hook's own"):
        patch.run(1, keep_cache=True)
    assert model.cached.trusted and not texts


def test_a_length_is_compared_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama", tokenizer)
    passes: list[int] = []
    anew = Patch.anew

    def counted(self: Patch, tokens: torch.Tensor) -> torch.Tensor:
        passes.append(self.record.positions)
        return anew(self, tokens)

    monkeypatch.setattr(Patch, "anew", counted)
    for ids in (IDS, IDS, IDS[:3], [*IDS, 8], IDS):
        intervene(model, ids, [], max_new_tokens=4)
    assert passes == [5, 6]


def test_past_the_sliding_window(tokenizer: Any) -> None:
    """Gemma's sliding layers keep less than was fed; what they say is that of a longer prompt."""
    from families import hf_model, transcoders

    from circuit_nb import load

    for family in ("gemma2", "gemma3"):
        hf = hf_model(family)
        hf.config.sliding_window = 4
        for module in hf.modules():
            if getattr(module, "sliding_window", None):
                module.sliding_window = 4
        model = load(hf, transcoders(), tokenizer=tokenizer, device="cpu")
        out = intervene(model, IDS, [], max_new_tokens=N)
        assert model.cached.trusted
        assert out.after.generated == plain(model)


def test_bfloat16_is_compared_as_coarsely_as_it_rounds(tokenizer: Any) -> None:
    from families import hf_model, transcoders

    from circuit_nb import load

    for family in FAMILIES:
        kept = {"tokenizer": tokenizer, "device": "cpu", "dtype": torch.bfloat16}
        model = load(hf_model(family), transcoders(), **kept)
        with said() as texts:
            intervene(model, IDS, [], max_new_tokens=N)
        assert model.cached.trusted and not texts


def test_each_generated_token_comes_with_its_probability(model: Any) -> None:
    graph = attribute(model, IDS, max_features=20)
    change = Intervention.scale(Feature(*graph.features[-1].tolist()), -3.0)
    for temperature in (0.0, 1.5):
        outcome = intervene(model, IDS, [change], max_new_tokens=4, temperature=temperature)
        said = outcome.before.generated_probabilities
        assert said.shape == (len(outcome.before.generated),)
        assert outcome.after.generated_probabilities.shape == (len(outcome.after.generated),)
        for i, token in enumerate(outcome.before.generated):
            text = torch.tensor([[*IDS, *outcome.before.generated[:i]]])
            share = float(model.run(text)[0, -1].float().softmax(-1)[token])
            assert said[i] == pytest.approx(share, abs=1e-5)
        first = outcome.after.generated[0]
        assert outcome.after.generated_probabilities[0] == pytest.approx(
            outcome.after.probability(first), abs=1e-5
        )
    assert intervene(model, IDS, []).before.generated_probabilities.shape == (0,)

"""Interventions that last: where ranges overlap, and where a continuation ends."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from families import PROMPT, hf_model, tiny, transcoders

from circuit_nb import Feature, Intervention, intervene, load
from circuit_nb.intervention.edits import edits_of
from circuit_nb.intervention.hooks import Patch


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny("llama", tokenizer)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The logits of every generated token's pass, (rows, vocab), as they are computed."""
    seen: list[Any] = []
    step = Patch.step

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = step(self, *args, **kwargs)
        seen.append(found[0].numpy())
        return found

    monkeypatch.setattr(Patch, "step", watched)
    return seen


def _at_last(model: Any) -> Feature:
    """A feature active at the last token, in the last layer: nothing reads what it writes."""
    rows = model.record(PROMPT).features.tolist()
    return Feature(*max(rows, key=lambda row: (row[1] == 8, row[0])))


def _later(f: Feature, start: int) -> list[Intervention]:
    return [
        Intervention.set(f, 9.0, from_position=2),
        Intervention.ablate(f, from_position=start),
    ]


@pytest.mark.parametrize("start", [2, 5, 9, 10])
def test_where_ranges_overlap_the_last_wins_in_generation_too(
    start: int, model: Any, steps: list[Any]
) -> None:
    """The same written without an overlap: what the first one does before the second begins."""
    f, n = _at_last(model), 9
    both = intervene(model, PROMPT, _later(f, start), max_new_tokens=4)
    found = np.stack(steps)
    steps.clear()
    alone = [
        Intervention.set(f, 9.0, positions=range(2, min(start, n))) if start > 2 else None,
        Intervention.ablate(f, from_position=start),
    ]
    apart = intervene(model, PROMPT, [c for c in alone if c], max_new_tokens=4)
    np.testing.assert_array_equal(both.after.logits, apart.after.logits)
    if start <= n:  # From the first generated token on, only the second is left.
        assert both.after.generated == apart.after.generated
        np.testing.assert_allclose(found, np.stack(steps), atol=1e-5)
    else:  # The first still holds at the first generated token.
        assert np.abs(found[0, 0] - np.stack(steps)[0, 0]).max() > 1e-3


def test_two_lasting_ablations_are_one(model: Any, steps: list[Any]) -> None:
    """Added up, they would turn a feature around."""
    f = _at_last(model)
    off = [Intervention.ablate(f, from_position=start) for start in (1, 4)]
    intervene(model, PROMPT, off, max_new_tokens=4)
    found = np.stack(steps)
    steps.clear()
    intervene(model, PROMPT, off[:1], max_new_tokens=4)
    np.testing.assert_allclose(found, np.stack(steps), atol=1e-6)


def test_each_edit_ends_where_a_later_one_begins(model: Any) -> None:
    f, record = Feature(1, 5, 3), model.record(PROMPT)
    starts = (6, 12, 3, 20, 20)
    changes = [Intervention.set(f, i, from_position=s) for i, s in enumerate(starts)]
    lasting = [e for e in edits_of(model, record, [changes]) if e.generated]
    for position in range(40):
        holding = [e.value for e in lasting if e.feature.position <= position < e.until]
        expected = [i for i, start in enumerate(starts) if start <= position]
        assert holding == expected[-1:]


def _said(model: Any) -> tuple[int, ...]:
    """Six tokens, sampled so that they are not all the same."""
    out = intervene(model, PROMPT, [], max_new_tokens=6, temperature=2.0, seed=3)
    assert out.after.generated == out.before.generated
    return out.before.generated


@pytest.mark.parametrize("written", [list, tuple, int])
def test_every_end_token_of_the_generation_config_ends_a_text(written: Any, tokenizer: Any) -> None:
    """A chat model's end of turn is not the tokenizer's end of text."""
    said = _said(tiny("llama", tokenizer))
    end = next(t for t in said if t != said[0])
    assert end != tokenizer.eos_token_id
    hf = hf_model("llama")
    hf.generation_config.eos_token_id = end if written is int else written([2, end])
    model = load(hf, transcoders(), tokenizer=tokenizer, device="cpu")
    assert _said(model) == said[: said.index(end)]


def test_a_tokenizers_end_of_text_still_ends_one(tokenizer: Any) -> None:
    said = _said(tiny("llama", tokenizer))
    end = next(t for t in said if t != said[0])
    own = copy.deepcopy(tokenizer)
    own.eos_token = own.convert_ids_to_tokens(end)
    model = tiny("llama", own)
    model.bridge.original_model.generation_config.eos_token_id = None
    assert _said(model) == said[: said.index(end)]


def test_values_that_overflow_in_generation_only_are_refused(model: Any) -> None:
    f = _at_last(model)
    change = Intervention.set(f, 3e38, from_position=9)
    assert intervene(model, PROMPT, [change]).after.top
    with pytest.raises(ValueError, match="produced NaN or infinity"):
        intervene(model, PROMPT, [change], max_new_tokens=2)
    torch.testing.assert_close(
        model.run(model.tokenize(PROMPT)[None])[0, -1], model.record(PROMPT).next_logits
    )

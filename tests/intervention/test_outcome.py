"""Results are data: what they keep, and how they are shown."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from families import PROMPT, VOCAB, tiny
from made import HOSTILE

from circuit_nb import Feature, Intervention, Outcome, Supernode, intervene, intervene_many
from circuit_nb.intervention import Prediction


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny("llama", tokenizer)


def _outcome(model: Any, **settings: Any) -> Outcome:
    rows = model.record(PROMPT).features.tolist()
    features = [Feature(*row) for row in rows[5:30]]
    change = Intervention.scale(Supernode("some", features), -3)
    return intervene(model, PROMPT, [change], watch=features, **settings)


def test_an_outcome_keeps_no_model_alive(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    out = _outcome(model, max_new_tokens=2)
    token, probability = out.after.top[0]
    gone = weakref.ref(model), weakref.ref(model.bridge), weakref.ref(model.blocks[0].W_O)
    del model
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]
    assert out.after.probability(token) == pytest.approx(probability)
    with pytest.raises(ValueError, match="no token for 'Atlantis'"):
        out.after.probability(" Atlantis")
    with pytest.raises(ValueError, match="Token id 99 is not in the vocabulary"):
        out.after.probability(99)


def test_an_outcome_can_be_copied(model: Any) -> None:
    out = _outcome(model)
    again = copy.deepcopy(out)
    np.testing.assert_array_equal(again.after.logits, out.after.logits)
    token, probability = out.after.top[0]
    assert again.after.probability(token) == pytest.approx(probability)
    assert repr(again) == repr(out)


def test_logits_are_those_of_the_last_position_unless_asked_for_all(model: Any) -> None:
    last, every = _outcome(model), _outcome(model, keep_logits="all")
    for one, all_of_it in ((last.before, every.before), (last.after, every.after)):
        assert one.logits.shape == (1, VOCAB)
        assert all_of_it.logits.shape == (model.record(PROMPT).positions, VOCAB)
        np.testing.assert_allclose(one.logits[-1], all_of_it.logits[-1], atol=1e-6)
        np.testing.assert_allclose(one.probabilities, all_of_it.probabilities, atol=1e-6)
    continued = _outcome(model, max_new_tokens=2)
    np.testing.assert_allclose(continued.after.logits, last.after.logits, atol=1e-5)
    with pytest.raises(ValueError, match="keep_logits is 'some'; it can be 'last', 'all'"):
        _outcome(model, keep_logits="some")


def test_a_prediction_shares_no_memory_with_anything(model: Any) -> None:
    a, b = intervene_many(model, PROMPT, [[], []], keep_logits="all")
    assert a.after.logits.base is None or a.after.logits.base.nbytes == a.after.logits.nbytes
    a.before.logits[:] = 0
    fresh = intervene(model, PROMPT, [], keep_logits="all")
    np.testing.assert_allclose(fresh.before.logits, b.after.logits, atol=1e-5)


def test_an_outcome_is_shown_as_a_small_table(model: Any) -> None:
    out = _outcome(model, max_new_tokens=3)
    text = repr(out)
    lines = text.splitlines()
    assert len(text) < 2000 and len(lines) <= 25
    assert lines[0] == "Outcome: some ×-3 (attention frozen)"
    assert lines[1].split() == ["next", "token", "before", "after"]
    token, _ = out.after.top[0]
    row = next(line for line in lines if line.startswith(repr(token)))
    assert f"{100 * out.after.probability(token):.1f}".removesuffix(".0") in row
    assert sum(line.startswith("'") for line in lines) == 8
    assert "… 17 more" in lines  # of 25 watched features
    assert lines[-2] == f"before: {out.before.text!r}"
    assert str(out) == text


def test_a_prediction_is_shown_as_a_small_table(model: Any) -> None:
    out = _outcome(model, top_k=3)
    lines = repr(out.before).splitlines()
    assert lines[0] == "Prediction"
    assert lines[1].split() == ["next", "token", "probability"]
    assert [line.split("'")[1] for line in lines[2:5]] == [token for token, _ in out.before.top]
    assert len(repr(out.before)) < 1000


def test_every_token_is_shown_with_its_own_probabilities() -> None:
    """Also those that lead on one side only, and texts that two tokens share."""
    logits = np.log(np.array([[0.1, 0.2, 0.7, 1e-9]], dtype=np.float32))
    before = Prediction([("x", 0.7), ("x", 0.2)], logits)
    after = Prediction([("y", 0.7), ("x", 0.2)], logits[:, [2, 1, 0, 3]])
    rows = [line.split() for line in repr(Outcome(before, after, (), "all")).splitlines()]
    assert rows[0] == ["Outcome:", "nothing", "changed", "(all", "frozen)"]
    assert rows[2:] == [
        ["'x'", "70", "%", "10", "%"],
        ["'y'", "10", "%", "70", "%"],
        ["'x'", "20", "%", "20", "%"],
    ]


def test_no_text_of_an_outcome_is_markup() -> None:
    logits = np.zeros((1, len(HOSTILE)), dtype=np.float32)
    top = [(text, 1 / len(HOSTILE)) for text in HOSTILE]
    said = Prediction(top, logits, text=HOSTILE[0] + "\u202e\x1b[31m", generated=(0,))
    change = Intervention.ablate(Supernode(HOSTILE[1] + "\u202e", [Feature(0, 1, 2)]))
    out = Outcome(said, said, (change,), "attention")
    for made in (out._repr_html_(), said._repr_html_()):
        for tag in ("script", "img", "svg", "b>", "a "):
            assert f"<{tag}" not in made
        assert "\u202e" not in made and "\x1b" not in made
        assert "&lt;script&gt;" in made
    assert "\u202e" not in repr(out) and "\x1b" not in repr(out)


def test_a_long_outcome_stays_small(model: Any) -> None:
    rows = model.record(PROMPT).features.tolist()
    changes = [Intervention.ablate(Feature(*row)) for row in rows if row[1] > 0]
    out = intervene(model, PROMPT, changes, top_k=VOCAB, watch=[c.features[0] for c in changes])
    assert len(changes) > 100
    assert len(repr(out)) < 2000
    assert len(out._repr_html_()) < 8000

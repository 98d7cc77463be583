"""A pass leaves nothing on the model, whatever breaks it off; hooks of others stay."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import GOLDEN, PROMPT, tiny
from torch.utils.hooks import RemovableHandle

from circuit_nb import Feature, Intervention, attribute, intervene, load
from circuit_nb.bridge import passes
from circuit_nb.bridge.passes import Guest

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
import contextlib

import interrupts


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny("llama", tokenizer)


def hooks_on(model: Any) -> list[tuple[int, ...]]:
    modules = [*model.bridge.modules(), *model.bridge.original_model.modules()]
    return [(*m._forward_hooks, *m._forward_pre_hooks) for m in modules]


def logits(model: Any) -> torch.Tensor:
    return model.run(model.tokenize(PROMPT)[None])


def some_change(model: Any) -> list[Intervention]:
    rows = model.record(PROMPT).features.tolist()
    return [Intervention.scale(Feature(*rows[3]), 4.0), Intervention.ablate(Feature(*rows[-1]))]


ACTIONS: dict[str, Callable[[Any], object]] = {
    "record": lambda model: (model.record([1, 5, 6]), model.record(PROMPT)),
    "attribute": lambda model: (model.record([1, 5, 6]), attribute(model, PROMPT, progress=False)),
    "intervene": lambda model: intervene(model, PROMPT, some_change(model), freeze="all"),
    "generate": lambda model: intervene(model, PROMPT, some_change(model), max_new_tokens=2),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_an_interrupt_while_hooks_are_removed_leaves_nothing(
    action: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(model)
    ACTIONS[action](model)
    before, raised = hooks_on(model), []
    real = RemovableHandle.remove

    def remove(self: Any) -> None:
        if not raised:
            raised.append(1)
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(RemovableHandle, "remove", remove)
    with contextlib.suppress(KeyboardInterrupt):
        ACTIONS[action](model)
    assert hooks_on(model) == before
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("times", [1, 2, 9])
@pytest.mark.parametrize("action", ACTIONS)
def test_clean_up_outlasts_interrupts(
    action: str, times: int, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(model)
    ACTIONS[action](model)
    before, left, real = hooks_on(model), [times], passes.sweep

    def sweep(modules: Any) -> None:
        # The first call of a pass is before it; those after it come with few modules.
        if left[0] and any(isinstance(h, Guest) for m in modules for h in _held(m)):
            left[0] -= 1
            raise KeyboardInterrupt
        real(modules)

    monkeypatch.setattr(passes, "sweep", sweep)
    with pytest.raises(KeyboardInterrupt):
        ACTIONS[action](model)
    assert left == [0]
    assert hooks_on(model) == before and torch.is_grad_enabled()
    assert torch.equal(logits(model), expected)


def _held(module: Any) -> list[Any]:
    return [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]


def test_a_hook_left_hanging_changes_nothing_and_goes_with_the_next_pass(model: Any) -> None:
    expected, seen = logits(model), []
    point = model.bridge.hook_dict["blocks.1.mlp.hook_out"]

    def ruin(module: Any, args: Any, tensor: Any) -> Any:
        seen.append(1)
        return tensor * 0

    handle = point.register_forward_hook(Guest(object(), ruin))
    ids = model.tokenize(PROMPT)[None]
    with torch.no_grad():
        assert torch.equal(model.bridge(ids, return_type="logits"), expected)
    assert handle.id in point._forward_hooks and not seen
    assert torch.equal(logits(model), expected)
    assert handle.id not in point._forward_hooks


def test_hooks_of_the_reader_stay_and_act_and_are_said_once(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    plain = model.record(PROMPT)
    feature = Feature(*plain.features[5].tolist())
    handle = model.bridge.add_hook("blocks.0.hook_resid_pre", lambda tensor, hook: 2 * tensor)
    with pytest.warns(UserWarning, match=r"Hooks of your own.*blocks\.0.*no edges"):
        hooked = model.record(PROMPT)
    assert not torch.allclose(hooked.next_logits, plain.next_logits)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert model.record(PROMPT) is hooked
        out = intervene(model, PROMPT, [Intervention.ablate(feature)])
        model.record([1, 5, 6])
    np.testing.assert_array_equal(out.before.logits[-1], hooked.next_logits.numpy())
    assert len(model.bridge.hook_dict["blocks.0.hook_resid_pre"].fwd_hooks) == 1
    del handle
    model.bridge.reset_hooks()
    assert torch.equal(model.record(PROMPT).next_logits, plain.next_logits)


def test_a_pass_has_no_dropout_and_leaves_training_mode_and_gradients(tokenizer: Any) -> None:
    model = tiny("gpt2", tokenizer)
    expected = model.record(PROMPT).next_logits
    bridge = model.bridge
    bridge.requires_grad_(True)
    bridge.train()
    parts = [*bridge.modules(), *bridge.original_model.modules()]
    modes = [m.training for m in parts]
    with torch.no_grad():
        dropped = bridge(model.tokenize(PROMPT)[None], return_type="logits")[0, -1]
    assert not torch.allclose(dropped, expected)
    again = model.record([1, 4, 5]), model.record(PROMPT)
    assert torch.equal(again[1].next_logits, expected)
    assert not again[1].next_logits.requires_grad and not model.unembedding.requires_grad
    attribute(model, PROMPT, max_features=5, progress=False)
    assert [m.training for m in parts] == modes and any(modes)
    assert all(p.requires_grad for p in bridge.parameters())
    assert torch.is_grad_enabled()


def test_unknown_places_are_said(model: Any) -> None:
    with pytest.raises(KeyError, match=r"no hook point 'blocks\.9\.nowhere'"):
        model.run(model.tokenize(PROMPT)[None], [("blocks.9.nowhere", lambda x, hook: None)])
    with pytest.raises(ValueError, match="use_attn_result is False"):
        model.run(
            model.tokenize(PROMPT)[None], [("blocks.0.attn.hook_result", lambda x, hook: None)]
        )


def test_interrupts_at_random_moments_leave_nothing() -> None:
    """A few hundred; `python tests/fuzz/interrupts.py` does ten thousand."""
    # Hypothesis looks on when garbage is collected: an interrupt in there reaches nobody.
    watching = gc.callbacks[:]
    gc.callbacks.clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject = interrupts.Subject(load("atlas", device="cpu"))
            found = interrupts.by_signals(subject, 130, seed=1)
            found += interrupts.by_lines(subject, 70, seed=1)
    finally:
        gc.callbacks.extend(watching)
    assert found.pop("interrupted") == 200 <= found.pop("runs")
    assert not found


def test_golden_edges_are_the_same_by_either_kind_of_hook() -> None:
    """Hooks of ours are PyTorch's own; the bridge's way of hanging them gives the same."""
    folder = GOLDEN / "gemma2-plt"
    model = load(folder / "model", folder / "transcoders", device="cpu")
    names = [n for n in model.bridge.hook_dict if n.endswith(("hook_v", "hook_z", "hook_pattern"))]
    names = [n for n in names if n.startswith("blocks.")]
    seen: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = {}, {}

    def keep(into: dict[str, torch.Tensor], name: str) -> Any:
        return lambda tensor, hook: into.__setitem__(name, tensor.clone())

    ids = model.tokenize(PROMPT)[None]
    model.run(ids, [(n, keep(seen[0], n)) for n in names])
    with torch.no_grad():
        model.bridge.run_with_hooks(ids, fwd_hooks=[(n, keep(seen[1], n)) for n in names])
    assert len(names) >= 9 and seen[0].keys() == seen[1].keys()
    for name in names:
        assert torch.equal(seen[0][name], seen[1][name]), name

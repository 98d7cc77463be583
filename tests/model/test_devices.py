"""The code paths of one GPU and of several, on pretended ones (see `pretended.py`)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pretended
import pytest
import torch
from families import GOLDEN, PROMPT, tiny
from pretended import FIRST, SECOND

from circuit_nb import Intervention, Supernode, attribute, cards, intervene, load
from circuit_nb.model import ReplacementModel

UPPER = re.compile(r"(layers|\.h)\.[1-9]\.|^model\.norm\.|ln_f\.|final_layer_norm\.")
"""Modules of the second device, where there are two: layers but the first, and the last norm."""


@pytest.fixture(autouse=True)
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (10**10, 10**10))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 0)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda _: 0)


def placed(model: ReplacementModel, *, several: bool) -> ReplacementModel:
    """The model with its weights on one device, or its layers on two."""
    hf_model, bridge = model.bridge.original_model, model.bridge
    pretended.move(hf_model, lambda name: SECOND if several and UPPER.search(name) else FIRST)
    if several:
        for part in (bridge.embed, bridge.unembed, bridge.blocks[0]):
            pretended.feed(part, FIRST)
        for part in (*bridge.blocks[1:], bridge.ln_final):
            pretended.feed(part, SECOND)
    there = ReplacementModel(bridge, model.transcoders)
    there.place_transcoders()
    return there


def results(model: ReplacementModel) -> list[np.ndarray[Any, Any]]:
    """Edges, and what interventions of all kinds do, with generated text."""
    graph = attribute(model, PROMPT, max_features=40, progress=False)
    some = Supernode("some", [tuple(f) for f in graph.features[[3, 20, -2]].tolist()])
    found = [graph.weights]
    for freeze in ("attention", "all", "none"):
        change = [
            Intervention.scale(some, -1),
            Intervention.set(some.features[0], 2.0, from_position=4),
        ]
        out = intervene(model, PROMPT, change, freeze=freeze, watch=[some], max_new_tokens=2)
        found += [out.after.logits, np.array([out.fraction(some)])]
    return found


@pytest.mark.parametrize("several", [False, True], ids=["one device", "two devices"])
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"cross_layer": True, "skip": True}),
        ("gemma2", {"activation": "topk", "output_hook": "hook_mlp_out"}),
        ("gpt2", {"input_hook": "hook_resid_mid"}),
        ("neox", {"skip": True}),
    ],
)
def test_devices_change_no_number(
    family: str, settings: dict[str, Any], several: bool, tokenizer: Any
) -> None:
    model = tiny(family, tokenizer, **settings)
    expected = results(model)
    with pretended.devices():
        there = placed(model, several=several)
        assert {b.device for b in there.blocks} == ({FIRST, SECOND} if several else {FIRST})
        found = results(there)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["gemma2-clt", "llama-plt-skip"])
@pytest.mark.parametrize("keep_encoders", [True, False])
def test_sets_in_files_are_read_to_their_layers_device(case: str, keep_encoders: bool) -> None:
    folder = GOLDEN / case
    model = load(
        folder / "model", folder / "transcoders", device="cpu", keep_encoders=keep_encoders
    )
    expected = attribute(model, PROMPT, progress=False).weights
    with pretended.devices():
        there = placed(model, several=True)
        found = attribute(there, PROMPT, progress=False).weights
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_cards_are_computed_on_a_device(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    texts = [PROMPT, PROMPT.replace("Dallas", "Texas")]
    expected = cards.compute(model, texts, progress=False)
    with pretended.devices():
        found = cards.compute(placed(model, several=False), texts, progress=False)
    assert dict(found) == dict(expected)


def test_pretended_devices_do_not_mix() -> None:
    with pretended.devices():
        here, there = torch.ones(3, device=FIRST), torch.ones(3, device=SECOND)
        with pytest.raises(RuntimeError, match="tensors are on"):
            here + there
        with pytest.raises(RuntimeError, match="tensors are on"):
            here + torch.ones(3)
        with pytest.raises(RuntimeError, match="tensors are on"):
            here[torch.tensor([0], device=SECOND)]
        assert (here + there.to(FIRST) + torch.tensor(1.0)).cpu().tolist() == [3, 3, 3]


def test_a_map_of_devices_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    folder, asked = GOLDEN / "gemma2-plt", []
    plain = load(folder / "model", folder / "transcoders", device="cpu")
    real = TransformerBridge.boot_transformers

    def boot(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(TransformerBridge, "boot_transformers", boot)
    mapped = load(folder / "model", folder / "transcoders", device_map={"": "cpu"})
    assert asked == [{"device_map": {"": "cpu"}, "dtype": torch.float32}]
    expected, found = (attribute(m, PROMPT, progress=False).weights for m in (plain, mapped))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("model", ["atlas", torch.nn.Linear(1, 1)])
def test_a_map_of_devices_needs_a_model_to_open(model: Any) -> None:
    with pytest.raises(ValueError, match="device_map goes with a model's folder or Hub id"):
        load(model, device_map="auto")
    with pytest.raises(ValueError, match="in place of device"):
        load("google/gemma-2-2b", device="cuda", device_map="auto")

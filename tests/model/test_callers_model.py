"""A model given in memory is left as it is; a bridge is taken as it is, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, GOLDEN, PROMPT, hf_model, transcoders

from circuit_nb import Feature, Intervention, attribute, intervene, load

FOLDER = GOLDEN / "gemma2-plt"


def bridge_of(dtype: torch.dtype = torch.float32, **processing: bool) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    model = str(FOLDER / "model")
    bridge = TransformerBridge.boot_transformers(model, device="cpu", dtype=dtype)
    if processing:
        bridge.enable_compatibility_mode(disable_warnings=True, **processing)
    return bridge


def described(model: torch.nn.Module) -> list[Any]:
    """All that could be changed of a Hugging Face model."""
    config: Any = model.config
    return [
        [(name, type(m), m.training, len(m._forward_hooks)) for name, m in model.named_modules()],
        [(n, id(p), p.data_ptr(), p.dtype, p.requires_grad) for n, p in model.named_parameters()],
        [(n, id(b)) for n, b in model.named_buffers()],
        config._attn_implementation,
        config.architectures,
        config.to_dict(),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_in_memory_is_left_as_it_is(family: str, tokenizer: Any) -> None:
    hf = hf_model(family).train()
    if family not in ("gemma2", "gemma3"):  # which know no other
        hf.config._attn_implementation = "sdpa"
    next(iter(hf.parameters())).requires_grad_(False)
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        hf(ids)  # some models hang hooks of their own at the first pass
    before = described(hf)
    model = load(hf, transcoders(), tokenizer=tokenizer)
    graph = attribute(model, PROMPT, max_features=10, progress=False)
    intervene(model, PROMPT, [Intervention.ablate(Feature(*graph.features[3].tolist()))])
    assert described(hf) == before
    loss = hf(ids, labels=ids).loss
    loss.backward()
    assert sum(p.grad is not None for p in hf.parameters()) > 5


def test_its_weights_are_shared_and_converted_only_on_request(tokenizer: Any) -> None:
    hf = hf_model("llama")
    same = load(hf, transcoders(), tokenizer=tokenizer)
    assert same.unembedding.data_ptr() == hf.lm_head.weight.data_ptr()
    half = load(hf, transcoders(), tokenizer=tokenizer, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and hf.lm_head.weight.dtype == torch.float32
    kept = load(hf.to(torch.bfloat16), transcoders(), tokenizer=tokenizer)
    assert kept.dtype == torch.bfloat16


def test_tied_weights_stay_tied(tokenizer: Any) -> None:
    hf = hf_model("gpt2")
    assert hf.lm_head.weight is hf.transformer.wte.weight
    own = load(hf, transcoders(), tokenizer=tokenizer).bridge.original_model
    weights = dict(own.named_parameters())
    shapes = [p for p in weights.values() if p.shape == hf.lm_head.weight.shape]
    assert len({p.data_ptr() for p in shapes}) == 1


def test_two_models_are_opened_around_one_in_memory(tokenizer: Any) -> None:
    hf = hf_model("qwen2")
    one = load(hf, transcoders(), tokenizer=tokenizer)
    other = load(hf, transcoders(), tokenizer=tokenizer)
    graphs = [attribute(m, PROMPT, max_features=20, progress=False) for m in (one, other)]
    np.testing.assert_array_equal(graphs[0].weights, graphs[1].weights)


def test_a_bridge_is_taken_as_it_is() -> None:
    bridge = bridge_of()
    bridge.requires_grad_(True)
    model = load(bridge, FOLDER / "transcoders")
    assert model.bridge is bridge and all(p.requires_grad for p in bridge.parameters())
    expected = load(FOLDER / "model", FOLDER / "transcoders", device="cpu")
    graphs = [attribute(m, PROMPT, progress=False) for m in (model, expected)]
    np.testing.assert_array_equal(graphs[0].weights, graphs[1].weights)
    assert load(bridge, FOLDER / "transcoders", dtype=torch.float32, device="cpu").bridge is bridge


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dtype": torch.bfloat16}, r"torch\.float32 on cpu.*dtype=torch\.bfloat16 would be"),
        ({"tokenizer": object()}, "has its own tokenizer"),
    ],
)
def test_what_a_bridge_is_not_is_not_ignored(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(bridge_of(), FOLDER / "transcoders", **asked)


def test_another_place_than_a_bridges_is_not_ignored() -> None:
    from circuit_nb.bridge.opening import open_bridge

    with pytest.raises(ValueError, match=r"torch\.float32 on cpu.*device=meta would be ignored"):
        open_bridge(bridge_of(), torch.device("meta"), None, None, None)


def test_processed_weights_are_refused_and_the_mode_without_them_is_not() -> None:
    with pytest.raises(ValueError, match=r"weights were processed by TransformerLens"):
        load(bridge_of(no_processing=False), FOLDER / "transcoders")
    model = load(bridge_of(no_processing=True), FOLDER / "transcoders")
    expected = load(FOLDER / "model", FOLDER / "transcoders", device="cpu")
    graphs = [attribute(m, PROMPT, progress=False) for m in (model, expected)]
    np.testing.assert_array_equal(graphs[0].weights, graphs[1].weights)
    some = Feature(*graphs[0].features[9].tolist())
    changes = [Intervention.scale(some, -2.0)]
    out = [intervene(m, PROMPT, changes, freeze="all") for m in (model, expected)]
    np.testing.assert_array_equal(out[0].after.logits, out[1].after.logits)


def test_a_folder_takes_another_tokenizer(tokenizer: Any, tmp_path: Path) -> None:
    import shutil

    for name in ("config.json", "model.safetensors"):
        shutil.copy(FOLDER / "model" / name, tmp_path)
    model = load(tmp_path, FOLDER / "transcoders", tokenizer=tokenizer, device="cpu")
    assert model.tokenize(PROMPT).tolist()[0] == 1
    assert len(model.record(PROMPT).features)


def test_what_is_no_model_is_said() -> None:
    with pytest.raises(ValueError, match=r"The model is a int; give a folder, a Hub id"):
        load(5, FOLDER / "transcoders")

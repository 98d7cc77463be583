"""Loading, tokenizing and recording; what is refused, and in which words."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, GOLDEN, PROMPT, Case, hf_model, tiny, transcoders
from safetensors.torch import load_file, save_file

from circuit_nb import attribute, load

MODEL, SET = GOLDEN / "gemma2-plt" / "model", GOLDEN / "gemma2-plt" / "transcoders"


@pytest.fixture(scope="module")
def model() -> Any:
    return load(MODEL, SET, device="cpu")


def test_logits_are_those_of_hugging_face(case: Case, case_model: Any) -> None:
    record = case_model.record(case.settings["prompt"])
    torch.testing.assert_close(
        record.logits, torch.from_numpy(case.data["hf_logits"]), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_unembeds_the_last_position_and_the_others_when_asked(
    family: str, tokenizer: Any
) -> None:
    model = tiny(family, tokenizer)
    unembedded: list[int] = []
    handle = model.bridge.unembed.register_forward_hook(
        lambda module, args, logits: unembedded.append(logits.shape[1])
    )
    record = model.record(PROMPT)
    handle.remove()
    assert unembedded == [1]
    own = model.bridge.original_model(record.token_ids[None]).logits[0]
    assert "logits" not in vars(record)
    torch.testing.assert_close(record.next_logits, own[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(record.logits, own, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_last_positions_of_several_rows_reach_the_unembedding_without_gaps(
    family: str, tokenizer: Any
) -> None:
    """PyTorch copies the unembedding for every row otherwise."""
    model = tiny(family, tokenizer)
    seen: list[tuple[bool, int]] = []
    handle = model.bridge.unembed.register_forward_pre_hook(
        lambda module, args: seen.append((args[0].is_contiguous(), args[0].shape[1]))
    )
    ids = model.tokenize(PROMPT).expand(3, -1)
    last = model.run(ids, last_only=True)
    handle.remove()
    assert seen == [(True, 1)]
    torch.testing.assert_close(last, model.run(ids)[:, -1:], atol=1e-5, rtol=0)


def test_a_special_token_is_prepended_once(model: Any) -> None:
    assert model.tokenize("the capital").tolist() == [1, 3, 4]
    assert model.tokenize("<bos> the capital").tolist() == [1, 3, 4]
    assert model.tokenize([3, 4]).tolist() == [1, 3, 4]
    assert model.tokenize(torch.tensor([2, 3])).tolist() == [2, 3]


@pytest.fixture
def own_tokenizer(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tokenizer of the model that a test may change."""
    copied = copy.deepcopy(model.tokenizer)
    monkeypatch.setattr(model.bridge, "tokenizer", copied)
    return copied


def test_id_0_is_a_valid_special_token(model: Any, own_tokenizer: Any) -> None:
    own_tokenizer.bos_token = "<pad>"
    assert own_tokenizer.bos_token_id == 0
    assert model.tokenize("the capital").tolist() == [0, 3, 4]


def test_without_bos_pad_and_then_eos_stand_in(model: Any, own_tokenizer: Any) -> None:
    own_tokenizer.bos_token = None
    assert model.tokenize("the").tolist() == [0, 3]
    own_tokenizer.pad_token = None
    assert model.tokenize("the").tolist() == [2, 3]


def test_a_prompt_of_one_token_works(model: Any) -> None:
    from circuit_nb import attribute, scores

    graph = attribute(model, "Dallas", progress=False)
    assert len(graph.tokens) == 2
    assert 0 <= scores(graph).replacement <= 1
    only_special = attribute(model, "<bos>", progress=False)
    assert len(only_special.features) == 0
    assert only_special.weights.shape == (len(only_special.targets), 4 + 1)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "prompt is empty"),
        ([], "prompt is empty|1-D tensor"),
        ("the capital of Houstn", "no token for 'Houstn'"),
        ("the captial", "Near it: capital"),
        ([3, 35], "Token id 35 is not in the vocabulary; ids are 0 to 34"),
        ([-1], "Token id -1"),
        (torch.zeros(2, 3, dtype=torch.int64), "1-D tensor"),
        (torch.zeros(3), "1-D tensor"),
        ([True, False], "1-D tensor"),
        ("the \ud83d is", r"half a character \(U\+D83D, a lone surrogate\) after 'the '"),
    ],
)
def test_bad_prompts_are_said(prompt: Any, message: str, model: Any) -> None:
    with pytest.raises(ValueError, match=message):
        model.record(prompt)
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())


def test_half_a_character_is_no_token(model: Any) -> None:
    for ask in (model.token_id, lambda text: attribute(model, "the", targets=[text])):
        with pytest.raises(ValueError, match="half a character"):
            ask("\udc00")


def test_gemma_3_chat_header_is_ignored(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("gemma3", tokenizer)
    header = ("<bos>", "<start_of_turn>", "user", "\n")
    texts = dict(enumerate(header, start=1))
    monkeypatch.setattr(type(model), "token", lambda self, i: texts.get(int(i), "word"))
    assert model.ignored_positions(torch.tensor([1, 2, 3, 4, 9])) == 4
    assert model.ignored_positions(torch.tensor([1, 2, 3, 9, 4])) == 1
    record = model.record([1, 2, 3, 4, 9, 10])
    assert record.features[:, 1].min() >= 4


def test_transcoders_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 layers of width 32.*has 4 layers of width 32"):
        load(MODEL, transcoders(), device="cpu")


def test_places_a_parallel_block_lacks_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=r"no hook_resid_mid.*in parallel"):
        tiny("neox", tokenizer, input_hook="hook_resid_mid")


def test_unknown_families_are_refused_with_those_known(tokenizer: Any) -> None:
    import transformers

    config = transformers.OPTConfig(
        vocab_size=35, hidden_size=32, ffn_dim=64, num_hidden_layers=3, num_attention_heads=4
    )
    with pytest.raises(ValueError, match=r"OPTForCausalLM are not known; known are Gemma-2.*NeoX"):
        load(transformers.OPTForCausalLM(config), transcoders(), tokenizer=tokenizer)


def test_a_model_in_memory_needs_its_tokenizer() -> None:
    with pytest.raises(ValueError, match="needs its tokenizer"):
        load(hf_model("llama"), transcoders())


def _damaged(tmp_path: Path, change: Any) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    change(folder / "model.safetensors")
    return folder


def test_nan_in_weights_is_named(tmp_path: Path) -> None:
    def spoil(path: Path) -> None:
        tensors = load_file(path)
        tensors["model.layers.2.mlp.down_proj.weight"][0, 0] = float("nan")
        save_file(tensors, path, metadata={"format": "pt"})

    model = load(_damaged(tmp_path, spoil), SET, device="cpu")
    with pytest.raises(ValueError, match="NaN or infinity in the MLP of layer 2"):
        model.record(PROMPT)


def test_truncated_model_weights_are_refused(tmp_path: Path) -> None:
    folder = _damaged(tmp_path, lambda path: path.write_bytes(path.read_bytes()[:-100]))
    with pytest.raises(ValueError, match=r"cannot be read.*model"):
        load(folder, SET, device="cpu")


def test_the_last_record_is_kept_and_only_for_the_same_prompt(model: Any) -> None:
    first = model.record(PROMPT)
    assert model.record(first.token_ids) is first
    assert model.record("the capital") is not first

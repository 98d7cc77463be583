"""A model with the dimensions of Gemma-2-2B and transcoders with those of Gemma Scope, random.

Written once, in a folder, as a user would have them: a Hugging Face folder in bfloat16 and one
safetensors file a layer in float32. Thresholds let as many features fire as in Gemma Scope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

FULL_VOCABULARY = 256_000
BOS = 2


@dataclass(frozen=True)
class Shape:
    """Dimensions; by default those of Gemma-2-2B, its vocabulary cut."""

    layers: int = 26
    d_model: int = 2304
    heads: int = 8
    kv_heads: int = 4
    d_head: int = 256
    d_mlp: int = 9216
    vocabulary: int = 32_000
    features: int = 16_384
    """Per layer."""
    active: int = 80
    """Features active at a position and layer: L0."""

    @property
    def parameters(self) -> int:
        """Of the model; embedding and unembedding are one matrix."""
        attention = 2 * (self.heads + self.kv_heads) * self.d_head * self.d_model
        block = attention + 3 * self.d_mlp * self.d_model + 4 * self.d_model
        return self.layers * block + self.vocabulary * self.d_model + self.d_model


def prompt(shape: Shape, length: int) -> Tensor:
    """Token ids: BOS and random tokens."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(4, shape.vocabulary, (length,), generator=generator)
    ids[0] = BOS
    return ids


@torch.no_grad()
def write(folder: Path, shape: Shape) -> None:
    """Write `model/` and `transcoders/` into a folder."""
    reads = _write_model(folder / "model", shape)
    _write_transcoders(folder / "transcoders", shape, reads)


def _write_model(folder: Path, shape: Shape) -> list[Tensor]:
    """Write the model; returns what its MLPs read on a prompt, (positions, d_model) by layer."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    _write_tokenizer(folder, shape.vocabulary)
    config = Gemma2Config(
        vocab_size=shape.vocabulary, hidden_size=shape.d_model, intermediate_size=shape.d_mlp,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, head_dim=shape.d_head,
        query_pre_attn_scalar=shape.d_head, bos_token_id=BOS, eos_token_id=1, pad_token_id=0,
        dtype="bfloat16",
    )  # fmt: skip
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = Gemma2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(usual)
    model.save_pretrained(folder)
    seen: list[Tensor] = []
    for layer in model.model.layers:
        norm = layer.pre_feedforward_layernorm
        norm.register_forward_hook(lambda module, x, out: seen.append(out[0, 1:].float()))
    model(prompt(shape, 64)[None], use_cache=False)
    return seen


def _write_tokenizer(folder: Path, size: int) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    words = [*names.values(), *(f"w{i}" for i in range(len(names), size))]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **names)
    tokenizer.save_pretrained(folder)


def _write_transcoders(folder: Path, shape: Shape, reads: list[Tensor]) -> None:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    size = (shape.features, shape.d_model)
    for i, x in enumerate(reads):
        encoder = torch.randn(size, generator=generator) / math.sqrt(shape.d_model)
        pre = (x @ encoder.T).flatten()
        threshold = pre.kthvalue(int(len(pre) * (1 - shape.active / shape.features))).values
        tensors = {
            "W_enc": encoder,
            "W_dec": torch.randn(size, generator=generator) / shape.d_model,
            "b_enc": torch.zeros(shape.features),
            "b_dec": torch.zeros(shape.d_model),
            "activation_function.threshold": threshold.expand(shape.features).contiguous(),
        }
        save_file(tensors, folder / f"layer_{i}.safetensors")
    config = {
        "model_name": "shaped like google/gemma-2-2b",
        "model_kind": "transcoder_set",
        "feature_input_hook": "ln2.hook_normalized",
        "feature_output_hook": "hook_mlp_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))

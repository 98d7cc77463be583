"""Tiny random models of every family, random transcoders for them, and the golden cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

GOLDEN = Path(__file__).parent / "golden"
CASES = ("gemma2-clt", "gemma2-plt", "llama-plt-skip", "qwen3-plt")
PROMPT = "<bos> the capital of the state containing Dallas is"
DALLAS = "Fact: the capital of the state containing Dallas is"
OAKLAND = DALLAS.replace("Dallas", "Oakland")
N_LAYERS, D_MODEL, N_FEATURES, VOCAB = 3, 32, 40, 35

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": D_MODEL,
    "intermediate_size": 64,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("Gemma2", {**_COMMON, **_GROUPED, "query_pre_attn_scalar": 16}),
    "gemma3": ("Gemma3Text", {**_COMMON, **_GROUPED, "query_pre_attn_scalar": 16}),
    "llama": ("Llama", {**_COMMON, **_GROUPED}),
    "qwen2": ("Qwen2", {**_COMMON, "num_key_value_heads": 2, "initializer_range": 0.2}),
    "qwen3": ("Qwen3", {**_COMMON, **_GROUPED}),
    "gpt2": (
        "GPT2",
        {
            "vocab_size": VOCAB,
            "n_embd": D_MODEL,
            "n_layer": N_LAYERS,
            "n_head": 4,
            "n_positions": 64,
            "initializer_range": 0.2,
        },
    ),
    "neox": ("GPTNeoX", {**_COMMON, "initializer_range": 0.2}),
    "neox-sequential": (
        "GPTNeoX",
        {**_COMMON, "initializer_range": 0.2, "use_parallel_residual": False},
    ),
}


@dataclass(frozen=True)
class Case:
    """A golden case: folders, settings, and what circuit-tracer computed."""

    name: str
    model: Path
    transcoders: Path
    settings: dict[str, Any]
    data: dict[str, Any]


def hf_model(family: str, seed: int = 0) -> Any:
    """A tiny random Hugging Face model with every parameter, biases and norms too, random."""
    import transformers

    torch.manual_seed(seed)
    name, settings = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**settings)
    kind = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}.get(
        name, f"{name}ForCausalLM"
    )
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def transcoders(
    *,
    cross_layer: bool = False,
    skip: bool = False,
    activation: str = "jumprelu",
    input_hook: str = "mlp.hook_in",
    output_hook: str = "mlp.hook_out",
    seed: int = 0,
) -> Any:
    """Random transcoders for the tiny models, in memory."""
    from circuit_nb.transcoders.lazy_files import InMemory
    from circuit_nb.transcoders.transcoder import LayerTranscoder, Transcoders

    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    layers = [
        LayerTranscoder(
            W_enc=random(N_FEATURES, D_MODEL),
            decoder=InMemory(random(N_FEATURES, N_LAYERS - i if cross_layer else 1, D_MODEL)),
            b_enc=0.5 * random(N_FEATURES),
            b_dec=random(D_MODEL),
            threshold=random(N_FEATURES).abs() if activation == "jumprelu" else None,
            W_skip=random(D_MODEL, D_MODEL) if skip else None,
            k=6 if activation == "topk" else None,
        )
        for i in range(N_LAYERS)
    ]
    return Transcoders(
        tuple(layers),
        input_hook,
        output_hook,
        cross_layer=cross_layer,
        joint_k=14 if activation == "joint" else None,
    )


def tiny(family: str, tokenizer: Any, *, seed: int = 0, **settings: Any) -> Any:
    """A replacement model of a tiny random model and random transcoders."""
    from circuit_nb import load

    sets = transcoders(seed=seed, **settings)
    return load(hf_model(family, seed), sets, tokenizer=tokenizer, device="cpu")


VARIANTS: dict[str, dict[str, Any]] = {
    "plt": {},
    "plt-skip": {"skip": True},
    "clt": {"cross_layer": True, "activation": "relu"},
    "clt-skip": {"cross_layer": True, "skip": True},
    "topk": {"activation": "topk"},
    "joint": {"cross_layer": True, "activation": "joint"},
    "as-added": {"output_hook": "hook_mlp_out", "input_hook": "ln2.hook_normalized"},
}
"""Kinds of transcoders: what `tiny` is called with, by name."""

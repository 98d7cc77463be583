"""TransformerLens bridges: of a model in a folder, or of one in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError


def open_bridge(
    model: Any,
    device: torch.device,
    dtype: torch.dtype,
    tokenizer: Any,
    device_map: str | Mapping[str, int | str] | None,
) -> Any:
    """The bridge of a model.

    Args:
        model: A folder, a Hugging Face model in memory, or a bridge, which is taken as it is.
        device: Where to put it.
        dtype: Type of its weights.
        tokenizer: Of a Hugging Face model in memory.
        device_map: In place of `device`, as for `load`.

    Raises:
        ValueError: If the folder's files are damaged or missing, or the tokenizer is.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if isinstance(model, TransformerBridge):
        return model
    if isinstance(model, Path):
        place = {"device": device} if device_map is None else {"device_map": device_map}
        try:
            return TransformerBridge.boot_transformers(str(model), **place, dtype=dtype)
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{model} cannot be read as a Hugging Face model ({error}); the folder needs "
                "config.json, the tokenizer's files and undamaged weights."
            ) from error
    return _wrap(model, tokenizer, device, dtype)


def _wrap(hf_model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A bridge around a Hugging Face model that is in memory."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    if tokenizer is None:
        raise ValueError("A model in memory needs its tokenizer: load(model, …, tokenizer=…).")
    hf_model = hf_model.to(device=device, dtype=dtype).eval()
    # Attention patterns are only materialised by the eager implementation.
    hf_model.config._attn_implementation = "eager"
    kind = type(hf_model).__name__
    hf_model.config.architectures = hf_model.config.architectures or [kind]
    bridge = build_bridge_from_module(hf_model, kind, hf_config=hf_model.config)
    bridge.tokenizer = tokenizer
    return bridge

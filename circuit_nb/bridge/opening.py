"""TransformerLens bridges: of a model in a folder, or of one in memory, which stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from circuit_nb.bridge.protocol import Bridge

_LONG = 10**9
"""Bytes of weights from which on loading takes seconds and shows its progress."""


def open_bridge(
    model: Any,
    device: torch.device | None,
    dtype: torch.dtype | None,
    tokenizer: Any,
    device_map: str | Mapping[str, int | str] | None,
) -> Bridge:
    """The bridge of a model.

    Args:
        model: A folder, a Hugging Face model in memory, or a bridge, which is taken as it is.
        device: Where to put it; a model in memory stays where it is if `None`.
        dtype: Type of its weights; a model in memory keeps its own if `None`.
        tokenizer: Of a Hugging Face model in memory, or in place of a folder's.
        device_map: In place of `device`, as for `load`.

    Raises:
        ValueError: If the folder's files are damaged or missing, or the tokenizer is, or a bridge
            is not what was asked for.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if isinstance(model, TransformerBridge):
        _check_as_asked(model, device, dtype, tokenizer)
        return model
    if isinstance(model, Path):
        place: dict[str, Any] = (
            {"device": device} if device_map is None else {"device_map": device_map}
        )
        if tokenizer is not None:
            place["tokenizer"] = tokenizer
        try:
            with _bar_if_worth_it(model):
                bridge = TransformerBridge.boot_transformers(str(model), **place, dtype=dtype)
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{model} cannot be read as a Hugging Face model ({error}); the folder needs "
                "config.json, the tokenizer's files and undamaged weights."
            ) from error
        bridge.requires_grad_(False)
        return bridge
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"The model is a {type(model).__name__}; give a folder, a Hub id, a Hugging Face "
            "model or a TransformerBridge."
        )
    return _wrap(model, tokenizer, device, dtype)


@contextmanager
def _bar_if_worth_it(folder: Path) -> Generator[None]:
    """Let transformers show the bar of its loading only where that takes a while."""
    from transformers.utils.logging import set_tqdm_hook

    def hidden(bar: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return bar(*args, **{**kwargs, "disable": True})

    if sum(file.stat().st_size for file in folder.glob("*.safetensors")) > _LONG:
        yield
        return
    before = set_tqdm_hook(hidden)
    try:
        yield
    finally:
        set_tqdm_hook(before)


def check_raw(bridge: Bridge) -> None:
    """Refuse a bridge whose weights TransformerLens has processed.

    Raises:
        ValueError: If it has, by `enable_compatibility_mode` or `process_weights`.
    """
    # Should the name be gone one day, all of that mode is refused.
    if getattr(bridge, "_weights_processed", bridge.compatibility_mode):
        raise ValueError(
            "This bridge's weights were processed by TransformerLens (norms folded into other "
            "weights, as enable_compatibility_mode() does), so transcoders would read other "
            "numbers than they were trained on. Open the model anew and leave that out, or give "
            "no_processing=True."
        )


def _check_as_asked(
    bridge: Any, device: torch.device | None, dtype: torch.dtype | None, tokenizer: Any
) -> None:
    """Refuse to ignore what was asked of a bridge, which is taken as it is."""
    weight: Tensor = bridge.W_U
    is_, asked = weight.device, device or weight.device
    moved = asked.type != is_.type or asked.index not in (None, is_.index)
    if moved or dtype not in (None, weight.dtype):
        raise ValueError(
            f"The bridge is in {weight.dtype} on {is_} and is taken as it is; "
            f"{'device' if moved else 'dtype'}={asked if moved else dtype} would be ignored. "
            "Convert it first, by bridge.to(…), or leave that out."
        )
    if tokenizer is not None and tokenizer is not bridge.tokenizer:
        raise ValueError(
            "A bridge has its own tokenizer; set bridge.tokenizer, or leave tokenizer= out."
        )


def _wrap(
    hf_model: nn.Module, tokenizer: Any, device: torch.device | None, dtype: torch.dtype | None
) -> Bridge:
    """A bridge around a Hugging Face model that is in memory."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    if tokenizer is None:
        raise ValueError("A model in memory needs its tokenizer: load(model, …, tokenizer=…).")
    own: Any = _shadow(hf_model).eval()
    if device is not None or dtype is not None:
        own = own.to(device=device, dtype=dtype)
    # Attention patterns are only materialised by the eager implementation.
    own.config._attn_implementation = "eager"
    kind = type(own).__name__
    own.config.architectures = own.config.architectures or [kind]
    bridge = build_bridge_from_module(own, kind, hf_config=own.config)
    bridge.tokenizer = tokenizer
    # TransformerLens makes parameters of its own where a family joins query, key and value.
    bridge.requires_grad_(False)
    return bridge


def _shadow(hf_model: nn.Module) -> nn.Module:
    """A copy of a model that shares its weights: TransformerLens replaces modules where it wraps.

    Modules, settings and hooks are the copy's own, the weights are the same memory.
    """
    memo: dict[int, Any] = {id(buffer): buffer for buffer in hf_model.buffers()}
    for parameter in hf_model.parameters():
        # Weights of other types, which are quantised, cannot be made anew.
        plain = type(parameter) is nn.Parameter
        memo[id(parameter)] = (
            nn.Parameter(parameter.detach(), requires_grad=False) if plain else parameter
        )
    return copy.deepcopy(hf_model, memo)

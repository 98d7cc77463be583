"""`load`: a language model and its transcoders, from wherever they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from circuit_nb import hub
from circuit_nb.bridge.opening import open_bridge
from circuit_nb.hub.embedded import DEFAULT, EMBEDDED
from circuit_nb.hub.known import WORKING_BYTES
from circuit_nb.model.devices import default_device, device_of
from circuit_nb.model.memory import free_memory, said_when_exhausted
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.transcoders.formats import open_transcoders
from circuit_nb.transcoders.lazy_files import weights_in
from circuit_nb.transcoders.transcoder import Transcoders


def load(
    model: str | os.PathLike[str] | Any = DEFAULT,
    transcoders: str | os.PathLike[str] | Transcoders | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    tokenizer: Any = None,
    keep_encoders: bool | None = None,
    device_map: str | Mapping[str, int | str] | None = None,
) -> ReplacementModel:
    """Open a language model together with its transcoders.

    Args:
        model: `"atlas"` (the embedded model, offline), a local Hugging Face folder, a Hub id, or
            a Hugging Face model or `TransformerBridge` in memory. A model in memory is left as it
            is: its weights are shared, unless another device or dtype is asked for, and nothing
            else of it is touched. A bridge is taken as it is; its weights must not be processed.
        transcoders: A local folder, a Hub id (`owner/name/folder@revision`), or `Transcoders`.
            May be left out for `"atlas"` and for models with a known default set.
        device: Where to put it; by default CUDA, then Apple's MPS, then the CPU. A model in memory
            stays where it is; asked for another place, a copy of its weights is put there.
        dtype: Type of the weights. By default float32; on an accelerator whose free memory is too
            small for that, bfloat16; a model in memory keeps its own, or a converted copy is made.
            Attribution itself is always computed in float32.
        tokenizer: Needed beside a Hugging Face model in memory; otherwise it replaces the folder's.
        keep_encoders: Whether transcoder encoders stay in memory once used. `False` reads them
            from their files at every use: slower, for sets larger than memory. By default they
            stay if they fit.
        device_map: In place of `device`, spreads the layers of a model in a folder or on the Hub
            over several GPUs: `"auto"`, `"balanced"`, or a device for each module, as in
            transformers.

    Raises:
        FileNotFoundError: If a folder or a file of it is missing.
        ValueError: If the family is unknown or model and transcoders do not fit together.
        MemoryError: If the device has too little memory; it says what needs less.
    """
    if device_map is not None:
        _check_spread(model, device)
    place = device_of(device) if device is not None else None
    name = "" if not isinstance(model, (str, os.PathLike)) else os.fspath(model)
    given = isinstance(transcoders, Transcoders)
    if not isinstance(transcoders, Transcoders):
        transcoders = _open_set(transcoders or hub.default_transcoders(name))
    revision = None
    if isinstance(model, (str, os.PathLike)):
        place = place or default_device()
        found = hub.model_source(os.fspath(model))
        model, revision = found.folder, found.revision
        dtype = dtype or _dtype_that_fits(place, model, transcoders)
    with said_when_exhausted("loading the model", place or torch.device("cpu")):
        bridge = open_bridge(model, place, dtype, tokenizer, device_map)
        opened = ReplacementModel(bridge, transcoders, name=name, revision=revision)
        kept = None if given else opened.dtype
        opened.place_transcoders(kept, keep_encoders=keep_encoders)
    return opened


def _check_spread(model: Any, device: str | torch.device | None) -> None:
    """Raise `ValueError` where a device map has nothing to spread."""
    named = isinstance(model, (str, os.PathLike)) and model not in EMBEDDED
    if device is not None or not named:
        raise ValueError(
            "device_map goes with a model's folder or Hub id, and in place of device; a model in "
            "memory stays where it is."
        )


def _open_set(transcoders: str | os.PathLike[str]) -> Transcoders:
    """Transcoders of a folder or on the Hub, with where they come from."""
    found = hub.transcoder_set(transcoders)
    opened = open_transcoders(found.folder, files=found.files)
    return replace(opened, source=found.name, revision=found.revision)


def _dtype_that_fits(device: torch.device, model: Path, transcoders: Transcoders) -> torch.dtype:
    """float32, unless an accelerator lacks the memory for model and encoders in it."""
    if device.type == "cpu":
        return torch.float32
    weights = weights_in(model) + transcoders.encoder_weights
    fits = 4 * weights + WORKING_BYTES <= free_memory(device)
    return torch.float32 if fits else torch.bfloat16

"""Whether what a pass depends on has changed: weights, transcoders, hooks of others.

What was computed from a model is kept only as long as the model is what it was. Looking takes
about 0.1 ms for a small model and 1 ms for a large one, so it is done before each use.
"""

# The lists of hooks and weights that PyTorch itself goes by are not public.
# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from circuit_nb.bridge.passes import Guest
from circuit_nb.bridge.protocol import Bridge
from circuit_nb.transcoders.lazy_files import InMemory
from circuit_nb.transcoders.transcoder import Transcoders

_SAMPLES = 16
"""Values of each tensor that are compared: what is written through `.data` leaves no other trace.
A few single values written so can be missed."""


class State(NamedTuple):
    """What a model was at one time. States are equal where nothing changed."""

    weights: tuple[object, ...]
    """Of the language model."""
    transcoders: tuple[object, ...]
    """Of what is in memory of the transcoders."""
    hooks: tuple[int, ...]
    """Hooks on any part of the model, ours left out."""


class Watch:
    """Tells the state of a model.

    Args:
        bridge: The model.
    """

    def __init__(self, bridge: Bridge) -> None:
        # The bridge's own modules do not have all of the Hugging Face model's among them.
        modules = [*bridge.modules(), *bridge.original_model.modules()]
        self._modules = list(dict.fromkeys(modules))
        held = [m._parameters for m in self._modules if m._parameters]
        self._held = list({id(parameters): parameters for parameters in held}.values())
        self._weights, self._transcoders = _Samples(), _Samples()

    def state(self, transcoders: Transcoders) -> State:
        """The state now."""
        weights = [p for held in self._held for p in held.values() if p is not None]
        return State(
            self._weights.state(weights),
            self._transcoders.state(list(_in_memory(transcoders))),
            tuple(
                key
                for module in self._modules
                if module._forward_hooks or module._forward_pre_hooks
                for key in _hooks(module)
            ),
        )

    def training(self) -> list[nn.Module]:
        """The parts that are in training mode."""
        return [module for module in self._modules if module.training]


class _Samples:
    """A few values of each of some tensors."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._views: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}

    def state(self, tensors: Sequence[Tensor]) -> tuple[object, ...]:
        """What the tensors are now: where they lie, how often written to, and the values."""
        places = [_place(tensor) for tensor in tensors]
        if places != self._places:
            self._places, self._views = places, _views(tensors)
        written = tuple(t._version for t in tensors if not t.is_inference())
        values = (torch.cat(views).cpu().float() for views in self._views.values())
        return tuple(places), written, *(v.numpy().tobytes() for v in values)


def _place(tensor: Tensor) -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # tensors that are put together of others have no place
        return id(tensor)


def _views(tensors: Iterable[Tensor]) -> dict[tuple[torch.device, torch.dtype], list[Tensor]]:
    views: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel() and tensor.is_contiguous() and not tensor.is_meta:
            flat = tensor.detach().view(-1)
            part = flat[:: max(1, len(flat) // _SAMPLES)][:_SAMPLES]
            views.setdefault((tensor.device, tensor.dtype), []).append(part)
    return views


def _in_memory(transcoders: Transcoders) -> Iterable[Tensor]:
    for layer in transcoders.layers:
        decoder = layer.decoder.tensor if isinstance(layer.decoder, InMemory) else None
        vectors = (layer.b_enc, layer.b_dec, layer.threshold, layer.rank)
        for tensor in (layer.W_enc, *vectors, layer.W_skip):
            if isinstance(tensor, Tensor):
                yield tensor
        if decoder is not None:
            yield decoder


def _hooks(module: nn.Module) -> Iterable[int]:
    """PyTorch's numbers of the hooks on a module, which are never given twice."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key, hook in hooks.items():
            if not isinstance(hook, Guest):
                yield key

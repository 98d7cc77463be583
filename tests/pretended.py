"""Accelerators that are not there: tensors that say they are on one, and are kept on the CPU.

As with real devices, an operation on tensors of two of them fails, and only `.to` moves one. What
is computed is exact. `tests/test_devices.py` uses it to run the code paths of GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# PyTorch knows this device by name without asking for a driver.
FIRST, SECOND = torch.device("cuda:0"), torch.device("cuda:1")
_CPU = torch.device("cpu")
_aten: Any = torch.ops.aten
_MOVES = {
    _aten._to_copy.default, _aten.copy_.default, _aten._local_scalar_dense.default,
    # In inference mode `.to` arrives as it is called.
    *(getattr(_aten.to, overload) for overload in _aten.to.overloads()),
}  # fmt: skip
_INDEXING = {
    _aten.index.Tensor, _aten.index_put_.default, Tensor.__getitem__, Tensor.__setitem__
}  # fmt: skip


class Pretended(Tensor):
    """A CPU tensor that says it is elsewhere."""

    held: Tensor

    @staticmethod
    def __new__(cls, real: Tensor, device: torch.device) -> Pretended:
        made = Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=device,
        )
        made.held = real
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    _mode_key = torch._C._TorchDispatchModeKey.FAKE
    """Makes tensors on pretended devices where they are asked for without any tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """`torch.tensor(…, device=…)` fills memory without asking a dispatch mode: make it move."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.tolist:
            return _real(args[0]).tolist()
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            # Python methods that ask for a driver before they dispatch, as indexing does.
            if "not linked with support" not in str(error):
                raise
            return _run(func, args, kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    counted = given[:1] if func in _INDEXING else given
    # A number on the CPU may be used anywhere.
    devices = {x.device for x in counted if x.ndim or x.device != _CPU}
    if func in _INDEXING:
        devices |= {x.device for x in given[1:] if x.device != _CPU}
    if len(devices) > 1 and func not in _MOVES:
        raise RuntimeError(f"{func}: tensors are on {', '.join(map(str, devices))}")
    device = given[0].device if given and func in _MOVES else next(iter(devices), _CPU)
    asked = [x for x in (*args, kwargs.get("device")) if isinstance(x, torch.device)]
    if asked:
        device = asked[0]
        args, kwargs = tree_map(lambda x: _CPU if x is device else x, (args, kwargs))
    kwargs.pop("pin_memory", None)
    wrappers = {id(x.held): x for x in given if isinstance(x, Pretended)}
    result = func(*tree_map(_real, args), **tree_map(_real, kwargs))

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor) or device == _CPU:
            return x
        # What is changed in place, or moved to where it is, stays the tensor it was.
        same = wrappers.get(id(x))
        return same if same is not None and same.device == device else Pretended(x, device)

    return tree_map(wrapped, result)


def _real(x: Any) -> Any:
    return x.held if isinstance(x, Pretended) else x


@contextmanager
def devices() -> Iterator[None]:
    """Pretended devices exist inside the block."""
    with torch.no_grad(), _Factories(), _FromNumbers():
        yield


def move(module: nn.Module, device_of: Callable[[str], torch.device]) -> None:
    """Put every parameter and buffer of a module on the device of its name."""
    for prefix, part in module.named_modules():
        for name, tensor in list(part._parameters.items()):
            if tensor is not None and not isinstance(tensor, Pretended):
                there = Pretended(tensor.data, device_of(f"{prefix}.{name}"))
                part._parameters[name] = nn.Parameter(there, requires_grad=False)
        for name, tensor in list(part._buffers.items()):
            if tensor is not None and not isinstance(tensor, Pretended):
                part._buffers[name] = Pretended(tensor, device_of(f"{prefix}.{name}"))


def feed(module: nn.Module, device: torch.device) -> None:
    """Move what a module is called with to a device, as accelerate does for a `device_map`."""

    def moved(_: nn.Module, args: Any, kwargs: Any) -> Any:
        return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, (args, kwargs))

    module.register_forward_pre_hook(moved, with_kwargs=True)

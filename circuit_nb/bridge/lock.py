"""One thread at a time to a model: passes hook it, and its last record is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock, RLock
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from circuit_nb.bridge.passes import ending

P = ParamSpec("P")
R = TypeVar("R")

_locks: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()
_guard = Lock()


def lock_of(model: nn.Module) -> RLock:
    """The re-entrant lock of a language model, the same for all that is opened around it.

    It belongs to the Hugging Face model, which is what hooks hang on, and not to a
    `ReplacementModel`: two sets of transcoders for one model share it. Take it by `with`, which
    an interrupt cannot come between, and which can be interrupted while it waits (not on Windows).

    Args:
        model: The Hugging Face model.
    """
    with _guard:
        if model not in _locks:
            _locks[model] = RLock()
        return _locks[model]


def exclusive(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose first argument is a `ReplacementModel`, run while its lock is held.

    Whether gradients are kept is as before afterwards, also if an interrupt comes where PyTorch
    would set it back.
    """

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        model: Any = args[0] if args else kwargs.get("model")
        lock: RLock | None = getattr(model, "lock", None)
        if lock is None:  # it is no model: the function says so
            return function(*args, **kwargs)
        with lock:
            gradients = torch.is_grad_enabled()
            return ending(
                lambda: function(*args, **kwargs), lambda: torch.set_grad_enabled(gradients)
            )

    return alone

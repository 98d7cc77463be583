"""Bytes of all tensors alive, counted where PyTorch allocates them.

On a CPU this is what an accelerator would have to hold: weights mapped from files are counted apart
(`bytes_of`), scratch space inside a kernel is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, memory that several share counted once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


class Allocations(TorchDispatchMode):
    """Counts what is allocated inside the block and still alive.

    Attributes:
        live: Bytes alive now.
        peaks: Most bytes alive at once, by phase; set `phase` to begin another.
        largest: Bytes of the largest single tensor, by phase.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peaks: dict[str, int] = {}
        self.largest: dict[str, int] = {}
        self._phase = ""
        self._alive: dict[int, Any] = {}

    @property
    def phase(self) -> str:
        """What is going on now."""
        return self._phase

    @phase.setter
    def phase(self, name: str) -> None:
        self._phase = name
        self.peaks[name] = max(self.peaks.get(name, 0), self.live)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)
        }
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                # A view, or a tensor changed in place, shares the memory of what was given.
                if storage._cdata not in given and storage._cdata not in self._alive:
                    self._count(storage)
        return result

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.live += size
        self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), self.live)
        self.largest[self.phase] = max(self.largest.get(self.phase, 0), size)

        def freed(_: Any) -> None:
            self._alive.pop(key, None)
            self.live -= size

        self._alive[key] = weakref.ref(storage, freed)

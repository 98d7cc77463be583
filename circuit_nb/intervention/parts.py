"""Hooks that act on a part of a longer pass, as if that part were all there is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from circuit_nb.model.replacement import Hook


def within(hooks: Sequence[Hook], start: int, stop: int) -> list[Hook]:
    """The same hooks for the positions from `start` to `stop`, and nothing elsewhere.

    Args:
        hooks: Hooks that see tensors (rows, positions, …), or attention patterns (rows, heads,
            query, key); of those they see the queries of the part and the keys up to its end.
        start: First position of the part.
        stop: The position after its last.
    """
    where = slice(start, stop)

    def act(tensor: Tensor, hook: Any, name: str, inner: Any) -> Tensor | None:
        pattern = name.endswith("hook_pattern")
        index = (slice(None), slice(None), where, slice(stop)) if pattern else (slice(None), where)
        changed = inner(tensor[index], hook)
        if changed is None:
            return None
        whole = tensor.clone()
        whole[index] = changed
        return whole

    return [(name, partial(act, name=name, inner=inner)) for name, inner in hooks]

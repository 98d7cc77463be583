"""Memory for what is soon overwritten, used again and again."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Buffer:
    """Float32 memory for one thing at a time.

    On a CPU, large tensors made anew cost more than what is computed in them: the system clears
    each page at its first use.
    """

    def __init__(self) -> None:
        self._held: dict[torch.device, Tensor] = {}

    def take(self, shape: tuple[int, ...], device: torch.device, most: int = 0) -> Tensor:
        """A tensor with anything in it, until the buffer is taken again.

        Args:
            shape: Its shape.
            device: Where.
            most: How many elements will be taken at the most, if that is known.
        """
        size = math.prod(shape)
        held = self._held.get(device)
        if held is None or len(held) < size:
            held = torch.empty(max(size, most), device=device)
            self._held[device] = held
        return held[:size].view(shape)

    def clear(self) -> None:
        """Give it back."""
        self._held.clear()

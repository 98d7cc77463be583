"""How much memory is free, and what to do when it is not enough."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from circuit_nb.hub.free_memory import available_memory as available_memory


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        # What PyTorch's allocator holds and no tensor uses is free too.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return available_memory()


class Scratch:
    """Memory for what is soon overwritten, used again and again.

    On a CPU, large tensors made anew cost more than what is computed in them: the system clears
    each page at its first use.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.device], Tensor] = {}

    def take(
        self, name: str, shape: tuple[int, ...], device: torch.device, most: int = 0
    ) -> Tensor:
        """A float32 tensor with anything in it, until the same name is taken again.

        Args:
            name: What for.
            shape: Its shape.
            device: Where.
            most: How many elements will be taken at the most, if that is known.
        """
        size = math.prod(shape)
        held = self._held.get((name, device))
        if held is None or len(held) < size:
            held = torch.empty(max(size, most), device=device)
            self._held[name, device] = held
        return held[:size].view(shape)

    def clear(self) -> None:
        """Give all of it back."""
        self._held.clear()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory is exhausted."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # MPS and the CPU raise a plain RuntimeError.
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


@contextmanager
def said_when_exhausted(doing: str, device: torch.device) -> Generator[None]:
    """Say in one sentence what was being done when memory ran out, and what would help.

    Raises:
        MemoryError: In place of PyTorch's own error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"{device} ran out of memory while {doing}. What needs less: dtype=torch.bfloat16 or "
            "keep_encoders=False in load, a shorter prompt, or a smaller model (known_models() "
            "says what each needs)."
        ) from error

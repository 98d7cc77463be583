"""How much memory is free, and what to do when it is not enough."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

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

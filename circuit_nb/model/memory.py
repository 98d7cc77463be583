"""How much memory is free, and what to do when it is not enough."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch


def available_memory() -> int:
    """Bytes of main memory that are free or can be freed, or a careful guess."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = meminfo.read_text().splitlines()
        line = next((x for x in lines if x.startswith("MemAvailable")), "")
        if line:
            return 1024 * int(line.split()[1])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 2**32


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

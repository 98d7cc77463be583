"""Which device is meant, said before anything is put there."""

from __future__ import annotations

import torch


def device_of(given: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: If there is no such kind of device, or this machine has none.
    """
    try:
        device = torch.device(given)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"{str(given)[:60]!r} is no device; this machine has {', '.join(_here())}."
        ) from None
    if not _is_here(device):
        raise ValueError(f"This machine has no device {device}; it has {', '.join(_here())}.")
    return device


def default_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _here() -> list[str]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _is_here(device: torch.device) -> bool:
    if device.type in ("cpu", "cuda", "mps"):
        name = f"cuda:{device.index or 0}" if device.type == "cuda" else device.type
        return name in _here()
    try:
        # An accelerator that PyTorch knows and this list does not; `meta` computes nothing.
        return float(torch.ones(1, device=device)) == 1
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        return False

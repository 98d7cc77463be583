"""Whether a prompt fits, into the model's context and into memory, said before the pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_nb.model.memory import free_memory

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel


def check_context(model: ReplacementModel, positions: int, generated: int = 0) -> None:
    """Refuse more tokens than the model was made for.

    Args:
        model: The model.
        positions: Length of the prompt in tokens.
        generated: How many tokens are to follow.

    Raises:
        ValueError: If there are more than its context has; it says how many there are.
    """
    context = model.bridge.cfg.n_ctx
    if positions + generated > context:
        more = f" and {generated:,} to be generated" if generated else ""
        raise ValueError(
            f"The prompt has {positions:,} tokens{more}, and {model.name} was made for "
            f"{context:,}; give a shorter text."
        )


def check_patterns(model: ReplacementModel, positions: int) -> None:
    """Refuse a prompt whose attention patterns, which are kept, exceed what is free.

    Raises:
        MemoryError: If they do, on any device; it says how many tokens would fit.
    """
    size = model.dtype.itemsize
    devices = [block.device for block in model.blocks]
    for device in dict.fromkeys(devices):
        heads = sum(len(b.W_O) for b in model.blocks if b.device == device)
        needed, free = size * heads * positions**2, free_memory(device)
        if needed > free:
            fit = int((free / (size * heads)) ** 0.5)
            raise MemoryError(
                f"The attention patterns of {positions:,} tokens take {needed / 2**30:.1f} GiB, "
                f"and {device} has {free / 2**30:.1f} GiB free; at most {fit:,} tokens would fit, "
                "fewer with all the rest. Give a shorter prompt."
            )

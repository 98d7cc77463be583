"""Whether a prompt fits, into the model's context and into memory, said before the pass."""

from __future__ import annotations

from collections.abc import Sequence

from circuit_nb.model.architecture import Block
from circuit_nb.model.memory import free_memory

_NO_MATTER = 2**26
"""Patterns of up to this size are not worth asking how much is free."""


def check_context(name: str, context: int, positions: int, generated: int = 0) -> None:
    """Refuse more tokens than a model was made for.

    Args:
        name: The model's name.
        context: How many tokens it was made for.
        positions: Length of the prompt in tokens.
        generated: How many tokens are to follow.

    Raises:
        ValueError: If there are more than its context has; it says how many there are.
    """
    if positions + generated > context:
        more = f" and {generated:,} are to be generated" if generated else ""
        raise ValueError(
            f"The prompt has {positions:,} tokens{more}, and {name} was made for {context:,}; "
            "give a shorter text."
        )


def check_patterns(
    blocks: Sequence[Block], itemsize: int, positions: int, prompts: int = 1
) -> None:
    """Refuse a prompt whose attention patterns, which are kept, exceed what is free.

    Args:
        blocks: The model's blocks.
        itemsize: Bytes of one value.
        positions: Length of the prompt in tokens.
        prompts: How many of this length there are.

    Raises:
        MemoryError: If they do, on any device; it says how many tokens would fit.
    """
    for device in dict.fromkeys(block.device for block in blocks):
        heads = prompts * sum(len(block.W_O) for block in blocks if block.device == device)
        needed = itemsize * heads * positions**2
        if needed > _NO_MATTER and needed > (free := free_memory(device)):
            fit = int((free / (itemsize * heads)) ** 0.5)
            raise MemoryError(
                f"The attention patterns of {positions:,} tokens take {needed / 2**30:.1f} GiB, "
                f"and {device} has {free / 2**30:.1f} GiB free; at most {fit:,} tokens would fit, "
                "fewer with all the rest. Give a shorter prompt."
            )

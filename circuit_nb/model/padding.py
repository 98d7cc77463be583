"""Sequences of several lengths in few passes, with little padding."""

from __future__ import annotations

from collections.abc import Sequence

_ALIKE = 0.75
"""How long the shortest sequence of a pass is at least, as a share of the longest: what is padded
is computed for nothing."""


def alike(lengths: Sequence[int], tokens: int | None = None) -> list[list[int]]:
    """Which sequences are of like length: their numbers, in as many parts as that takes.

    Args:
        lengths: Of the sequences.
        tokens: Most tokens of a part, padding included, where it has more than one sequence; by
            default any number.
    """
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[found[-1][0]] if found else 0
        full = tokens is not None and bool(found) and (len(found[-1]) + 1) * longest > tokens
        if not found or full or lengths[i] < _ALIKE * longest:
            found.append([])
        found[-1].append(i)
    return found

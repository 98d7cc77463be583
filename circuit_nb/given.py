"""What a caller gives as values and positions, taken as plain numbers or refused in a sentence."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, SupportsFloat, TypeAlias

import numpy as np

Value: TypeAlias = "SupportsFloat | Iterable[SupportsFloat]"
"""A number or several; NumPy's and torch's scalars, arrays and tensors are numbers, too."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest value a feature can take: everything is computed in float32 or narrower."""


def _plain(given: Any) -> Any:
    """NumPy and torch as Python has it; everything else as it is."""
    tolist = getattr(given, "tolist", None)
    return tolist() if callable(tolist) else given


def numbers(given: Value, name: str) -> float | list[float]:
    """A value, or one for each of several features.

    Args:
        given: What the caller gave.
        name: What it is a value for, for messages.

    Raises:
        ValueError: If something in it is no number, is not finite, or beyond float32.
    """
    plain = _plain(given)
    if isinstance(plain, Iterable) and not isinstance(plain, (str, bytes)):
        return [_number(part, name) for part in plain]
    return _number(plain, name)


def _number(given: Any, name: str) -> float:
    value = _plain(given)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(
            f"A value for {name!r} is {_short(repr(given))}, which is not a number; give one "
            "number, or one a feature."
        )
    # Compared as it is: Python's integers can be too large for a float.
    if not abs(value) <= LARGEST:
        raise ValueError(
            f"A value for {name!r} is not a finite number that float32 can hold: {_short(given)}; "
            f"give one from {-LARGEST:.2g} to {LARGEST:.2g}."
        )
    return float(value)


def _short(given: Any) -> str:
    return text if len(text := str(given)) <= 40 else f"{text[:40]}…"


def whole(given: Any, name: str) -> int:
    """A whole number, 0 or more, such as a position.

    Raises:
        ValueError: If it is none.
    """
    value = _plain(given)
    known = hasattr(value, "__index__") and not isinstance(value, bool)
    if not known or operator.index(value) < 0:
        raise ValueError(f"{name} is {given!r}; give a whole number, 0 or more.")
    return operator.index(value)


def places(given: Any, name: str) -> tuple[int, ...]:
    """Several positions.

    Args:
        given: What the caller gave: an iterable, an array or a tensor of whole numbers.
        name: The parameter it was given as, for messages.

    Raises:
        ValueError: If there are none, or one of them is not a position.
    """
    plain = _plain(given)
    if isinstance(plain, (str, bytes)) or not isinstance(plain, Iterable):
        raise ValueError(f"{name} is {given!r}; give a list of positions, such as [9].")
    found = tuple(whole(part, f"One of {name}") for part in plain)
    if not found:
        raise ValueError(
            f"{name} is empty, so nothing would be changed; give at least one position, or leave "
            f"{name} out."
        )
    return found

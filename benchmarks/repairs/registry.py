"""The cases, and what they share; imports nothing of the library before a case runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

DALLAS = "Fact: the capital of the state containing Dallas is"
GOLDEN = Path("tests/golden/gemma2-plt")
GOLDEN_PROMPT = "<bos> the capital of the state containing Dallas is"

CASES: dict[tuple[int, str], Callable[[], object]] = {}
"""By the point of the list of repairs, and what is done."""


def case(point: int, does: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Register what returns, or raises, what became of something that a reader does."""

    def keep(do: Callable[[], object]) -> Callable[[], object]:
        assert (point, does) not in CASES, does
        CASES[point, does] = do
        return do

    return keep


@cache
def atlas() -> Any:
    """The embedded model."""
    from circuit_nb import load

    return load("atlas", device="cpu")


def golden() -> Any:
    """A Gemma-2 of four layers, opened anew."""
    from circuit_nb import load

    return load(GOLDEN / "model", GOLDEN / "transcoders", device="cpu")


@cache
def dallas_graph() -> Any:
    """The embedded model's graph of the Dallas prompt."""
    from circuit_nb import attribute

    return attribute(atlas(), DALLAS, progress=False)


def said(error: BaseException) -> str:
    """An error as its last line shows it to a reader."""
    return f"{type(error).__name__}: {error}"


def python(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run this Python on the same checkout, with what it writes kept."""
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)

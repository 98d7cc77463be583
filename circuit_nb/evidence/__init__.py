"""Is the graph true? What a circuit predicts, keeps and needs, measured by experiment."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuit_nb.evidence.combining import Combinations, combinations
    from circuit_nb.evidence.experiments import pace
    from circuit_nb.evidence.keeping import Control, Curve, Faithfulness, curve_sizes, faithfulness
    from circuit_nb.evidence.paraphrasing import Stability, stability
    from circuit_nb.evidence.swapping import Swap, Swaps, swap, swaps
    from circuit_nb.evidence.sweeping import MULTIPLIERS, Sweep, sweep
    from circuit_nb.evidence.verifying import Verified, verify
    from circuit_nb.grouping.proposing import RULE, propose

__all__ = [
    "MULTIPLIERS",
    "RULE",
    "Combinations",
    "Control",
    "Curve",
    "Faithfulness",
    "Stability",
    "Swap",
    "Swaps",
    "Sweep",
    "Verified",
    "combinations",
    "curve_sizes",
    "faithfulness",
    "pace",
    "propose",
    "stability",
    "swap",
    "swaps",
    "sweep",
    "verify",
]

_HOME = {
    "MULTIPLIERS": "evidence.sweeping",
    "Combinations": "evidence.combining",
    "Control": "evidence.keeping",
    "Curve": "evidence.keeping",
    "Faithfulness": "evidence.keeping",
    "Stability": "evidence.paraphrasing",
    "Swap": "evidence.swapping",
    "Swaps": "evidence.swapping",
    "Sweep": "evidence.sweeping",
    "Verified": "evidence.verifying",
    "combinations": "evidence.combining",
    "curve_sizes": "evidence.keeping",
    "faithfulness": "evidence.keeping",
    "pace": "evidence.experiments",
    "stability": "evidence.paraphrasing",
    "swap": "evidence.swapping",
    "swaps": "evidence.swapping",
    "sweep": "evidence.sweeping",
    "verify": "evidence.verifying",
    "RULE": "grouping.proposing",
    "propose": "grouping.proposing",
}
"""The module each name lives in: proposing groups needs no torch, so none is imported here."""


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'circuit_nb.evidence' has no attribute {name!r}")
    return getattr(importlib.import_module(f"circuit_nb.{_HOME[name]}"), name)

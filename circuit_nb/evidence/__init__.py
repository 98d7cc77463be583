"""Is the graph true? What a circuit predicts, keeps and needs, measured by experiment."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuit_nb.evidence.combining import Combinations, combinations
    from circuit_nb.evidence.experiments import pace
    from circuit_nb.evidence.keeping import Control, Curve, Faithfulness, curve_sizes, faithfulness
    from circuit_nb.evidence.paraphrasing import Stability, stability
    from circuit_nb.evidence.proposing import RULE, propose
    from circuit_nb.evidence.swapping import Swap, Swaps, swap, swaps
    from circuit_nb.evidence.sweeping import MULTIPLIERS, Sweep, sweep
    from circuit_nb.evidence.verifying import Verified, verify

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
    "MULTIPLIERS": "sweeping",
    "Combinations": "combining",
    "Control": "keeping",
    "Curve": "keeping",
    "Faithfulness": "keeping",
    "RULE": "proposing",
    "Stability": "paraphrasing",
    "Swap": "swapping",
    "Swaps": "swapping",
    "Sweep": "sweeping",
    "Verified": "verifying",
    "combinations": "combining",
    "curve_sizes": "keeping",
    "faithfulness": "keeping",
    "pace": "experiments",
    "propose": "proposing",
    "stability": "paraphrasing",
    "swap": "swapping",
    "swaps": "swapping",
    "sweep": "sweeping",
    "verify": "verifying",
}
"""The module each name lives in: proposing groups needs no torch, so none is imported here."""


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'circuit_nb.evidence' has no attribute {name!r}")
    return getattr(importlib.import_module(f"circuit_nb.evidence.{_HOME[name]}"), name)

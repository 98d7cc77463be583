"""Is the graph true? What a circuit predicts, keeps and needs, measured by experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_nb import lazy

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

# Proposing groups needs no torch: that alone imports none.
__getattr__ = lazy.names(
    __name__,
    {
        "evidence.combining": ("Combinations", "combinations"),
        "evidence.experiments": ("pace",),
        "evidence.keeping": ("Control", "Curve", "Faithfulness", "curve_sizes", "faithfulness"),
        "evidence.paraphrasing": ("Stability", "stability"),
        "evidence.swapping": ("Swap", "Swaps", "swap", "swaps"),
        "evidence.sweeping": ("MULTIPLIERS", "Sweep", "sweep"),
        "evidence.verifying": ("Verified", "verify"),
        "grouping.proposing": ("RULE", "propose"),
    },
)

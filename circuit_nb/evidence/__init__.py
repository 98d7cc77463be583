"""Is the graph true? What a circuit predicts, keeps and needs, measured by experiment."""

from circuit_nb.evidence.combinations import Combinations, combinations
from circuit_nb.evidence.faithfulness import Control, Curve, Faithfulness, faithfulness
from circuit_nb.evidence.propose import RULE, propose
from circuit_nb.evidence.stability import Stability, stability
from circuit_nb.evidence.swap import Swap, Swaps, swap, swaps
from circuit_nb.evidence.sweep import Sweep, sweep
from circuit_nb.evidence.verify import Verified, verify

__all__ = [
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
    "faithfulness",
    "propose",
    "stability",
    "swap",
    "swaps",
    "sweep",
    "verify",
]

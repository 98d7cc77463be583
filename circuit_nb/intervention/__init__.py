"""Interventions: features set to other values, heads to other patterns, and what follows.

Names are imported on first use: what is changed can be said without torch, which a pass needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_nb import lazy

if TYPE_CHECKING:
    from circuit_nb.intervention.change import Intervention
    from circuit_nb.intervention.heads import HeadIntervention
    from circuit_nb.intervention.outcome import Freeze, Outcome, Prediction, most_likely
    from circuit_nb.intervention.run import intervene, intervene_many

__all__ = [
    "Freeze",
    "HeadIntervention",
    "Intervention",
    "Outcome",
    "Prediction",
    "intervene",
    "intervene_many",
    "most_likely",
]

__getattr__ = lazy.names(
    __name__,
    {
        "intervention.change": ("Intervention",),
        "intervention.heads": ("HeadIntervention",),
        "intervention.outcome": ("Freeze", "Outcome", "Prediction", "most_likely"),
        "intervention.run": ("intervene", "intervene_many"),
    },
)

"""Interventions: features set to other values, heads to other patterns, and what follows.

Names are imported on first use: what is changed can be said without torch, which a pass needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuit_nb.intervention.change import Intervention
    from circuit_nb.intervention.heads import HeadIntervention
    from circuit_nb.intervention.outcome import Freeze, Outcome, Prediction, most_likely
    from circuit_nb.intervention.run import intervene, intervene_many

_HOME = {
    "Freeze": "outcome",
    "HeadIntervention": "heads",
    "Intervention": "change",
    "Outcome": "outcome",
    "Prediction": "outcome",
    "intervene": "run",
    "intervene_many": "run",
    "most_likely": "outcome",
}
"""The module each name lives in."""

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


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'circuit_nb.intervention' has no attribute {name!r}")
    return getattr(importlib.import_module(f"circuit_nb.intervention.{_HOME[name]}"), name)

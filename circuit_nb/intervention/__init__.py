"""Interventions: features set to other values, and what the model says then."""

from circuit_nb.intervention.change import Intervention
from circuit_nb.intervention.outcome import Freeze, Outcome, Prediction, most_likely
from circuit_nb.intervention.run import intervene, intervene_many

__all__ = [
    "Freeze",
    "Intervention",
    "Outcome",
    "Prediction",
    "intervene",
    "intervene_many",
    "most_likely",
]

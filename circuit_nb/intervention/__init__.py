"""Interventions: features set to other values, heads to other patterns, and what follows."""

from circuit_nb.intervention.change import Intervention
from circuit_nb.intervention.heads import HeadIntervention
from circuit_nb.intervention.outcome import Freeze, Outcome, Prediction, most_likely
from circuit_nb.intervention.readings import activations
from circuit_nb.intervention.run import intervene, intervene_many

__all__ = [
    "Freeze",
    "HeadIntervention",
    "Intervention",
    "Outcome",
    "Prediction",
    "activations",
    "intervene",
    "intervene_many",
    "most_likely",
]

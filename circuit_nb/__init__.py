"""Attribution graphs in a notebook: why a language model said what it said, and what if not.

Every public name is imported on first use, so that `import circuit_nb` loads neither torch nor a
widget library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_nb import lazy
from circuit_nb.version import __version__ as __version__

if TYPE_CHECKING:
    from circuit_nb import (
        analysis,
        atlas,
        attribution,
        cards,
        evidence,
        figures,
        graphsets,
        hub,
        intervention,
        neuronpedia,
        panels,
        published,
        sharing,
        training,
        transcoders,
    )
    from circuit_nb.analysis import prune, scores
    from circuit_nb.attribution.compute import attribute
    from circuit_nb.attribution.targets import Target
    from circuit_nb.graph import AttributionGraph, Feature, Supernode
    from circuit_nb.graphsets import GraphSet, attribute_many
    from circuit_nb.hub import known_models, machine
    from circuit_nb.intervention.change import Intervention
    from circuit_nb.intervention.heads import HeadIntervention
    from circuit_nb.intervention.outcome import Outcome
    from circuit_nb.intervention.run import intervene, intervene_many
    from circuit_nb.model.chat import chat_prompt
    from circuit_nb.model.loading import load
    from circuit_nb.model.replacement import ReplacementModel
    from circuit_nb.panels import explore

__all__ = [
    "AttributionGraph",
    "Feature",
    "GraphSet",
    "HeadIntervention",
    "Intervention",
    "Outcome",
    "ReplacementModel",
    "Supernode",
    "Target",
    "analysis",
    "atlas",
    "attribute",
    "attribute_many",
    "attribution",
    "cards",
    "chat_prompt",
    "evidence",
    "explore",
    "figures",
    "graphsets",
    "hub",
    "intervene",
    "intervene_many",
    "intervention",
    "known_models",
    "load",
    "machine",
    "neuronpedia",
    "panels",
    "prune",
    "published",
    "scores",
    "sharing",
    "training",
    "transcoders",
]

__getattr__ = lazy.names(
    __name__,
    {
        "graph": ("AttributionGraph", "Feature", "Supernode"),
        "analysis": ("prune", "scores"),
        "model": ("ReplacementModel", "chat_prompt", "load"),
        "attribution": ("Target", "attribute"),
        "intervention": (
            "HeadIntervention",
            "Intervention",
            "Outcome",
            "intervene",
            "intervene_many",
        ),
        "panels": ("explore",),
        "graphsets": ("GraphSet", "attribute_many"),
        "hub": ("known_models",),
    },
    modules=(
        "analysis",
        "atlas",
        "attribution",
        "cards",
        "evidence",
        "figures",
        "graphsets",
        "hub",
        "hub.machine",
        "intervention",
        "neuronpedia",
        "panels",
        "published",
        "sharing",
        "training",
        "transcoders",
    ),
)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Attribution graphs in a notebook: why a language model said what it said, and what if not.

Every public name is imported on first use, so that `import circuit_nb` loads neither torch nor a
widget library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuit_nb import analysis, cards, evidence, figures, neuronpedia, panels
    from circuit_nb.analysis import prune, scores
    from circuit_nb.attribution import Target, attribute
    from circuit_nb.graph import AttributionGraph, Feature, Supernode
    from circuit_nb.intervention import Intervention, Outcome, intervene
    from circuit_nb.known import known_models
    from circuit_nb.model import ReplacementModel, load
    from circuit_nb.panels import explore

__version__ = "0.1.0"

__all__ = [
    "AttributionGraph",
    "Feature",
    "Intervention",
    "Outcome",
    "ReplacementModel",
    "Supernode",
    "Target",
    "analysis",
    "attribute",
    "cards",
    "evidence",
    "explore",
    "figures",
    "intervene",
    "known_models",
    "load",
    "neuronpedia",
    "panels",
    "prune",
    "scores",
]

_HOME = {
    "AttributionGraph": "graph",
    "Feature": "graph",
    "Supernode": "graph",
    "prune": "analysis",
    "scores": "analysis",
    "ReplacementModel": "model",
    "load": "model",
    "Target": "attribution",
    "attribute": "attribution",
    "Intervention": "intervention",
    "Outcome": "intervention",
    "intervene": "intervention",
    "explore": "panels",
    "known_models": "known",
}
"""The module each public name lives in; public modules are not listed."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'circuit_nb' has no attribute {name!r}")
    if name in _HOME:
        return getattr(importlib.import_module(f"circuit_nb.{_HOME[name]}"), name)
    return importlib.import_module(f"circuit_nb.{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

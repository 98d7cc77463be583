"""Many prompts: their graphs in a folder, what they have in common, what tells them apart.

Names are imported on first use: reading a set loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuit_nb.graphsets.asking import Ask, asks, template
    from circuit_nb.graphsets.computing import attribute_many
    from circuit_nb.graphsets.engines import Engine, Here, Processes
    from circuit_nb.graphsets.graphset import GraphSet
    from circuit_nb.graphsets.ray_engine import Ray

__all__ = [
    "Ask",
    "Engine",
    "GraphSet",
    "Here",
    "Processes",
    "Ray",
    "asks",
    "attribute_many",
    "template",
]

_HOME = {
    "Ask": "asking",
    "Engine": "engines",
    "GraphSet": "graphset",
    "Here": "engines",
    "Processes": "engines",
    "Ray": "ray_engine",
    "asks": "asking",
    "attribute_many": "computing",
    "template": "asking",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'circuit_nb.graphsets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"circuit_nb.graphsets.{_HOME[name]}"), name)

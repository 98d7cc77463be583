"""Many prompts: their graphs in a folder, what they have in common, what tells them apart.

Names are imported on first use: reading a set loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_nb import lazy

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

__getattr__ = lazy.names(
    __name__,
    {
        "graphsets.asking": ("Ask", "asks", "template"),
        "graphsets.computing": ("attribute_many",),
        "graphsets.engines": ("Engine", "Here", "Processes"),
        "graphsets.graphset": ("GraphSet",),
        "graphsets.ray_engine": ("Ray",),
    },
)

"""Whether a graph was computed from a model: switches on another would say nothing of it."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from circuit_nb.graph import AttributionGraph
    from circuit_nb.model.replacement import ReplacementModel


def check_belongs(graph: AttributionGraph, model: ReplacementModel) -> None:
    """Refuse a model that a graph was not computed from.

    Names are compared as the graph's provenance has them, of local folders the last part only;
    one that is not known is not compared. Layers and features must exist in any case.

    Raises:
        ValueError: If it says another model or other transcoders, or they lack its features.
    """
    t = model.transcoders
    for what, wanted, given in (
        ("model", graph.provenance.get("model"), model.name),
        ("transcoders", graph.provenance.get("transcoders"), t.source),
    ):
        if isinstance(wanted, str) and wanted and given and not _same(wanted, given):
            raise ValueError(
                f"This graph was computed with the {what} {wanted!r}, and the {what} given "
                f"{'is' if what == 'model' else 'are'} {given!r}; load that, or explore(graph) "
                "without a model."
            )
    if graph.n_layers != t.n_layers:
        raise ValueError(
            f"This graph has {graph.n_layers} layers and {model.name} has {t.n_layers}; give the "
            "model it was computed from, or explore(graph) without one."
        )
    sizes = np.array([len(layer.b_enc) for layer in t.layers])
    beyond = graph.features[graph.features[:, 2] >= sizes[graph.features[:, 0]]]
    if len(beyond):
        layer, _, index = beyond[0].tolist()
        raise ValueError(
            f"This graph has feature {index} at layer {layer}, where the transcoders given have "
            f"{sizes[layer]:,}; give those it was computed with, or explore(graph) without a model."
        )


def _same(one: str, other: str) -> bool:
    """Whether two names mean the same: ids of the Hub as they are, folders by their last part."""
    if one.casefold() == other.casefold():
        return True
    paths = PurePath(one), PurePath(other)
    return any(p.is_absolute() for p in paths) and paths[0].name == paths[1].name

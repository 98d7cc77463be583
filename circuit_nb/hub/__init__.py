"""Models and transcoder sets as local files: on the Hub, in folders, and inside this package."""

from circuit_nb.hub.errors import Place
from circuit_nb.hub.known import KnownPair, NeuronpediaIds, known_models, neuronpedia_ids
from circuit_nb.hub.resolve import (
    Resolved,
    default_transcoders,
    model_source,
    parse_place,
    transcoder_set,
)

__all__ = [
    "KnownPair",
    "NeuronpediaIds",
    "Place",
    "Resolved",
    "default_transcoders",
    "known_models",
    "model_source",
    "neuronpedia_ids",
    "parse_place",
    "transcoder_set",
]

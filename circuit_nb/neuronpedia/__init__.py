"""Neuronpedia and its file format: graphs in and out, what it says about features, page links.

Everything read here is text from strangers: labels and tokens are data to escape, never markup.
"""

from circuit_nb.neuronpedia.annotations import Annotations
from circuit_nb.neuronpedia.api import read, upload
from circuit_nb.neuronpedia.features import features
from circuit_nb.neuronpedia.links import GraphLink, feature_url, page_link, parse_link
from circuit_nb.neuronpedia.reading import GraphFile, from_bytes, from_json
from circuit_nb.neuronpedia.web import NeuronpediaError, Patience
from circuit_nb.neuronpedia.writing import to_json, write

__all__ = [
    "Annotations",
    "GraphFile",
    "GraphLink",
    "NeuronpediaError",
    "Patience",
    "feature_url",
    "features",
    "from_bytes",
    "from_json",
    "page_link",
    "parse_link",
    "read",
    "to_json",
    "upload",
    "write",
]

"""Neuronpedia and its file format: attribution-graph JSON in and out.

Everything read here is text from strangers: labels and tokens are data to escape, never markup.
"""

from circuit_nb.neuronpedia.annotations import Annotations
from circuit_nb.neuronpedia.reading import GraphFile, from_bytes, from_json, read_file
from circuit_nb.neuronpedia.writing import to_json, write

__all__ = ["Annotations", "GraphFile", "from_bytes", "from_json", "read_file", "to_json", "write"]

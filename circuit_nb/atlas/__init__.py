"""The embedded default model: a small Llama that needs two hops to name a capital.

The model knows 50 states and 60 countries. `Fact: the capital of the state containing
Dallas is` takes it from Dallas to Texas (layer 0, at ` Dallas`) and from Texas and
` capital` to ` Austin` (layer 3, at the last token), although no training sentence of that
form names Dallas. `circuit_nb.atlas.making` builds and measures it; nothing here imports torch.
"""

from circuit_nb.atlas.shipped import (
    DALLAS,
    WEIGHTS,
    Concept,
    Shipped,
    concepts,
    labels,
    model_folder,
    read_concepts,
    shipped_with,
    supernodes,
    transcoder_folder,
    values,
)

__all__ = [
    "DALLAS",
    "WEIGHTS",
    "Concept",
    "Shipped",
    "concepts",
    "labels",
    "model_folder",
    "read_concepts",
    "shipped_with",
    "supernodes",
    "transcoder_folder",
    "values",
]

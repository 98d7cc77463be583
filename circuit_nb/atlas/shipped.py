"""What ships with an embedded model beside its weights: labels, concepts, and texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from circuit_nb.atlas.sentences import fact_sentences
from circuit_nb.atlas.world import load_world
from circuit_nb.hub.embedded import EMBEDDED

DALLAS = "Fact: the capital of the state containing Dallas is"
"""The prompt of the demonstration. Dallas is a held-out city."""

WEIGHTS = EMBEDDED["atlas"]
"""Folder with all that ships: model, transcoders, labels, concepts, figures."""

MINIMUM_PRESENCE = 0.5
"""Share of a concept's usual activation that must be active at a position to name it there."""


@dataclass(frozen=True)
class Concept:
    """Features that together stand for one thing, e.g. the state of Texas."""

    name: str
    """What a reader calls it: `Texas`, `say Austin`, `capital`."""
    kind: str
    """`state`, `country`, `say` (an answer about to be given) or `relation`."""
    features: tuple[tuple[int, int, float], ...]
    """(layer, index, usual activation) of each feature; the activation is the mean over
    training prompts where the concept is present."""


@dataclass(frozen=True)
class Shipped:
    """What ships with an embedded model."""

    name: str
    """That of the model."""
    folder: Path

    @cached_property
    def labels(self) -> dict[tuple[int, int], str]:
        """A label for every live feature, keyed by (layer, index); none in a build without."""
        table: dict[str, dict[str, str]] = _read(self.folder / "labels.json")
        return {
            (int(layer), int(index)): label
            for layer, of_layer in table.items()
            for index, label in of_layer.items()
        }

    @cached_property
    def concepts(self) -> dict[str, Concept]:
        """Every concept by name; none in a build without."""
        return read_concepts(self.folder / "concepts.json")

    def texts(self) -> list[str]:
        """Sentences the model knows: all that state a fact."""
        return [sentence.text for sentence in fact_sentences(load_world())]

    def supernodes(
        self, features: Iterable[tuple[int, int, int]]
    ) -> dict[str, list[tuple[int, int, int]]]:
        """Group a prompt's active features into named supernodes.

        A concept is present at a position when the features of it that are active there make up
        at least `MINIMUM_PRESENCE` of its usual activation, and are not all part of another that
        is present with more.

        Args:
            features: rows (layer, position, index) of the active features, as in a graph.

        Returns:
            The rows of each concept that is present, in ascending order, by concept name.
        """
        at_position: dict[int, set[tuple[int, int]]] = {}
        for layer, position, index in features:
            at_position.setdefault(int(position), set()).add((int(layer), int(index)))
        found: dict[str, list[tuple[int, int, int]]] = {}
        for position, active in at_position.items():
            present: dict[str, set[tuple[int, int]]] = {}
            for name, concept in self.concepts.items():
                usual = values(concept)
                shared = active & usual.keys()
                if shared and sum(map(usual.__getitem__, shared)) >= MINIMUM_PRESENCE * sum(
                    usual.values()
                ):
                    present[name] = shared
            for name, shared in present.items():
                if not any(shared < other for other in present.values()):
                    found.setdefault(name, []).extend((lay, position, i) for lay, i in shared)
        return {name: sorted(rows) for name, rows in found.items()}


def shipped_with(origin: Mapping[str, object]) -> Shipped | None:
    """What ships with the model and transcoders that provenance names; `None` for all others.

    Where it names no transcoders the model decides: numbers of features mean nothing in a set that
    somebody else trained.
    """
    model, transcoders = origin.get("model"), origin.get("transcoders")
    found = _SHIPPED.get(model) if isinstance(model, str) else None
    if found is None or transcoders in (None, "", model, str(EMBEDDED[found.name] / "transcoders")):
        return found
    return None


_SHIPPED = {name: Shipped(name, folder) for name, folder in EMBEDDED.items()}
_ATLAS = _SHIPPED["atlas"]


def model_folder() -> Path:
    """Return the folder of the model: a Hugging Face `LlamaForCausalLM` and its tokenizer."""
    return WEIGHTS / "model"


def transcoder_folder() -> Path:
    """Return the folder of the transcoders: `config.yaml` and one safetensors a layer."""
    return WEIGHTS / "transcoders"


def labels() -> dict[tuple[int, int], str]:
    """Return a label for every live feature, keyed by (layer, index)."""
    return dict(_ATLAS.labels)


def concepts() -> dict[str, Concept]:
    """Return every concept by name."""
    return dict(_ATLAS.concepts)


def supernodes(
    features: Iterable[tuple[int, int, int]],
) -> dict[str, list[tuple[int, int, int]]]:
    """Group a prompt's active features into named supernodes, as `Shipped.supernodes` does."""
    return _ATLAS.supernodes(features)


def values(concept: str | Concept) -> dict[tuple[int, int], float]:
    """Return the usual activation of each feature of a concept, keyed by (layer, index).

    Setting these at a position injects the concept where it is not active, e.g. California
    at ` Dallas`.

    Raises:
        KeyError: there is no concept of that name.
    """
    chosen = _named(concept) if isinstance(concept, str) else concept
    return {(layer, index): usual for layer, index, usual in chosen.features}


def read_concepts(path: Path) -> dict[str, Concept]:
    """Read a file of concepts, by name."""
    table: dict[str, dict[str, Any]] = _read(path)
    return {
        name: Concept(
            name,
            entry["kind"],
            tuple((int(lay), int(i), float(usual)) for lay, i, usual in entry["features"]),
        )
        for name, entry in table.items()
    }


def _named(name: str) -> Concept:
    known = _ATLAS.concepts
    if name not in known:
        raise KeyError(f"no concept {name!r}; concepts are called e.g. {sorted(known)[:5]}")
    return known[name]


def _read(path: Path) -> Any:
    """A table that ships with the model; empty where a build has not made it yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

"""Published experiments on Gemma-2-2B: prompts, supernodes and outcomes, kept as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from circuit_nb.graph import Feature, Supernode

_FILE = Path(__file__).parent / "published.yaml"


@dataclass(frozen=True)
class PublishedCase:
    """One prompt and what was published about it."""

    prompt: str
    graph: str
    """Neuronpedia's slug of its graph, for `neuronpedia.read("gemma-2-2b", slug)`."""
    supernodes: Mapping[str, Supernode]
    """By name."""
    outcomes: Mapping[str, str]
    """What was changed: the next tokens that were published, in per cent."""
    baseline: str = ""
    """The same without a change."""

    def __getitem__(self, name: str) -> Supernode:
        """A supernode by name."""
        return self.supernodes[name]


def case(name: str) -> PublishedCase:
    """A published case: dallas, oakland, shanghai, vancouver, petit, chinese or grand.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in _cases():
        raise ValueError(f"There is no published case {name!r}; there are {', '.join(_cases())}.")
    return _cases()[name]


@lru_cache(maxsize=1)
def _cases() -> dict[str, PublishedCase]:
    table: dict[str, dict[str, Any]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {
        name: PublishedCase(
            entry["prompt"],
            entry["graph"],
            {label: _supernode(label, text) for label, text in entry["supernodes"].items()},
            entry.get("outcomes", {}),
            entry.get("baseline", ""),
        )
        for name, entry in table.items()
    }


def _supernode(label: str, text: str) -> Supernode:
    features: list[Feature] = []
    for entry in text.split():
        layer, index, position = map(int, entry.split("_"))
        features.append(Feature(layer, position, index))
    return Supernode(label, features)

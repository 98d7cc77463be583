"""Models and transcoder sets known by name: a table kept as data in `known_models.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_FILE = Path(__file__).parent / "known_models.yaml"
_GB = 1e9
WORKING_BYTES = 1_500_000_000
"""Room for one attribution beside weights and encoders: patterns, gradients, decoder rows, and what
CUDA takes; see `benchmarks/memory.py`."""


class NeuronpediaIds(NamedTuple):
    """How Neuronpedia calls a transcoder set."""

    model_id: str
    source_set: str


@dataclass(frozen=True)
class KnownPair:
    """A model and one transcoder set that was trained on it."""

    model: str
    """Hub id of the model."""
    transcoders: str
    """Hub id of the set, `owner/name/folder`."""
    kind: str
    """PLT (one transcoder a layer) or CLT (features write to every later layer)."""
    parameters: float
    """Of the model, in billions."""
    layers: int
    d_model: int
    features: int | None = None
    """Per layer, where known."""
    bytes: int = 2
    """Size of one stored weight of the set."""
    model_bytes: int = 2
    """Size of one stored weight of the model."""
    neuronpedia: NeuronpediaIds | None = None
    """Where its features have labels, where known."""
    gated: bool = False
    """Whether the model's page asks to accept terms."""
    default: bool = False
    """Whether `load(model)` takes this set."""

    @property
    def download_gb(self) -> float | None:
        """Size of model and set on disk, in GB (10^9 bytes)."""
        if self.features is None:
            return None
        one = self.features * self.d_model
        written = self.layers * (self.layers + 1) // 2 if self.kind == "CLT" else self.layers
        weights = (self.layers + written) * one
        return self.parameters * self.model_bytes + weights * self.bytes / _GB

    @property
    def memory_gb(self) -> float | None:
        """GPU memory for model and encoders in bfloat16 and one attribution, in GB; estimated.

        Decoders stay on disk.
        """
        if self.features is None:
            return None
        encoders = self.layers * self.features * self.d_model * 2 / _GB
        return self.parameters * 2 + encoders + WORKING_BYTES / _GB


class KnownModels(tuple[KnownPair, ...]):
    """The table; prints as one, in a notebook too."""

    __slots__ = ()

    def _rows(self) -> Iterator[tuple[str, ...]]:
        yield "model", "transcoders", "kind", "download", "GPU memory", "labels"
        for pair in self:
            name = pair.model + (" (gated)" if pair.gated else "")
            labels = "Neuronpedia" if pair.neuronpedia else ""
            default = pair.transcoders + (" *" if pair.default else "")
            sizes = (_size(pair.download_gb), _size(pair.memory_gb))
            yield name, default, pair.kind, *sizes, labels

    def __repr__(self) -> str:
        rows = list(self._rows())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
                 for row in rows]  # fmt: skip
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], _LEGEND])

    def _repr_html_(self) -> str:
        head, *rows = (
            "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
            for tag, row in zip(["th", *["td"] * len(self)], self._rows(), strict=True)
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{escape(_LEGEND)}</p>"
        )


_LEGEND = (
    "* what load(model) takes. Sizes are computed from the shapes: the download as stored, "
    "memory for the model, encoders and one attribution in bfloat16, decoders on disk."
)


def _size(gigabytes: float | None) -> str:
    return "?" if gigabytes is None else f"{gigabytes:.1f} GB"


@lru_cache(maxsize=1)
def known_models() -> KnownModels:
    """Models and transcoder sets that are known to go together, with sizes.

    Others work too: any set in one of the formats, on any model of a known family.
    """
    table: dict[str, list[dict[str, Any]]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return KnownModels(
        _pair(model, entry, number == 0)
        for model in table["models"]
        for number, entry in enumerate(model["sets"])
    )


def _pair(model: dict[str, Any], entry: dict[str, Any], default: bool) -> KnownPair:
    names = entry.get("neuronpedia")
    return KnownPair(
        model=model["model"],
        transcoders=entry["transcoders"],
        kind=entry["kind"],
        parameters=float(model["parameters"]),
        layers=int(model["layers"]),
        d_model=int(model["d_model"]),
        features=entry.get("features"),
        bytes=int(entry.get("bytes", 2)),
        model_bytes=int(model.get("model_bytes", 2)),
        neuronpedia=NeuronpediaIds(*names.split("/", 1)) if names else None,
        gated=bool(model.get("gated", False)),
        default=default,
    )


def default_set(model: str) -> str:
    """The transcoder set that `load(model)` takes.

    Raises:
        ValueError: If none is known.
    """
    name = model.split("@", 1)[0]
    for pair in known_models():
        if pair.default and pair.model.lower() == name.lower():
            return pair.transcoders
    known = ", ".join(pair.model for pair in known_models() if pair.default)
    raise ValueError(
        f"No transcoder set is known for {model!r}; name one: load(model, transcoders). Models "
        f"with a known set: {known}."
    )


def neuronpedia_ids(transcoders: str) -> NeuronpediaIds | None:
    """How Neuronpedia calls a set given by its Hub id; None if it is not known there."""
    name = transcoders.split("@", 1)[0].strip("/").lower()
    found = (pair for pair in known_models() if pair.transcoders.lower() == name)
    return next((pair.neuronpedia for pair in found), None)


def neuronpedia_ids_of_scan(scan: str) -> NeuronpediaIds | None:
    """How Neuronpedia calls a set whose config names its scan; None if it is not known there.

    Args:
        scan: `model id/source set`, or of one layer `model id/layer-source set`.
    """
    model_id, _, source_set = scan.partition("/")
    of_layer = source_set.partition("-")[2] if source_set.partition("-")[0].isdigit() else ""
    named = {(model_id, source_set), (model_id, of_layer)}
    found = (pair.neuronpedia for pair in known_models() if pair.neuronpedia)
    return next((ids for ids in found if tuple(ids) in named), None)

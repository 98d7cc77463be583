"""Cards on disk: numbers as safetensors, texts as JSON beside them."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from circuit_nb.cards.types import Example, FeatureCard, Histogram, Key
from circuit_nb.files import (
    clear_stale,
    explained,
    pending,
    said,
    shown,
    write_tensors,
    write_text,
)

SCHEMA_VERSION = 1
_SAVE = "save"
"""In both files: a number drawn at each save, by which they are known to belong together."""
_NAME = re.compile(r"[0-9a-f]{12}")
_NUMBERS, _TEXTS = "cards.safetensors", "cards.json"
_BINS = 20


class CardSet(Mapping[Key, FeatureCard]):
    """Cards by (layer, index), with where they come from.

    Args:
        cards: The cards.
        provenance: Model, transcoders and settings they were computed with. JSON values only.
    """

    def __init__(
        self, cards: Mapping[Key, FeatureCard], provenance: Mapping[str, Any] | None = None
    ) -> None:
        self._cards = dict(cards)
        self.provenance = dict(provenance or {})

    def __getitem__(self, key: Key) -> FeatureCard:
        return self._cards[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    def __repr__(self) -> str:
        return f"CardSet({len(self)} features of {self.provenance.get('model', 'no model')})"

    def save(self, folder: str | Path) -> Path:
        """Write `cards.safetensors` and `cards.json` into a folder.

        Cards that are there are replaced by these, numbers and texts together.

        Returns:
            The folder.

        Raises:
            OSError: If they cannot be written; one sentence says why.
        """
        folder = Path(folder)
        tokens: dict[str, int] = {}

        def number(token: str) -> int:
            return tokens.setdefault(token, len(tokens))

        arrays = _arrays(self._cards, number)
        name = secrets.token_hex(6)
        texts = {
            "schema_version": SCHEMA_VERSION,
            _SAVE: name,
            "provenance": self.provenance,
            "tokens": list(tokens),
            "labels": [card.label for card in self._cards.values()],
            "urls": [card.url for card in self._cards.values()],
            "sources": [card.source for card in self._cards.values()],
        }
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The texts wait beside their place, whole, until the numbers are in theirs: whatever
            # happens in between, `load` finds both of one save.
            waiting = write_text(pending(folder / _TEXTS, name), json.dumps(texts))
            try:
                write_tensors(folder / _NUMBERS, arrays, {_SAVE: name})
            finally:
                if _save_of(folder / _NUMBERS) == name:
                    waiting.replace(folder / _TEXTS)
                else:
                    waiting.unlink()
        clear_stale(folder / _TEXTS)
        return folder


def _arrays(
    cards: Mapping[Key, FeatureCard], number: Any
) -> dict[str, npt.NDArray[np.int64 | np.float32]]:
    """All numbers, flat; `*_ends` say where each card's part ends."""
    ints: dict[str, list[int]] = {n: [] for n in ("examples", "lengths", "tokens", "effects")}
    examples_ends, effects_ends, values, effects = list[int](), list[int](), list[float](), []
    histograms = np.zeros((len(cards), 2 * _BINS + 1), dtype=np.float32)
    for row, card in enumerate(cards.values()):
        for example in card.examples:
            ints["lengths"].append(len(example.tokens))
            ints["tokens"] += map(number, example.tokens)
            values += example.activations
        examples_ends.append(len(ints["lengths"]))
        for token, effect in (*card.promotes, *card.suppresses):
            ints["effects"].append(number(token))
            effects.append(effect)
        effects_ends.append(len(effects))
        if card.histogram is not None:
            counts, edges = card.histogram
            if len(counts) != _BINS:
                raise ValueError(f"A saved card's histogram has {_BINS} bins, not {len(counts)}.")
            histograms[row] = [*counts, *edges]
    densities = [np.nan if card.density is None else card.density for card in cards.values()]
    return {
        "keys": np.array(list(cards), dtype=np.int64).reshape(-1, 2),
        "densities": np.array(densities, dtype=np.float32),
        "histograms": histograms,
        "examples_ends": np.array(examples_ends, dtype=np.int64),
        "lengths": np.array(ints["lengths"], dtype=np.int64),
        "tokens": np.array(ints["tokens"], dtype=np.int64),
        "activations": np.array(values, dtype=np.float32),
        "effects_ends": np.array(effects_ends, dtype=np.int64),
        "effect_tokens": np.array(ints["effects"], dtype=np.int64),
        "effects": np.array(effects, dtype=np.float32),
    }


def load(folder: str | Path) -> CardSet:
    """Read cards written by `CardSet.save`.

    Raises:
        FileNotFoundError: If the folder holds no cards.
        ValueError: If its files are damaged, do not belong together, or are of a newer schema.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    for name in (_NUMBERS, _TEXTS):
        if not (folder / name).is_file() and not _waiting(folder):
            raise FileNotFoundError(f"No cards at {folder}: there is no {name} in it.")
    try:
        arrays = load_file(folder / _NUMBERS)
        texts = json.loads((_waiting(folder) or folder / _TEXTS).read_text(encoding="utf-8"))
        version = texts["schema_version"]
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema {version} is not {SCHEMA_VERSION}; upgrade circuit-nb")
        if texts.get(_SAVE) != _save_of(folder / _NUMBERS):
            raise ValueError(f"{_NUMBERS} and {_TEXTS} come from two saves; save them again")
        return CardSet(_cards(arrays, texts), texts["provenance"])
    except (
        SafetensorError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ValueError(f"The cards at {shown(folder)} cannot be read ({said(error)}).") from error


def _save_of(numbers: Path) -> str | None:
    """Which save wrote the numbers; None where that is not known."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(numbers, framework="numpy") as file:
            return (file.metadata() or {}).get(_SAVE)
    except (SafetensorError, OSError):
        return None


def _waiting(folder: Path) -> Path | None:
    """Texts that go with the numbers, where their save was stopped before they had their place."""
    name = _save_of(folder / _NUMBERS)
    path = pending(folder / _TEXTS, name) if name and _NAME.fullmatch(name) else None
    return path if path is not None and path.is_file() else None


def _cards(arrays: Mapping[str, npt.NDArray[Any]], texts: Mapping[str, Any]) -> dict[Key, Any]:
    tokens: list[str] = texts["tokens"]
    spans = [0, *np.cumsum(arrays["lengths"]).tolist()]
    examples = [
        Example(
            tuple(tokens[t] for t in arrays["tokens"][a:b].tolist()),
            tuple(arrays["activations"][a:b].tolist()),
        )
        for a, b in pairwise(spans)
    ]
    effects = [
        (tokens[t], effect)
        for t, effect in zip(
            arrays["effect_tokens"].tolist(), arrays["effects"].tolist(), strict=True
        )
    ]
    example_spans = list(pairwise([0, *arrays["examples_ends"].tolist()]))
    effect_spans = list(pairwise([0, *arrays["effects_ends"].tolist()]))
    result: dict[Key, FeatureCard] = {}
    for row, (layer, index) in enumerate(arrays["keys"].tolist()):
        own = effects[slice(*effect_spans[row])]
        density, bars = float(arrays["densities"][row]), arrays["histograms"][row].tolist()
        result[layer, index] = FeatureCard(
            label=str(texts["labels"][row]),
            examples=tuple(examples[slice(*example_spans[row])]),
            promotes=tuple(pair for pair in own if pair[1] > 0),
            suppresses=tuple(pair for pair in own if pair[1] <= 0),
            density=None if np.isnan(density) else density,
            histogram=Histogram(tuple(bars[:_BINS]), tuple(bars[_BINS:])) if any(bars) else None,
            url=texts["urls"][row],
            source=str(texts["sources"][row]),
        )
    return result

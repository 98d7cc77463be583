"""Cards on disk: numbers as safetensors, texts as JSON beside them."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from circuit_nb.cards.packing import Packed, pack
from circuit_nb.cards.types import FeatureCard, Key
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


class CardSet(Mapping[Key, FeatureCard]):
    """Cards by (layer, index), with where they come from.

    Args:
        cards: The cards.
        provenance: Model, transcoders and settings they were computed with. JSON values only.
    """

    def __init__(
        self, cards: Mapping[Key, FeatureCard], provenance: Mapping[str, Any] | None = None
    ) -> None:
        of = cards._cards if isinstance(cards, CardSet) else cards
        self._cards = of if isinstance(of, Packed) else dict(of)
        self.provenance = dict(provenance or {})

    def __getitem__(self, key: Key) -> FeatureCard:
        return self._cards[key]

    def __contains__(self, key: object) -> bool:
        return key in self._cards

    def __iter__(self) -> Iterator[Key]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    @property
    def labels(self) -> dict[Key, str]:
        """The labels alone, of the cards that have one: no card is made for them."""
        if isinstance(self._cards, Packed):
            every = zip(self._cards, self._cards.texts["labels"], strict=True)
        else:
            every = ((key, card.label) for key, card in self._cards.items())
        return {key: str(label) for key, label in every if label}

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
        packed = self._cards if isinstance(self._cards, Packed) else pack(self._cards.items())
        name = secrets.token_hex(6)
        texts = {
            "schema_version": SCHEMA_VERSION,
            _SAVE: name,
            "provenance": self.provenance,
            **packed.texts,
        }
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The texts wait beside their place, whole, until the numbers are in theirs: whatever
            # happens in between, `load` finds both of one save.
            waiting = write_text(pending(folder / _TEXTS, name), json.dumps(texts))
            try:
                write_tensors(folder / _NUMBERS, packed.arrays, {_SAVE: name})
            finally:
                if _save_of(folder / _NUMBERS) == name:
                    waiting.replace(folder / _TEXTS)
                else:
                    waiting.unlink()
        clear_stale(folder / _TEXTS)
        return folder


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
        told = {name: texts[name] for name in ("tokens", "labels", "urls", "sources")}
        return CardSet(Packed(arrays, told), texts["provenance"])
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

"""Many cards in little memory: numbers in arrays, and a card made of them when it is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from circuit_nb.cards.types import BINS, Example, FeatureCard, Histogram, Key

Arrays = Mapping[str, npt.NDArray[Any]]


class Packed(Mapping[Key, FeatureCard]):
    """Cards by (layer, index), packed.

    Args:
        arrays: Numbers of all cards, flat; `*_ends` say where each card's part ends.
        texts: `tokens` by number, and `labels`, `urls` and `sources` of the cards.

    Raises:
        ValueError: If they do not fit one another.
        KeyError: If one is missing.
    """

    def __init__(self, arrays: Arrays, texts: Mapping[str, Any]) -> None:
        self.arrays, self.texts = dict(arrays), dict(texts)
        self._example_ends = np.cumsum(arrays["lengths"], dtype=np.int64)
        self._check()
        keys = map(tuple, arrays["keys"].tolist())
        self._rows: dict[Key, int] = {key: row for row, key in enumerate(keys)}

    def __getitem__(self, key: Key) -> FeatureCard:
        row, arrays, texts = self._rows[key], self.arrays, self.texts
        tokens: list[str] = texts["tokens"]
        effects = _part(arrays["effects_ends"], row)
        pairs = [
            (tokens[t], effect)
            for t, effect in zip(
                arrays["effect_tokens"][effects].tolist(),
                arrays["effects"][effects].tolist(),
                strict=True,
            )
        ]
        density, bars = float(arrays["densities"][row]), arrays["histograms"][row].tolist()
        return FeatureCard(
            label=str(texts["labels"][row]),
            examples=tuple(self._examples(row)),
            promotes=tuple(pair for pair in pairs if pair[1] > 0),
            suppresses=tuple(pair for pair in pairs if pair[1] <= 0),
            density=None if np.isnan(density) else density,
            histogram=Histogram(tuple(bars[:BINS]), tuple(bars[BINS:])) if any(bars) else None,
            url=texts["urls"][row],
            source=str(texts["sources"][row]),
        )

    def __contains__(self, key: object) -> bool:
        return key in self._rows  # With no card made for it.

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _examples(self, row: int) -> Iterator[Example]:
        own = _part(self.arrays["examples_ends"], row)
        for i in range(own.start, own.stop):
            part = _part(self._example_ends, i)
            yield Example(
                tuple(self.texts["tokens"][t] for t in self.arrays["tokens"][part].tolist()),
                tuple(self.arrays["activations"][part].tolist()),
            )

    def _check(self) -> None:
        a, texts = self.arrays, self.texts
        cards, tokens = len(a["keys"]), len(texts["tokens"])
        shapes = {
            "keys": (cards, 2),
            "densities": (cards,),
            "histograms": (cards, 2 * BINS + 1),
            "examples_ends": (cards,),
            "effects_ends": (cards,),
            "lengths": (_last(a["examples_ends"]),),
            "tokens": (_last(self._example_ends),),
            "activations": (_last(self._example_ends),),
            "effect_tokens": (_last(a["effects_ends"]),),
            "effects": (_last(a["effects_ends"]),),
        }
        wrong = [name for name, shape in shapes.items() if a[name].shape != shape]
        wrong += [n for n in ("labels", "urls", "sources") if len(texts[n]) != cards]
        for name in ("examples_ends", "effects_ends"):
            if (np.diff(a[name], prepend=0) < 0).any():
                wrong.append(name)
        if (a["lengths"] < 0).any():
            wrong.append("lengths")
        for name in ("tokens", "effect_tokens"):
            if a[name].size and not 0 <= a[name].min() <= a[name].max() < tokens:
                wrong.append(name)
        if wrong:
            raise ValueError(f"{', '.join(wrong)} do not fit the rest")


def pack(cards: Iterable[tuple[Key, FeatureCard]]) -> Packed:
    """Pack cards, one after the other.

    Raises:
        ValueError: If a histogram has another number of bins.
    """
    tokens: dict[str, int] = {}
    ints = {n: array("q") for n in ("keys", "lengths", "examples_ends", "effects_ends")}
    short = {n: array("i") for n in ("tokens", "effect_tokens")}
    floats = {n: array("f") for n in ("activations", "effects")}
    wide = {n: array("d") for n in ("densities", "histograms")}
    texts: dict[str, list[str | None]] = {"labels": [], "urls": [], "sources": []}

    def number(token: str) -> int:
        return tokens.setdefault(token, len(tokens))

    for key, card in cards:
        ints["keys"].extend(key)
        for example in card.examples:
            ints["lengths"].append(len(example.tokens))
            short["tokens"].extend(map(number, example.tokens))
            floats["activations"].extend(example.activations)
        ints["examples_ends"].append(len(ints["lengths"]))
        for token, effect in (*card.promotes, *card.suppresses):
            short["effect_tokens"].append(number(token))
            floats["effects"].append(effect)
        ints["effects_ends"].append(len(floats["effects"]))
        counts, edges = card.histogram or ((0.0,) * BINS, (0.0,) * (BINS + 1))
        if len(counts) != BINS:
            raise ValueError(f"A saved card's histogram has {BINS} bins, not {len(counts)}.")
        wide["histograms"].extend((*counts, *edges))
        wide["densities"].append(np.nan if card.density is None else card.density)
        for name, text in zip(texts, (card.label, card.url, card.source), strict=True):
            texts[name].append(text)
    arrays = {  # Of the same memory.
        name: np.asarray(of) for part in (ints, short, floats, wide) for name, of in part.items()
    }
    arrays["keys"] = arrays["keys"].reshape(-1, 2)
    arrays["histograms"] = arrays["histograms"].reshape(-1, 2 * BINS + 1)
    return Packed(arrays, {"tokens": list(tokens), **texts})


def _part(ends: npt.NDArray[Any], i: int) -> slice:
    return slice(int(ends[i - 1]) if i else 0, int(ends[i]))


def _last(ends: npt.NDArray[Any]) -> int:
    return int(ends[-1]) if len(ends) else 0

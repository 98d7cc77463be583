"""Cards computed from the reader's own texts, one pass over them, nothing kept but the best."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from circuit_nb.cards.effects import logit_effects
from circuit_nb.cards.storage import CardSet
from circuit_nb.cards.types import (
    Example,
    FeatureCard,
    Histogram,
    Key,
    automatic_label,
    peak_token,
)

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel

_BINS = 20
_EXAMPLES = 5


@dataclass
class _Tally:
    """What is kept of one feature while texts go by."""

    tokens: int = 0
    """At how many tokens it was active."""
    limit: float = 0.0
    """Where the histogram ends; doubled when an activation lies farther from 0."""
    above: list[int] = field(default_factory=lambda: [0] * _BINS)
    """Counts of the bins from 0 to `limit`."""
    below: list[int] = field(default_factory=lambda: [0] * _BINS)
    """Counts from 0 to -`limit`: a TopK activation is negative where few features are positive."""
    best: list[tuple[float, int, tuple[int, ...], tuple[float, ...]]] = field(
        default_factory=list[Any]
    )
    """A heap of (peak, text, positions, activations), the weakest first."""

    def add(self, text: int, positions: list[int], values: list[float]) -> None:
        """Take in where and how strongly the feature was active in one text."""
        # Plain Python: a feature is active at few tokens of a text, where arrays cost more.
        peak = max(values)
        farthest = max(peak, -min(values))
        self.limit = self.limit or farthest
        while farthest > self.limit:
            self.above = _in_pairs(self.above) + [0] * (_BINS // 2)
            self.below = _in_pairs(self.below) + [0] * (_BINS // 2)
            self.limit *= 2
        for value in values:
            side = self.above if value >= 0 else self.below
            side[min(int(abs(value) / self.limit * _BINS), _BINS - 1)] += 1
        self.tokens += len(positions)
        entry = (peak, -text, tuple(positions), tuple(values))
        if len(self.best) < _EXAMPLES:
            heapq.heappush(self.best, entry)
        elif entry > self.best[0]:
            heapq.heapreplace(self.best, entry)

    @property
    def histogram(self) -> Histogram:
        """From 0 on; where an activation was negative, as many bins from -`limit` on."""
        counts, least = self.above, 0.0
        if any(self.below):
            counts, least = _in_pairs(self.below)[::-1] + _in_pairs(self.above), -self.limit
        edges = np.linspace(least, self.limit, _BINS + 1).tolist()
        return Histogram(tuple(map(float, counts)), tuple(edges))

    def examples(self, texts: Sequence[Sequence[str]]) -> tuple[Example, ...]:
        """The texts that activate it most, the strongest first."""
        found: list[Example] = []
        for _, text, positions, values in sorted(self.best, reverse=True):
            activations = [0.0] * len(texts[-text])
            for position, value in zip(positions, values, strict=True):
                activations[position] = value
            found.append(Example(tuple(texts[-text]), tuple(activations)))
        return tuple(found)


def _in_pairs(counts: Sequence[int]) -> list[int]:
    """Half as many bins, each as wide as two."""
    return [a + b for a, b in zip(counts[::2], counts[1::2], strict=True)]


def compute(
    model: ReplacementModel,
    texts: Iterable[str],
    *,
    keys: Iterable[Key] | None = None,
    effects: int = 10,
    max_tokens: int = 64,
    progress: bool = True,
) -> CardSet:
    """Make cards of the features that are active in texts.

    Texts are read one by one, so `texts` may be a generator over a corpus larger than memory;
    long ones are cut into pieces of `max_tokens`. What is kept takes about 2 KB a feature.

    Args:
        model: The model.
        texts: What to read.
        keys: (layer, index) of the features wanted; by default every one that is ever active.
        effects: How many tokens to list that it raises and lowers most; 0 leaves them out, which
            saves most of the time on large vocabularies.
        max_tokens: Length of a piece, the special token at its begin included.
        progress: Whether to show progress bars.

    Returns:
        Cards with plain labels, the five pieces that activate each feature most, densities,
        histograms and logit effects.

    Raises:
        ValueError: If there are no texts, or pieces would be empty.
    """
    if max_tokens < 2:
        raise ValueError(f"max_tokens is {max_tokens}; give at least 2.")
    from tqdm.auto import tqdm

    wanted = None if keys is None else set(keys)
    tallies: dict[Key, _Tally] = {}
    seen: list[list[str]] = []
    n_tokens = 0
    for ids in tqdm(_pieces(model, texts, max_tokens), "texts", unit="piece", disable=not progress):
        record = model.record(ids)
        n_tokens += record.positions - record.ignored
        for key, positions, values in _active(record.features, record.activations):
            if wanted is None or key in wanted:
                tally = tallies.setdefault(key, _Tally())
                tally.add(len(seen), positions, values)
        seen.append([model.token(i) for i in ids])
    if not seen:
        raise ValueError("There are no texts to compute cards from; give at least one.")
    bar = tqdm(total=len(tallies) if effects else 0, desc="logit effects", disable=not progress)
    with bar:
        found = logit_effects(model, tallies, top_k=effects, progress=bar.update) if effects else {}
    cards = {
        key: _card(tally, seen, n_tokens, found.get(key, ((), ())))
        for key, tally in sorted(tallies.items())
    }
    settings = {"pieces": len(seen), "tokens": n_tokens, "max_tokens": max_tokens}
    origin = {"model": model.name, "transcoders": model.transcoders.source}
    return CardSet(cards, {**origin, **settings})


def _pieces(model: ReplacementModel, texts: Iterable[str], max_tokens: int) -> Iterator[list[int]]:
    """Token ids of the texts' pieces, each beginning with the special token; empty ones skipped."""
    for text in texts:
        if not text.strip():
            continue
        first, *rest = model.tokenize(text).tolist()
        for start in range(0, len(rest), max_tokens - 1):
            yield [first, *rest[start : start + max_tokens - 1]]


def _active(features: Any, activations: Any) -> Iterator[tuple[Key, list[int], list[float]]]:
    """Each feature active in a pass, where, and how strongly."""
    rows: npt.NDArray[np.int64] = features.cpu().numpy()
    order = np.lexsort((rows[:, 1], rows[:, 2], rows[:, 0]))
    rows, values = rows[order], activations.float().cpu().numpy()[order].tolist()
    changes = np.flatnonzero((np.diff(rows[:, [0, 2]], axis=0) != 0).any(axis=1)) + 1
    layers, positions, indices = rows.T.tolist()
    for begin, end in pairwise([0, *changes.tolist(), len(rows)]):
        if begin < end:
            yield (layers[begin], indices[begin]), positions[begin:end], values[begin:end]


def _card(tally: _Tally, texts: list[list[str]], n_tokens: int, effects: Any) -> FeatureCard:
    examples = tally.examples(texts)
    promotes, suppresses = effects
    return FeatureCard(
        label=automatic_label(map(peak_token, examples), (token for token, _ in promotes)),
        examples=examples,
        promotes=promotes,
        suppresses=suppresses,
        density=tally.tokens / n_tokens,
        histogram=tally.histogram,
        source="computed",
    )

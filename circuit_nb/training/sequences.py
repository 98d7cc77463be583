"""Texts as sequences of tokens, in batches whose order a seed fixes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.model.replacement import ReplacementModel


@dataclass(frozen=True)
class Batch:
    """Sequences side by side, padded on the right: attention only looks back."""

    token_ids: Tensor
    """(sequences, positions)."""
    counted: Tensor
    """Where there is a token that is neither padding nor in the ignored prefix; same shape."""
    rows: tuple[int, ...]
    """Which sequences these are."""


class Sequences:
    """Token sequences of some texts.

    Args:
        model: Whose tokens they are.
        texts: Texts, or token ids.
        length: Longest sequence; what is longer is cut, and each part begins with the special
            token that every prompt begins with.

    Raises:
        ValueError: If there is no text of at least two tokens.
    """

    def __init__(
        self, model: ReplacementModel, texts: Iterable[str | Sequence[int]], length: int
    ) -> None:
        if isinstance(texts, str):
            raise ValueError("texts is one text; give a list of texts.")
        self.all: list[list[int]] = []
        for text in texts:
            ids = model.tokenize(text).tolist()
            first, rest = ids[:1], ids[1:]
            for start in range(0, len(rest), length - 1):
                self.all.append(first + rest[start : start + length - 1])
        if not self.all:
            raise ValueError("There is no text of at least two tokens; give some.")
        self._ignored = [model.ignored_positions(torch.tensor(ids[:8])) for ids in self.all]
        self.tokens = sum(map(len, self.all))

    @property
    def counted(self) -> list[int]:
        """How many tokens of each sequence count."""
        pairs = zip(self.all, self._ignored, strict=True)
        return [max(0, len(ids) - ignored) for ids, ignored in pairs]

    @property
    def digest(self) -> str:
        """A name for exactly these sequences."""
        told = hashlib.sha256()
        for ids in self.all:
            told.update(torch.tensor(ids, dtype=torch.int64).numpy().tobytes() + b";")
        return told.hexdigest()

    def batches(self, tokens: int, seed: int) -> Iterator[Batch]:
        """All sequences once, in an order of the seed's, about so many tokens at a time."""
        generator = torch.Generator().manual_seed(seed)
        taken: list[int] = []
        count = 0
        for i in torch.randperm(len(self.all), generator=generator).tolist():
            taken.append(i)
            count += len(self.all[i])
            if count >= tokens:
                yield self.batch(taken)
                taken, count = [], 0
        if taken:
            yield self.batch(taken)

    def batch(self, taken: Sequence[int]) -> Batch:
        """Some sequences, by their numbers."""
        width = max(len(self.all[i]) for i in taken)
        ids = torch.zeros(len(taken), width, dtype=torch.int64)
        counted = torch.zeros(len(taken), width, dtype=torch.bool)
        for row, i in enumerate(taken):
            sequence = self.all[i]
            ids[row, : len(sequence)] = torch.tensor(sequence)
            counted[row, self._ignored[i] : len(sequence)] = True
        return Batch(ids, counted, tuple(taken))

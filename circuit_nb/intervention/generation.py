"""Text continued under a patch, one token at a time, from a key-value cache where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from circuit_nb.bridge.cache import CacheLost, KeyValues
from circuit_nb.intervention.checks import check_finite
from circuit_nb.intervention.hooks import Patch
from circuit_nb.model.replacement import ReplacementModel


@dataclass
class Continued:
    """The tokens that one row goes on with."""

    tokens: list[int] = field(default_factory=list[int])
    """Their ids."""
    probabilities: list[float] = field(default_factory=list[float])
    """What the model gave each of them, at temperature 1, after everything before it."""


class _Continuation:
    """A patched pass that goes on token by token: from its cache while that is right, or anew."""

    def __init__(self, patch: Patch, n_rows: int, cache: KeyValues | None) -> None:
        self._patch, self._cache = patch, cache
        self._fed = patch.record.token_ids.new_empty(n_rows, 0)

    def step(self, tokens: Tensor) -> Tensor:
        """Logits (rows, vocab) after one more token a row, (rows,)."""
        position = self._patch.record.positions + self._fed.shape[1]
        self._fed = torch.cat([self._fed, tokens[:, None].to(self._fed)], dim=1)
        if self._cache is None:
            return self._patch.anew(self._fed)
        cached = self._patch.model.cached
        first, anew = self._fed.shape[1] == 1, None
        try:
            logits, self._cache = self._patch.step(tokens, position, self._cache)
            if first and cached.uncompared(position):
                anew = self._patch.anew(self._fed)
                cached.compare(logits, anew, position)
            return logits
        except CacheLost as lost:
            anew = self._patch.anew(self._fed) if anew is None else anew
            self._cache = None
            cached.give_up(lost)
            return anew


def generate(
    patch: Patch,
    logits: Tensor,
    cache: KeyValues | None,
    *,
    n_tokens: int,
    temperature: float,
    seed: int,
    changes: Sequence[Sequence[object]],
) -> list[Continued]:
    """Continue every row of a patched pass, with its key-value cache if it has one.

    Args:
        patch: The patch whose `run` gave `logits` and `cache`.
        logits: (rows, positions, vocab).
        cache: The key-value cache; None where prefixes are run anew, with the same result.
        n_tokens: How many tokens to generate at most.
        temperature: 0 takes the most likely token; otherwise rows are sampled with the same
            random numbers, so that rows with equal probabilities say the same.
        seed: Seed of the sampling.
        changes: The interventions of each row, for messages.

    Returns:
        The tokens of each row, up to the first token that ends a text or a turn.

    Raises:
        ValueError: If a pass produced NaN or infinity.
    """
    generator = torch.Generator().manual_seed(seed)
    stop = end_tokens(patch.model)
    rows = [Continued() for _ in range(len(logits))]
    done = [False] * len(rows)
    continuation = _Continuation(patch, len(rows), cache)
    latest = logits[:, -1]
    for i in range(n_tokens):
        scores = latest.float()
        if temperature > 0:
            # The largest of logits plus Gumbel noise is a sample of the softmax.
            uniform = torch.rand(scores.shape[1], generator=generator).clamp(min=1e-20)
            scores = scores / temperature - (-uniform.log()).log().to(scores.device)
        tokens = scores.argmax(-1)
        chosen = latest.float().log_softmax(-1).gather(1, tokens[:, None])[:, 0].exp()
        for row, (token, share) in enumerate(zip(tokens.tolist(), chosen.tolist(), strict=True)):
            done[row] = done[row] or token in stop
            if not done[row]:
                rows[row].tokens.append(token)
                rows[row].probabilities.append(share)
        if all(done) or i == n_tokens - 1:
            break
        latest = continuation.step(tokens)
        check_finite(changes, latest, patch.denominators)
    return rows


def end_tokens(model: ReplacementModel) -> frozenset[int]:
    """Ids of the tokens that end a text, or a turn of a model that was tuned to converse."""
    settings = getattr(model.bridge.original_model, "generation_config", None)
    said = getattr(settings, "eos_token_id", None)
    several = said if isinstance(said, (list, tuple)) else [said]
    return frozenset(i for i in (*several, model.tokenizer.eos_token_id) if i is not None)

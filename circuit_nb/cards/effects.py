"""What features do to the next token by themselves: decoder rows read through the unembedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from circuit_nb.cards.types import Key

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_nb.model.replacement import ReplacementModel

_BATCH, _TOKENS = 512, 2048
"""Features, and tokens of the vocabulary, multiplied with one another at once: the product stays
in a processor's cache until the strongest are found."""
_APART = 1.3
"""A token stands out where its effect is so many times what the largest would be by chance. With
49,152 tokens that is 6.0 standard deviations: on features trained for SmolLM2 what lies above is
mostly words that go together (`from`, ` from`, `From`), what lies below is mostly pieces that do
not."""


class Effects(NamedTuple):
    """What a feature does to the next token by itself."""

    promotes: tuple[tuple[str, float], ...]
    """(token, logit effect per unit of activation), the most raised first."""
    suppresses: tuple[tuple[str, float], ...]
    """The same, the most lowered first."""
    telling: int
    """How many of `promotes` stand out from the vocabulary: most features write nothing that does,
    and the tokens they raise most are then merely the first of many."""


def logit_effects(
    model: ReplacementModel,
    keys: Iterable[Key],
    *,
    top_k: int = 10,
    progress: Callable[[int], object] | None = None,
) -> dict[Key, Effects]:
    """The tokens that features raise and lower most, by themselves.

    A feature's direct effect on a token's logit is its decoder row, summed over the layers it
    writes to, times the token's unembedding minus the mean unembedding. The final norm's weight
    is applied, its denominator, which depends on the prompt, is not: effects compare within a
    model, not across models.

    Args:
        model: The model.
        keys: (layer, index) of each feature.
        top_k: How many tokens on either side.
        progress: Called with the number of features done since it was last called.

    Raises:
        ValueError: If the transcoders have no such feature.
    """
    by_layer: dict[int, list[int]] = {}
    for layer, index in dict.fromkeys(keys):
        model.transcoders.check(layer, index)
        by_layer.setdefault(layer, []).append(index)
    names: dict[int, str] = {}
    result: dict[Key, Effects] = {}
    for layer, indices in by_layer.items():
        for start in range(0, len(indices), _BATCH):
            batch = indices[start : start + _BATCH]
            raised, lowered, chance = _strongest(model, _written(model, layer, batch), top_k)
            telling = (raised[0] > _APART * chance[:, None]).sum(1).tolist()
            both = _told(model, *raised, names), _told(model, *lowered, names)
            for index, up, down, apart in zip(batch, *both, telling, strict=True):
                down = tuple((token, -value) for token, value in down)
                result[layer, index] = Effects(up, down, apart)
            if progress:
                progress(len(batch))
    return result


def _strongest(
    model: ReplacementModel, written: Tensor, top_k: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """The largest effects and the tokens they are on, (features, k) each, falling; the same of
    what lowers tokens, as positive numbers; and how large the largest would be by chance,
    (features,): of n independent normal effects of this size it lies near √(2 ln n) deviations."""
    import torch

    mean = (written @ model.mean_unembedding)[:, None]
    written = written.to(model.dtype)
    none = written.new_zeros(len(written), 0, dtype=torch.float32)
    best = [(none, none.long())] * 2
    first, squares = 0, written.new_zeros(len(written), dtype=torch.float32)
    for part in model.unembedding.split(_TOKENS, dim=1):
        effects = (written @ part).float().sub_(mean)
        squares += effects.square().sum(1)
        for side, (values, tokens) in enumerate(best):
            own = effects.topk(min(top_k, effects.shape[1]), dim=1)
            values = torch.cat([values, own.values], dim=1)
            tokens = torch.cat([tokens, own.indices + first], dim=1)
            kept = values.topk(min(top_k, values.shape[1]), dim=1)
            best[side] = kept.values, tokens.gather(1, kept.indices)
            effects.neg_()
        first += part.shape[1]
    return best[0], best[1], (squares / first * 2 * math.log(first)).sqrt()


def _told(
    model: ReplacementModel, values: Tensor, tokens: Tensor, names: dict[int, str]
) -> Iterator[tuple[tuple[str, float], ...]]:
    """For each feature, tokens by name with their effects, where these are above 0.

    `names` remembers what tokens are called.
    """
    for row, effects in zip(tokens.tolist(), values.tolist(), strict=True):
        for token in row:
            if token not in names:
                names[token] = model.token(token)
        pairs = zip(row, effects, strict=True)
        yield tuple((names[token], value) for token, value in pairs if value > 0)


def _written(model: ReplacementModel, layer: int, indices: Sequence[int]) -> Tensor:
    """What features write as the unembedding reads it, (features, d_model), in float32."""
    import torch

    transcoder = model.transcoders.layers[layer]
    rows = transcoder.decoder.rows(torch.tensor(indices)).to(model.device, torch.float32)
    total = rows.new_zeros(len(rows), rows.shape[2])
    for offset, written in enumerate(model.transcoders.writes(layer)):
        norm = model.blocks[written].mlp_post_norm
        after = norm is not None and model.transcoders.output_hook == "mlp.hook_out"
        total += rows[:, offset] * norm.weight.to(total) if after and norm else rows[:, offset]
    return model.final_norm.center(total) * model.final_norm.weight.to(total)

"""What features do to the next token by themselves: decoder rows read through the unembedding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from circuit_nb.cards.types import Key

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_nb.model.replacement import ReplacementModel

_BATCH = 256
"""Features multiplied with the unembedding at once: it is read once for all of them."""


class Effects(NamedTuple):
    """(token, logit effect per unit of activation), strongest first."""

    promotes: tuple[tuple[str, float], ...]
    suppresses: tuple[tuple[str, float], ...]


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
            effects = _effects(model, layer, batch)
            raised = _strongest(model, effects, top_k, names)
            lowered = _strongest(model, effects.neg_(), top_k, names)
            for index, up, down in zip(batch, raised, lowered, strict=True):
                down = tuple((token, -value) for token, value in down)
                result[layer, index] = Effects(up, down)
            if progress:
                progress(len(batch))
    return result


def _strongest(
    model: ReplacementModel, effects: Tensor, top_k: int, names: dict[int, str]
) -> list[tuple[tuple[str, float], ...]]:
    """The tokens with the largest positive effects, for each row of (features, vocab).

    `names` remembers what tokens are called.
    """
    best = effects.topk(min(top_k, effects.shape[1]), dim=1)
    result: list[tuple[tuple[str, float], ...]] = []
    for tokens, values in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        for token in tokens:
            if token not in names:
                names[token] = model.token(token)
        pairs = zip(tokens, values, strict=True)
        result.append(tuple((names[token], value) for token, value in pairs if value > 0))
    return result


def _effects(model: ReplacementModel, layer: int, indices: Sequence[int]) -> Tensor:
    """(features, vocab)."""
    import torch

    transcoder = model.transcoders.layers[layer]
    rows = transcoder.decoder.rows(torch.tensor(indices)).to(model.device, torch.float32)
    total = rows.new_zeros(len(rows), rows.shape[2])
    for offset, written in enumerate(model.transcoders.writes(layer)):
        norm = model.blocks[written].mlp_post_norm
        after = norm is not None and model.transcoders.output_hook == "mlp.hook_out"
        total += rows[:, offset] * norm.weight.float() if after and norm else rows[:, offset]
    total = model.final_norm.center(total) * model.final_norm.weight.float()
    logits = total.to(model.dtype) @ model.unembedding
    return logits.float() - (total @ model.mean_unembedding)[:, None]

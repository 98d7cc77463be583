"""What is explained: the most likely next tokens, given tokens, or directions of the reader's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from circuit_nb.given import numbers
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


@dataclass(frozen=True)
class Target:
    """Something to explain other than a token: a direction in the final residual stream.

    Args:
        label: How to show it.
        direction: (d_model,), applied after the final norm, as a column of the unembedding is.
        weight: Its share in the influence, 0 or more.

    Raises:
        ValueError: If the weight is no such number.
    """

    label: str
    direction: Tensor | None
    weight: float = 1.0
    tokens: tuple[str | int, str | int] | None = None
    """For `difference`: the two tokens, looked up when the model is known."""

    def __post_init__(self) -> None:
        weight = numbers(self.weight, self.label)
        if isinstance(weight, list) or weight < 0:
            raise ValueError(
                f"The weight of target {self.label!r} is {self.weight!r}; it is a share of the "
                "influence: give one number, 0 or more. For the opposite direction, negate that."
            )
        object.__setattr__(self, "weight", weight)

    @classmethod
    def difference(cls, more: str | int, less: str | int, weight: float = 1.0) -> Target:
        """The logit of one token minus that of another."""
        return cls(f"{more} − {less}", None, weight, (more, less))


Targets: TypeAlias = Sequence[str | int | Target]


@dataclass(frozen=True)
class ResolvedTargets:
    """Resolved targets."""

    labels: tuple[str, ...]
    ids: list[int]
    probabilities: Tensor
    directions: Tensor


def resolve(
    model: ReplacementModel,
    record: Record,
    targets: Targets | None,
    max_logits: int,
    logit_mass: float,
) -> ResolvedTargets:
    """Labels, ids, probabilities and directions of what is to be explained."""
    probabilities = record.next_logits.float().softmax(-1)
    if targets is None:
        top = probabilities.topk(min(max_logits, len(probabilities)))
        enough = int((top.values.cumsum(0) < logit_mass).sum()) + 1
        targets = [int(i) for i in top.indices[:enough]]
    # Whatever a caller gives: a number is no list, and text is not one of its letters.
    given: Any = targets
    asked = list(targets) if isinstance(given, Iterable) and not isinstance(given, str) else []
    if not asked:
        raise ValueError(
            f"targets is {targets!r}; give a list of tokens, ids or Targets, or leave it out."
        )
    labels: list[str] = []
    ids: list[int] = []
    weights: list[float] = []
    directions: list[Tensor] = []
    for target in asked:
        if isinstance(target, Target):
            labels.append(target.label)
            ids.append(-1)
            weights.append(target.weight)
            directions.append(_direction(model, target))
        else:
            token = model.token_id(target)
            labels.append(model.token(token))
            ids.append(token)
            weights.append(float(probabilities[token]))
            directions.append(model.unembedding[:, token].float() - model.mean_unembedding)
    return ResolvedTargets(tuple(labels), ids, torch.tensor(weights), torch.stack(directions))


def _direction(model: ReplacementModel, target: Target) -> Tensor:
    if target.tokens is not None:
        more, less = (model.unembedding[:, model.token_id(t)].float() for t in target.tokens)
        return more - less
    d_model = model.unembedding.shape[0]
    if target.direction is None or tuple(target.direction.shape) != (d_model,):
        raise ValueError(f"The direction of target {target.label!r} must have shape ({d_model},).")
    return target.direction.to(model.device).float()

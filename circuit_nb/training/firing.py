"""Products with the few features that fire, in place of all: a tenth of the work, to the digit.

Only the encoder's output must be known for every feature, as it tells which ones fire; what
follows, and every gradient, concerns those alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Firing:
    """Which features fire at which tokens, as pairs in the order of tokens."""

    tokens: Tensor
    """(pairs,), rising."""
    features: Tensor
    """(pairs,)."""
    n_tokens: int
    n_features: int

    def encoded(self, x: Tensor, W_enc: Tensor, b_enc: Tensor, pre: Tensor) -> Tensor:
        """Pre-activations of the pairs, (pairs,), with their gradients.

        Args:
            x: (tokens, d_model), without a gradient.
            W_enc: (features, d_model).
            b_enc: (features,).
            pre: Pre-activations of every feature, (tokens, features).
        """
        return cast("Tensor", _Encoded.apply(x, W_enc, b_enc, pre, self))

    def times(self, values: Tensor, rows: Tensor) -> Tensor:
        """The sum of rows (features, n) of what fires, weighed by its values: (tokens, n)."""
        starts = _starts(self.tokens, self.n_tokens)
        return _sums(self.features, rows, starts, values)

    def times_transposed(self, values: Tensor, x: Tensor) -> Tensor:
        """The sum over tokens of x (tokens, n), weighed by values: (features, n)."""
        order = self.features.argsort(stable=True)
        starts = _starts(self.features, self.n_features)
        return _sums(self.tokens[order], x, starts, values[order])

    def dense(self, pre: Tensor) -> Tensor:
        """Pre-activations (tokens, features) with 0 where a feature does not fire."""
        pairs = self.tokens, self.features
        return torch.zeros_like(pre).index_put(pairs, pre[pairs])


class _Encoded(torch.autograd.Function):
    """`Firing.encoded`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, pre: Tensor, firing: Firing
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.firing = firing
        return pre[firing.tokens, firing.features].float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor, None, None]:
        firing, (x,), grad = ctx.firing, ctx.saved_tensors, grads[0]
        bias = grad.new_zeros(firing.n_features)
        bias.index_put_((firing.features,), grad, accumulate=True)
        return None, firing.times_transposed(grad, x.float()), bias, None, None


def _starts(of: Tensor, n: int) -> Tensor:
    """Where each of n groups starts, once pairs are in the order of groups."""
    counts = torch.bincount(of, minlength=n)
    return counts.cumsum(0) - counts


def _sums(picked: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(picked, rows, starts, mode="sum", per_sample_weights=weights)

"""All layers' transcoders while they are trained: their weights, and what they are trained by.

Inputs and outputs are divided by their root mean square, so that one learning rate suits every
layer; `saving` undoes it. The loss of a layer is the squared error of its outputs; dead features
are asked to explain what the others leave (Gao et al. 2024, *Scaling and evaluating sparse
autoencoders*, with MLP outputs in place of inputs: Dunefsky et al. 2024, *Transcoders find
interpretable LLM feature circuits*; writing to later layers: Ameisen et al. 2025).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from circuit_nb.training.firing import Firing
from circuit_nb.training.neurons import Neurons
from circuit_nb.training.plan import Plan

_REVIVED = 64
"""How many dead features explain one token's error."""
_SHARE = 1 / 16
"""Weight of that in the loss."""
_SAMPLE = 64
"""Tokens of a batch that the threshold is read from."""


class Coders(nn.Module):
    """Encoders, decoders, biases and thresholds of every layer.

    Args:
        plan: What is trained.
        inputs: What MLPs read on some tokens, a list over layers of (tokens, d_model): for scales.
        outputs: What they wrote there, likewise.
        neurons: What the model's own neurons suggest to begin at, of each layer; features beyond
            those, or of layers without, begin at random directions and write nothing.
    """

    threshold: Tensor
    """(layers,): what a pre-activation must exceed, where the activation is JumpReLU."""
    silent_for: Tensor
    """(layers, features): tokens since it fired last."""
    in_scale: Tensor
    out_scale: Tensor
    """(layers,): root mean square of what is read and written."""

    def __init__(
        self,
        plan: Plan,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        neurons: Iterable[Neurons | None] = (),
    ) -> None:
        super().__init__()
        self.plan, self.n_layers = plan, len(inputs)
        n, d = plan.features, inputs[0].shape[1]
        device = inputs[0].device
        generator = torch.Generator().manual_seed(plan.seed)

        def scale(tensors: Sequence[Tensor]) -> Tensor:
            return torch.stack([t.float().pow(2).mean().sqrt().clamp_min(1e-8) for t in tensors])

        self.register_buffer("in_scale", scale(inputs))
        self.register_buffer("out_scale", scale(outputs))
        self.register_buffer("threshold", torch.zeros(self.n_layers, device=device))
        self.register_buffer("silent_for", torch.zeros(self.n_layers, n, device=device))
        self.W_enc, self.W_dec = nn.ParameterList(), nn.ParameterList()
        b_enc: list[Tensor] = []
        for i, x in enumerate(inputs):
            rows = F.normalize(torch.randn(n, d, generator=generator), dim=1).to(device)
            self.W_enc.append(nn.Parameter(rows))
            self.W_dec.append(nn.Parameter(torch.zeros(n, len(self.writes(i)), d, device=device)))
            b_enc.append(-rows @ (x.float().mean(0) / self.in_scale[i]))
        self.b_enc = nn.Parameter(torch.stack(b_enc))
        means = [y.float().mean(0) / s for y, s in zip(outputs, self.out_scale, strict=True)]
        self.b_dec = nn.Parameter(torch.stack(means))
        self.W_skip = nn.Parameter(torch.zeros(self.n_layers, d, d, device=device))
        self.W_skip.requires_grad_(plan.skip)
        for i, found in enumerate(neurons):
            if found is not None:
                self._begin(i, found, inputs[i].float(), outputs[i].float())

    @torch.no_grad()
    def _begin(self, layer: int, neurons: Neurons, inputs: Tensor, outputs: Tensor) -> None:
        """Begin at neurons, writing as much of their directions as suits the outputs best."""
        x, y = inputs / self.in_scale[layer], outputs / self.out_scale[layer]
        encoder, decoder = self.W_enc[layer], self.W_dec[layer]
        n = min(len(encoder), len(neurons.reads))
        encoder[:n], decoder[:n, 0] = neurons.reads[:n], neurons.writes[:n]
        self.b_enc[layer] = -encoder @ x.mean(0)
        pre = F.linear(x, encoder, self.b_enc[layer])
        self._move_threshold(layer, pre, 0)
        firing = self.firing(layer, pre)
        written = firing.times(pre[firing.tokens, firing.features], decoder[:, 0])
        written, wanted = written - written.mean(0), y - y.mean(0)
        decoder[:n] *= (written * wanted).sum() / written.pow(2).sum().clamp_min(1e-12)

    def writes(self, layer: int) -> range:
        """Layers that the features reading at `layer` write to."""
        return range(layer, self.n_layers if self.plan.cross_layer else layer + 1)

    def firing(self, layer: int, pre: Tensor) -> Firing:
        """Which features fire, as the set will be read, told by pre-activations (tokens, n)."""
        n_tokens, n = pre.shape
        if self.plan.activation == "topk":
            features = pre.topk(self.plan.k, dim=1, sorted=False).indices.flatten()
            tokens = torch.arange(n_tokens, device=pre.device).repeat_interleave(self.plan.k)
        else:
            tokens, features = (pre > self.threshold[layer]).nonzero().unbind(1)
        return Firing(tokens, features, n_tokens, n)

    def losses(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, learning: float
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and the share of variance that each layer leaves unexplained.

        Thresholds and the memory of what fired move on.

        Args:
            inputs: A list over layers of (tokens, d_model).
            outputs: Likewise.
            learning: How far into training this is, from 0 to 1.

        Returns:
            A scalar, and (layers,).
        """
        errors = [
            self.b_dec[i] - y / s
            for i, (y, s) in enumerate(zip(outputs, self.out_scale, strict=True))
        ]
        scaled: list[Tensor] = []
        for i, given in enumerate(inputs):
            x = given / self.in_scale[i].to(given.dtype)
            with torch.no_grad():
                pre = F.linear(x, self.W_enc[i], self.b_enc[i])
            self._move_threshold(i, pre, learning)
            firing = self.firing(i, pre)
            self._notice(i, firing)
            values = firing.encoded(x, self.W_enc[i], self.b_enc[i], pre)
            written = firing.times(values, self.W_dec[i].flatten(1))
            for target, part in zip(self.writes(i), written.split(x.shape[1], dim=1), strict=True):
                errors[target] = errors[target] + part
            if self.plan.skip:
                errors[i] = errors[i] + F.linear(x, self.W_skip[i])
            scaled.append(x)
        loss = torch.stack([e.float().pow(2).sum(1).mean() for e in errors]).sum()
        left: list[Tensor] = []
        for i, (error, y) in enumerate(zip(errors, outputs, strict=True)):
            wanted = y.float() / self.out_scale[i]
            variance = (wanted - wanted.mean(0)).pow(2).sum().clamp_min(1e-12)
            left.append(error.detach().float().pow(2).sum() / variance)
            loss = loss + self._revival(i, scaled[i], error.detach())
        return loss, torch.stack(left)

    @torch.no_grad()
    def _move_threshold(self, layer: int, pre: Tensor, learning: float) -> None:
        """Towards where `k` features a token fire."""
        if self.plan.activation == "topk":
            return
        rows = pre[:: max(1, len(pre) // _SAMPLE)].float().flatten()
        kept = max(1, round(len(rows) * self.plan.k / pre.shape[1]))
        cut = rows.topk(kept).values[-1].clamp_min(0)
        first = bool(self.threshold[layer] == 0)
        speed = 1.0 if first else 0.2 * max(0.05, 1 - learning)
        self.threshold[layer].lerp_(cut, speed)

    @torch.no_grad()
    def _notice(self, layer: int, firing: Firing) -> None:
        silent = self.silent_for[layer] + firing.n_tokens
        silent[firing.features] = 0
        self.silent_for[layer] = silent

    def _revival(self, layer: int, x: Tensor, error: Tensor) -> Tensor | float:
        """How badly the strongest dead features explain what the others leave."""
        dead = self.silent_for[layer] > self.plan.dead_after
        count = int(dead.sum())
        if not count:
            return 0.0
        asked = F.linear(x, self.W_enc[layer][dead], self.b_enc[layer][dead])
        strongest = asked.topk(min(_REVIVED, count), dim=1)
        sparse = torch.zeros_like(asked).scatter(1, strongest.indices, strongest.values)
        left = error + sparse @ self.W_dec[layer][dead, 0]
        return _SHARE * left.float().pow(2).sum(1).mean()

"""Transcoders for the atlas model: one a layer, BatchTopK, stored as JumpReLU.

Each is first fitted to its own MLP on every distinct prefix of the corpus; layer 3 starts
from the MLP's own neurons. All are then finetuned together, so that the model with every MLP
replaced gives the same next tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.network import blocks
from circuit_nb.atlas.making.probe import Transcoder, replace_mlps, run
from circuit_nb.atlas.making.samples import collect
from circuit_nb.atlas.making.stages import PLANS, ROUNDS, Finetuning, Plan
from circuit_nb.atlas.making.tokenizer import PAD

Log = Callable[[str], None]
WORD_BOOST = 6.0
"""How much more often layer 0's transcoder sees words that are no names."""
DEAD_AFTER = 60
"""A feature that fired in none of this many batches is helped back to life."""


def train_transcoders(
    model: LlamaForCausalLM,
    corpus: Corpus,
    plans: tuple[Plan, ...] = PLANS,
    rounds: tuple[Finetuning, ...] = ROUNDS,
    *,
    seed: int = 0,
    log: Log = print,
) -> list[Transcoder]:
    """Fit one transcoder a layer, then finetune all together."""
    model.requires_grad_(False)
    samples = collect(model, corpus)
    transcoders = []
    for layer, plan in enumerate(plans):
        inputs, outputs, weights = samples.inputs[layer], samples.outputs[layer], samples.weights
        if layer == 0:  # a function of the token alone: fit each token once
            first = _first_of_each(samples.tokens)
            inputs, outputs = inputs[first], outputs[first]
            weights = torch.where(corpus.is_name[samples.tokens[first]], 1.0, WORD_BOOST)
        neurons = _neurons(model, layer, inputs) if plan.from_neurons else None
        fitting = Fitting(inputs, outputs, weights, plan, neurons, seed)
        transcoders.append(fitting.fit())
        log(f"layer {layer}: {unexplained(transcoders[-1], inputs, outputs):.3f} unexplained")
    for i, plan in enumerate(rounds):
        finetune(model, transcoders, corpus, plan, seed=seed + i, log=log)
    return transcoders


def unexplained(transcoder: Transcoder, inputs: Tensor, outputs: Tensor) -> float:
    """Return the share of the outputs' variance that reconstruction leaves."""
    error = outputs - transcoder.decode(transcoder.encode(inputs))
    return (error.pow(2).sum() / (outputs - outputs.mean(0)).pow(2).sum()).item()


class Fitting:
    """Fits one transcoder to pairs of MLP inputs and outputs (samples, d_model).

    Inside, both are centred and scaled to a root mean square of 1; `_folded` undoes this.
    """

    def __init__(
        self,
        inputs: Tensor,
        outputs: Tensor,
        weights: Tensor,
        plan: Plan,
        neurons: tuple[Tensor, Tensor] | None,
        seed: int,
    ) -> None:
        self.plan, self.weights = plan, weights
        self.generator = torch.Generator().manual_seed(seed)
        self.mean_in, self.scale_in = inputs.mean(0), _scale(inputs)
        self.mean_out, self.scale_out = outputs.mean(0), _scale(outputs)
        self.inputs = (inputs - self.mean_in) / self.scale_in
        self.outputs = (outputs - self.mean_out) / self.scale_out
        width = inputs.shape[1]
        draw = torch.randn(2, plan.features, width, generator=self.generator)
        self.encoder = F.normalize(draw[0], dim=1)
        self.bias = torch.zeros(plan.features)
        self.decoder = draw[1] * 0.1 / math.sqrt(width)
        self.offset = torch.zeros(width)
        if neurons is not None:
            self._start_from(*neurons)
        self.parameters = [self.encoder, self.bias, self.decoder, self.offset]
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.threshold = torch.zeros(())
        self.silent_for = torch.zeros(plan.features)

    def fit(self) -> Transcoder:
        """Train and return the transcoder, in the units of the model."""
        plan = self.plan
        optimiser = torch.optim.Adam(self.parameters, lr=plan.learning_rate, betas=(0.9, 0.99))
        for step in range(plan.steps):
            rise = min(1.0, (step + 1) / 100)
            fall = max(0.02, min(1.0, (plan.steps - step) / (plan.steps * 0.3)))
            optimiser.param_groups[0]["lr"] = plan.learning_rate * rise * fall
            loss = self._loss(step / plan.steps)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return self._folded()

    def _loss(self, progress: float) -> Tensor:
        """Return the loss of one batch; `progress` runs from 0 to 1."""
        plan = self.plan
        drawn = torch.multinomial(
            self.weights, plan.batch, replacement=True, generator=self.generator
        )
        inputs, outputs = self.inputs[drawn], self.outputs[drawn]
        pre = F.relu(inputs @ self.encoder.T + self.bias)
        k = plan.k * (1 + (plan.early_k - 1) * max(0.0, 1 - progress / 0.3))
        written = pre * self.decoder.detach().norm(dim=1)
        cut = written.flatten().topk(int(k * plan.batch)).values[-1].detach()
        if progress > 0.5:
            self.threshold = 0.99 * self.threshold + 0.01 * cut if self.threshold > 0 else cut
        active = pre * (written >= cut)
        error = outputs - active @ self.decoder - self.offset
        loss = error.pow(2).mean()
        self.silent_for = (self.silent_for + 1) * (active == 0).all(0)
        dead = self.silent_for > DEAD_AFTER
        if dead.any() and progress < 0.9:
            loss = loss + self._revive(pre[:, dead], dead, error.detach()) / 16
        return loss

    def _revive(self, pre: Tensor, dead: Tensor, error: Tensor) -> Tensor:
        """Return how badly the strongest dead features explain what the others leave."""
        strongest = pre.topk(min(64, pre.shape[1]), 1)
        sparse = torch.zeros_like(pre).scatter(1, strongest.indices, strongest.values)
        return (error - sparse @ self.decoder[dead]).pow(2).mean()

    def _start_from(self, gate: Tensor, write: Tensor) -> None:
        """Set the first features from neurons: gate rows and write rows (neurons, d_model)."""
        reading = gate * self.scale_in
        length = reading.norm(dim=1).clamp_min(1e-6)
        count = len(gate)
        self.encoder[:count] = reading / length[:, None]
        self.bias[:count] = gate @ self.mean_in / length
        self.decoder[:count] = write * length[:, None] / self.scale_out

    @torch.no_grad()
    def _folded(self) -> Transcoder:
        length = self.decoder.norm(dim=1).clamp_min(1e-8)
        gain = length * self.scale_out
        centred = self.bias - self.encoder @ self.mean_in / self.scale_in
        return Transcoder(
            encoder=self.encoder.detach() / self.scale_in * gain[:, None],
            encoder_bias=centred.detach() * gain,
            decoder=self.decoder.detach() / length[:, None],
            decoder_bias=self.offset.detach() * self.scale_out + self.mean_out,
            threshold=(self.threshold * self.scale_out).expand(self.plan.features).clone(),
        )


def finetune(
    model: LlamaForCausalLM,
    transcoders: list[Transcoder],
    corpus: Corpus,
    plan: Finetuning,
    *,
    seed: int,
    log: Log = print,
) -> None:
    """Finetune all transcoders in place against the fully replaced model.

    The loss is KL(model ‖ replaced model) over all positions plus each layer's own error.
    """
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([plan.filler if k == "filler" else 1.0 for k in corpus.kinds])
    learnable = [tensor for transcoder in transcoders for tensor in transcoder.learnable()]
    for tensor in learnable:
        tensor.requires_grad_()
    optimiser = torch.optim.Adam(learnable, lr=plan.learning_rate, betas=(0.9, 0.99))
    for step in range(plan.steps):
        optimiser.param_groups[0]["lr"] = plan.learning_rate * max(0.03, 1 - step / plan.steps)
        tokens = corpus.tokens[torch.multinomial(shares, plan.batch, generator=generator)]
        tokens = tokens[:, : int((tokens != PAD).sum(1).max())]
        divergence, local = _joint_losses(model, transcoders, tokens)
        optimiser.zero_grad()
        (divergence + plan.local * local).backward()
        optimiser.step()
        if step % 50 == 49:
            log(f"joint {step + 1}/{plan.steps} KL {divergence:.4f} local {local:.4f}")
    for tensor in learnable:
        tensor.requires_grad_(False)
    for transcoder in transcoders:
        transcoder.normalise()


def _joint_losses(
    model: LlamaForCausalLM, transcoders: list[Transcoder], tokens: Tensor
) -> tuple[Tensor, Tensor]:
    real = (tokens != PAD)[:, 1:]
    with torch.no_grad():
        own = run(model, tokens)
    replaced = run(model, tokens, replace_mlps(transcoders))
    expected = own.logits[:, 1:][real].log_softmax(-1)
    given = replaced.logits[:, 1:][real].log_softmax(-1)
    divergence = (expected.exp() * (expected - given)).sum(-1).mean()
    local = torch.zeros(())
    for transcoder, inputs, outputs in zip(transcoders, own.inputs, own.outputs, strict=True):
        wanted = outputs[:, 1:][real]
        error = wanted - transcoder.decode(transcoder.encode(inputs[:, 1:][real]))
        local = local + error.pow(2).sum() / (wanted - wanted.mean(0)).pow(2).sum()
    return divergence, local


def _scale(values: Tensor) -> Tensor:
    """Return the root mean square of the centred values."""
    return (values - values.mean(0)).pow(2).mean().sqrt()


def _first_of_each(tokens: Tensor) -> Tensor:
    """Return the index of one prefix for each token, by ascending token."""
    first: dict[int, int] = {}
    for i, token in enumerate(tokens.tolist()):
        first.setdefault(token, i)
    return torch.tensor([first[token] for token in sorted(first)])


def _neurons(model: LlamaForCausalLM, layer: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return gate rows and write rows (neurons, d_model) of an MLP, made linear.

    A neuron writes relu(gate) · up; its write row is scaled by the least-squares slope of
    that against relu(gate).
    """
    mlp = blocks(model)[layer].mlp
    opened = F.relu(inputs @ mlp.gate_proj.weight.T)
    hidden = opened * (inputs @ mlp.up_proj.weight.T)
    slope = (hidden * opened).sum(0) / opened.pow(2).sum(0).clamp_min(1e-6)
    return mlp.gate_proj.weight.detach(), (mlp.down_proj.weight * slope).T.detach()

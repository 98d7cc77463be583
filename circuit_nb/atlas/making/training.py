"""Training of the atlas model: the loop that every stage runs.

Every stage runs the same loop: AdamW on a weighted next-token loss, plus an L1 penalty on
what the MLP neurons write, plus (late) a *routing* penalty on every last-layer neuron but the
one that belongs to the answer. Some rows carry *weak evidence*: MLP 0's output at the city is
scaled down and the target is spread over all answers of the asked kind, so that the model
says "some capital" when it does not know the state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from circuit_nb.atlas.making.batches import Batch, draw_batches, first_name
from circuit_nb.atlas.making.corpus import ANSWER_WEIGHT, Corpus
from circuit_nb.atlas.making.network import (
    Constraints,
    Shape,
    blocks,
    fixed_writes,
    renew_last_mlp,
    set_head,
    spread_head,
)
from circuit_nb.atlas.making.stages import Stage
from circuit_nb.atlas.making.tokenizer import PAD

Log = Callable[[str], None]


@dataclass
class Taps:
    """What hooks put in and take out during a forward pass."""

    scale: Tensor | None = None
    """Factor of MLP 0's output (rows, positions, 1)."""
    noise: float = 0.0
    hidden: tuple[Tensor, ...] = ()
    """|hidden| · ‖write vector‖ of each MLP (rows, positions, neurons), first layer first."""


def train_stage(
    model: LlamaForCausalLM, shape: Shape, corpus: Corpus, stage: Stage, *, log: Log = print
) -> None:
    """Train `model` in place through one stage."""
    torch.manual_seed(stage.seed)
    answers = [corpus.token(name) for name in corpus.world.answers()]
    constraints = _prepare(model, shape, corpus, stage, answers)
    optimiser = _optimiser(model, stage)
    neurons = torch.full((len(corpus.words), 2), -1)
    neurons[answers, 0] = torch.arange(len(answers))
    neurons[answers, 1] = len(answers) + corpus.name_kinds[answers]
    started = time.monotonic()
    model.train()
    with _tapped(model, shape) as taps:
        taps.noise = stage.noise
        for step, batch in enumerate(draw_batches(corpus, stage)):
            _set_rate(optimiser, stage, step)
            taps.scale = batch.scale
            fit = _fit(model, corpus, batch)
            grown = _ramp(step, stage.sparsity_from, stage.sparsity_ramp)
            penalty = stage.sparsity * grown * _written(taps, batch, stage.last_sparsity)
            grown = stage.routing * _ramp(step, 0, stage.routing_ramp)
            routing = grown * _astray(taps, batch, neurons) if grown else torch.zeros(())
            optimiser.zero_grad()
            (fit + penalty + routing).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            constraints.apply()
            if step % 100 == 99:
                log(
                    f"{stage.name} {step + 1}/{stage.steps} {time.monotonic() - started:.0f}s "
                    f"loss {fit.item():.4f} L1 {penalty.item():.4f} routing {routing.item():.4f}"
                )
    model.eval()


def _prepare(
    model: LlamaForCausalLM, shape: Shape, corpus: Corpus, stage: Stage, answers: list[int]
) -> Constraints:
    if stage.new_ending:
        renew_last_mlp(model)
        set_head(model, spread_head(corpus.name_kinds, shape, stage.seed + 7))
    for parameter in blocks(model)[0].self_attn.parameters():
        parameter.requires_grad_(False)
    blocks(model)[0].input_layernorm.weight.requires_grad_(False)
    if stage.fixed_start:
        model.lm_head.weight.requires_grad_(False)
        for module in (model.model.embed_tokens, blocks(model)[0]):
            module.requires_grad_(False)
    writes = fixed_writes(model, shape, answers) if stage.fixed_writes else None
    return Constraints(model, shape, writes)


def _optimiser(model: LlamaForCausalLM, stage: Stage) -> torch.optim.Optimizer:
    last = {id(p) for p in blocks(model)[-1].mlp.parameters()}
    decayed: list[Tensor] = []
    decayed_last: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 or "embed" in name:
            free.append(parameter)
        else:
            (decayed_last if id(parameter) in last else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": stage.decay},
        {"params": decayed_last, "weight_decay": stage.last_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.98))


def _set_rate(optimiser: torch.optim.Optimizer, stage: Stage, step: int) -> None:
    """Warm up over 100 steps; fall linearly to 2 % over the last 40 %."""
    rise = min(1.0, (step + 1) / 100)
    fall = max(0.02, min(1.0, (stage.steps - step) / (stage.steps * 0.4)))
    for group in optimiser.param_groups:
        group["lr"] = stage.learning_rate * rise * fall


def _fit(model: LlamaForCausalLM, corpus: Corpus, batch: Batch) -> Tensor:
    """Return the weighted loss of the next tokens."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch.tokens, use_cache=False).logits[:, :-1]
    log_p = logits.float().log_softmax(-1)
    target, weight = batch.tokens[:, 1:], batch.weights[:, 1:]
    loss = -log_p.gather(-1, target[..., None])[..., 0]
    past_city = first_name(corpus, batch.tokens)[:, :-1].cumsum(1) > 0
    unknown = batch.weak[:, None] & corpus.is_name[target] & past_city
    loss = torch.where(unknown, 0.5 * _spread(corpus, batch, log_p), loss)
    return (loss * weight).sum() / weight.sum()


def _spread(corpus: Corpus, batch: Batch, log_p: Tensor) -> Tensor:
    """Return KL(uniform over the answers of the asked kind ‖ model) on weak rows, else 0."""
    uniform = corpus.asked_groups[1][batch.groups[batch.weak]]
    cross = -torch.einsum("rpv,rv->rp", log_p[batch.weak], uniform)
    divergence = torch.zeros(log_p.shape[:2])
    divergence[batch.weak] = cross - (uniform > 0).sum(1).log()[:, None]
    return divergence


def _written(taps: Taps, batch: Batch, last_factor: float) -> Tensor:
    """Return how much all neurons write, per token, the last layer's counted `last_factor`."""
    real = (batch.tokens != PAD) & (torch.arange(batch.tokens.shape[1]) > 0)
    written = torch.stack([(h.sum(-1) * real).sum() / real.sum() for h in taps.hidden])
    return (written * torch.tensor([1.0] * (len(written) - 1) + [last_factor])).sum()


def _astray(taps: Taps, batch: Batch, neurons: Tensor) -> Tensor:
    """Return how much last-layer neurons other than the answer's write, per answer.

    Args:
        taps: Holds what neurons wrote.
        batch: The rows; on weak ones the answer's own neuron counts as another.
        neurons: The answer's own neuron and that of its kind, by token (vocab, 2); else -1.
    """
    target = batch.tokens[:, 1:]
    answered = (neurons[target][..., 0] >= 0) & (batch.weights[:, 1:] >= ANSWER_WEIGHT)
    mass = taps.hidden[-1][:, :-1][answered]
    own = mass.gather(1, neurons[target][answered])
    own[:, 0] = own[:, 0].masked_fill(batch.weak[answered.nonzero()[:, 0]], 0.0)
    return (mass.sum(-1) - own.sum(-1)).mean()


def _ramp(step: int, start: int, length: int) -> float:
    return float(min(1.0, max(0.0, (step - start + 1) / max(length, 1))))


@contextmanager
def _tapped(model: LlamaForCausalLM, shape: Shape) -> Generator[Taps, None, None]:
    """Hook the model for one stage; the hooks are gone afterwards."""
    taps = Taps()
    free = shape.part("free")
    collected: dict[int, Tensor] = {}

    def weaken(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if taps.scale is None or not module.training:
            return output
        return output * taps.scale

    def shake(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        noise = taps.noise if module.training else 0.0
        return (args[0] + torch.randn_like(args[0]) * free * noise, *args[1:])

    def collector(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def collect(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            norms = layers[layer].mlp.down_proj.weight.norm(dim=0)
            collected[layer] = args[0].float().abs() * norms
            taps.hidden = tuple(collected[i] for i in sorted(collected))

        return collect

    layers = blocks(model)
    handles = [layers[0].mlp.register_forward_hook(weaken)]
    handles += [layer.register_forward_pre_hook(shake) for layer in layers[1:]]
    for i, layer in enumerate(layers):
        handles.append(layer.mlp.down_proj.register_forward_pre_hook(collector(i)))
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()

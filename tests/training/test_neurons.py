"""Training begins at the model's own neurons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, tiny
from torch.nn import functional as F

from circuit_nb import load, training
from circuit_nb.bridge.protocol import parts_of
from circuit_nb.training.coders import Coders
from circuit_nb.training.mlps import read
from circuit_nb.training.neurons import neurons_of
from circuit_nb.training.plan import Plan
from circuit_nb.training.sequences import Sequences

HOOKS = ("mlp.hook_in", "mlp.hook_out")


def some(model: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    drawn = torch.randint(3, 30, (40, 9), generator=torch.Generator().manual_seed(0))
    sequences = Sequences(model, [[1, *row] for row in drawn.tolist()], 128)
    return read(model, next(sequences.batches(10**6, 0)), *HOOKS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_neuron_is_what_it_reads_and_writes(family: str, tokenizer: Any) -> None:
    """From the weights of the Hugging Face model, neuron by neuron."""
    model = tiny(family, tokenizer)
    inputs, _ = some(model)
    found = list(neurons_of(model, inputs))[1]
    assert found is not None
    mlp = parts_of(model.bridge).blocks[1].mlp
    gated = family.startswith(("gemma", "llama", "qwen"))
    assert (mlp.W_gate is not None) == gated
    width = mlp.W_out.shape[0]
    assert len(found.reads) == len(found.writes) == (2 * width if gated else width)
    strengths: list[float] = []
    for read_along, written in zip(found.reads, found.writes, strict=True):
        signs = [sign for sign in (1, -1) if (mlp.W_out == sign * written).all(1).any()]
        neuron = int((mlp.W_out == signs[0] * written).all(1).nonzero())
        into = mlp.W_in[:, neuron]
        spread = (inputs[1] @ into).std()
        wanted, strength = into / spread, spread * written.norm()
        if gated:
            gate = mlp.W_gate[:, neuron]
            wanted = gate / (inputs[1] @ gate).std() + signs[0] * wanted
            strength = strength * (inputs[1] @ gate).std()
        torch.testing.assert_close(read_along, F.normalize(wanted, dim=0), atol=1e-5, rtol=1e-4)
        strengths.append(float(strength))
    assert strengths == pytest.approx(sorted(strengths, reverse=True), rel=1e-4)


@pytest.mark.parametrize("kind", ["topk", "jumprelu", "clt", "many"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_begins_at_neurons_explains_something(family: str, kind: str, tokenizer: Any) -> None:
    """Before the first step; and nowhere more than what a better factor would."""
    model = tiny(family, tokenizer)
    inputs, outputs = some(model)
    plan = Plan(
        features=200 if kind == "many" else 48,
        k=6,
        activation="jumprelu" if kind == "jumprelu" else "topk",
        cross_layer=kind == "clt",
        bfloat16=False,
    )
    neurons = neurons_of(model, inputs)
    with torch.no_grad():
        begun, random = (
            Coders(plan, inputs, outputs, start).losses(inputs, outputs, learning=0)[1]
            for start in (neurons, ())
        )
    torch.testing.assert_close(random, torch.ones(3), atol=1e-4, rtol=0)
    assert (begun < 0.97).all()


def test_weights_that_cannot_be_read_leave_a_layer_at_random(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    inputs, outputs = some(model)
    up = model.bridge.original_model.model.layers[1].mlp.up_proj.original_component
    up.weight = torch.nn.Parameter(torch.zeros(64, 16, dtype=torch.uint8), requires_grad=False)
    neurons = list(neurons_of(model, inputs))
    assert [found is None for found in neurons] == [False, True, False]
    plan = Plan(features=48, k=6, activation="topk")
    begun, random = (Coders(plan, inputs, outputs, start) for start in (neurons, ()))
    assert torch.equal(begun.W_enc[1], random.W_enc[1])
    assert not begun.W_dec[1].any()
    assert begun.W_dec[0].any()


def test_sets_begun_at_neurons_are_better_after_the_same_steps(tmp_path: Path) -> None:
    model = load("atlas", device="cpu")
    words = ["Dallas", "Oakland", "Houston", "Miami", "Chicago", "Seattle"]
    texts = [f"Fact: the capital of the state containing {word} is" for word in words]
    left: dict[str, float] = {}
    for start in ("neurons", "random"):
        model.transcoders = training.train_transcoders(
            model, texts * 4, tmp_path / start, features=96, k=8, tokens=128, epochs=4,
            start=start, progress=False,
        )  # fmt: skip
        left[start] = float(training.report(model, texts, texts[:1]).unexplained.mean())
    assert left["neurons"] < 0.8 * left["random"]

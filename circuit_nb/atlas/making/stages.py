"""The stages in which the atlas model is trained, and how its transcoders are fitted.

Plain training of the whole model learns the task, but lets the state reach the answer past
the MLPs. So the first stage only lays down layer 0 and the composition; the others rebuild
the ending until every answer comes from a neuron of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of training."""

    name: str
    purpose: str
    """What it adds, for readers."""
    steps: int
    seed: int = 0
    batch: int = 128
    learning_rate: float = 3e-3
    decay: float = 1.0
    """Weight decay of matrices; embeddings, norms and the head have none."""
    last_decay: float = 1.0
    """Weight decay of the last MLP."""
    new_ending: bool = False
    """Start with a fresh last MLP and a frozen head."""
    fixed_start: bool = False
    """Freeze embedding and layer 0."""
    fixed_writes: bool = False
    """Fix what the last MLP's neurons write: one an answer, one a kind, words."""
    weak_share: float = 0.0
    """Share of two-hop and city rows that carry weak evidence."""
    weak_scale: float = 0.4
    """Weak evidence is MLP 0's output at the city times U(0, weak_scale)."""
    noise: float = 0.0
    """Standard deviation of noise on the workspace at the input of layers 1 to 3."""
    sparsity: float = 2e-3
    """Weight of the L1 penalty on |hidden| · ‖write vector‖."""
    sparsity_from: int = 0
    """Step from which the penalty and weak evidence set in."""
    sparsity_ramp: int = 400
    """Steps over which the penalty grows to its weight."""
    last_sparsity: float = 1.0
    """Factor of the penalty for the last MLP."""
    routing: float = 0.0
    """Weight of the routing penalty."""
    routing_ramp: int = 200


STAGES = (
    Stage("compose", "two hops, learned head", steps=1600, sparsity_from=400),
    Stage(
        "rewire",
        "last MLP anew, with one neuron an answer and one a kind; frozen head; weak evidence",
        steps=1500,
        seed=1,
        new_ending=True,
        fixed_start=True,
        fixed_writes=True,
        last_decay=0.3,
        weak_share=0.15,
        noise=0.03,
        sparsity_from=200,
    ),
    Stage(
        "route",
        "gentle routing: an answer comes from its own neuron",
        steps=600,
        seed=2,
        fixed_start=True,
        fixed_writes=True,
        last_decay=0.3,
        weak_share=0.15,
        noise=0.03,
        sparsity_ramp=0,
        routing=0.05,
    ),
    Stage(
        "sharpen",
        "strong routing",
        steps=800,
        seed=3,
        fixed_start=True,
        fixed_writes=True,
        last_decay=0.1,
        weak_share=0.12,
        noise=0.015,
        sparsity_ramp=0,
        last_sparsity=2.0,
        routing=0.6,
        routing_ramp=60,
    ),
)
"""The stages of the shipped model, in order."""


@dataclass(frozen=True)
class Plan:
    """How one layer's transcoder is fitted."""

    features: int
    k: float
    """Active features a position, on average."""
    steps: int
    batch: int = 1024
    learning_rate: float = 2e-3
    from_neurons: bool = False
    """Start from the MLP's neurons: gate row → encoder, down column → decoder."""
    early_k: float = 5.0
    """k starts at this many times its value and falls over the first 30 % of steps."""


@dataclass(frozen=True)
class Finetuning:
    """One round of joint finetuning."""

    steps: int
    batch: int
    learning_rate: float
    local: float
    """Weight of each layer's own reconstruction error beside the KL divergence."""
    filler: float
    """How often a filler sentence is drawn, relative to 1 for the others."""


PLANS = (
    # Layer 0 is so sparse because a city must be its state, not a sum of shared features.
    Plan(features=384, k=1.8, steps=2000, batch=256),
    Plan(features=256, k=4, steps=600),
    Plan(features=256, k=4, steps=1200),
    Plan(features=512, k=4, steps=600, learning_rate=1e-3, from_neurons=True, early_k=1.0),
)
"""The plan of each layer."""
ROUNDS = (
    Finetuning(steps=200, batch=96, learning_rate=5e-4, local=1.0, filler=0.3),
    Finetuning(steps=300, batch=64, learning_rate=8e-4, local=0.5, filler=0.0),
)
"""The rounds of joint finetuning, in order."""

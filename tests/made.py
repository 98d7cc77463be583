"""Small graphs and cards made by hand, and texts that must never be taken for markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from circuit_nb.cards import Example, FeatureCard, Histogram
from circuit_nb.graph import AttributionGraph, Feature

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    '<a href="javascript:window.hacked = 1">click</a>',
    '"><svg onload="window.hacked = 1">',
    "<b>bold</b><br>$x^2$ &lt;i&gt; %{x}",
)
"""Labels and tokens that try to be more than text."""

TEXAS, CAPITAL, SAY = Feature(0, 4, 7), Feature(0, 2, 3), Feature(2, 5, 11)
OTHER, DIMMER = Feature(1, 4, 2), Feature(1, 5, 9)
LABELS = {(0, 7): "Texas", (0, 3): "capital", (2, 11): "say Austin", (1, 2): "Texas", (1, 9): "dim"}


def small_graph() -> AttributionGraph:
    """Six tokens, three layers, five features: Dallas → Texas → say Austin → Austin."""
    features = sorted([TEXAS, CAPITAL, SAY, OTHER, DIMMER])
    errors = [(layer, position) for layer in range(3) for position in range(6)]
    tokens = ("<bos>", "The", " capital", " of", " Dallas", " is")
    at = {f: i for i, f in enumerate(features)}
    columns = len(features) + len(errors) + len(tokens)
    token = len(features) + len(errors)
    weights = np.zeros((len(features) + 2, columns), dtype=np.float32)
    weights[at[TEXAS], token + 4] = 2.0
    weights[at[CAPITAL], token + 2] = 1.5
    weights[at[OTHER], at[TEXAS]] = 1.0
    weights[at[OTHER], len(features) + 4] = 0.1
    weights[at[DIMMER], token + 5] = 0.3
    weights[at[SAY], at[TEXAS]] = 0.8
    weights[at[SAY], at[OTHER]] = 0.7
    weights[at[SAY], at[CAPITAL]] = 0.5
    weights[at[SAY], at[DIMMER]] = -0.2
    weights[at[SAY], len(features) + 6 + 5] = 0.1
    weights[len(features), at[SAY]] = 5.0
    weights[len(features), at[CAPITAL]] = 0.4
    weights[len(features), token + 5] = -0.5
    weights[len(features) + 1, at[TEXAS]] = 0.9
    weights[len(features) + 1, at[SAY]] = -1.0
    return AttributionGraph(
        prompt="The capital of Dallas is",
        tokens=tokens,
        token_ids=np.arange(6),
        features=np.array([(f.layer, f.position, f.index) for f in features]),
        activations=np.linspace(1, 3, len(features)),
        errors=np.array(errors),
        targets=(" Austin", " Texas"),
        target_ids=np.array([40, 41]),
        target_probabilities=np.array([0.9, 0.06]),
        weights=weights,
        n_layers=3,
        n_active=5,
    )


def hostile_graph() -> AttributionGraph:
    """The small graph with hostile tokens, targets and prompt."""
    graph = small_graph()
    return replace(
        graph,
        prompt=HOSTILE[0],
        tokens=("<bos>", *HOSTILE),
        targets=(HOSTILE[1], HOSTILE[2]),
    )


def hostile_labels() -> dict[tuple[int, int], str]:
    """A hostile label for every feature of the small graph."""
    return dict(zip(LABELS, HOSTILE, strict=True))


def crowd(n_features: int = 2000, n_edges: int = 20_000, seed: int = 0) -> AttributionGraph:
    """A large random graph of 26 layers and 24 tokens."""
    random = np.random.default_rng(seed)
    positions, layers = 24, 26
    drawn = np.stack(
        [
            random.integers(0, layers, 4 * n_features),
            random.integers(1, positions, 4 * n_features),
            random.integers(0, 16_384, 4 * n_features),
        ],
        axis=1,
    )
    features = np.unique(drawn, axis=0)
    features = features[np.sort(random.permutation(len(features))[:n_features])]
    columns = n_features + layers * positions + positions
    weights = np.zeros((n_features + 5, columns), dtype=np.float32)
    rows = random.integers(0, n_features + 5, 4 * n_edges)
    sources = random.integers(0, n_features, 4 * n_edges)
    layer = np.append(features[:, 0], [layers] * 5)
    up = layer[rows] > layer[sources]
    weights[rows[up][:n_edges], sources[up][:n_edges]] = random.standard_normal(int(up.sum()))[
        :n_edges
    ]
    return AttributionGraph(
        prompt="a crowd",
        tokens=tuple(f" word{i}" for i in range(positions)),
        token_ids=np.arange(positions),
        features=features,
        activations=random.random(n_features),
        errors=np.array([(i, p) for i in range(layers) for p in range(positions)]),
        targets=tuple(f" answer{i}" for i in range(5)),
        target_ids=np.arange(5),
        target_probabilities=np.full(5, 0.15),
        weights=weights,
        n_layers=layers,
        n_active=n_features,
    )


def cards(keys: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], FeatureCard]:
    """A card for every feature of the small graph but one."""
    return {k: card(LABELS[k]) for k in keys if k in LABELS and k != (1, 9)}


def card(text: str) -> FeatureCard:
    """A full card all of whose texts are, or hold, the given one."""
    return FeatureCard(
        label=text,
        examples=(Example(("The", f" {text}", " is"), (0.0, 2.0, 0.5)),),
        promotes=((f" {text}", 1.25), (" other", 0.5)),
        suppresses=((" less", -0.75),),
        density=0.025,
        histogram=Histogram((5.0, 2.0, 1.0), (0.0, 1.0, 2.0, 3.0)),
        url=f"javascript:alert('{text}')",
        source="by hand",
    )

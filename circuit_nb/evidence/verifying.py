"""`verify`: what the graph predicts of switching features off, beside what the model does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import influence
from circuit_nb.evidence.experiments import (
    Floats,
    Part,
    Progress,
    features_in,
    run,
    soft_cap,
    uncapped,
)
from circuit_nb.graph import AttributionGraph, Feature, Node, TargetNode
from circuit_nb.intervention import Intervention, Outcome
from circuit_nb.model.replacement import ReplacementModel

if TYPE_CHECKING:
    import plotly.graph_objects as go


APART = 0.2
"""Share of a measured effect by which a prediction may miss it and still be called right."""


@dataclass(frozen=True)
class Verified:
    """Effects of switching features or groups of them off, one at a time.

    Method: Ameisen et al. 2025, *Circuit Tracing*, "Evaluating mechanistic faithfulness".
    """

    features: tuple[Part, ...]
    """What was switched off: the most influential features first, or the parts as given."""
    nodes: tuple[Node, ...]
    """All features of the graph, and its targets that are tokens."""
    predicted: Floats
    """Change of each node's pre-activation or demeaned logit, (features, nodes), by the graph:
    along all paths through its features, or with `freeze="all"` along the edge alone."""
    measured: Floats
    """The same in the run, (features, nodes)."""
    freeze: Literal["attention", "all"]

    @property
    def later(self) -> npt.NDArray[np.bool_]:
        """Which nodes each feature can reach, (features, nodes): all other entries are 0."""
        targets = np.array([isinstance(node, TargetNode) for node in self.nodes])
        layer, position = (
            np.array([getattr(node, name, np.inf) for node in self.nodes])
            for name in ("layer", "position")
        )
        reached = [
            [(layer > f.layer) & (position >= f.position) for f in features_in(part)]
            for part in self.features
        ]
        return targets | np.stack([np.any(of_part, axis=0) for of_part in reached])

    @property
    def apart(self) -> npt.NDArray[np.bool_]:
        """Where the prediction is off by more than `APART` of what was measured, (features, nodes);
        effects of a thousandth of the largest are as good as none."""
        none = 1e-3 * np.abs(self.measured).max(initial=0)
        return np.abs(self.predicted - self.measured) > APART * np.abs(self.measured) + none

    @property
    def correlation(self) -> float:
        """Pearson correlation of predicted and measured over `later`."""
        x, y = self._pairs()
        varies = len(x) > 1 and x.std() > 0 and y.std() > 0
        return float(np.corrcoef(x, y)[0, 1]) if varies else float("nan")

    @property
    def slope(self) -> float:
        """Measured by predicted, least squares through the origin: 1 where sizes are right."""
        x, y = self._pairs()
        return float(x @ y / (x @ x)) if x.any() else float("nan")

    def worst(self, k: int = 5) -> list[tuple[Part, Node, float, float]]:
        """The (feature, node, predicted, measured) furthest apart."""
        gap = np.abs(self.predicted - self.measured)
        order = np.argsort(-gap, axis=None, kind="stable")[:k]
        features, nodes = np.unravel_index(order, gap.shape)
        x, y = self.predicted[features, nodes], self.measured[features, nodes]
        ends = ((self.features[i], self.nodes[j]) for i, j in zip(features, nodes, strict=True))
        return [(*end, float(p), float(m)) for end, p, m in zip(ends, x, y, strict=True)]

    def figure(self) -> go.Figure:
        """Measured by predicted."""
        from circuit_nb.figures.evidence import verify_figure

        return verify_figure(self.predicted[self.later], self.measured[self.later])

    def __str__(self) -> str:
        n = int(self.later.sum())
        return (
            f"Of {len(self.features)} {self._kind} switched off one at a time, the effects on "
            f"{n:,} later nodes correlate {self.correlation:.2f} with the graph's prediction, "
            f"slope {self.slope:.2f}."
        )

    @property
    def _kind(self) -> str:
        return "features" if all(isinstance(p, Feature) for p in self.features) else "parts"

    def _pairs(self) -> tuple[Floats, Floats]:
        return self.predicted[self.later], self.measured[self.later]


def verify(
    model: ReplacementModel,
    graph: AttributionGraph,
    top: int = 50,
    *,
    parts: Sequence[Part] | None = None,
    freeze: Literal["attention", "all"] = "attention",
    batch_size: int | None = None,
    progress: Progress = True,
) -> Verified:
    """Switch features or parts of a circuit off, one at a time, and compare with the graph.

    The graph takes error nodes and denominators for constant; the run does not. Features that the
    graph does not hold carry effects that it cannot predict, so that an unpruned one predicts best.

    Args:
        model: The model the graph was made with.
        graph: The graph.
        top: How many features, the most influential ones.
        parts: Switch these off instead: supernodes, each as one, or features.
        freeze: `"attention"`, or `"all"` to compare edges alone, which then agree to rounding.
        batch_size: Rows of a pass; by default chosen from free memory.
        progress: Whether to show a progress bar, or what to tell instead.

    Raises:
        ValueError: If the graph has no features or is not of this model.
    """
    n = len(graph.features)
    if not n or top < 1:
        raise ValueError(f"There is nothing to switch off: {n} features in the graph, top={top}.")
    every = [Feature(*row) for row in graph.features.tolist()]
    order = np.argsort(-influence(graph)[graph.blocks.features], kind="stable")[:top]
    off = [every[i] for i in order.tolist()] if parts is None else list(parts)
    tokens = np.flatnonzero(graph.target_ids >= 0)
    predicted = effects(graph, off, direct=freeze == "all")
    measured = run(
        model,
        graph,
        [[Intervention.ablate(part)] for part in off],
        _changes(every, graph.target_ids[tokens], soft_cap(model)),
        freeze=freeze,
        watch=every,
        batch_size=batch_size,
        progress=progress,
        doing="Verification",
    )
    rows = np.concatenate([np.arange(n), n + tokens])
    return Verified(
        features=tuple(off),
        nodes=(*every, *(TargetNode(int(i)) for i in tokens)),
        predicted=predicted[rows].T,
        measured=np.stack(measured),
        freeze=freeze,
    )


def _changes(
    features: Sequence[Feature], ids: npt.NDArray[np.int64], cap: float | None
) -> Callable[[Outcome], Floats]:
    """Reads the changes of features' pre-activations and of tokens' demeaned logits."""

    def read(outcome: Outcome) -> Floats:
        before, after = outcome.before, outcome.after
        change = [after.pre_activations[f] - before.pre_activations[f] for f in features]
        logits = (uncapped(p.logits[-1], cap) for p in (after, before))
        demeaned = [values[ids] - values.mean() for values in logits]
        return np.concatenate([change, demeaned[0] - demeaned[1]])

    return read


def effects(graph: AttributionGraph, parts: Sequence[Part], *, direct: bool) -> Floats:
    """What the graph predicts of switching each of some parts off.

    An edge is proportional to its source's activation, so that a change of a feature's activation
    by a share of it changes its edges by that share, and so on up the graph. Features of the part
    itself are held at 0, whatever reaches them.

    Args:
        graph: The graph.
        parts: Features, or supernodes as one.
        direct: Along edges alone; otherwise along all paths.

    Returns:
        Changes of pre-activations and logits, (n_features + n_targets, parts).
    """
    n, weights = len(graph.features), graph.weights.astype(np.float64)
    off = np.zeros((n, len(parts)))
    for i, part in enumerate(parts):
        off[[graph.number(feature) for feature in features_in(part)], i] = 1
    straight = -weights[:, :n] @ off
    total = straight
    per_unit = weights[:, :n] / graph.activations
    # A path has at most as many edges as there are layers, and one.
    for _ in range(0 if direct else graph.n_layers):
        total = straight + per_unit @ (total[:n] * (1 - off))
    return total

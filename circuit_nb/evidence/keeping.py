"""`faithfulness`: how much of an answer a circuit keeps, and whether all of it is needed.

With m what is explained, m(C) is m with every active feature outside C switched off, and
f(C) = (m(C) − m(∅)) / (m(all) − m(∅)). Definitions: Wang et al. 2022, *Interpretability in the
Wild*; Marks et al. 2024, *Sparse Feature Circuits*; curves and areas: Mueller et al. 2025, *MIB*.
Error nodes are not switched off, and what the MLPs really do is not replaced: features are added
or taken away on top of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import influence
from circuit_nb.evidence.ablation import Ablated, Ablation, Mask, ablated, matched
from circuit_nb.evidence.combining import check_apart
from circuit_nb.evidence.experiments import (
    Floats,
    Metric,
    Part,
    Progress,
    features_in,
    measure_of,
    name_of,
    run,
)
from circuit_nb.graph import AttributionGraph
from circuit_nb.intervention import Freeze
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the active features on the curve."""
NEEDED = 0.05
"""Share of the answer that must go with a part for it to be called needed."""


@dataclass(frozen=True)
class Control:
    """Faithfulness of random features, (…, draws)."""

    draws: Floats

    @property
    def mean(self) -> Floats:
        """Mean over draws, (…,)."""
        return self.draws.mean(-1)

    @property
    def interval(self) -> tuple[Floats, Floats]:
        """Between which values 95 % of the draws lie, (…,) each."""
        low, high = np.quantile(self.draws, [0.025, 0.975], axis=-1)
        return low, high


@dataclass(frozen=True)
class Curve:
    """Faithfulness of the most influential features, by how many."""

    sizes: Floats
    """Shares of the active features, (n,), from 0 to 1."""
    values: Floats
    """f of so many, (n,)."""
    control: Control
    """Of as many random features matched by layer and position, (n, draws)."""

    @property
    def cpr(self) -> float:
        """Area under the curve (MIB's CPR): 1 or more where few features keep everything."""
        return float(_area(self.sizes, self.values))

    @property
    def cmd(self) -> float:
        """Area between the curve and 1 (MIB's CMD): 0 where any few features behave as all do."""
        return float(_area(self.sizes, np.abs(1 - self.values)))


@dataclass(frozen=True)
class Faithfulness:
    """How much of the answer a circuit keeps. All shares are of m(all) − m(∅)."""

    label: str
    """What is measured."""
    ablation: str
    """What off means: zero, mean or counterfactual."""
    parts: tuple[str, ...]
    """Names of the circuit's parts."""
    n_features: int
    """In the circuit."""
    n_active: int
    """On the prompt."""
    metric_all: float
    """m(all): the unmodified run, in logits."""
    metric_none: float
    """m(∅): every feature off."""
    faithfulness: float
    """f of the circuit: 1 where it keeps the whole answer."""
    completeness: float
    """f of everything but the circuit: near 0 where the circuit holds all that matters."""
    minimality: Floats
    """What f loses without each part, (parts,): near 0 where it is not needed."""
    control: Control
    """f of as many random features matched by layer and position, (draws,)."""
    curve: Curve

    @property
    def without(self) -> Floats:
        """f of the circuit without each part, (parts,)."""
        return self.faithfulness - self.minimality

    @property
    def needed(self) -> npt.NDArray[np.bool_]:
        """Which parts are needed, (parts,): f loses `NEEDED` or more without them."""
        return self.minimality >= NEEDED

    @property
    def cpr(self) -> float:
        """`Curve.cpr`."""
        return self.curve.cpr

    @property
    def cmd(self) -> float:
        """`Curve.cmd`."""
        return self.curve.cmd

    def figure(self) -> go.Figure:
        """The curve, the circuit on it, and random features beside both."""
        from circuit_nb.figures.evidence import faithfulness_figure

        low, high = self.control.interval
        return faithfulness_figure(
            sizes=self.curve.sizes,
            values=self.curve.values,
            random=(self.curve.control.mean, *self.curve.control.interval),
            circuit=(self.n_features / self.n_active, self.faithfulness),
            control=(float(self.control.mean), float(low), float(high)),
        )

    def __str__(self) -> str:
        low, high = self.control.interval
        return (
            f"These {self.n_features} of {self.n_active} features keep {self.faithfulness:.0%} of "
            f"{self.label.strip()} ({self.ablation} ablation); random ones keep "
            f"{self.control.mean:.0%} ({low:.0%} to {high:.0%}); without these "
            f"{self.completeness:.0%} is left."
        )


def faithfulness(
    model: ReplacementModel,
    graph: AttributionGraph,
    features: Sequence[Part],
    ablation: Ablation = "zero",
    *,
    metric: Metric = None,
    prompts: Sequence[Prompt] | None = None,
    draws: int = 20,
    seed: int = 0,
    freeze: Freeze = "attention",
    batch_size: int | None = None,
    progress: Progress = True,
) -> Faithfulness:
    """Measure how much of an answer a circuit keeps.

    Args:
        model: The model the graph was made with.
        graph: The graph; its influence orders the features of the curve, those it does not hold
            last.
        features: The circuit: supernodes or features, each a part whose need is measured.
        ablation: What off means: `"zero"`; `"mean"`, of each feature over all positions of
            `prompts`; or the graph of a counterfactual prompt of the same length, whose values
            features take; those active only there stay off.
        metric: What is measured.
        prompts: For the mean; by default the graph's own prompt.
        draws: How many random circuits stand beside it.
        seed: Of the random circuits.
        freeze: As for `intervene`.
        batch_size: Rows of a pass; by default chosen from free memory.
        progress: Whether to show a progress bar, or what to tell instead.

    Raises:
        ValueError: If a feature is not active, is in two parts, or the ablation is not possible.
    """
    if not features or draws < 1:
        raise ValueError(f"{len(features)} features and {draws} draws; give at least one of each.")
    check_apart(features)
    measure = measure_of(model, graph, metric)
    off = ablated(model, graph, ablation, prompts)
    parts = [off.mask(off.numbers(features_in(part))) for part in features]
    kept = _kept(off, parts, _nested(off, graph), draws, seed)
    values = run(
        model,
        graph,
        [off.keeping(mask) for masks in kept.values() for mask in masks],
        measure.after,
        freeze=freeze,
        batch_size=batch_size,
        progress=progress,
        doing="Faithfulness",
    )
    everything = measure(model.record(graph.token_ids.tolist()).next_logits.float().cpu().numpy())
    return _found(measure.label, off, features, kept, values, everything)


def _kept(
    off: Ablated, parts: Sequence[Mask], influential: list[Mask], draws: int, seed: int
) -> dict[str, list[Mask]]:
    """Which features each experiment keeps, by what it is for."""
    random = np.random.default_rng(seed)

    def beside(chosen: Mask) -> list[Mask]:
        return [matched(random, chosen, off.features) for _ in range(draws)]

    circuit = np.any(parts, axis=0)
    return {
        "nothing": [np.zeros_like(circuit)],
        "circuit": [circuit],
        "rest": [~circuit],
        "without": [circuit & ~part for part in parts],
        "random": beside(circuit),
        "curve": influential,
        "random curve": [mask for chosen in influential for mask in beside(chosen)],
    }


def _found(
    label: str,
    off: Ablated,
    features: Sequence[Part],
    kept: dict[str, list[Mask]],
    values: Sequence[float],
    everything: float,
) -> Faithfulness:
    """The measures, from what each experiment gave in logits, and the unmodified run."""
    nothing, (circuit,) = values[0], kept["circuit"]
    gap = everything - nothing
    shares = (np.array(values) - nothing) / (gap if abs(gap) > 1e-9 else float("nan"))
    ends = np.cumsum([len(masks) for masks in kept.values()])[:-1]
    f = dict(zip(kept, np.split(shares, ends), strict=True))
    draws = len(f["random"])
    return Faithfulness(
        label=label,
        ablation=off.name,
        parts=tuple(map(name_of, features)),
        n_features=int(circuit.sum()),
        n_active=len(circuit),
        metric_all=everything,
        metric_none=nothing,
        faithfulness=float(f["circuit"][0]),
        completeness=float(f["rest"][0]),
        minimality=f["circuit"] - f["without"],
        control=Control(f["random"]),
        curve=Curve(
            sizes=np.array([0.0, *(mask.mean() for mask in kept["curve"])]),
            values=np.append(0.0, f["curve"]),
            control=Control(np.vstack([np.zeros(draws), f["random curve"].reshape(-1, draws)])),
        ),
    )


def curve_sizes(n_active: int) -> npt.NDArray[np.int64]:
    """How many of the active features are on the curve at each step: `SHARES` of them."""
    return np.unique(np.ceil(np.array(SHARES) * n_active).astype(np.int64))


def _nested(off: Ablated, graph: AttributionGraph) -> list[Mask]:
    """The most influential features, so many of them as there are at each step of the curve."""
    reach = dict(zip(map(tuple, graph.features.tolist()), influence(graph).tolist(), strict=False))
    strength = np.array([reach.get(tuple(row), -1.0) for row in off.features.tolist()])
    order = np.argsort(-strength, kind="stable")
    return [off.mask(order[:n]) for n in curve_sizes(len(order)).tolist()]


def _area(x: Floats, y: Floats) -> np.floating:
    """By trapezoids."""
    return ((y[1:] + y[:-1]) / 2 * np.diff(x)).sum()

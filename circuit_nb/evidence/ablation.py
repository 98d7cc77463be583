"""What switching a feature off means, and which random features stand beside a circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.evidence.experiments import Floats
from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.intervention import Intervention
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt

Ablation: TypeAlias = Literal["zero", "mean"] | AttributionGraph
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Ablated:
    """The features of a prompt, and the values that stand for off."""

    name: str
    """The kind of ablation: zero, mean or counterfactual."""
    features: npt.NDArray[np.int64]
    """Those active on the prompt, (n, 3), rows (layer, position, index)."""
    values: Floats
    """Activation of each when off, (n,)."""

    @cached_property
    def nodes(self) -> list[Feature]:
        """The features as such."""
        return [Feature(*row) for row in self.features.tolist()]

    def numbers(self, features: Sequence[Feature]) -> list[int]:
        """Where features stand.

        Raises:
            ValueError: If one is not active on the prompt.
        """
        place = {node: number for number, node in enumerate(self.nodes)}
        for feature in features:
            if feature not in place:
                raise ValueError(
                    f"{feature} is not active on this prompt, so that it can explain nothing "
                    "there; give active features."
                )
        return [place[feature] for feature in features]

    def mask(self, numbers: Sequence[int] | npt.NDArray[np.int64]) -> Mask:
        """Which features those are, (n,)."""
        found = np.zeros(len(self.features), dtype=bool)
        found[np.asarray(numbers, dtype=np.int64)] = True
        return found

    def keeping(self, kept: Mask) -> list[Intervention]:
        """Switch all others off."""
        off = np.flatnonzero(~kept)
        if not len(off):
            return []
        others = Supernode("all others", [self.nodes[number] for number in off.tolist()])
        return [Intervention.set(others, self.values[off].tolist())]


def ablated(
    model: ReplacementModel,
    graph: AttributionGraph,
    ablation: Ablation,
    prompts: Sequence[Prompt] | None,
) -> Ablated:
    """What can be switched off on a graph's prompt, and how.

    Args:
        model: The model.
        graph: The graph.
        ablation: `"zero"`; `"mean"`, of each feature over all positions of `prompts`; or the graph
            of a counterfactual prompt of the same length, whose activations features take. Those
            active only there stay off.
        prompts: For the mean; the graph's own prompt if there are none.

    Raises:
        ValueError: If the ablation is not known, or the two prompts differ in length.
    """
    record = model.record(graph.token_ids.tolist())
    features = record.features.cpu().numpy()
    if isinstance(ablation, AttributionGraph):
        if len(ablation.tokens) != len(graph.tokens):
            raise ValueError(
                f"The counterfactual prompt has {len(ablation.tokens)} tokens and this one "
                f"{len(graph.tokens)}; a feature's value is taken at its own position, so give "
                "prompts of the same length."
            )
        other = model.record(ablation.token_ids.tolist())
        values = other.activations_of([Feature(*row) for row in features.tolist()])
        return Ablated("counterfactual", features, values.double().cpu().numpy())
    if ablation == "zero":
        return Ablated("zero", features, np.zeros(len(features)))
    if ablation == "mean":
        means = _means(model, [graph.token_ids.tolist()] if prompts is None else prompts)
        values = np.array([means.get((layer, i), 0.0) for layer, _, i in features.tolist()])
        return Ablated("mean", features, values)
    raise ValueError(f"ablation is {ablation!r}; give 'zero', 'mean' or a graph.")


def _means(model: ReplacementModel, prompts: Sequence[Prompt]) -> dict[tuple[int, int], float]:
    """Mean activation of every feature over all positions of prompts that are not ignored."""
    sums, positions = dict[tuple[int, int], float](), 0
    for prompt in prompts:
        record = model.record(prompt)
        positions += record.positions - record.ignored
        for (layer, _, index), value in zip(
            record.features.tolist(), record.activations.tolist(), strict=True
        ):
            sums[layer, index] = sums.get((layer, index), 0.0) + value
    return {key: value / max(positions, 1) for key, value in sums.items()}


def matched(random: np.random.Generator, chosen: Mask, features: npt.NDArray[np.int64]) -> Mask:
    """As many random features as are chosen, outside them and where they are.

    Each stands in for a chosen one: of the same layer and position while there are others, then of
    the same position, then anywhere; from the chosen ones themselves where nothing else is left.

    Args:
        random: Where they are drawn from.
        chosen: (n,).
        features: (n, 3), rows (layer, position, index).

    Returns:
        (n,).
    """
    layer, position, _ = features.T
    cells = layer * (position.max(initial=0) + 1) + position
    drawn, waiting = np.zeros_like(chosen), np.flatnonzero(chosen)
    for pool, key in (
        (~chosen, cells),
        (~chosen, position),
        (~chosen, np.zeros_like(cells)),
        (chosen, np.zeros_like(cells)),
    ):
        if not len(waiting):
            break
        there = random.permutation(np.flatnonzero(pool & ~drawn))
        wanted, found = (np.bincount(key[x], minlength=key.max() + 1) for x in (waiting, there))
        drawn[there[_before(key[there]) < wanted[key[there]]]] = True
        waiting = waiting[_before(key[waiting]) >= found[key[waiting]]]
    return drawn


def _before(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of the same stand before each, (n,)."""
    order = np.argsort(keys, kind="stable")
    ordered, counts = keys[order], np.empty_like(keys)
    counts[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return counts

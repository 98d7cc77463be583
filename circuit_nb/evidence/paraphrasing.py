"""`stability`: are the same features influential on paraphrases, and under other settings?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from circuit_nb.analysis import influence
from circuit_nb.attribution import attribute
from circuit_nb.evidence.experiments import Floats
from circuit_nb.graph import AttributionGraph
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt

if TYPE_CHECKING:
    import plotly.graph_objects as go

SIZES = (5, 10, 20, 50)


@dataclass(frozen=True)
class Stability:
    """How far the most influential features of several graphs are the same.

    Features are the same at the same layer and index, wherever in the prompt: paraphrases have
    their words at other places. Where a feature is active at several, its influence is their sum.
    """

    prompts: tuple[str, ...]
    sizes: tuple[int, ...]
    """How many of the most influential features are compared."""
    overlap: Floats
    """Jaccard overlap of the first so many, (sizes, prompts, prompts)."""
    core: tuple[tuple[int, int], ...]
    """(layer, index) of the features among the first `sizes[-1]` of every prompt, the most
    influential first."""

    @property
    def mean(self) -> Floats:
        """Mean over pairs of different prompts, (sizes,)."""
        n = len(self.prompts)
        return (self.overlap.sum((1, 2)) - n) / (n * (n - 1))

    def figure(self) -> go.Figure:
        """Overlap of every pair, for the largest size."""
        from circuit_nb.figures.evidence import stability_figure

        return stability_figure(self.prompts, self.overlap[-1], self.sizes[-1])

    def __str__(self) -> str:
        shares = ", ".join(f"{m:.0%} of {k}" for k, m in zip(self.sizes, self.mean, strict=True))
        return (
            f"Over {len(self.prompts)} prompts the most influential features overlap by {shares} "
            f"(Jaccard, mean over pairs); {len(self.core)} are among the first {self.sizes[-1]} "
            "of all."
        )


def stability(
    model: ReplacementModel | None,
    prompts: Sequence[Prompt | AttributionGraph],
    *,
    sizes: Sequence[int] = SIZES,
    progress: bool = True,
) -> Stability:
    """Compare the most influential features of paraphrases.

    Args:
        model: The model; not needed where all are graphs.
        prompts: At least two prompts, or graphs: also of one prompt under other settings.
        sizes: How many of the most influential features to compare.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If there are fewer than two prompts, or a prompt and no model.
    """
    if len(prompts) < 2 or not sizes or min(sizes) < 1:
        raise ValueError(
            f"{len(prompts)} prompts and sizes {tuple(sizes)} cannot be compared; give at least "
            "two prompts, and sizes of 1 or more."
        )
    graphs: list[AttributionGraph] = []
    for prompt in tqdm(prompts, desc="Stability", unit="prompt", disable=not progress):
        if isinstance(prompt, AttributionGraph):
            graphs.append(prompt)
        elif model is None:
            raise ValueError(f"{prompt!r} is a prompt and there is no model to run it; give one.")
        else:
            graphs.append(attribute(model, prompt, progress=False))
    reach = [_by_feature(graph) for graph in graphs]
    orders = [sorted(one, key=lambda key, one=one: (-one[key], key)) for one in reach]
    sizes = sorted(set(sizes))
    tops = [[set(order[:k]) for order in orders] for k in sizes]
    shared = set[tuple[int, int]].intersection(*tops[-1])
    return Stability(
        prompts=tuple(graph.prompt for graph in graphs),
        sizes=tuple(sizes),
        overlap=np.array([[[_jaccard(a, b) for b in top] for a in top] for top in tops]),
        core=tuple(sorted(shared, key=lambda key: (-sum(one[key] for one in reach), key))),
    )


def _by_feature(graph: AttributionGraph) -> dict[tuple[int, int], float]:
    """Influence by layer and index, summed over positions."""
    found: dict[tuple[int, int], float] = {}
    values = influence(graph)[graph.blocks.features].tolist()
    for (layer, _, index), value in zip(graph.features.tolist(), values, strict=True):
        found[layer, index] = found.get((layer, index), 0.0) + value
    return found


def _jaccard(a: set[tuple[int, int]], b: set[tuple[int, int]]) -> float:
    return len(a & b) / len(a | b) if a | b else 1.0

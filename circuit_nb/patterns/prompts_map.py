"""Prompts by their circuits: who uses what, who is near whom, whose circuit is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from circuit_nb.patterns import usage
from circuit_nb.patterns.profile import Profile
from circuit_nb.patterns.roles import align

if TYPE_CHECKING:
    import plotly.graph_objects as go

FAR = 3.5
"""So many deviations (median absolute, scaled to a normal's) below the median is an outlier
(Iglewicz and Hoaglin 1993)."""
SHOWN = 40


@dataclass(frozen=True)
class PromptsMap:
    """Prompts by circuit."""

    names: tuple[str, ...]
    features: tuple[str, ...]
    """Labels of the features compared, the most influential first."""
    influence: npt.NDArray[np.float32]
    """(prompts, features)."""
    points: npt.NDArray[np.float64]
    """Along the two directions in which circuits differ most, (prompts, 2)."""
    explained: tuple[float, float]
    likeness: npt.NDArray[np.float64]
    """Cosine of each prompt's influences and the mean of all others', (prompts,)."""
    outliers: npt.NDArray[np.bool_]

    def figure(self) -> go.Figure:
        """A scatter of the prompts."""
        from circuit_nb.figures.sets import prompts_figure

        return prompts_figure(self.points, self.names, self.likeness, self.outliers, self.explained)

    def usage_figure(self, features: int = SHOWN) -> go.Figure:
        """Prompts by features, as a heat map of influence."""
        from circuit_nb.figures.sets import usage_figure

        return usage_figure(self.names, self.features[:features], self.influence[:, :features])

    def departs(self, number: int, count: int = 10) -> list[tuple[str, float]]:
        """Where one prompt departs most from the average of the others: feature and difference."""
        mean = np.delete(self.influence, number, axis=0).mean(0)
        apart = self.influence[number] - mean
        order = np.argsort(-np.abs(apart), kind="stable")[:count]
        return [(self.features[i], float(apart[i])) for i in order]


def prompts_map(
    profiles: Sequence[Profile],
    names: Sequence[str],
    *,
    by: str = "role",
    labels: Mapping[tuple[int, int], str] | None = None,
) -> PromptsMap:
    """Compare prompts by the influence of the features that at least two of them use.

    Args:
        profiles: Of each graph.
        names: Of each prompt.
        by: As for `patterns.common`.
        labels: Labels by (layer, index).

    Raises:
        ValueError: If there are fewer than three graphs.
    """
    if len(profiles) < 3:
        raise ValueError(f"{len(profiles)} graphs have no outliers; give at least three.")
    roles = align([p.tokens for p in profiles], by)
    use = usage.features(profiles, roles, 2)
    order = np.argsort(-use.values.mean(0), kind="stable")
    values = use.values[:, order]
    units = [use.unit(i) for i in order.tolist()]
    total = values.sum(0, keepdims=True)
    likeness = _cosine(values, (total - values) / (len(values) - 1))
    spread = 1.4826 * float(np.median(np.abs(likeness - np.median(likeness))))
    centred = np.sqrt(values) - np.sqrt(values).mean(0)
    # Of the smaller of the two products: as many numbers as there are prompts.
    u, s, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    points = np.zeros((len(values), 2))
    points[:, : min(2, len(s))] = u[:, :2] * s[:2]
    shares = (s**2 / max(float((s**2).sum()), 1e-30)).tolist()
    return PromptsMap(
        tuple(names),
        tuple(usage.label_of(unit, roles.names, labels or {}) for unit in units),
        values,
        points,
        (shares[0], shares[1] if len(shares) > 1 else 0.0),
        likeness,
        likeness < np.median(likeness) - FAR * max(spread, 1e-6),
    )


def _cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1, dtype=np.float64) / np.maximum(lengths, 1e-30)

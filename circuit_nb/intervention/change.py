"""`Intervention`: which features get which values, and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from circuit_nb.graph import AttributionGraph, Feature, Supernode


def features_of(what: Feature | Supernode) -> tuple[Feature, ...]:
    """The features of a supernode, or the one that was given."""
    return what.features if isinstance(what, Supernode) else (what,)


@dataclass(frozen=True)
class Intervention:
    """New values for some features. Make one with `ablate`, `scale`, `set` or `from_graph`.

    All four take `positions` (put the values there instead of at each feature's own position) or
    `from_position` (there and at every later position, generated tokens included).
    """

    name: str
    """What is intervened on, for display."""
    features: tuple[Feature, ...]
    values: tuple[float, ...]
    """One a feature: a multiple of its activation on the prompt, or the activation itself."""
    relative: bool
    """Whether `values` are multiples."""
    positions: tuple[int, ...] | None = None
    from_position: int | None = None

    @classmethod
    def ablate(
        cls,
        what: Feature | Supernode,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Switch features off: their activation becomes 0."""
        return cls._make(what, 0.0, False, positions, from_position)

    @classmethod
    def scale(
        cls,
        what: Feature | Supernode,
        factor: float,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Multiply features: `factor` times their activation on the unmodified prompt.

        At generated tokens, times their current activation. A feature that is inactive on the
        prompt stays so; give it a value by `set` or `from_graph`.
        """
        return cls._make(what, factor, True, positions, from_position)

    @classmethod
    def set(
        cls,
        what: Feature | Supernode,
        value: float | Sequence[float],
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Give features an activation: one value for all, or one for each."""
        return cls._make(what, value, False, positions, from_position)

    @classmethod
    def from_graph(
        cls,
        what: Feature | Supernode,
        graph: AttributionGraph,
        factor: float = 1.0,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Give features `factor` times the activation they have in another prompt's graph.

        Raises:
            ValueError: If the graph does not hold one of them.
        """
        values = [factor * float(graph.activations[graph.number(f)]) for f in features_of(what)]
        return cls._make(what, values, False, positions, from_position)

    @classmethod
    def _make(
        cls,
        what: Feature | Supernode,
        value: float | Sequence[float],
        relative: bool,
        positions: Iterable[int] | None,
        from_position: int | None,
    ) -> Intervention:
        features = features_of(what)
        values = [float(value)] * len(features) if isinstance(value, (int, float)) else [*value]
        name = what.name if isinstance(what, Supernode) else str(what)
        if len(values) != len(features):
            raise ValueError(
                f"{len(values)} values were given for the {len(features)} features of {name!r}; "
                "give one value, or one a feature."
            )
        if not np.isfinite(values).all():
            raise ValueError(f"A value for {name!r} is not a finite number: {values}.")
        if positions is not None and from_position is not None:
            raise ValueError("Give positions or from_position, not both.")
        places = None if positions is None else tuple(int(p) for p in positions)
        return cls(name, features, tuple(float(v) for v in values), relative, places, from_position)

    def __str__(self) -> str:
        values = sorted({f"{v:g}" for v in self.values})
        return f"{self.name} {'×' if self.relative else '= '}{', '.join(values)}"

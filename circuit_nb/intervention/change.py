"""`Intervention`: which features get which values, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from circuit_nb.given import Value, numbers, places, whole
from circuit_nb.graph import AttributionGraph, Feature, Supernode

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel
    from circuit_nb.model.vocabulary import Prompt


def features_of(what: object) -> tuple[Feature, ...]:
    """The features of a supernode, or the one that was given.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(what, Supernode):
        return what.features
    if not isinstance(what, Feature):
        raise ValueError(
            f"{what!r} is neither a feature nor a supernode; give Feature(layer, position, index) "
            "or Supernode(name, features)."
        )
    return (what,)


@dataclass(frozen=True)
class Intervention:
    """New values for some features.

    Make one with `ablate`, `scale`, `set`, `from_graph` or `from_prompt`. All five take
    `positions` (put the values there instead of at each feature's own position) or
    `from_position` (there and at every later position, generated tokens included).

    Raises:
        ValueError: If values or positions are not what they have to be.
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

    def __post_init__(self) -> None:
        if self.positions is not None and self.from_position is not None:
            raise ValueError("Give positions or from_position, not both.")
        if self.positions is not None:
            object.__setattr__(self, "positions", places(self.positions, "positions"))
        if self.from_position is not None:
            object.__setattr__(self, "from_position", whole(self.from_position, "from_position"))
        given = numbers(self.values, self.name)
        object.__setattr__(self, "values", tuple(given if isinstance(given, list) else [given]))
        if len(self.values) != len(self.features):
            raise ValueError(
                f"{len(self.values)} values were given for the {len(self.features)} features of "
                f"{self.name!r}; give one value, or one a feature."
            )

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
        factor: Value,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Multiply features: `factor` times their activation on the unmodified prompt.

        At generated tokens, times their current activation. A feature that is inactive on the
        prompt stays so; give it a value by `set`, `from_graph` or `from_prompt`.
        """
        return cls._make(what, factor, True, positions, from_position)

    @classmethod
    def set(
        cls,
        what: Feature | Supernode,
        value: Value,
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
        found = graph.activations[[graph.number(f) for f in features_of(what)]]
        return cls._taken(what, found, factor, positions, from_position)

    @classmethod
    def from_prompt(
        cls,
        what: Feature | Supernode,
        model: ReplacementModel,
        prompt: Prompt,
        factor: float = 1.0,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
    ) -> Intervention:
        """Give features `factor` times the activation they have on another prompt.

        This takes one pass and no attribution, and knows every feature of the transcoders, also
        those that a graph leaves out. One that is inactive there is switched off.

        Args:
            what: The features, at the positions they have in `prompt`.
            model: The model.
            prompt: Text, token ids, or a 1-D tensor of them.
            factor: Multiple of the activations.
            positions: Where to put them; by default at the same positions.
            from_position: There and at every later position, generated tokens included.

        Raises:
            ValueError: If the prompt has no such position, or the model no such feature.
        """
        found = model.activations(prompt, features_of(what))
        return cls._taken(what, found, factor, positions, from_position)

    @classmethod
    def _taken(
        cls,
        what: Feature | Supernode,
        activations: npt.NDArray[np.float32],
        factor: float,
        positions: Iterable[int] | None,
        from_position: int | None,
    ) -> Intervention:
        """Multiples of activations on another prompt."""
        times = numbers(factor, "factor")
        if isinstance(times, list):
            raise ValueError(f"factor is {factor!r}; give one number for all features.")
        values = [times * value for value in np.asarray(activations).tolist()]
        return cls._make(what, values, False, positions, from_position)

    @classmethod
    def _make(
        cls,
        what: Feature | Supernode,
        value: Value,
        relative: bool,
        positions: Iterable[int] | None,
        from_position: int | None,
    ) -> Intervention:
        features = features_of(what)
        name = what.name if isinstance(what, Supernode) else str(what)
        given = numbers(value, name)
        values = given if isinstance(given, list) else [given] * len(features)
        # Whatever iterable was given is checked, and kept as a tuple, where the object is made.
        where: Any = positions
        return cls(name, features, tuple(values), relative, where, from_position)

    def __str__(self) -> str:
        values = sorted({f"{v:g}" for v in self.values})
        return f"{self.name} {'×' if self.relative else '= '}{', '.join(values)}"

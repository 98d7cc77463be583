"""Experiments on the boxes of the circuit: what was measured, and how long the next will take."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from circuit_nb import evidence
from circuit_nb.figures.style import signed
from circuit_nb.figures.subgraph import Group
from circuit_nb.graph import Feature, Supernode, TargetNode
from circuit_nb.panels.asking import features_of
from circuit_nb.panels.state import Identity

if TYPE_CHECKING:
    from circuit_nb.evidence import Combinations, Faithfulness, Sweep, Verified
    from circuit_nb.graph import AttributionGraph
    from circuit_nb.model.replacement import ReplacementModel
    from circuit_nb.panels.state import Row, Setup

DRAWS = 20
"""Random circuits beside the boxes, and beside every point of the curve."""
MOST_COMBINED = 10
"""Boxes that can be switched in every combination."""
NO_TOKEN = "No output of this graph is a token, so there is no answer to measure by."
NO_BOXES = "Group features into boxes first, or let groups be proposed: they are what is measured."

R = TypeVar("R")


@dataclass(frozen=True)
class Findings:
    """What was measured of some boxes; None where it was not."""

    faithfulness: Faithfulness | None = None
    verified: Verified | None = None
    combinations: Combinations | None = None
    sweeps: Mapping[Identity, Sweep] = field(default_factory=dict[Identity, Any])


class Measured(Protocol):
    """What is used of a session."""

    graph: AttributionGraph
    model: ReplacementModel | None
    setup: Setup
    progress: tuple[str, int, int] | None
    measured: Any

    def need_model(self) -> ReplacementModel:
        """The model; an error in words where there is none."""
        ...

    def row_name(self, row: Row) -> str:
        """What a row of switches is called."""
        ...


class Trials:
    """Runs the experiments of a session, and keeps what they found.

    Findings belong to the boxes, whatever they are called, and come back with them.

    Args:
        session: The session; its `measured` counts up with every finding, its `progress` tells how
            far an experiment is.
    """

    def __init__(self, session: Measured) -> None:
        self._session = session
        self._found: dict[tuple[Identity, ...], Findings] = {}
        self.pace: float | None = None
        """Seconds that one run takes, in a pass of several; None before the first."""

    @property
    def parts(self) -> tuple[Supernode | Feature, ...]:
        """What is switched as one: the supernodes, and pinned features."""
        setup, graph = self._session.setup, self._session.graph
        rows = (*setup.supernodes, *(n for n in setup.pinned if isinstance(n, Feature)))
        return tuple(row for row in rows if all(f in graph for f in features_of(row)))

    @property
    def names(self) -> tuple[str, ...]:
        """What the parts are called now."""
        return tuple(map(self._session.row_name, self.parts))

    @property
    def target(self) -> int | None:
        """Which output of the graph is the answer: the first that is a token."""
        tokens = np.flatnonzero(self._session.graph.target_ids >= 0)
        return int(tokens[0]) if len(tokens) else None

    @property
    def found(self) -> Findings:
        """What was measured of the boxes there are, under the names they have."""
        found = self._found.get(self._key(), Findings())
        names = self.names
        return Findings(
            found.faithfulness and dataclasses.replace(found.faithfulness, parts=names),
            found.verified,
            found.combinations and dataclasses.replace(found.combinations, parts=names),
            found.sweeps,
        )

    def runs(self, what: str) -> int:
        """How many runs of the model `measure`, `combine` or `sweep` takes."""
        k = len(self.parts)
        if what == "combine":
            return 2**k
        if what == "sweep":
            return len(evidence.MULTIPLIERS)
        points = len(evidence.curve_sizes(self._session.graph.n_active))
        return 3 + k + DRAWS + points * (1 + DRAWS) + k

    def seconds(self, what: str) -> float | None:
        """About how long that takes; None before the first pass."""
        return None if self.pace is None else self.pace * self.runs(what)

    def time_a_pass(self) -> None:
        """Run one pass to know how long experiments will take, unless that is known."""
        if self.pace is None and self._session.model is not None:
            self.pace = evidence.pace(self._session.model, self._session.graph)

    def measure(self) -> None:
        """What the boxes keep, and what switching each of them off does."""
        model, parts, target = self._ready()
        graph = self._session.graph

        def both() -> tuple[Faithfulness, Verified]:
            kept = evidence.faithfulness(
                model,
                graph,
                parts,
                metric=int(graph.target_ids[target]),
                draws=DRAWS,
                progress=self._tell("Measuring what the boxes keep"),
            )
            told = self._tell("Switching boxes off")
            return kept, evidence.verify(model, graph, parts=parts, progress=told)

        kept, verified = self._run("measure", both)
        self._keep(faithfulness=kept, verified=verified)

    def combine(self) -> None:
        """Switch the boxes on and off in every combination.

        Raises:
            ValueError: If there are too many.
        """
        model, parts, target = self._ready()
        if len(parts) > MOST_COMBINED:
            raise ValueError(
                f"{len(parts)} boxes have 2^{len(parts)} combinations; keep {MOST_COMBINED} or "
                "fewer in the circuit."
            )
        graph, told = self._session.graph, self._tell("Trying every combination")
        found = self._run(
            "combine",
            lambda: evidence.combinations(
                model, graph, parts, metric=int(graph.target_ids[target]), progress=told
            ),
        )
        self._keep(combinations=found)

    def sweep(self, part: Supernode | Feature) -> Sweep:
        """Turn one box up and down; what was found before is not run again."""
        model, _, target = self._ready()
        graph, known = self._session.graph, self.found.sweeps
        if (key := Identity.of(part)) not in known:
            told = self._tell("Turning a box up and down")
            found = self._run(
                "sweep",
                lambda: evidence.sweep(
                    model, graph, part, metric=int(graph.target_ids[target]), progress=told
                ),
            )
            self._keep(sweeps={**known, key: found})
        return dataclasses.replace(self.found.sweeps[key], part=self._session.row_name(part))

    def effects(self) -> dict[Group, tuple[float, float | None]]:
        """What switching each box off did to the answer's logit, and what the graph predicted
        where that is further off than `Verified.apart` allows."""
        found = self.found.verified
        if found is None or self.target is None:
            return {}
        column = found.nodes.index(TargetNode(self.target))
        return {
            part: (float(measured), float(predicted) if apart else None)
            for part, measured, predicted, apart in zip(
                self.parts,
                found.measured[:, column],
                found.predicted[:, column],
                found.apart[:, column],
                strict=True,
            )
        }

    def badges(self) -> dict[Group, str]:
        """The same in a few characters."""
        return {part: effect_text(*effect) for part, effect in self.effects().items()}

    def _key(self) -> tuple[Identity, ...]:
        return tuple(map(Identity.of, self.parts))

    def _ready(self) -> tuple[ReplacementModel, tuple[Supernode | Feature, ...], int]:
        model = self._session.need_model()
        if not self.parts:
            raise ValueError(NO_BOXES)
        if self.target is None:
            raise ValueError(NO_TOKEN)
        return model, self.parts, self.target

    def _tell(self, words: str) -> Callable[[int, int], None]:
        def told(done: int, total: int) -> None:
            self._session.progress = (words, done, total)

        return told

    def _run(self, what: str, experiment: Callable[[], R]) -> R:
        """Run an experiment; how long a run took is remembered."""
        start = time.perf_counter()
        self._session.progress = ("Starting", 0, self.runs(what))
        try:
            found = experiment()
        finally:
            self._session.progress = None
        self.pace = (time.perf_counter() - start) / self.runs(what)
        return found

    def _keep(self, **findings: Any) -> None:
        key = self._key()
        self._found[key] = dataclasses.replace(self._found.get(key, Findings()), **findings)
        self._session.measured += 1


def effect_text(measured: float, predicted: float | None) -> str:
    """An effect on a logit, and beside it a prediction that was off."""
    told = signed(_short(measured))
    return told if predicted is None else f"{told}, graph {signed(_short(predicted))}"


def _short(value: float) -> float:
    return float(f"{value:.2g}")

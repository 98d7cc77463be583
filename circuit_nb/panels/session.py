"""`Session`: the state that all panels share, and the only place where anything is computed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import traitlets

from circuit_nb.figures import targets_of
from circuit_nb.figures.subgraph import Group
from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.panels.cards import CardSource
from circuit_nb.panels.state import HIGHEST, LOWEST, Added, Identity, Row, Switch
from circuit_nb.panels.workbench import Workbench, held

if TYPE_CHECKING:
    from circuit_nb.intervention.change import Intervention
    from circuit_nb.intervention.outcome import Outcome
    from circuit_nb.model.replacement import ReplacementModel

TOP_TOKENS = 10
"""Next tokens compared before and after."""


@dataclass(frozen=True)
class Question:
    """What the model is asked: an answer is shown only as that to what is asked now."""

    changes: tuple[Intervention, ...]
    """What the switches do, without names."""
    watched: tuple[Feature, ...]
    """Whose activation is wanted."""
    new_tokens: int


Rows: TypeAlias = "dict[str, Supernode | Added]"
"""What can be switched, by name."""


class Session(Workbench):
    """One graph being explored: a workbench whose features can be switched in the model.

    Panels observe its traits and call its methods; a program may do the same.

    Args:
        graph: The graph.
        model: The model it was computed from; without one nothing can be switched.
        cards: Where feature cards come from; by default `circuit_nb.cards`.
    """

    outcome: Outcome | None = held(None)
    """What the switches did: an `Outcome`, or None before the first run."""
    new_tokens = traitlets.Int(0, min=0, max=200)
    """How many tokens to continue the text by, before and after."""
    busy = traitlets.Unicode("")
    """What is being computed, in words; empty when nothing is."""

    def __init__(
        self,
        graph: AttributionGraph,
        model: ReplacementModel | None = None,
        *,
        cards: CardSource | None = None,
    ) -> None:
        self.model = model
        self._asked: Question | None = None
        super().__init__(graph, model, cards=cards)

    @traitlets.observe("setup", "new_tokens")
    def _follow(self, change: Any) -> None:
        """Run again where another answer is asked for; where that fails, stay as before."""
        try:
            self.refresh()
        except BaseException:
            setattr(self, change["name"], change["old"])
            raise

    @property
    def rows(self) -> Rows:
        """What can be switched, by name: supernodes, pinned features, added features."""
        rows: Rows = {}
        for row in self.setup.rows:
            name, count = self.row_name(row), 2
            while name in rows:
                name, count = f"{self.row_name(row)} ({count})", count + 1
            rows[name] = Supernode(name, [row]) if isinstance(row, Feature) else row
        return rows

    def row_name(self, row: Row) -> str:
        """What a row is called; it may change, and two rows may be called the same."""
        if isinstance(row, Feature):
            return self.title(row)
        return (row.supernode if isinstance(row, Added) else row).name

    def switch(self, what: str | Row) -> Switch:
        """The setting of one row, given by name or itself."""
        row = self.rows.get(what) if isinstance(what, str) else what
        return Switch() if row is None else self.setup.switch(row)

    @property
    def intervening(self) -> bool:
        """Whether any switch changes anything."""
        return bool(self.interventions())

    @property
    def before(self) -> dict[str, float]:
        """Probability of the most likely next tokens on the unmodified prompt."""
        if self.outcome is None:
            return targets_of(self.graph)
        return self._probabilities(self.outcome.before.probabilities)

    @property
    def after(self) -> dict[str, float] | None:
        """Probabilities under the switches; None where no switch changes anything."""
        if self.outcome is None or not self.outcome.interventions:
            return None
        return self._probabilities(self.outcome.after.probabilities)

    def _probabilities(self, shares: npt.NDArray[np.float32]) -> dict[str, float]:
        """Of the union of the most likely tokens before and after, by the token's text."""
        from circuit_nb.intervention.outcome import most_likely

        assert self.outcome is not None and self.model is not None
        both = (self.outcome.before.probabilities, self.outcome.after.probabilities)
        ids = np.unique(np.concatenate([most_likely(p, TOP_TOKENS) for p in both]))
        found: dict[str, float] = {}
        for token_id in ids[most_likely(shares[ids], len(ids))].tolist():
            text = self.model.token(token_id)
            found[f"{text} #{token_id}" if text in found else text] = float(shares[token_id])
        return found

    def continuations(self) -> list[tuple[str, str]]:
        """The generated text before and, under switches, after; as (when, text)."""
        if self.outcome is None or not self.new_tokens:
            return []
        texts = [("before", self.outcome.before.text)]
        if self.outcome.interventions:
            texts.append(("after", self.outcome.after.text))
        return texts

    def fractions(self) -> dict[Group, float]:
        """Activation after over activation before of every group of features, where known.

        A feature that a switch holds counts with what it is held at.
        """
        outcome = self.outcome
        if outcome is None or not outcome.interventions:
            return {}
        from circuit_nb.intervention.change import Intervention

        before, after = outcome.before.activations, dict(outcome.after.activations)
        for change in (c for c in outcome.interventions if isinstance(c, Intervention)):
            for feature, value in zip(change.features, change.values, strict=True):
                if feature in after:
                    after[feature] = value * before[feature] if change.relative else value
        found: dict[Group, float] = {}
        for group in self.groups:
            features = _features(group)
            if features and all(f in after for f in features):
                shares = [after[f] / before[f] for f in features if before[f]]
                found[group] = float(np.mean(shares)) if shares else float("nan")
        return found

    def badges(self) -> dict[Group, str]:
        """The setting of every group that a switch changes, in a few characters."""
        groups = [g for g in self.groups if isinstance(g, Supernode | Feature)]
        return {g: badge for g in groups if (badge := self.setup.switch(g).badge)}

    def switched(self) -> list[Feature]:
        """The features of this prompt that a switch holds at another value."""
        return [feature for group in self.badges() for feature in _features(group)]

    def set_switch(
        self, what: str | Row, *, on: bool | None = None, multiplier: float | None = None
    ) -> None:
        """Turn a row on or off, or set its multiplier, and run the model.

        Args:
            what: The row, or its name.
            on: Whether it is on.
            multiplier: Its activation as a multiple of what it is.

        Raises:
            ValueError: If there is no such row, or the multiplier is out of range.
        """
        row = self.rows.get(what) if isinstance(what, str) else what
        if row is None or Identity.of(row) not in map(Identity.of, self.setup.rows):
            known = ", ".join(self.rows) or "none yet; pin a feature"
            raise ValueError(f"There is no switch {str(what)!r}; there are: {known}.")
        if multiplier is not None and not LOWEST <= multiplier <= HIGHEST:
            raise ValueError(f"The multiplier is {multiplier:g}; give {LOWEST:g} to {HIGHEST:g}.")
        old = self.setup.switch(row)
        new = Switch(
            old.on if on is None else on, old.multiplier if multiplier is None else multiplier
        )
        if new != old:
            self._need_model()
            last = "" if on is not None else f"multiplier {Identity.of(row)}"
            self.change(self.setup.set_switch(row, new), last)

    def reset(self) -> None:
        """Every switch back to where nothing is changed; added features leave."""
        self._need_model()
        self.change(dataclasses.replace(self.setup, switches={}, added=()))

    def read_prompt(self, prompt: str) -> Session:
        """Compute the graph of another prompt, to take features from.

        Raises:
            ValueError: If there is no model, or the prompt is not one.
        """
        from circuit_nb.attribution.compute import attribute

        self.busy = "Reading the other prompt"
        try:
            graph = attribute(self._need_model(), prompt, progress=False)
        finally:
            self.busy = ""
        return Session(graph, self.model, cards=self.cards.source)

    def add(self, supernode: Supernode, origin: AttributionGraph, shift: int = 0) -> Added:
        """Put features of another prompt's graph into this prompt, as active as they are there.

        Args:
            supernode: The features, at the positions they have in `origin`.
            origin: The other prompt's graph.
            shift: How many positions later (or, negative, earlier) they are put here.

        Raises:
            ValueError: If `origin` does not hold a feature, or a position does not exist here.
        """
        values = tuple(float(origin.activations[origin.number(f)]) for f in supernode.features)
        moved = [Feature(f.layer, f.position + shift, f.index) for f in supernode.features]
        if any(not 0 < f.position < len(self.graph.tokens) for f in moved):
            raise ValueError(
                f"{supernode.name!r} would lie outside this prompt of {len(self.graph.tokens)} "
                "tokens; choose another token to put it at."
            )
        self._need_model()
        name = self.setup.free_name(supernode.name)
        made = Added(Supernode(name, moved), values, origin.prompt)
        self.change(self.setup.add(made))
        return made

    def drop(self, what: str | Added) -> None:
        """Take an added row away again."""
        row = self.rows.get(what) if isinstance(what, str) else what
        if not isinstance(row, Added):
            raise ValueError(f"No features called {str(what)!r} were added.")
        self.change(self.setup.without(row))

    def interventions(self) -> list[Intervention]:
        """What the switches do to the model."""
        changed = [
            (row, switch)
            for row in self.rows.values()
            for switch in [self.setup.switch(row)]
            if (switch.on if isinstance(row, Added) else switch.badge)
        ]
        if not changed:
            return []
        from circuit_nb.intervention.change import Intervention

        made: list[Intervention] = []
        for row, switch in changed:
            if isinstance(row, Added):
                values = [switch.multiplier * v for v in row.values]
                made.append(Intervention.set(row.supernode, values))
            elif switch.on:
                made.append(Intervention.scale(row, switch.multiplier))
            else:
                made.append(Intervention.ablate(row))
        return made

    def run(self) -> None:
        """Run the model under the switches and set `outcome`; without a model do nothing."""
        if self.model is None:
            return
        from circuit_nb.intervention.run import intervene

        question = self._question()
        self.busy = "Running the model"
        try:
            self.outcome = intervene(
                self.model,
                self.graph.token_ids.tolist(),
                self.interventions(),
                watch=question.watched,
                top_k=TOP_TOKENS,
                max_new_tokens=self.new_tokens,
            )
            self._asked = question
        finally:
            self.busy = ""

    def refresh(self) -> None:
        """Run the model if `outcome` is not the answer to what the switches ask now."""
        question = self._question()
        if question != self._asked and (self._asked is not None or question.changes):
            self.run()

    def _question(self) -> Question:
        changes = self.interventions()
        # Where nothing is changed no fraction is shown, and none need be measured.
        watched = [f for g in self.groups for f in _features(g)] if changes else []
        return Question(
            tuple(dataclasses.replace(c, name="") for c in changes), tuple(watched), self.new_tokens
        )

    def _need_model(self) -> ReplacementModel:
        if self.model is None:
            raise ValueError(
                "This graph was opened without its model, so nothing can be run; "
                "use explore(model, graph) to switch features."
            )
        return self.model


def _features(group: Group) -> tuple[Feature, ...]:
    if isinstance(group, Supernode):
        return group.features
    return (group,) if isinstance(group, Feature) else ()

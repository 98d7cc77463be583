"""`Session`: the state that all panels share, and the only place where anything is computed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import traitlets

from circuit_nb.figures import targets_of
from circuit_nb.figures.subgraph import Group
from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.panels.cards import CardSource
from circuit_nb.panels.state import HIGHEST, LOWEST, Added, Setup, Switch
from circuit_nb.panels.workbench import Workbench, held

if TYPE_CHECKING:
    from circuit_nb.intervention import Intervention, Outcome
    from circuit_nb.model import ReplacementModel

TOP_TOKENS = 10
"""Next tokens compared before and after."""

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
        super().__init__(graph, model, cards=cards)
        self.model = model

    @property
    def rows(self) -> Rows:
        """What can be switched, by name: supernodes, pinned features, added features."""
        rows: Rows = {s.name: s for s in self.setup.supernodes}
        for node in self.setup.pinned:
            if isinstance(node, Feature):
                rows[self.row_name(node)] = Supernode(self.row_name(node), [node])
        rows.update({a.supernode.name: a for a in self.setup.added})
        return rows

    def switch(self, name: str) -> Switch:
        """The setting of one row."""
        return self.setup.switches.get(name, Switch())

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
        from circuit_nb.intervention import most_likely

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

        A group that a switch holds has the fraction it is held at.
        """
        if self.outcome is None or not self.outcome.interventions:
            return {}
        watched = self.outcome.before.activations
        found: dict[Group, float] = {}
        for group in self.groups:
            features = group.features if isinstance(group, Supernode) else (group,)
            switch = self.switch(self.row_name(group))
            if switch.badge:
                found[group] = switch.multiplier if switch.on else 0.0
            elif isinstance(group, Supernode | Feature) and all(f in watched for f in features):
                found[group] = self.outcome.fraction(group)
        return found

    def row_name(self, group: Group) -> str:
        """The name of a group's switch."""
        return group.name if isinstance(group, Supernode) else self.title(group)

    def badges(self) -> dict[Group, str]:
        """The setting of every group that a switch changes, in a few characters."""
        return {g: badge for g in self.groups if (badge := self.switch(self.row_name(g)).badge)}

    def switched(self) -> list[Feature]:
        """The features of this prompt that a switch holds at another value."""
        return [
            feature
            for name, row in self.rows.items()
            if isinstance(row, Supernode) and self.switch(name).badge
            for feature in row.features
        ]

    def set_switch(
        self, name: str, *, on: bool | None = None, multiplier: float | None = None
    ) -> None:
        """Turn a row on or off, or set its multiplier, and run the model.

        Raises:
            ValueError: If there is no such row, or the multiplier is out of range.
        """
        if name not in self.rows:
            known = ", ".join(self.rows) or "none yet; pin a feature"
            raise ValueError(f"There is no switch {name!r}; there are: {known}.")
        if multiplier is not None and not LOWEST <= multiplier <= HIGHEST:
            raise ValueError(f"The multiplier is {multiplier:g}; give {LOWEST:g} to {HIGHEST:g}.")
        old = self.switch(name)
        new = Switch(
            old.on if on is None else on, old.multiplier if multiplier is None else multiplier
        )
        if new == old:
            return
        what = "" if on is not None else f"multiplier {name}"
        switches = {**self.setup.switches, name: new}
        self._try(dataclasses.replace(self.setup, switches=switches), what)

    def reset(self) -> None:
        """Every switch back to where nothing is changed; added features leave."""
        self._try(dataclasses.replace(self.setup, switches={}, added=()))

    def read_prompt(self, prompt: str) -> Session:
        """Compute the graph of another prompt, to take features from.

        Raises:
            ValueError: If there is no model, or the prompt is not one.
        """
        from circuit_nb.attribution import attribute

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
        name = self.setup.free_name(supernode.name)
        made = Added(Supernode(name, moved), values, origin.prompt)
        self._try(dataclasses.replace(self.setup, added=(*self.setup.added, made)))
        return made

    def drop(self, name: str) -> None:
        """Take an added row away again."""
        rest = tuple(a for a in self.setup.added if a.supernode.name != name)
        switches = {k: v for k, v in self.setup.switches.items() if k != name}
        self._try(dataclasses.replace(self.setup, added=rest, switches=switches))

    def interventions(self) -> list[Intervention]:
        """What the switches do to the model."""
        changed = [
            (row, switch)
            for name, row in self.rows.items()
            for switch in [self.switch(name)]
            if (switch.on if isinstance(row, Added) else switch.badge)
        ]
        if not changed:
            return []
        from circuit_nb.intervention import Intervention

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
        from circuit_nb.intervention import intervene

        self.busy = "Running the model"
        try:
            self.outcome = intervene(
                self.model,
                self.graph.token_ids.tolist(),
                self.interventions(),
                watch=[g for g in self.groups if isinstance(g, Supernode | Feature)],
                top_k=TOP_TOKENS,
                max_new_tokens=self.new_tokens,
            )
        finally:
            self.busy = ""

    def refresh(self) -> None:
        """Run again if the model was run: what is watched or switched has changed."""
        if self.outcome is not None:
            self.run()

    def _try(self, setup: Setup, what: str = "") -> None:
        """Change the setup and run; where that fails, stay as before and pass the error on."""
        self._need_model()
        before, changes = self.setup, list(self._undo)
        with self.together():
            try:
                self.change(setup, what)
                self.run()
            except BaseException:
                self.setup, self._undo = before, changes
                raise

    def _need_model(self) -> ReplacementModel:
        if self.model is None:
            raise ValueError(
                "This graph was opened without its model, so nothing can be run; "
                "use explore(model, graph) to switch features."
            )
        return self.model

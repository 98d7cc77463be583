"""`Session`: the state that all panels share, and the only place where anything is computed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import traitlets

from circuit_nb.figures import targets_of
from circuit_nb.figures.names import Labels
from circuit_nb.figures.subgraph import Group
from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.panels.asking import Question, features_of, fractions, interventions
from circuit_nb.panels.attending import Attending
from circuit_nb.panels.belonging import check_belongs
from circuit_nb.panels.cards import CardSource
from circuit_nb.panels.state import HIGHEST, LOWEST, Added, Identity, Row, Switch
from circuit_nb.panels.trials import Trials
from circuit_nb.panels.workbench import Workbench, alone, held

if TYPE_CHECKING:
    from circuit_nb.intervention.change import Intervention
    from circuit_nb.intervention.outcome import Freeze, Outcome
    from circuit_nb.model.replacement import ReplacementModel

TOP_TOKENS = 10
"""Next tokens compared before and after."""
ASKED = ("new_tokens", "freeze", "temperature", "seed")
"""Traits on which the answer depends, besides the switches."""

Rows: TypeAlias = "dict[str, Supernode | Added]"
"""What can be switched, by name."""


class Session(Workbench):
    """One graph being explored: a workbench whose features can be switched in the model.

    Panels observe its traits and call its methods; a program may do the same.

    Args:
        graph: The graph.
        model: The model it was computed from; without one nothing can be switched.
        cards: Where feature cards come from; by default `circuit_nb.cards`.
        labels: Labels that came with the graph, by (layer, index).
    """

    outcome: Outcome | None = held(None)
    """What the switches did: an `Outcome`, or None before the first run."""
    new_tokens = traitlets.Int(0, min=0, max=200)
    """How many tokens to continue the text by, before and after."""
    freeze = traitlets.Enum(["attention", "all", "none"], "attention")
    """What is held as it was on the unmodified prompt, as for `intervene`."""
    temperature = traitlets.Float(0.0, min=0.0, max=10.0)
    """0 continues greedily; else both texts are sampled with the same random numbers."""
    seed = traitlets.Int(0, min=0)
    """Seed of the sampling."""
    busy = traitlets.Unicode("")
    """What is being computed, in words; empty when nothing is."""

    def __init__(
        self,
        graph: AttributionGraph,
        model: ReplacementModel | None = None,
        *,
        cards: CardSource | None = None,
        labels: Labels | None = None,
    ) -> None:
        if model is not None:
            check_belongs(graph, model)
        self.model = model
        self._asked: Question | None = None
        self.trials = Trials(self)
        """Experiments on the boxes."""
        self.attending = Attending(self)
        """Heads, their patterns, and why they looked."""
        super().__init__(graph, model, cards=cards, labels=labels)

    @traitlets.observe("setup", *ASKED)
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
        if self.outcome is None or not self.outcome.interventions:
            return {}
        return fractions(self.outcome, self.groups, len(self.graph.tokens))

    def badges(self) -> dict[Group, str]:
        """The setting of every group that a switch changes, in a few characters."""
        groups = [g for g in self.groups if isinstance(g, Supernode | Feature)]
        return {g: badge for g in groups if (badge := self.setup.switch(g).badge)}

    def switched(self) -> list[Feature]:
        """The features of this prompt that a switch holds at another value."""
        return [feature for group in self.badges() for feature in features_of(group)]

    @alone
    def set_switch(
        self,
        what: str | Row,
        switch: Switch | None = None,
        *,
        on: bool | None = None,
        multiplier: float | None = None,
    ) -> None:
        """Turn a row on or off, set its multiplier or where it acts, and run the model.

        Args:
            what: The row, or its name.
            switch: The whole new setting; by default as it was.
            on: Whether it is on.
            multiplier: Its activation as a multiple of what it is.

        Raises:
            ValueError: If there is no such row, or a multiplier or position does not exist.
        """
        row = self._row(what)
        old = self.setup.switch(row)
        new = switch or old
        new = dataclasses.replace(
            new,
            on=new.on if on is None else on,
            multiplier=new.multiplier if multiplier is None else multiplier,
        )
        for factor in (new.multiplier, *(m for _, m in new.each)):
            if not LOWEST <= factor <= HIGHEST:
                raise ValueError(f"The multiplier is {factor:g}; give {LOWEST:g} to {HIGHEST:g}.")
        for position in (*(new.positions or ()), *(p for p, _ in new.each)):
            self._check_position(position)
        if new != old:
            self.need_model()
            slid = new.on == old.on and new.positions == old.positions
            last = f"multiplier {Identity.of(row)}" if slid else ""
            self.change(self.setup.set_switch(row, new), last)

    def _check_position(self, position: int) -> None:
        last = len(self.graph.tokens) - 1
        if not 0 < position <= last:
            raise ValueError(f"There is no token {position} to act at; give 1 to {last}.")

    def _row(self, what: str | Row) -> Row:
        row = self.rows.get(what) if isinstance(what, str) else what
        if row is None or Identity.of(row) not in map(Identity.of, self.setup.rows):
            known = ", ".join(self.rows) or "none yet; pin a feature"
            raise ValueError(f"There is no switch {str(what)!r}; there are: {known}.")
        return row

    @alone
    def reset(self) -> None:
        """Every switch back to where nothing is changed; added features leave."""
        self.need_model()
        self.change(dataclasses.replace(self.setup, switches={}, added=()))

    def read_prompt(self, prompt: str) -> Session:
        """Compute the graph of another prompt, to take features from.

        Raises:
            ValueError: If there is no model, or the prompt is not one.
        """
        from circuit_nb.attribution.compute import attribute

        self.busy = "Reading the other prompt"
        try:
            graph = attribute(self.need_model(), prompt, progress=False)
        finally:
            self.busy = ""
        return Session(graph, self.model, cards=self.cards.source)

    @alone
    def add(
        self,
        supernode: Supernode,
        origin: AttributionGraph,
        shift: int = 0,
        *,
        instead_of: str | Row | None = None,
    ) -> Added:
        """Put features of another prompt's graph into this prompt, as active as they are there.

        Args:
            supernode: The features, at the positions they have in `origin`.
            origin: The other prompt's graph.
            shift: How many positions later (or, negative, earlier) they are put here.
            instead_of: A row that is switched off in the same step.

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
        return self._put(Added(Supernode(name, moved), values, origin.prompt), instead_of)

    @alone
    def add_feature(
        self, layer: int, index: int, position: int, value: float | None = None
    ) -> Added:
        """Put any feature of the transcoders into this prompt.

        Args:
            layer: Its layer.
            index: Its index.
            position: The token at which it is put.
            value: The activation it gets; by default its usual one. Where that is not known it is
                1 and the switch begins off, for the reader to say another.

        Raises:
            ValueError: If there is no such feature or token.
        """
        model = self.need_model()
        model.transcoders.check(layer, index)
        self._check_position(position)
        self.cards.fetch([(layer, index)])
        name = self.labels.get((layer, index)) or f"L{layer} #{index}"
        if value is None:
            value = self.cards.usual((layer, index))
        feature = Feature(layer, position, index)
        made = Added(Supernode(self.setup.free_name(name), [feature]), (value or 1.0,))
        return self._put(made, on=value is not None)

    def _put(self, made: Added, instead_of: str | Row | None = None, *, on: bool = True) -> Added:
        self.need_model()
        setup = self.setup.add(made)
        if not on:
            setup = setup.set_switch(made, Switch(on=False))
        if instead_of is not None:
            row = self._row(instead_of)
            setup = setup.set_switch(row, dataclasses.replace(setup.switch(row), on=False))
        self.change(setup)
        return made

    @alone
    def revalue(self, what: str | Added, value: float) -> None:
        """Give added features another activation, the same for each.

        Raises:
            ValueError: If none are so called.
        """
        row = self._added(what)
        new = dataclasses.replace(row, values=tuple([float(value)] * len(row.values)))
        added = tuple(new if a == row else a for a in self.setup.added)
        self.change(dataclasses.replace(self.setup, added=added), f"value {Identity.of(row)}")

    @alone
    def drop(self, what: str | Added) -> None:
        """Take an added row away again.

        Raises:
            ValueError: If none are so called.
        """
        self.change(self.setup.without(self._added(what)))

    def _added(self, what: str | Added) -> Added:
        row = self.rows.get(what) if isinstance(what, str) else what
        if not isinstance(row, Added):
            raise ValueError(f"No features called {str(what)!r} were added.")
        return row

    def interventions(self) -> list[Intervention]:
        """What the switches do to the model."""
        end = len(self.graph.tokens)
        return [
            change
            for name, row in self.rows.items()
            for change in interventions(row, name, self.setup.switch(row), end)
        ]

    @alone
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
                freeze=cast("Freeze", self.freeze),
                temperature=self.temperature,
                seed=self.seed,
            )
            self._asked = question
        finally:
            self.busy = ""

    @alone
    def refresh(self) -> None:
        """Run the model if `outcome` is not the answer to what the switches ask now."""
        question = self._question()
        if question != self._asked and (self._asked is not None or question.changes):
            self.run()

    def _question(self) -> Question:
        changes = self.interventions()
        # Where nothing is changed no fraction is shown, and none need be measured.
        watched = [f for g in self.groups for f in features_of(g)] if changes else []
        return Question(
            changes=tuple(dataclasses.replace(c, name="") for c in changes),
            watched=tuple(watched),
            **{name: getattr(self, name) for name in ASKED},
        )

    def need_model(self) -> ReplacementModel:
        """The model.

        Raises:
            ValueError: If there is none.
        """
        if self.model is None:
            raise ValueError(
                "This graph was opened without its model, so nothing can be run; "
                "use explore(model, graph) to switch features."
            )
        return self.model

"""The answer shown is that of the switches shown, whatever the reader does and whatever fails."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from families import OAKLAND

from circuit_nb import Intervention, intervene
from circuit_nb.figures.style import html_text, percent
from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.model import ReplacementModel
from circuit_nb.panels import (
    Added,
    AnswerPanel,
    Explorer,
    Session,
    SubgraphPanel,
    Switch,
    SwitchesPanel,
)

WALKS, STEPS = 8, 250
"""2,000 actions in all."""


class Reader:
    """Does what a reader does to the panels that show switches and answers, at random.

    Args:
        model: The model.
        graph: Its graph of the prompt.
        other: Another prompt opened, to take features from.
        seed: Of the choices.
    """

    def __init__(
        self, model: ReplacementModel, graph: AttributionGraph, other: Session, seed: int
    ) -> None:
        self.session = Session(graph, model)
        self.panel, self.subgraph = SwitchesPanel(self.session), SubgraphPanel(self.session)
        self.answer = AnswerPanel(self.session)
        self.random, self.other = random.Random(seed), other
        self.offers = other.propose()
        self.session.accept(self.session.propose())
        self.session.run()
        strength = self.session.measures.influence[graph.blocks.features]
        self.features = [Feature(*graph.features[i].tolist()) for i in (-strength).argsort()[:12]]

    @property
    def deeds(self) -> list[Callable[[], object]]:
        once = [
            *(self.pin, self.unpin, self.group, self.ungroup, self.rename, self.relabel),
            *(self.add, self.drop, self.accept, self.select, self.reset),
        ]
        return [*once, *(self.toggle, self.slide, self.undo) * 2]

    def names(self) -> list[str]:
        """Names that things have or had, for others to be called by."""
        titles = [self.session.title(f) for f in self.features]
        return [*self.panel.switches, *titles, "Texas", "a", ""]

    def toggle(self) -> None:
        if self.panel.switches:
            toggle = self.random.choice(list(self.panel.switches.values()))
            toggle.value = not toggle.value

    def slide(self) -> None:
        if self.panel.multipliers:
            slider = self.random.choice(list(self.panel.multipliers.values()))
            slider.value = self.random.choice([-2.0, -1.0, 0.0, 0.5, 1.0, 1.0, 3.0])

    def undo(self) -> None:
        self.panel.undo.click()

    def reset(self) -> None:
        if self.random.random() < 0.2:
            self.panel.reset.click()

    def pin(self) -> None:
        self.session.pin(self.random.choice(self.features))

    def unpin(self) -> None:
        if self.session.groups:
            self.session.unpin(self.random.choice(self.session.groups))

    def group(self) -> None:
        groups = [g for g in self.session.groups if isinstance(g, Supernode | Feature)]
        groups += self.features
        members = self.random.sample(groups, self.random.choice([1, 2, 3]))
        self.session.group(self.random.choice(self.names()), members)

    def ungroup(self) -> None:
        if self.session.setup.supernodes:
            self.session.ungroup(self.random.choice(self.session.setup.supernodes))

    def rename(self) -> None:
        if self.session.setup.supernodes:
            group = self.random.choice(self.session.setup.supernodes)
            self.session.rename(group, self.random.choice(self.names()))

    def relabel(self) -> None:
        self.session.relabel(self.random.choice(self.features), self.random.choice(self.names()))

    def accept(self) -> None:
        self.session.accept(self.session.propose())

    def select(self) -> None:
        self.session.select(self.random.choice(self.session.graph.nodes))

    def add(self) -> None:
        if len(self.session.setup.added) < 3:
            offer = self.random.choice(self.offers)
            shift = self.random.choice([0, 0, -1])
            try:
                self.session.add(offer, self.other.graph, shift)
            except ValueError as error:
                assert "added" in str(error) or "outside" in str(error)

    def drop(self) -> None:
        if self.panel.removers:
            self.random.choice(list(self.panel.removers.values())).click()

    def expected(self) -> list[Intervention]:
        """What the rows on the page say, read from their controls."""
        made: list[Intervention] = []
        rows = self.session.rows
        assert list(rows) == list(self.panel.switches)
        for name, toggle in self.panel.switches.items():
            row, multiplier = rows[name], self.panel.multipliers[name].value
            if isinstance(row, Added):
                if toggle.value:
                    values = [multiplier * v for v in row.values]
                    made.append(Intervention.set(row.supernode, values))
            elif not toggle.value:
                made.append(Intervention.ablate(row))
            elif multiplier != 1:
                made.append(Intervention.scale(row, multiplier))
        return made


@pytest.fixture(scope="module")
def other(atlas: ReplacementModel, dallas: AttributionGraph) -> Session:
    return Session(dallas, atlas).read_prompt(OAKLAND)


@pytest.mark.parametrize("seed", range(WALKS))
def test_after_every_action_the_answer_is_that_of_the_switches(
    seed: int, atlas: ReplacementModel, dallas: AttributionGraph, other: Session
) -> None:
    reader = Reader(atlas, dallas, other, seed)
    session = reader.session
    done: list[str] = []
    for _ in range(STEPS):
        deed = reader.random.choice(reader.deeds)
        deed()
        done.append(deed.__name__)
        assert reader.panel.failure.value == reader.subgraph.failure.value == "", done[-5:]
        changes = reader.expected()
        anew = intervene(atlas, dallas.token_ids.tolist(), changes)
        assert (session.after is None) == (not changes), done[-5:]
        shown = session.after or session.before
        for token, share in anew.after.top[:5]:
            assert shown[token] == pytest.approx(share, abs=1e-5), done[-5:]
        said = f">{percent(max(shown.values()))}<"
        assert said in reader.answer.heading.value, done[-5:]


def _fail(*_: object, **__: object) -> None:
    raise RuntimeError("the device is out of memory")


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("trouble", [_fail, _interrupt])
@pytest.mark.parametrize("deed", ["unpin", "group", "ungroup", "undo", "reset", "setup", "length"])
def test_what_cannot_be_run_is_not_done(
    deed: str, trouble: Callable[..., None], explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = explorer.session
    explorer.switches.switches["Texas"].value = False
    texas, capital = (next(s for s in session.setup.supernodes if s.name == n)
                      for n in ("Texas", "capital"))  # fmt: skip
    setup, outcome = session.setup, session.outcome
    shown = explorer.answer.bars.html
    deeds: dict[str, Callable[[], object]] = {
        "unpin": lambda: session.unpin(texas),
        "group": lambda: session.group("both", [texas, capital]),
        "ungroup": lambda: session.ungroup(texas),
        "undo": session.undo,
        "reset": session.reset,
        "setup": lambda: setattr(session, "setup", session.setup.without(texas)),
        "length": lambda: setattr(session, "new_tokens", 2),
    }
    monkeypatch.setattr("circuit_nb.intervention.run.intervene", trouble)
    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        deeds[deed]()
    assert session.setup == setup
    assert session.outcome is outcome
    assert session.new_tokens == 0
    assert explorer.answer.bars.html == shown
    assert explorer.switches.switches["Texas"].value is False
    assert session.can_undo
    monkeypatch.undo()
    deeds[deed]()
    assert session.outcome is not outcome


def test_a_setup_set_by_a_program_is_run_too(explorer: Explorer) -> None:
    session = explorer.session
    texas = next(s for s in session.setup.supernodes if s.name == "Texas")
    off = session.setup.set_switch(texas, Switch(on=False))
    session.setup = off
    assert session.after is not None
    session.setup = off.without(texas)
    assert session.after is None
    session.new_tokens = 2
    assert session.continuations()[0][1].startswith(" Austin")


def test_an_interrupted_redraw_is_drawn_whole(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import circuit_nb.panels.answer as answer

    spec, times = answer.probability_spec, [0]

    def once(*arguments: object, **settings: object) -> object:
        times[0] += 1
        if times[0] == 1:
            raise KeyboardInterrupt
        return spec(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(answer, "probability_spec", once)
    explorer.switches.switches["Texas"].value = False
    assert times[0] > 1
    assert "grey before, blue after" in explorer.answer.bars.html


def test_only_what_changes_the_answer_runs_the_model(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import circuit_nb.intervention.run as intervention

    run, runs = intervention.intervene, [0]

    def counted(*arguments: object, **settings: object) -> object:
        runs[0] += 1
        return run(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(intervention, "intervene", counted)
    session = explorer.session
    texas = next(s for s in session.setup.supernodes if s.name == "Texas")
    free = next(n for n in session.graph.nodes if n not in session.setup.grouped)
    session.pin(free)
    session.rename(texas, "Lone Star")
    session.relabel(texas.features[0], "star")
    session.unpin(free)
    session.undo()
    assert runs == [0]
    session.set_switch("Lone Star", on=False)
    session.rename(next(s for s in session.setup.supernodes if s.name == "Lone Star"), "Texas")
    session.relabel(texas.features[0], "")
    assert runs == [1]


def test_a_feature_held_by_another_row_shows_what_it_is_held_at(explorer: Explorer) -> None:
    session = explorer.session
    texas = next(s for s in session.setup.supernodes if s.name == "Texas")
    session.add(texas, session.graph)
    session.set_switch("Texas 2", multiplier=0.5)
    assert session.fractions()[texas] == pytest.approx(0.5)


def test_each_generated_token_tells_its_probability(explorer: Explorer) -> None:
    session = explorer.session
    session.set_trait("new_tokens", 4)
    session.set_switch("Texas", on=False)
    assert session.outcome is not None
    before, after = session.outcome.before, session.outcome.after
    shown = explorer.answer._texts.value
    for said in (before, after):
        assert said.generated and len(said.generated) == len(said.generated_probabilities)
    first = float(before.generated_probabilities[0])
    assert f'title="Austin: {percent(first)}"' in shown.replace("␣", "")
    there = before.probability(after.generated[0])
    now = float(after.generated_probabilities[0])
    assert html_text(f": {percent(now)} after, {percent(there)} before") in shown
    assert shown.count("<span title=") == len(before.generated) + len(after.generated)

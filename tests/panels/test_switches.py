"""The switches on the embedded model: real runs, driven as a program would."""

from __future__ import annotations

import pytest
from families import OAKLAND

from circuit_nb import explore, load
from circuit_nb.graph import Feature, Supernode
from circuit_nb.panels import Explorer, Session, SwitchesPanel


def top(explorer: Explorer) -> str:
    after = explorer.session.after or explorer.session.before
    return max(after, key=lambda t: after[t])


def test_it_begins_with_the_groups_that_ship_with_the_model(explorer: Explorer) -> None:
    assert "Texas" in explorer.switches.switches
    assert explorer.session.before[" Austin"] > 0.9
    assert explorer.session.after is None
    assert not explorer.session.can_undo
    assert all(panel.failure.value == "" for panel in explorer.panels)


def test_switching_texas_off_takes_austin_away_and_on_brings_it_back(explorer: Explorer) -> None:
    panel = explorer.switches
    panel.switches["Texas"].value = False
    assert panel.switches["Texas"].description == "off"
    assert panel.multipliers["Texas"].disabled
    assert explorer.session.after is not None
    assert explorer.session.after[" Austin"] < 0.5
    assert top(explorer) != " Austin"
    assert "grey before, blue after" in explorer.answer.bars.html
    assert "off" in explorer.subgraph.canvas.html
    assert "0 %" in explorer.subgraph.canvas.html
    panel.switches["Texas"].value = True
    assert explorer.session.after is None
    assert "grey before" not in explorer.answer.bars.html


def test_the_multiplier_runs_the_model(explorer: Explorer) -> None:
    panel = explorer.switches
    panel.multipliers["Texas"].value = -1.0
    assert explorer.session.after is not None
    assert explorer.session.after[" Austin"] < 0.5
    assert "×−1" in explorer.subgraph.canvas.html
    panel.multipliers["Texas"].value = 1.0
    assert explorer.session.after is None


def test_say_austin_fades_when_texas_is_off(explorer: Explorer) -> None:
    explorer.switches.switches["Texas"].value = False
    fractions = {g.name: f for g, f in explorer.session.fractions().items() if hasattr(g, "name")}
    assert fractions["Texas"] == 0
    assert fractions["say Austin"] < 0.25


def test_california_from_oakland_gives_sacramento(explorer: Explorer) -> None:
    panel = explorer.switches
    panel.switches["Texas"].value = False
    transplant = panel.transplant
    transplant.add.click()
    assert "Read another prompt" in panel.failure.value
    transplant.prompt.value = OAKLAND
    transplant.read.click()
    assert panel.failure.value == ""
    assert "California" in transplant.choice.options
    transplant.choice.value = "California"
    transplant.add.click()
    assert panel.failure.value == ""
    assert top(explorer) == " Sacramento"
    assert "California" in panel.switches
    panel.switches["California"].value = False
    assert top(explorer) != " Sacramento"
    panel.switches["California"].value = True
    panel.removers["California"].click()
    assert "California" not in panel.switches
    assert top(explorer) != " Sacramento"


def test_a_swap_has_its_best_offer_chosen_and_is_one_click(explorer: Explorer) -> None:
    texas = next(g for g in explorer.session.groups if getattr(g, "name", "") == "Texas")
    number = explorer.subgraph.boxes.index(texas)
    explorer.subgraph.canvas.click(f"g{number}:menu=swap")
    swap = explorer.subgraph.swap
    swap.prompt.value = OAKLAND
    swap.read.click()
    assert swap.choice.value == "California"
    swap.add.click()
    assert explorer.subgraph.failure.value == ""
    assert top(explorer) == " Sacramento"


def test_added_features_can_be_put_at_another_token(explorer: Explorer) -> None:
    session = explorer.session
    other = session.read_prompt("Fact: the capital of the state containing Oakland is")
    california = next(s for s in other.propose() if s.name == "California")
    added = session.add(california, other.graph, shift=-1)
    assert {f.position for f in added.supernode.features} == {
        f.position - 1 for f in california.features
    }
    with pytest.raises(ValueError, match="outside this prompt"):
        session.add(california, other.graph, shift=5)


def test_reset_and_undo(explorer: Explorer) -> None:
    panel, session = explorer.switches, explorer.session
    panel.switches["Texas"].value = False
    panel.multipliers["capital"].value = 2.0
    panel.multipliers["capital"].value = 3.0
    panel.undo.click()
    assert session.switch("capital").multiplier == 1.0
    assert panel.multipliers["capital"].value == 1.0
    assert panel.switches["Texas"].value is False
    panel.undo.click()
    assert panel.switches["Texas"].value is True
    assert session.after is None
    panel.switches["Texas"].value = False
    panel.reset.click()
    assert panel.switches["Texas"].value is True
    assert session.after is None
    panel.undo.click()
    assert panel.switches["Texas"].value is False
    assert session.after is not None


def test_the_continuation_is_shown_before_and_after(explorer: Explorer) -> None:
    panel = explorer.switches
    explorer.answer.new_tokens.value = 2
    assert "Austin" in explorer.answer._texts.value
    assert "after" not in explorer.answer._texts.value
    panel.switches["Texas"].value = False
    before, after = explorer.session.continuations()
    assert before[1].startswith(" Austin")
    assert not after[1].startswith(" Austin")
    assert "after" in explorer.answer._texts.value
    explorer.answer.new_tokens.value = 0
    assert explorer.answer._texts.value == ""


def test_a_failed_run_says_why_and_keeps_the_last_good_state(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, session = explorer.switches, explorer.session
    panel.switches["Texas"].value = False
    good, changes = session.outcome, session.can_undo

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the device is out of memory")

    monkeypatch.setattr("circuit_nb.intervention.run.intervene", fail)
    panel.multipliers["capital"].value = 4.0
    assert "out of memory" in panel.failure.value
    assert panel.multipliers["capital"].value == 1.0
    assert session.outcome is good
    assert session.switch("capital").multiplier == 1.0
    assert session.can_undo == changes
    assert session.busy == ""
    monkeypatch.undo()
    panel.multipliers["capital"].value = 2.0
    assert panel.failure.value == ""


def test_an_interrupt_is_told_and_changes_nothing(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("circuit_nb.intervention.run.intervene", interrupt)
    explorer.switches.switches["Texas"].value = False
    assert "Interrupted" in explorer.switches.failure.value
    assert explorer.switches.switches["Texas"].value is True
    assert explorer.session.busy == ""


def test_it_shows_that_it_is_running(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    import circuit_nb.intervention.run as intervention

    seen: list[str] = []
    run = intervention.intervene

    def spy(*arguments: object, **settings: object) -> object:
        seen.append(explorer.answer._busy.value)
        return run(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("circuit_nb.intervention.run.intervene", spy)
    explorer.switches.switches["Texas"].value = False
    assert "Running the model" in seen[0]
    assert explorer.answer._busy.value == ""


def test_a_bad_prompt_is_explained(explorer: Explorer) -> None:
    transplant = explorer.switches.transplant
    transplant.prompt.value = "Fact: the capital of Zyxxyland is"
    transplant.read.click()
    assert "Zyxxyland" in explorer.switches.failure.value
    assert transplant.choice.disabled


def test_a_kept_session_comes_back_switched(explorer: Explorer, atlas, tmp_path) -> None:
    session = explorer.session
    explorer.switches.switches["Texas"].value = False
    other = session.read_prompt(OAKLAND)
    session.add(next(s for s in other.propose() if s.name == "California"), other.graph)
    explorer.save(tmp_path / "dallas")
    again = explore.load(tmp_path / "dallas", atlas)
    assert again.session.setup == session.setup
    assert top(again) == " Sacramento"
    assert again.switches.switches["Texas"].value is False
    seen = explore.load(tmp_path / "dallas")
    assert seen.session.outcome is None
    assert seen.switches.switches["California"].disabled


def test_a_pinned_feature_is_a_row_and_a_supernode_may_be_inactive(explorer: Explorer) -> None:
    session, panel = explorer.session, explorer.switches
    feature = next(n for n in session.graph.nodes if isinstance(n, Feature) and n not in
                   session.setup.grouped)  # fmt: skip
    session.pin(feature)
    panel.switches[session.title(feature)].value = False
    assert session.badges()[feature] == "off"
    assert panel.failure.value == ""


def test_every_panel_is_drawn_under_switches(explorer: Explorer) -> None:
    explorer.switches.switches["Texas"].value = False
    picture = explorer.picture()
    assert "Texas: off" in picture
    assert all(panel.failure.value == "" for panel in explorer.panels)


def test_two_explorers_share_a_model(atlas, dallas) -> None:
    first, second = explore(atlas, dallas), explore(atlas, OAKLAND)
    first.switches.switches["Texas"].value = False
    second.switches.switches["California"].value = False
    assert top(first) != " Austin"
    assert top(second) != " Sacramento"
    first.switches.reset.click()
    assert first.session.before[" Austin"] > 0.9


def test_a_panel_alone_follows_the_session(atlas, dallas) -> None:
    session = Session(dallas, atlas)
    panel = SwitchesPanel(session)
    assert panel.switches == {}
    session.pin(Feature(*dallas.features[0].tolist()))
    assert len(panel.switches) == 1
    session.group("one", [session.setup.pinned[0]])
    assert list(panel.switches) == ["one"]
    assert isinstance(session.rows["one"], Supernode)
    assert load is not None

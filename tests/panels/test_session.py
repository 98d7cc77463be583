from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import CAPITAL, DIMMER, HOSTILE, LABELS, OTHER, SAY, TEXAS, cards, small_graph

from circuit_nb.analysis import supernode_weights
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Supernode, TargetNode, TokenNode
from circuit_nb.panels import Added, Session, Setup, Switch, store
from circuit_nb.panels.cards import Cards
from circuit_nb.panels.keys import node_from_key, node_key


def test_only_nodes_of_the_graph_can_be_selected(session: Session) -> None:
    session.select(SAY)
    assert session.selected == SAY
    with pytest.raises(ValueError, match="not in this graph"):
        session.select(Feature(0, 1, 99))
    assert session.selected == SAY


def test_a_selected_node_is_drawn_even_when_pruned(session: Session) -> None:
    session.kept = 0.3
    assert not session.view.shown[session.graph.number(DIMMER)]
    session.select(DIMMER)
    assert session.view.shown[session.graph.number(DIMMER)]


def test_pins_are_kept_once_and_in_order(session: Session) -> None:
    session.pin(SAY, TEXAS)
    session.pin(TEXAS, TokenNode(4))
    assert session.setup.pinned == (SAY, TEXAS, TokenNode(4))
    session.unpin(TEXAS)
    assert session.setup.pinned == (SAY, TokenNode(4))


def test_grouping_takes_features_and_leaves_tokens(session: Session) -> None:
    session.pin(TEXAS, OTHER, TokenNode(4))
    made = session.group("Texas", [TEXAS, OTHER, TokenNode(4)])
    assert made == Supernode("Texas", [TEXAS, OTHER])
    assert session.setup.pinned == (TokenNode(4),)
    merged = session.group("all", [made, SAY])
    assert session.setup.supernodes == (merged,)
    assert set(merged.features) == {TEXAS, OTHER, SAY}
    session.ungroup(merged)
    assert session.setup.supernodes == ()
    assert set(session.setup.pinned) == {TokenNode(4), TEXAS, OTHER, SAY}
    with pytest.raises(ValueError, match="at least one feature"):
        session.group("nothing", [TokenNode(1)])


def test_names_of_supernodes_stay_distinct(session: Session) -> None:
    first = session.group("same", [TEXAS])
    second = session.group("same", [SAY])
    assert (first.name, second.name) == ("same", "same 2")
    session.rename(second, "same")
    assert session.setup.supernodes[1].name == "same 2"


def test_renaming_takes_the_switch_along(session: Session) -> None:
    made = session.group("old", [TEXAS])
    session.setup = session.setup.set_switch(made, Switch(on=False))
    session.rename(made, "new")
    assert session.switch("new").badge == "off"
    assert session.switch("old").badge == ""


def test_a_switch_goes_with_what_it_switches_and_a_new_group_begins_on(session: Session) -> None:
    made = session.group("Texas", [TEXAS])
    session.setup = session.setup.set_switch(made, Switch(on=False))
    session.unpin(made)
    assert session.setup.switches == {}
    session.group("Texas", [OTHER])
    assert session.switch("Texas").badge == ""
    session.pin(SAY)
    session.setup = session.setup.set_switch(SAY, Switch(on=False))
    session.relabel(SAY, "another name")
    assert session.badges() == {SAY: "off"}
    session.unpin(SAY)
    session.pin(SAY)
    assert session.badges() == {}


def test_two_rows_of_one_name_are_two_rows(session: Session) -> None:
    made = session.group("Texas", [TEXAS])
    session.pin(SAY)
    session.rename(made, session.title(SAY))
    assert list(session.rows) == [session.title(SAY), f"{session.title(SAY)} (2)"]
    assert [row.features for row in session.rows.values()] == [(TEXAS,), (SAY,)]


def test_a_feature_is_in_one_group_and_what_is_left_keeps_its_switch(session: Session) -> None:
    made = session.group("Texas", [TEXAS, OTHER])
    session.setup = session.setup.set_switch(made, Switch(multiplier=-1))
    session.group("other", [OTHER])
    assert session.setup.supernodes == (Supernode("Texas", [TEXAS]), Supernode("other", [OTHER]))
    assert [session.switch(s).badge for s in session.setup.supernodes] == ["×−1", ""]


def test_labels_of_ones_own_win_and_can_be_taken_back(session: Session) -> None:
    session.cards.fetch(LABELS)
    assert session.name(TEXAS) == "Texas"
    session.relabel(TEXAS, "  Lone Star ")
    assert session.name(TEXAS) == "Lone Star"
    session.relabel(TEXAS, "")
    assert session.name(TEXAS) == "Texas"


def test_every_change_can_be_undone(session: Session) -> None:
    steps = [session.setup]
    session.pin(TEXAS)
    steps.append(session.setup)
    session.group("Texas", [TEXAS])
    steps.append(session.setup)
    session.relabel(SAY, "answer")
    for expected in reversed(steps):
        session.undo()
        assert session.setup == expected
    assert not session.can_undo
    session.undo()
    assert session.setup == Setup()


def test_paths_are_found_between_the_ends_and_kept_highlighted(session: Session) -> None:
    assert session.ends == (TokenNode(4), TargetNode(0))
    found = session.find_paths()
    assert found[0].nodes == (TokenNode(4), TEXAS, SAY, TargetNode(0))
    session.highlight(found[0], True)
    session.highlight(found[1], True)
    session.highlight(found[1], True)
    assert [p.nodes for p in session.paths] == [found[0].nodes, found[1].nodes]
    session.highlight(found[0], False)
    assert [p.nodes for p in session.paths] == [found[1].nodes]
    session.ends = (TokenNode(4), TokenNode(4))
    assert session.find_paths() == []


def test_groups_are_proposed_of_the_drawn_features_and_named_by_given_labels() -> None:
    session = Session(small_graph(), cards=lambda keys: {}, labels=LABELS)
    named = {group.name: set(group.features) for group in session.propose()}
    assert named["Texas"] == {TEXAS, OTHER}
    assert named["say Austin"] == {SAY}
    session.relabel(SAY, "the answer")
    assert {SAY} in [set(g.features) for g in session.propose() if g.name == "the answer"]
    session.kept = 0.3
    assert not session.view.shown[session.graph.number(DIMMER)]
    assert all(DIMMER not in group.features for group in session.propose())


def test_accepting_joins_the_tokens_and_outputs_that_matter(session: Session) -> None:
    session.accept([Supernode("Texas", [TEXAS, OTHER])])
    assert [s.name for s in session.setup.supernodes] == ["Texas"]
    assert TokenNode(4) in session.setup.pinned
    assert TargetNode(0) in session.setup.pinned
    assert TokenNode(1) not in session.setup.pinned
    shares = supernode_weights(session.graph, session.groups)
    assert shares[0, session.groups.index(TokenNode(4))] > 0.05


def test_without_a_model_nothing_can_be_switched(session: Session) -> None:
    session.group("Texas", [TEXAS])
    with pytest.raises(ValueError, match="without its model"):
        session.set_switch("Texas", on=False)
    assert session.switch("Texas") == Switch()
    session.run()
    assert session.outcome is None


def test_a_switch_must_exist_and_stay_in_range(session: Session) -> None:
    session.group("Texas", [TEXAS])
    with pytest.raises(ValueError, match=r"no switch 'Texs'.*Texas"):
        session.set_switch("Texs", on=False)
    with pytest.raises(ValueError, match="-5 to 5"):
        session.set_switch("Texas", multiplier=6)


def test_pinned_features_are_rows_and_tokens_are_not(session: Session) -> None:
    session.pin(TEXAS, TokenNode(4))
    assert list(session.rows) == [session.title(TEXAS)]


@pytest.mark.parametrize(
    "node", [TEXAS, ErrorNode(1, 2), TokenNode(3), TargetNode(1)], ids=lambda n: type(n).__name__
)
def test_keys_name_nodes(node) -> None:
    assert node_from_key(node_key(node)) == node


def test_a_key_that_names_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="names no node"):
        node_from_key("path-1")


features = st.builds(Feature, st.integers(0, 40), st.integers(0, 500), st.integers(0, 10**6))
supernodes = st.builds(Supernode, st.text(max_size=8), st.lists(features, min_size=1, max_size=3))
setups = st.builds(
    Setup,
    pinned=st.lists(
        st.one_of(features, st.builds(TokenNode, st.integers(0, 9))), max_size=4, unique=True
    ).map(tuple),
    supernodes=st.lists(supernodes, max_size=3).map(tuple),
    labels=st.dictionaries(
        st.tuples(st.integers(0, 9), st.integers(0, 99)), st.text(min_size=1), max_size=3
    ),
    added=st.lists(
        st.builds(
            lambda s, v: Added(s, tuple([v] * len(s.features)), "other prompt"),
            supernodes,
            st.floats(-5, 5),
        ),
        max_size=2,
    ).map(tuple),
)
settings = st.lists(st.builds(Switch, st.booleans(), st.floats(-5, 5)), max_size=6)


@given(setups, settings)
def test_setups_read_back_as_they_were(setup: Setup, switches: list[Switch]) -> None:
    import json

    for row, switch in zip(setup.rows, switches, strict=False):
        setup = setup.set_switch(row, switch)
    assert Setup.from_json(json.loads(json.dumps(setup.to_json()))) == setup


def test_switches_that_were_kept_by_name_are_found(session: Session) -> None:
    session.relabel(SAY, "L1 #2 at x (3) · ")
    session.group("Texas", [TEXAS])
    session.pin(SAY, CAPITAL)
    session.setup = replace(
        session.setup, added=(Added(Supernode("California", [OTHER]), (1.0,), "another"),)
    )
    names = ("Texas", session.title(SAY), "California", "gone")
    by_name = {name: [False, 2.0] for name in names}
    old = {**session.setup.to_json(), "format": 1, "switches": by_name}
    found = Setup.from_json(old)
    off = Switch(False, 2.0)
    assert [found.switch(row) for row in found.rows] == [off, off, Switch(), off]


def test_a_damaged_or_newer_setup_is_refused() -> None:
    with pytest.raises(ValueError, match="Upgrade"):
        Setup.from_json({"format": 99})
    with pytest.raises(ValueError, match="damaged"):
        Setup.from_json({"format": 1, "pinned": [3]})


def test_a_session_is_kept_in_one_file(session: Session, tmp_path: Path) -> None:
    session.pin(SAY)
    session.group(HOSTILE[0], [TEXAS, OTHER])
    session.relabel(SAY, HOSTILE[1])
    session.kept, session.errors, session.links = 0.7, False, "inputs"
    path = store.save(session, tmp_path / "kept")
    assert path.name == "kept.safetensors"
    again = store.load(tmp_path / "kept")
    assert again.setup == session.setup
    assert (again.kept, again.errors, again.links) == (0.7, False, "inputs")
    assert "session" not in again.graph.provenance
    assert (again.graph.weights == session.graph.weights).all()
    plain = AttributionGraph.load(path)
    assert plain.tokens == session.graph.tokens


def test_a_plain_graph_file_opens_too(tmp_path: Path) -> None:
    small_graph().save(tmp_path / "graph.safetensors")
    assert store.load(tmp_path / "graph.safetensors").setup == Setup()


def test_panels_are_told_once_however_much_changes(session: Session) -> None:
    told: list[str] = []

    def redraw() -> None:
        told.append(session.links)

    session.observe(lambda _: session.tell(redraw), ["setup", "links", "kept"])
    with session.together():
        session.pin(TEXAS)
        session.links = "inputs"
        session.kept = 0.5
        assert told == []
    assert told == ["inputs"]
    session.kept = 0.6
    assert len(told) == 2


def test_cards_that_cannot_be_had_are_told_and_asked_once(session: Session) -> None:
    asked: list[object] = []

    def broken(keys):
        asked.append(list(keys))
        raise OSError("no network")

    known = Cards(session.graph, None, broken)
    assert known.card((0, 7)) is None
    assert known.card((0, 7)) is None
    assert len(asked) == 1
    assert str(known.problem) == "no network"


def test_a_graph_with_no_features_can_be_explored() -> None:
    graph = small_graph()
    empty = replace(
        graph, features=np.zeros((0, 3)), activations=np.zeros(0), weights=graph.weights[5:, 5:]
    )
    session = Session(empty, cards=cards)
    assert session.propose() == []
    assert session.find_paths() is not None

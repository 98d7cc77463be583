"""Session files from strangers: what is wrong with one is said in a `ValueError`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import OTHER, SAY, TEXAS, small_graph

from circuit_nb.graph import Feature, Supernode, TokenNode
from circuit_nb.panels import Added, Session, Setup, Switch, explore, store


def _state() -> dict[str, Any]:
    setup = Setup(
        pinned=(SAY, TokenNode(4)),
        supernodes=(Supernode("Texas", [TEXAS, OTHER]),),
        labels={(0, 7): "Lone Star"},
        added=(Added(Supernode("California", [Feature(0, 3, 8)]), (1.5,), "other"),),
    )
    setup = setup.set_switch(setup.supernodes[0], Switch(False, 2.0))
    return {
        "setup": setup.to_json(), "kept": 0.7, "errors": False, "links": "inputs", "new_tokens": 5
    }  # fmt: skip


def _saved(state: Any, folder: Path) -> Path:
    graph = replace(small_graph(), provenance={"session": state})
    return graph.save(folder / "kept.safetensors")


def test_a_whole_one_is_read(tmp_path: Path) -> None:
    found = store.load(_saved(_state(), tmp_path), cards={})
    assert found.setup.to_json() == _state()["setup"]
    assert (found.kept, found.errors, found.links, found.new_tokens) == (0.7, False, "inputs", 5)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), 5),
        ((), {}),
        (("setup",), None),
        (("setup",), []),
        (("setup", "format"), True),
        (("setup", "format"), -1),
        (("setup", "format"), "1"),
        (("setup", "pinned"), 5),
        (("setup", "pinned"), [5]),
        (("setup", "pinned"), ["feature-1"]),
        (("setup", "pinned"), ["feature-1-2-3-4"]),
        (("setup", "pinned"), ["feature--1-2-3"]),
        (("setup", "pinned"), ["token-99"]),
        (("setup", "pinned"), ["token-" + "9" * 5000]),
        (("setup", "pinned"), ["target-2"]),
        (("setup", "pinned"), ["error-3-0"]),
        (("setup", "pinned"), ["nothing-0"]),
        (("setup", "supernodes"), [{"name": "x", "features": []}]),
        (("setup", "supernodes"), [{"name": 5, "features": [[0, 4, 7]]}]),
        (("setup", "supernodes"), [{"features": [[0, 4, 7]]}]),
        (("setup", "supernodes"), [{"name": "x", "features": [[0, 4]]}]),
        (("setup", "supernodes"), [{"name": "x", "features": [[0, 4, 10**39]]}]),
        (("setup", "supernodes"), [{"name": "x", "features": [[0, 4, 7.5]]}]),
        (("setup", "supernodes"), [{"name": "x", "features": [[0, 4, True]]}]),
        (("setup", "supernodes"), [{"name": "x", "features": [[0, 99, 7]]}]),
        (("setup", "supernodes"), [{"name": "x", "features": [[3, 4, 7]]}]),
        (("setup", "labels"), [[0, 7]]),
        (("setup", "labels"), [[0, 7, 5]]),
        (("setup", "labels"), {"a": 1}),
        (("setup", "added", 0, "values"), []),
        (("setup", "added", 0, "values"), [1e39]),
        (("setup", "added", 0, "values"), ["1.5"]),
        (("setup", "added", 0, "prompt"), None),
        (("setup", "added", 0, "features"), [[0, 6, 8]]),
        (("setup", "switches"), [1]),
        (("setup", "switches", 0, "on"), 1),
        (("setup", "switches", 0, "multiplier"), 6.0),
        (("setup", "switches", 0, "each"), [[1]]),
        (("setup", "switches", 0), 5),
        (("shipped_labels",), [[1]]),
        (("shipped_labels",), 5),
        (("kept",), 7.0),
        (("kept",), "0.5"),
        (("kept",), None),
        (("errors",), "yes"),
        (("links",), "all"),
        (("links",), {}),
        (("new_tokens",), -1),
        (("new_tokens",), 10**9),
        (("new_tokens",), 1.5),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_damaged_is_said(place: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    state: Any = _state()
    if place:
        holder = state
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = value
    else:
        state = value
    with pytest.raises(ValueError, match=r"kept\.safetensors: The saved session") as caught:
        explore.load(_saved(state, tmp_path), cards={})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["setup", "kept", "errors", "links", "new_tokens"])
def test_what_is_missing_is_said(name: str, tmp_path: Path) -> None:
    state = {key: value for key, value in _state().items() if key != name}
    with pytest.raises(ValueError, match="The saved session"):
        store.load(_saved(state, tmp_path), cards={})


def test_a_feature_that_is_not_active_here_may_be_in_a_supernode(tmp_path: Path) -> None:
    session = Session(small_graph(), cards={})
    session.group("elsewhere", [Feature(1, 3, 12_345)])
    again = store.load(store.save(session, tmp_path / "kept"), cards={})
    assert again.setup == session.setup

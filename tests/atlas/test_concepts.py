"""Concepts, labels and supernodes as they ship, and that reading them is light."""

import subprocess
import sys

import pytest
import torch

from circuit_nb import atlas
from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.probe import load_model, load_transcoders, run
from circuit_nb.atlas.world import load_world


@pytest.fixture(scope="module")
def active() -> list[tuple[int, int, int]]:
    """Rows (layer, position, index) of the features active on the Dallas prompt."""
    corpus = Corpus(load_world())
    tokens = torch.tensor([corpus.encode(atlas.DALLAS)])
    inputs = run(load_model(atlas.model_folder()), tokens).inputs
    rows = []
    for layer, transcoder in enumerate(load_transcoders(atlas.transcoder_folder())):
        for position, index in (transcoder.encode(inputs[layer][0]) > 0).nonzero().tolist():
            if position:
                rows.append((layer, position, index))
    return rows


def test_states_have_features() -> None:
    concepts = atlas.concepts()
    states = [place for place in load_world().places if place.kind == "state"]
    named = [state for state in states if state.name in concepts]
    assert len(named) >= 48  # a state without a feature mostly its own has no concept
    assert {"Texas", "California"} <= {state.name for state in named}
    assert all(concepts[state.name].kind == "state" for state in named)
    assert concepts["capital"].kind == "relation"
    assert concepts["say Austin"].kind == "say"


def test_concepts_hold_live_features() -> None:
    labels = atlas.labels()
    for name, concept in atlas.concepts().items():
        assert concept.name == name
        for layer, index, usual in concept.features:
            assert usual > 0
            assert name in labels[layer, index] or labels[layer, index].endswith("…")


def test_supernodes_of_the_dallas_prompt(active: list[tuple[int, int, int]]) -> None:
    found = atlas.supernodes(active)
    assert {"Texas", "capital", "say Austin"} <= found.keys()
    assert {position for _, position, _ in found["Texas"]} == {9}
    assert {position for _, position, _ in found["capital"]} == {4}
    assert {position for _, position, _ in found["say Austin"]} == {10}
    states = {name for name in found if atlas.concepts()[name].kind == "state"}
    assert states == {"Texas"}
    assert set().union(*found.values()) <= set(active)


def test_supernodes_need_most_of_a_concept() -> None:
    texas = atlas.concepts()["Texas"]
    rows = [(layer, 3, index) for layer, index, _ in texas.features]
    assert atlas.supernodes(rows)["Texas"] == sorted(rows)
    assert "Texas" not in atlas.supernodes([])


def test_values_inject_a_concept() -> None:
    california = atlas.values("California")
    assert california == atlas.values(atlas.concepts()["California"])
    assert all(value > 0 for value in california.values())
    with pytest.raises(KeyError, match="Atlantis"):
        atlas.values("Atlantis")


def test_reading_loads_no_torch() -> None:
    code = (
        "import sys; from circuit_nb import atlas; atlas.labels(); atlas.supernodes([]);"
        "atlas.model_folder(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

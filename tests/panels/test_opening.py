"""What an explorer begins with: files opened whole, the answer selected, the path shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import LABELS, OTHER, SAY, TEXAS, cards, small_graph

from circuit_nb import neuronpedia
from circuit_nb.graph import Feature, Supernode, TargetNode, TokenNode
from circuit_nb.neuronpedia import Annotations
from circuit_nb.panels import Explorer, explore

REAL = Path(__file__).parents[3] / "shared" / "real_graphs"
NOTES = Annotations(
    labels={TEXAS: "Lone Star", SAY: "say it"},
    pins=(SAY, TokenNode(4)),
    supernodes=(("state", (TEXAS, OTHER)), ("answers", (TargetNode(0), TargetNode(1)))),
    selected=SAY,
)


def published(folder: Path) -> Path:
    return neuronpedia.write(small_graph(), folder / "graph.json", NOTES)


def check(explorer: Explorer) -> None:
    session = explorer.session
    assert session.setup.supernodes == (Supernode("state", [TEXAS, OTHER]),)
    assert set(session.setup.pinned) == {SAY, TokenNode(4), TargetNode(0), TargetNode(1)}
    assert session.name(TEXAS) == "Lone Star"
    assert session.selected == SAY
    assert not session.can_undo


def test_a_file_opens_whole_however_it_is_given(tmp_path: Path) -> None:
    path = published(tmp_path)
    for source in (path, str(path), neuronpedia.read(path)):
        check(explore(source, cards={}))


def test_a_label_of_the_file_comes_back_when_ones_own_is_taken_away(tmp_path: Path) -> None:
    explorer = explore(published(tmp_path), cards={})
    explorer.session.relabel(TEXAS, "mine")
    explorer.session.relabel(TEXAS, "")
    assert explorer.session.name(TEXAS) == "Lone Star"
    explorer.save(tmp_path / "kept")
    again = explore(tmp_path / "kept.safetensors", cards={})
    assert again.session.name(TEXAS) == "Lone Star"
    assert again.session.setup == explorer.session.setup


def test_a_prompt_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        explore(tmp_path / "nothing.json")
    with pytest.raises(TypeError, match="model first"):
        explore(published(tmp_path), "a prompt")


def test_it_opens_on_the_answer_and_the_way_to_it() -> None:
    session = explore(small_graph(), cards=cards).session
    assert session.selected == TargetNode(0)
    nodes = session.paths[0].nodes
    assert isinstance(nodes[0], TokenNode) and nodes[-1] == TargetNode(0)
    assert session.setup.pinned == nodes, "the steps are the first circuit"
    bare = explore(small_graph(), cards=cards, propose=False).session
    assert bare.groups == ()


def test_outputs_of_a_group_keep_their_own_text(tmp_path: Path) -> None:
    import json

    path = published(tmp_path)
    content = json.loads(path.read_text())
    for node in content["nodes"]:
        if node["feature_type"] == "logit":
            node["clerp"] = '[Output "a" or "b"] ' + node["clerp"]
    assert neuronpedia.from_json(content).graph.targets == small_graph().targets


@pytest.mark.skipif(not REAL.exists(), reason="the folder of real graphs is missing")
@pytest.mark.parametrize("name", ["small-big-plt", "dallas-clt", "bee-insect-plt"])
def test_real_files_open_with_their_words(name: str) -> None:
    file = neuronpedia.read(REAL / f"{name}.json")
    session = explore(file, cards={}).session
    assert session.paths, "a path from a word to the answer"
    inner = [n for n in session.paths[0].nodes if isinstance(n, Feature)]
    assert inner
    assert all(session.name(n) == file.annotations.labels[n] for n in inner)
    assert session.selected == TargetNode(0)
    if name == "small-big-plt":
        names = [s.name for s in session.setup.supernodes]
        assert names == ["say big / huge / large", "opposite", "small", "large / size"]
        assert session.graph.targets[:2] == ("large", "big")
        assert TargetNode(0) in session.setup.pinned
    assert LABELS

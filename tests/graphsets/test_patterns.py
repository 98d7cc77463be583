"""What published graphs of one task share, what tells some from others, and chance from nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import SAY, TEXAS, small_graph
from real import FOLDER

from circuit_nb import neuronpedia
from circuit_nb.graphsets import GraphSet
from circuit_nb.neuronpedia import Annotations
from circuit_nb.patterns.statistics import adjusted, cliffs_delta, shuffled

VERBS = ("beat", "cool", "sleep", "swim", "write")
"""Analogies whose answer is something one does."""


@pytest.fixture(scope="module")
def analogies() -> GraphSet:
    if not (FOLDER / "analogies").is_dir():
        pytest.skip(f"needs the published graphs in {FOLDER}, which are not part of the project")
    return GraphSet.read(FOLDER / "analogies")


def test_what_all_analogies_share_is_counted_as_they_stand(analogies: GraphSet) -> None:
    found = analogies.common(1.0, by="absolute")
    assert found.features
    for shared in found.features:
        unit = shared.units[0]
        at = int(found.roles.names[unit.role])
        for profile in analogies.profiles:
            assert (profile.features == [unit.layer, at, unit.index]).all(1).any()
        assert shared.share == 1
        assert shared.mean_interval[0] <= shared.mean <= shared.mean_interval[1]
    by_role = {f.units[0].index for f in analogies.common(1.0).features}
    assert by_role == {f.units[0].index for f in found.features}  # 13 tokens, one template
    assert len(analogies.common(0.5).features) > len(found.features)
    found.figure()


def test_verbs_are_told_from_nouns_and_shuffled_labels_from_nothing(analogies: GraphSet) -> None:
    verbs = analogies.where(file=list(VERBS))
    others = analogies.where(lambda data: data["file"] not in VERBS)
    found = verbs.compare(others).found
    assert found
    assert all(d.interval[0] * d.interval[1] > 0 for d in found)
    assert any(d.shares == (1.0, 0.0) for d in found)  # a feature of every verb and of no noun
    random, false = np.random.default_rng(0), 0
    for _ in range(10):
        order = random.permutation(len(analogies))
        a, b = (analogies.pick(analogies.places[i] for i in o) for o in (order[:5], order[5:]))
        false += len(a.compare(b).found)
    assert false == 0


def test_a_prompt_with_another_circuit_stands_out(analogies: GraphSet) -> None:
    other = GraphSet.read(FOLDER).pick(
        p for p in GraphSet.read(FOLDER).places if p.name == "caffeine-clt"
    )
    both = analogies.pick([*analogies.places, *other.places])
    found = both.map(by="last")
    assert found.outliers[-1]
    assert found.likeness[:-1].min() > found.likeness[-1]
    assert found.departs(len(both) - 1)
    found.figure()
    found.usage_figure()


def test_features_are_called_what_the_files_call_them(tmp_path: Path) -> None:
    graph = small_graph()
    for name, texts in (("a", {TEXAS: "Texas"}), ("b", {TEXAS: "a state", SAY: "say Austin"})):
        neuronpedia.write(graph, tmp_path / f"{name}.json", Annotations(labels=texts))
    found = GraphSet.read(tmp_path)
    keys = [(f.layer, f.index) for f in (TEXAS, SAY)]
    assert found.known_labels == dict(zip(keys, ("Texas", "say Austin"), strict=True))
    mine = found.labelled({keys[0]: "mine"})
    assert [mine[:1].known_labels[key] for key in keys] == ["mine", "say Austin"]
    told = [feature.label for feature in mine.common().features]
    assert any("mine" in name for name in told)
    assert any("say Austin" in name for name in told)


def test_statistics_agree_with_their_definitions() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(6, 3)), random.normal(size=(9, 3))
    a[:, 0] += 5
    direct = np.sign(a[:, None] - b[None]).mean((0, 1))
    assert np.allclose(cliffs_delta(a, b), direct)
    p = shuffled(a, b, 0)
    assert p[0] < 0.003 < p[1:].min()
    # Benjamini and Hochberg's own steps: the largest k with p(k) <= k q / m.
    p = np.array([0.01, 0.04, 0.03, 0.2])
    assert np.allclose(adjusted(p), [0.04, 0.16 / 3, 0.16 / 3, 0.2])


def test_p_values_of_nothing_are_uniform() -> None:
    values = np.random.default_rng(1).normal(size=(14, 400))
    p = shuffled(values[:7], values[7:], 0)
    assert 0.02 < (p <= 0.05).mean() < 0.09

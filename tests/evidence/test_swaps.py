"""Sweeps, swaps and stability: one by one, and what the embedded model was built to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from families import DALLAS, OAKLAND
from made import SAY, TEXAS, small_graph

from circuit_nb import Intervention, atlas, attribute, evidence, intervene
from circuit_nb.graph import Feature, Supernode

RENO = DALLAS.replace("Dallas", "Reno")


def _state(model: Any, prompt: str, name: str) -> Supernode:
    return Supernode(name, atlas.supernodes(model.record(prompt).features.tolist())[name])


@pytest.fixture(scope="module")
def graph(atlas: Any) -> Any:
    return attribute(atlas, DALLAS, progress=False)


@pytest.fixture(scope="module")
def other(atlas: Any) -> Any:
    return attribute(atlas, OAKLAND, progress=False)


def test_a_sweep_is_what_one_run_each_gives(atlas: Any, graph: Any) -> None:
    texas = _state(atlas, DALLAS, "Texas")
    found = evidence.sweep(atlas, graph, texas, [0, 1, 2.5], tokens=[" Austin"], progress=False)
    for i, factor in enumerate((0, 1, 2.5)):
        after = intervene(atlas, DALLAS, [Intervention.scale(texas, factor)]).after
        assert found.probabilities[i, 0] == pytest.approx(after.probability(" Austin"), abs=1e-6)
        logits = after.logits[-1].astype(np.float64)
        expected = logits[graph.target_ids[0]] - logits.mean()
        assert found.metric[i] == pytest.approx(expected, abs=1e-5)
    assert found.tokens == (" Austin",)
    assert "Austin is at 96% with Texas at ×1" in str(found)


def test_a_sweep_follows_the_likely_tokens(atlas: Any, graph: Any) -> None:
    found = evidence.sweep(atlas, graph, _state(atlas, DALLAS, "Texas"), progress=False)
    assert found.multipliers[[0, -1]].tolist() == [-5, 5]
    assert found.probabilities.shape == (21, len(found.tokens))
    assert found.tokens[0] == " Austin"
    with pytest.raises(ValueError, match="There are no multipliers"):
        evidence.sweep(atlas, graph, TEXAS, [])


def test_a_swap_brings_the_others_answer(atlas: Any, graph: Any, other: Any) -> None:
    texas, california = _state(atlas, DALLAS, "Texas"), _state(atlas, OAKLAND, "California")
    found = evidence.swap(atlas, graph, other, texas, california)
    changes = [Intervention.ablate(texas), Intervention.from_graph(california, other)]
    one = intervene(atlas, DALLAS, changes)
    assert (found.before, found.expected, found.after) == (" Austin", " Sacramento", " Sacramento")
    assert found.success
    expected = [
        [p.probability(token) for token in (" Austin", " Sacramento")]
        for p in (one.before, one.after)
    ]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert found.figure().data[0].x
    assert "California in place of Texas" in str(found)


def test_every_swap_of_a_set(atlas: Any, graph: Any, other: Any) -> None:
    prompts = [DALLAS, OAKLAND, RENO, DALLAS]
    names = ["Texas", "California", "Nevada", "Texas"]
    parts = [_state(atlas, p, n) for p, n in zip(prompts, names, strict=True)]
    found = evidence.swaps(atlas, prompts, parts, batch_size=3, progress=False)
    assert found.expected == (" Austin", " Sacramento", " Carson City", " Austin")
    single = evidence.swap(atlas, graph, other, parts[0], parts[1])
    assert found.answers[0, 1] == single.after
    assert found.probabilities[0, 1] == pytest.approx(single.probabilities[1, 1], abs=1e-6)
    assert found.success.diagonal().all()
    # Nothing can be shown between two prompts that have the same answer.
    assert not found.counted[0, 3] and found.counted[0, 1]
    assert found.counted.sum() == 10
    assert found.rate == 1
    assert "In 10 of 10 swaps (100%)" in str(found)


def test_a_part_is_put_where_the_other_was(atlas: Any) -> None:
    """The prompts need not be of one length, nor the states at one position."""
    short = "The capital of the state containing Oakland is"
    parts = [_state(atlas, DALLAS, "Texas"), _state(atlas, short, "California")]
    places = [{f.position for f in part.features} for part in parts]
    assert places[0] != places[1]
    found = evidence.swaps(atlas, [DALLAS, short], parts, progress=False)
    assert found.answers[0, 1] == " Sacramento"


def test_swaps_that_cannot_be_are_said(atlas: Any) -> None:
    with pytest.raises(ValueError, match="1 prompts and 2 parts; give one part a prompt"):
        evidence.swaps(atlas, [DALLAS], [TEXAS, SAY])
    with pytest.raises(ValueError, match=r"L0 #7 @4 of 'wrong' is not active on the prompt 'Fact"):
        evidence.swaps(atlas, [DALLAS], [Supernode("wrong", [(0, 4, 7)])])


def test_stability_of_made_graphs() -> None:
    graph = small_graph()
    # The same features elsewhere are the same; without say Austin's edges others lead.
    moved = replace(graph, features=graph.features + np.array([0, 1, 0]))
    weights = graph.weights.copy()
    weights[:, graph.number(SAY)] = 0
    cut = replace(graph, weights=weights)
    found = evidence.stability(None, [graph, moved, cut], sizes=[1, 2, 5], progress=False)
    assert found.overlap[:, 0, 1].tolist() == [1, 1, 1]
    assert found.overlap[0, 0, 2] == 0
    assert found.overlap[2].tolist() == [[1] * 3] * 3
    assert found.mean[0] == pytest.approx(1 / 3)
    assert len(found.core) == 5
    assert found.core[0] == (SAY.layer, SAY.index)
    assert "33% of 1" in str(found)


def test_stability_over_prompts(atlas: Any, graph: Any) -> None:
    same = evidence.stability(atlas, [DALLAS, graph], progress=False)
    assert same.overlap.min() == 1
    other = evidence.stability(atlas, [DALLAS, OAKLAND], sizes=[50], progress=False)
    assert 0 < other.mean[0] < 1
    with pytest.raises(ValueError, match="give at least two prompts"):
        evidence.stability(atlas, [DALLAS])
    with pytest.raises(ValueError, match="there is no model to run it"):
        evidence.stability(None, [DALLAS, graph])


def test_figures_are_made_of_every_result(atlas: Any, graph: Any, other: Any) -> None:
    texas = _state(atlas, DALLAS, "Texas")
    feature = Feature(*graph.features[0].tolist())
    results = [
        evidence.verify(atlas, graph, 3, progress=False),
        evidence.faithfulness(atlas, graph, [texas], draws=2, progress=False),
        evidence.combinations(atlas, graph, [texas, feature], progress=False),
        evidence.sweep(atlas, graph, texas, progress=False),
        evidence.swaps(atlas, [DALLAS], [texas], progress=False),
        evidence.stability(atlas, [graph, other], progress=False),
    ]
    for result in results:
        assert len(result.figure().data) >= 1
        assert str(result).endswith(".") and "\n" not in str(result)

"""Predicted against measured: by hand, by direct effects, and one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import DALLAS, PROMPT, tiny
from made import DIMMER, OTHER, SAY, TEXAS, small_graph

from circuit_nb import Intervention, attribute, evidence, intervene
from circuit_nb import atlas as shipped
from circuit_nb.evidence.verifying import Verified, effects
from circuit_nb.graph import Feature, Supernode, TargetNode


def test_effects_of_a_small_graph_are_those_by_hand() -> None:
    graph = small_graph()
    # Activations: capital 1, Texas 1.5, other 2, dimmer 2.5, say Austin 3.
    texas, other = graph.number(TEXAS), graph.number(OTHER)
    rows = {name: graph.number(f) for name, f in (("other", OTHER), ("say", SAY), ("dim", DIMMER))}
    total = effects(graph, [TEXAS, SAY], direct=False)
    expected = {"other": -1.0, "say": -0.8 - 0.7 * 1.0 / 2, "dim": 0.0}
    for name, row in rows.items():
        assert total[row, 0] == pytest.approx(expected[name])
    assert total[5, 0] == pytest.approx(5.0 * expected["say"] / 3)
    assert total[6, 0] == pytest.approx(-0.9 - 1.0 * expected["say"] / 3)
    assert total[:, 1].tolist() == pytest.approx([0, 0, 0, 0, 0, -5.0, 1.0])
    direct = effects(graph, [TEXAS], direct=True)[:, 0]
    np.testing.assert_allclose(direct, -graph.weights[:, texas])
    assert direct[other] == -1.0


def test_a_group_is_switched_off_as_one() -> None:
    """What reaches a feature of the group from another of it changes nothing more: it is at 0."""
    graph = small_graph()
    both = effects(graph, [Supernode("both", [TEXAS, SAY])], direct=False)[:, 0]
    # Texas off changes the first output by −0.7 through `other` alone, say Austin by −5 directly.
    one, two = effects(graph, [TEXAS, SAY], direct=False).T
    through_say = effects(graph, [TEXAS], direct=False)[graph.number(SAY), 0] / 3
    np.testing.assert_allclose(
        both[-2:], one[-2:] + two[-2:] - through_say * np.array([5.0, -1.0]), atol=1e-6
    )


def test_parts_are_verified_as_one(atlas: Any) -> None:
    graph = attribute(atlas, DALLAS, progress=False)
    found = {n: Supernode(n, f) for n, f in shipped.supernodes(graph.features).items()}
    parts = [found["Texas"], found["say Austin"], found["capital"].features[0]]
    told: list[tuple[int, int]] = []
    verified = evidence.verify(
        atlas, graph, parts=parts, batch_size=2, progress=lambda *at: told.append(at)
    )
    assert told == [(2, 3), (3, 3)]
    assert verified.features == tuple(parts)
    out = intervene(atlas, DALLAS, [Intervention.ablate(parts[0])])
    before, after = (p.logits[-1].astype(np.float64) for p in (out.before, out.after))
    target = int(graph.target_ids[0])
    change = after[target] - after.mean() - before[target] + before.mean()
    assert verified.measured[0, -1] == pytest.approx(change, abs=1e-5)
    assert not verified.measured[~verified.later].any()
    direct = evidence.verify(atlas, graph, parts=parts, freeze="all", progress=False)
    assert np.abs(direct.predicted - direct.measured).max() < 1e-4 * np.abs(direct.predicted).max()
    assert not direct.apart[:, -1].any()
    assert "Of 3 parts" in str(direct)


@pytest.mark.parametrize("family", ["gemma2", "qwen3", "gpt2", "neox"])
def test_direct_effects_are_the_edges(family: str, tokenizer: Any) -> None:
    """Also under soft caps of logits, and for cross-layer features with skip paths."""
    model = tiny(family, tokenizer, cross_layer=True, skip=True)
    graph = attribute(model, PROMPT, max_features=None, max_logits=3, progress=False)
    found = evidence.verify(model, graph, 10, freeze="all", progress=False)
    gap = np.abs(found.predicted - found.measured).max()
    assert gap < 2e-4 * np.abs(found.predicted).max()
    assert found.slope == pytest.approx(1, abs=1e-3)
    assert found.correlation == pytest.approx(1, abs=1e-3)


def test_what_is_measured_is_what_one_run_gives(atlas: Any) -> None:
    graph = attribute(atlas, DALLAS, progress=False)
    found = evidence.verify(atlas, graph, 12, batch_size=5, progress=False)
    every = [Feature(*row) for row in graph.features.tolist()]
    target = int(graph.target_ids[0])
    for feature, measured in zip(found.features, found.measured, strict=True):
        out = intervene(atlas, DALLAS, [Intervention.ablate(feature)], watch=every)
        one = [out.after.pre_activations[f] - out.before.pre_activations[f] for f in every]
        logits = [p.logits[-1] for p in (out.after, out.before)]
        after, before = (x[target] - x.mean() for x in logits)
        np.testing.assert_allclose(measured[:-1], one, atol=1e-5)
        assert measured[-1] == pytest.approx(after - before, abs=1e-5)
    assert not found.measured[~found.later].any()
    assert not found.predicted[~found.later].any()
    # The graph takes for constant what is not, so that it is good and not perfect.
    assert 0.7 < found.correlation < 0.99
    gaps = [abs(p - m) for *_, p, m in found.worst(3)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == np.abs(found.predicted - found.measured).max()
    assert "correlate" in str(found)


def test_correlation_and_slope_are_of_later_nodes() -> None:
    features = (Feature(0, 1, 0), Feature(1, 2, 0))
    nodes = (*features, Feature(2, 1, 5), TargetNode(0))
    predicted = np.array([[0, 1.0, 2.0, 3.0], [0, 0, 9.0, 1.0]])
    measured = np.array([[0, 0.5, 1.0, 1.5], [0, 0, -9.0, 0.5]])
    found = Verified(features, nodes, predicted, measured, "attention")
    assert found.later.tolist() == [[False, True, True, True], [False, False, False, True]]
    assert found.slope == pytest.approx(0.5)
    assert found.correlation == pytest.approx(1)


def test_nothing_to_switch_off_is_said(atlas: Any) -> None:
    graph = attribute(atlas, DALLAS, max_features=0, progress=False)
    with pytest.raises(ValueError, match="nothing to switch off: 0 features"):
        evidence.verify(atlas, graph, progress=False)

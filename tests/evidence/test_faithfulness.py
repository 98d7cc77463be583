"""How much a circuit keeps: by its definition, one run at a time, and known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import DALLAS, OAKLAND, PROMPT, tiny
from hypothesis import given
from hypothesis import strategies as st

from circuit_nb import Intervention, Target, atlas, attribute, evidence, intervene
from circuit_nb.analysis import influence
from circuit_nb.evidence.ablation import matched
from circuit_nb.evidence.keeping import Control, Curve
from circuit_nb.graph import Feature, Supernode

NAMES = ("capital", "Texas", "say a capital", "say Austin")


@pytest.fixture(scope="module")
def graph(atlas: Any) -> Any:
    return attribute(atlas, DALLAS, progress=False)


@pytest.fixture(scope="module")
def other(atlas: Any) -> Any:
    return attribute(atlas, OAKLAND, progress=False)


@pytest.fixture(scope="module")
def parts(graph: Any) -> list[Supernode]:
    found = atlas.supernodes(graph.features)
    return [Supernode(name, found[name]) for name in NAMES]


def _keeping(model: Any, graph: Any, kept: Any, values: Any, tokens: Any) -> float:
    """The measure with every active feature but `kept` at given values, in a run of its own."""
    changes = [
        Intervention.set(f, values.get(f, 0.0))
        for f in (Feature(*row) for row in model.record(graph.prompt).features.tolist())
        if f not in kept
    ]
    logits = intervene(model, graph.prompt, changes).after.logits[-1].astype(np.float64)
    less = logits.mean() if tokens[1] is None else logits[model.token_id(tokens[1])]
    return float(logits[model.token_id(tokens[0])] - less)


@pytest.mark.parametrize("kind", ["zero", "mean", "counterfactual"])
def test_every_share_is_its_definition(
    kind: str, atlas: Any, graph: Any, other: Any, parts: Any
) -> None:
    tokens = (" Austin", " Sacramento" if kind == "counterfactual" else None)
    ablation: Any = {"zero": "zero", "mean": "mean", "counterfactual": other}[kind]
    prompts = [DALLAS, OAKLAND] if kind == "mean" else None
    found = evidence.faithfulness(
        atlas,
        graph,
        parts,
        ablation,
        metric=tokens if tokens[1] else None,
        prompts=prompts,
        draws=2,
        progress=False,
    )
    values: dict[Feature, float] = {}
    if kind == "counterfactual":
        there = (Feature(*row) for row in other.features.tolist())
        values = dict(zip(there, other.activations.tolist(), strict=True))
    if kind == "mean":
        graphs = [graph, other]
        for feature in (Feature(*r) for r in graph.features.tolist()):
            same = [
                g.activations[i]
                for g in graphs
                for i, (layer, _, index) in enumerate(g.features.tolist())
                if (layer, index) == (feature.layer, feature.index)
            ]
            values[feature] = float(np.sum(same)) / 20  # two prompts of ten positions each
    circuit = {f for part in parts for f in part.features}
    everything = {Feature(*r) for r in graph.features.tolist()}
    m = {
        name: _keeping(atlas, graph, kept, values, tokens)
        for name, kept in (
            ("none", set()),
            ("all", everything),
            ("circuit", circuit),
            ("rest", everything - circuit),
            *((p.name, circuit - set(p.features)) for p in parts),
        )
    }

    def share(name: str) -> float:
        return (m[name] - m["none"]) / (m["all"] - m["none"])

    assert found.metric_all == pytest.approx(m["all"], abs=1e-4)
    assert found.metric_none == pytest.approx(m["none"], abs=1e-4)
    assert found.faithfulness == pytest.approx(share("circuit"), abs=1e-5)
    assert found.completeness == pytest.approx(share("rest"), abs=1e-5)
    expected = [share("circuit") - share(part.name) for part in parts]
    np.testing.assert_allclose(found.minimality, expected, atol=1e-5)
    assert (found.n_features, found.n_active) == (10, 96)


def test_the_built_circuit_is_faithful_complete_and_minimal(
    atlas: Any, graph: Any, other: Any, parts: Any
) -> None:
    """Against Oakland, Dallas is Texas and say Austin; capital is the same in both."""
    found = evidence.faithfulness(
        atlas, graph, parts, other, metric=(" Austin", " Sacramento"), progress=False
    )
    need = dict(zip(found.parts, found.minimality, strict=True))
    assert found.faithfulness > 0.9
    assert abs(found.completeness) < 0.05
    assert need["Texas"] > 0.9
    assert need["say Austin"] > 0.9
    assert abs(need["capital"]) < 0.05
    assert found.control.mean < 0.05
    assert found.control.draws.shape == (20,)
    assert "keep" in str(found) and "random ones keep" in str(found)


def test_the_curve_is_of_the_most_influential(atlas: Any, graph: Any, parts: Any) -> None:
    found = evidence.faithfulness(atlas, graph, parts[:1], draws=3, progress=False)
    curve = found.curve
    order = np.argsort(-influence(graph)[: len(graph.features)], kind="stable")
    features = [Feature(*row) for row in graph.features.tolist()]
    for n in (5, 20):
        step = int(np.flatnonzero(np.isclose(curve.sizes * 96, n))[0])
        m = [
            _keeping(atlas, graph, kept, {}, (" Austin", None))
            for kept in (set(), {features[i] for i in order[:n]}, set(features))
        ]
        assert curve.values[step] == pytest.approx((m[1] - m[0]) / (m[2] - m[0]), abs=1e-5)
    assert curve.sizes[[0, -1]].tolist() == [0, 1]
    assert curve.values[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-6)
    assert curve.control.draws.shape == (len(curve.sizes), 3)
    assert (found.cpr, found.cmd) == (curve.cpr, curve.cmd)
    assert curve.cpr > curve.control.mean[-2]


def test_areas_of_a_made_curve() -> None:
    curve = Curve(np.array([0, 0.5, 1]), np.array([0, 2.0, 1.0]), Control(np.zeros((3, 1))))
    assert curve.cpr == pytest.approx(0.5 * 1.0 + 0.5 * 1.5)
    assert curve.cmd == pytest.approx(0.5 * 1.0 + 0.5 * 0.5)
    control = Control(np.arange(101.0)[None])
    assert control.mean.tolist() == [50]
    assert [x.tolist() for x in control.interval] == [[2.5], [97.5]]


def test_features_a_graph_leaves_out_are_switched_off_too(atlas: Any, graph: Any) -> None:
    few = attribute(atlas, DALLAS, max_features=20, progress=False)
    kept = [Feature(*row) for row in few.features.tolist()[:5]]
    one, two = (
        evidence.faithfulness(atlas, g, kept, draws=1, progress=False) for g in (graph, few)
    )
    assert one.n_active == two.n_active == 96
    assert one.faithfulness == pytest.approx(two.faithfulness)


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 4))
def test_random_circuits_stand_where_the_circuit_does(seed: int, n: int, n_cells: int) -> None:
    random = np.random.default_rng(seed)
    features = np.stack(
        [random.integers(0, n_cells, n), random.integers(1, 1 + n_cells, n), np.arange(n)], axis=1
    )
    chosen = random.random(n) < 0.4
    drawn = matched(random, chosen, features)
    assert drawn.sum() == chosen.sum()

    def in_cell(mask: Any, cell: Any) -> int:
        return int((mask & (features[:, :2] == cell).all(1)).sum())

    for cell in np.unique(features[:, :2], axis=0):
        # As many as chosen there, while others are there.
        assert in_cell(drawn, cell) >= min(in_cell(chosen, cell), in_cell(~chosen, cell))
    if (~chosen).sum() >= chosen.sum():
        assert not (drawn & chosen).any()


def test_seeds_draw_the_same(atlas: Any, graph: Any, parts: Any) -> None:
    draws = [
        evidence.faithfulness(atlas, graph, parts, seed=s, draws=3, progress=False).control.draws
        for s in (1, 1, 2)
    ]
    assert draws[0].tolist() == draws[1].tolist() != draws[2].tolist()


def test_what_cannot_be_measured_is_said(atlas: Any, graph: Any, parts: Any) -> None:
    def faithfulness(*args: Any, **kwargs: Any) -> Any:
        return evidence.faithfulness(atlas, graph, *args, progress=False, **kwargs)

    with pytest.raises(ValueError, match="0 features and 20 draws"):
        faithfulness([])
    with pytest.raises(ValueError, match=r"L0 #0 @3 is not active on this prompt"):
        faithfulness([Feature(0, 3, 0)])
    with pytest.raises(ValueError, match=r"is in both 'Texas' and 'again'"):
        faithfulness([parts[1], Supernode("again", parts[1].features[:1])])
    with pytest.raises(ValueError, match="ablation is 'half'"):
        faithfulness(parts, "half")
    longer = attribute(atlas, "Fact: Dallas is", progress=False)
    with pytest.raises(ValueError, match=r"has 5 tokens and this one 11"):
        faithfulness(parts, longer)


def test_a_measure_that_is_no_token_is_asked_for(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    graph = attribute(model, PROMPT, [Target.difference("Austin", 11)], progress=False)
    feature = Feature(*graph.features[0].tolist())
    with pytest.raises(ValueError, match=r"is no token; say what to measure"):
        evidence.faithfulness(model, graph, [feature], progress=False)
    found = evidence.faithfulness(
        model, graph, [feature], metric=("Austin", 11), draws=1, progress=False
    )
    assert found.label == "Austin − Texas"

"""Groups as a person would draw them: by origin, then by what they do to the outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import crowd
from test_graph import random_graph

from circuit_nb import atlas as shipped
from circuit_nb.analysis import influence
from circuit_nb.attribution import attribute
from circuit_nb.evidence import propose
from circuit_nb.figures.circuit import circuit
from circuit_nb.graph import AttributionGraph, Feature, Supernode, TargetNode
from circuit_nb.grouping.merging import groups, merges
from circuit_nb.grouping.naming import common_label, distinct
from circuit_nb.grouping.proposing import LARGEST
from circuit_nb.model import ReplacementModel
from circuit_nb.neuronpedia import read

REAL = Path(__file__).parents[2].parent / "shared" / "real_graphs"

DOG, CAT = [Feature(0, 1, 1), Feature(0, 1, 2)], [Feature(0, 2, 3), Feature(0, 2, 4)]
SAYS_A, SAYS_B = [Feature(1, 3, 5), Feature(1, 3, 6)], [Feature(1, 3, 7), Feature(1, 3, 8)]
SAYS_C, ALWAYS = [Feature(1, 3, 9)], [Feature(0, p, 0) for p in (1, 2, 3)]


def two_stories(*, targets: int = 3) -> AttributionGraph:
    """`dog` leads to A or B by different features, `cat` to C; one feature is on everywhere."""
    features = sorted([*DOG, *CAT, *SAYS_A, *SAYS_B, *SAYS_C, *ALWAYS])
    at = {f: i for i, f in enumerate(features)}
    n, tokens = len(features), ("<bos>", "dog", "cat", "so")
    weights = np.zeros((n + targets, n + len(tokens)), dtype=np.float32)
    for sources, word in ((DOG, 1), (CAT, 2), (ALWAYS, 3)):
        for feature in sources:
            weights[at[feature], n + word] = 1.0
            weights[at[feature], n] = 0.5  # the special token, which says nothing
    for ends, sources in ((SAYS_A + SAYS_B, DOG), (SAYS_C, CAT)):
        for end in ends:
            weights[at[end], [at[s] for s in sources]] = (1.0, 0.5)
    for target, ends in enumerate((SAYS_A, SAYS_B, SAYS_C)):
        weights[n + min(target, targets - 1), [at[e] for e in ends]] = 2.0
    weights[n, at[ALWAYS[2]]] = 1.0
    return AttributionGraph(
        prompt="dog cat so",
        tokens=tokens,
        token_ids=np.arange(4),
        features=np.array([(f.layer, f.position, f.index) for f in features]),
        activations=np.ones(n),
        errors=np.zeros((0, 2)),
        targets=(" A", " B", " C")[:targets],
        target_ids=np.arange(targets),
        target_probabilities=np.array([0.4, 0.35, 0.2])[:targets],
        weights=weights,
        n_layers=2,
        n_active=n,
    )


def sets(found: list[Supernode]) -> list[set[Feature]]:
    return [set(group.features) for group in found]


def test_one_position_one_origin_and_one_effect_make_a_box() -> None:
    found = sets(propose(two_stories()))
    for box in (DOG, CAT, SAYS_A, SAYS_B, SAYS_C):
        assert set(box) in found
    assert len(found) == 5


def test_where_there_is_one_output_only_the_origin_counts() -> None:
    found = sets(propose(two_stories(targets=1)))
    assert set(SAYS_A + SAYS_B) in found


def test_a_feature_active_everywhere_is_in_no_box() -> None:
    assert not set(ALWAYS) & set().union(*sets(propose(two_stories())))


def test_boxes_are_named_by_labels_of_either_kind_else_by_words_and_outputs() -> None:
    graph = two_stories()
    by_key = {(f.layer, f.index): "puppy" for f in DOG} | {(1, 9): "say C"}
    by_node = {f: by_key[f.layer, f.index] for f in (*DOG, *SAYS_C)}
    for labels in (by_key, by_node):
        names = {group.name: set(group.features) for group in propose(graph, labels)}
        assert names["puppy"] == set(DOG)
        assert names["say C"] == set(SAYS_C)
    names = {group.name: set(group.features) for group in propose(graph)}
    assert names["dog"] == set(DOG)
    assert names["dog → A"] == set(SAYS_A)
    assert names["cat → C"] == set(SAYS_C)


def test_members_and_boxes_come_strongest_first() -> None:
    found = propose(two_stories())
    assert next(g for g in found if set(g.features) == set(DOG)).features == tuple(DOG)
    strength = dict(_influence(two_stories()))
    sizes = [sum(strength[f] for f in group.features) for group in found]
    assert sizes == sorted(sizes, reverse=True)


def _influence(graph: AttributionGraph) -> list[tuple[Feature, float]]:
    pairs = zip(graph.nodes, influence(graph).tolist(), strict=True)
    return [(node, value) for node, value in pairs if isinstance(node, Feature)]


def test_given_features_are_grouped_and_no_others() -> None:
    graph = two_stories()
    assert sets(propose(graph, features=[*DOG, CAT[0]])) == [set(DOG), {CAT[0]}]
    assert propose(graph, features=[]) == []
    with pytest.raises(ValueError, match="not in this graph"):
        propose(graph, features=[Feature(0, 1, 99)])


def test_where_nothing_has_influence_nothing_is_proposed() -> None:
    graph = two_stories()
    assert propose(replace(graph, weights=np.zeros_like(graph.weights))) == []


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), n_targets=st.integers(1, 4))
def test_any_graph_gets_at_most_nine_boxes_with_different_names_and_members(
    seed: int, n_targets: int
) -> None:
    graph = random_graph(seed, n_features=30, n_targets=n_targets)
    found = propose(graph)
    names, members = [g.name for g in found], [f for g in found for f in g.features]
    assert len(found) <= 9
    assert len(set(names)) == len(names)
    assert len(set(members)) == len(members)
    assert all(f in graph for f in members)
    assert all(len({f.position for f in group.features}) == 1 for group in found)


def test_a_crowd_is_grouped_by_its_strongest() -> None:
    found = propose(crowd())
    assert 4 <= len(found) <= 9


@given(st.integers(0, 2**31))
def test_the_first_merge_is_the_cheapest_and_costs_add_up_to_the_spread(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, weights = rng.normal(size=(6, 3)), rng.random(6) + 0.1
    found = merges(rows, weights)

    def spread(group: list[int]) -> float:
        mean = np.average(rows[group], axis=0, weights=weights[group])
        return float((weights[group] * ((rows[group] - mean) ** 2).sum(1)).sum())

    cheapest = min(spread([i, j]) for i in range(6) for j in range(i))
    assert found[0].cost == pytest.approx(cheapest)
    costs = [merge.cost for merge in found]
    assert costs == pytest.approx(sorted(costs))
    assert sum(costs) == pytest.approx(spread([*range(6)]))
    for merge in found:
        both = [*merge.first.tolist(), *merge.second.tolist()]
        rise = spread(both) - spread(merge.first.tolist()) - spread(merge.second.tolist())
        assert merge.cost == pytest.approx(rise, abs=1e-9)
    assert len(groups(found, 6, np.inf)) == 1
    assert len(groups(found, 6, -1.0)) == 6
    assert len(groups(found, 6, costs[2])) == 3


def test_the_common_label_is_the_one_that_most_agree_with() -> None:
    labels = ["Texas", "Texas legal matters", "code", "Texas", ""]
    assert common_label(labels, np.array([1, 2, 2.5, 1, 9])) == "Texas"
    assert common_label(["", " "], np.ones(2)) == ""
    assert common_label(["<b>&"], np.ones(1)) == "<b>&"


def test_names_are_made_distinct_by_the_first_mark_that_tells_them_apart() -> None:
    assert distinct(["a", "b"], [" x", " x"]) == ["a", "b"]
    assert distinct(["a", "a", "b"], [" x", " x", " x"], [" y", " z", " y"]) == ["a y", "a z", "b"]
    assert distinct(["a", "a", "a 2"], [" x", " x", " x"]) == ["a", "a 2", "a 2 2"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real graphs are not on this machine")
def test_most_of_a_persons_groups_are_found_on_a_real_graph() -> None:
    file = read(REAL / "small-big-plt.json")
    for given_features in (None, [n for n in file.annotations.pins if isinstance(n, Feature)]):
        found = propose(file.graph, file.annotations.labels, features=given_features)
        assert 4 <= len(found) <= 9
        theirs = [set(group.features) for group in file.annotations.groups]
        features = sorted(set().union(*theirs))
        pairs = [(a, b) for a in features for b in features if a < b]
        drawn = {pair for pair in pairs if any({*pair} <= group for group in theirs)}
        proposed = {pair for pair in pairs if any({*pair} <= set(g.features) for g in found)}
        assert 2 * len(drawn & proposed) / (len(drawn) + len(proposed)) >= 0.8


def test_the_embedded_models_two_hops_are_found_without_its_labels_or_concepts(
    atlas: ReplacementModel,
) -> None:
    graph = attribute(atlas, shipped.DALLAS, progress=False)
    found = sets(propose(replace(graph, provenance={})))
    concepts = shipped.supernodes(tuple(row) for row in graph.features.tolist())
    for name in ("Texas", "capital", "say a capital", "say Austin"):
        concept = {Feature(*row) for row in concepts[name]}
        box = next(group for group in found if concept <= group)
        others = {n: {Feature(*r) for r in rows} for n, rows in concepts.items() if n != name}
        assert not any(box & other for other in others.values())


@pytest.mark.skipif(not REAL.is_dir(), reason="the real graphs are not on this machine")
@pytest.mark.parametrize("path", sorted(REAL.rglob("*.json")), ids=lambda p: p.stem)
def test_a_whole_graphs_boxes_are_few_small_and_joined_by_a_dozen_lines(path: Path) -> None:
    graph, notes = read(path)
    found = propose(graph, notes.feature_labels)
    assert 4 <= len(found) <= 9
    assert all(1 <= len(group.features) <= LARGEST for group in found)
    drawn = circuit(graph, [*found, TargetNode(0)], labels=notes.feature_labels, width=700)
    assert len(found) - 1 <= len(drawn.arrows) <= 12
    strength = influence(graph)
    for group in found:
        inside = [float(strength[graph.number(feature)]) for feature in group.features]
        assert inside == sorted(inside, reverse=True)

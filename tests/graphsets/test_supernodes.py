"""Supernodes across prompts are the embedded model's concepts, and a motif is where it must be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import small_graph

from circuit_nb import GraphSet, attribute_many
from circuit_nb import atlas as shipped
from circuit_nb.atlas.world import load_world
from circuit_nb.graphsets import template
from circuit_nb.patterns.motifs import DEFINITIONS, motifs
from circuit_nb.patterns.profile import profile

TWO_HOP = "Fact: the capital of the {kind} containing {city} is"


def _rows(first: int, places: int, cities: int) -> list[dict[str, str]]:
    return [
        {"kind": p.kind, "city": city, "place": p.name}
        for p in load_world().places[first : first + places]
        for city in p.cities[:cities]
    ]


@pytest.fixture(scope="module")
def two_hop(atlas: Any, tmp_path_factory: pytest.TempPathFactory) -> GraphSet:
    """Twelve states and twelve countries, three cities each."""
    asks = template(TWO_HOP, _rows(38, 24, 3))
    found = attribute_many(atlas, asks, tmp_path_factory.mktemp("two"), progress=False)
    return found.labelled(shipped.labels())


def adjusted_rand(a: list[Any], b: list[Any]) -> float:
    """Agreement of two groupings beyond chance (Hubert and Arabie 1985): 1 where they are one."""

    def pairs(counts: Counter[Any]) -> float:
        return sum(n * (n - 1) / 2 for n in counts.values())

    both, one, other = (pairs(Counter(x)) for x in (zip(a, b, strict=True), a, b))
    chance = one * other / (len(a) * (len(a) - 1) / 2)
    return (both - chance) / ((one + other) / 2 - chance)


def concept_of(graphs: GraphSet) -> dict[tuple[int, int, int], str]:
    """The concept of each feature that belongs to one alone here, by layer, role and index."""
    found: dict[tuple[int, int, int], set[str]] = {}
    roles = graphs.common(1.0).roles
    for p, where in zip(graphs.profiles, roles.of, strict=True):
        for name, rows in shipped.supernodes(p.features.tolist()).items():
            for layer, at, index in rows:
                found.setdefault((layer, int(where[at]), index), set()).add(name)
    return {unit: names.pop() for unit, names in found.items() if len(names) == 1}


def agreement(graphs: GraphSet) -> tuple[float, float, int]:
    """Adjusted Rand of groups and concepts, the same of shuffled groups, and of how many."""
    found, truth = graphs.supernodes(), concept_of(graphs)
    units = [tuple(unit) for unit in found.units.tolist()]
    known = [i for i, unit in enumerate(units) if unit in truth]
    concepts = [(units[i][1], truth[units[i]]) for i in known]
    groups = found.group_of[known]
    shuffled = np.random.default_rng(0).permutation(groups)
    return (
        adjusted_rand(groups.tolist(), concepts),
        adjusted_rand(shuffled.tolist(), concepts),
        len(known),
    )


def test_groups_are_the_concepts_of_the_model(
    atlas: Any, two_hop: GraphSet, tmp_path: Path
) -> None:
    """On the set by which the cut was chosen, and on one that it has not seen."""
    other = attribute_many(atlas, template(TWO_HOP, _rows(0, 24, 3)), tmp_path, progress=False)
    for graphs, least in ((two_hop, 0.85), (other, 0.65)):
        ours, shuffled, count = agreement(graphs)
        assert count > 60
        assert ours > least
        assert abs(shuffled) < 0.1
    texas = next(g for g in two_hop.supernodes().groups if g.name.startswith("Texas"))
    assert {(u.layer, u.index) for u in texas.units} >= set(shipped.values("Texas"))
    assert texas.share == pytest.approx(3 / len(two_hop))
    assert texas.stability > 0.9


def test_stability_is_how_often_two_are_together(two_hop: GraphSet) -> None:
    found = two_hop.supernodes()
    units = [tuple(unit) for unit in found.units.tolist()]
    first = {
        name: next(i for i, u in enumerate(units) if (u[0], u[2]) in shipped.values(name))
        for name in ("Texas", "Utah")
    }
    assert found.together[first["Texas"], first["Utah"]] == 0
    assert np.nanmax(np.abs(found.together - found.together.T)) == 0
    assert set(np.unique(np.diag(found.together))) == {1.0}
    again = two_hop.supernodes()
    assert np.array_equal(found.together, again.together, equal_nan=True)


def test_motifs_are_where_they_must_be(two_hop: GraphSet) -> None:
    found = two_hop.motifs()
    named = dict(zip(DEFINITIONS, found.every, strict=True))
    assert named["two-hop"].share > 0.95
    assert named["say X"].share > 0.95
    assert named["copy"].share == 0
    # The bridge is the state or country that neither stands in the prompt nor is the answer.
    named_so = [
        data["place"] in bridge
        for data, bridge in zip(two_hop.metadata, found.bridges, strict=True)
    ]
    assert np.mean(named_so) > 0.9
    assert str(found).startswith("copy in 0% (0% to 0%); two-hop in 1")


@pytest.mark.parametrize(
    ("relation", "kind"), [("currency", "country"), ("continent", "country"), ("region", "state")]
)
def test_where_there_is_one_hop_none_is_found(
    atlas: Any, tmp_path: Path, relation: str, kind: str
) -> None:
    """Different words with the same answer, as in two hops: euro, Europe, South."""
    places = load_world().of_kind(kind)
    end = " the" if relation == "currency" else ""
    asks = [f"Fact: the {relation} of {p.name} is{end}" for p in places]
    found = attribute_many(atlas, asks, tmp_path, progress=False)
    assert len({p.answer for p in found.profiles}) < 0.7 * len(found)
    assert found.motifs().every[1].share < 0.05


def test_motifs_of_a_hand_made_graph() -> None:
    """Dallas → Texas → say Austin → Austin, and the same with the answer in the prompt."""
    dallas = profile(small_graph())
    houston = replace(
        dallas, tokens=tuple(" Houston" if t == " Dallas" else t for t in dallas.tokens)
    )
    found = motifs([dallas, houston])
    assert found.present.tolist() == [[False, True, True]] * 2
    assert all(bridge.endswith("@ [after of]") for bridge in found.bridges)
    # One word alone is no bridge between words.
    assert motifs([dallas, dallas]).present.tolist() == [[False, False, True]] * 2
    # Nor is it one where the answers are others'.
    other = replace(houston, answer=" Boston")
    assert motifs([dallas, other]).present[:, 1].tolist() == [False, False]
    copied = replace(
        dallas, tokens=tuple(" Austin" if t == " Dallas" else t for t in dallas.tokens)
    )
    assert motifs([copied]).present.tolist() == [[True, False, True]]

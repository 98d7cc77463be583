"""How good the proposed groups are, by three judges.

    python benchmarks/groups.py [--prompts 200] [--real-graphs ../shared/real_graphs]

1. A person: pairwise F1 against the groups drawn in `small-big-plt.json`, over the features that
   the person grouped; on the file as it is, on the person's pins alone, and, since one file says
   little, on the file with its edges scaled at random and with features left out.
2. The embedded model, whose concepts are known: adjusted Rand index over two-hop prompts. The
   method sees neither concepts nor labels. Once over the concepts a prompt is about (its place,
   its relation, to say such a thing, to say the answer), once over all that are active in it,
   those included that one feature happens to share.
3. Behaviour: what switching a proposed group off does to the answer, beside random groups of as
   many features, on the embedded model.

Each stands beside the plainest rule, one group a position.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

from circuit_nb import Intervention, attribute, intervene, load  # noqa: E402
from circuit_nb import atlas as shipped  # noqa: E402
from circuit_nb.analysis import influence  # noqa: E402
from circuit_nb.atlas.forms import TWO_HOP_FORMS, fill  # noqa: E402
from circuit_nb.atlas.world import Place, load_world  # noqa: E402
from circuit_nb.evidence import propose  # noqa: E402
from circuit_nb.graph import AttributionGraph, Feature, Supernode  # noqa: E402
from circuit_nb.model import ReplacementModel  # noqa: E402
from circuit_nb.neuronpedia import read  # noqa: E402

Groups = Sequence[Sequence[Feature]]
Method = Callable[..., Groups]


def proposed(graph: AttributionGraph, features: Sequence[Feature] | None = None) -> Groups:
    """Ours; what a file or the embedded model says of its features is not shown to it."""
    return [group.features for group in propose(graph, features=features)]


def by_position(graph: AttributionGraph, features: Sequence[Feature] | None = None) -> Groups:
    """The plainest rule."""
    every = [Feature(*row) for row in graph.features.tolist()] if features is None else features
    return [[f for f in every if f.position == p] for p in range(len(graph.tokens))]


def numbered(groups: Groups, features: Sequence[Feature]) -> np.ndarray:
    """Number of each feature's group; every feature in no group has one of its own."""
    where = {feature: number for number, group in enumerate(groups) for feature in group}
    return np.array([where.get(feature, -1 - i) for i, feature in enumerate(features)])


def pairwise_f1(found: np.ndarray, wanted: np.ndarray) -> float:
    """Harmonic mean of precision and recall over the pairs that are in one group."""
    upper = np.triu_indices(len(found), 1)
    ours, theirs = ((x[:, None] == x[None, :])[upper] for x in (found, wanted))
    return 2 * float((ours & theirs).sum()) / max(float(ours.sum() + theirs.sum()), 1.0)


def adjusted_rand(found: np.ndarray, wanted: np.ndarray) -> float:
    """Hubert and Arabie 1985: 1 for the same partition, about 0 for a random one."""
    rows, columns = (np.unique(x, return_inverse=True)[1] for x in (found, wanted))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    pairs, first, second = ((x * (x - 1) / 2).sum() for x in (table, table.sum(1), table.sum(0)))
    expected = first * second / (len(rows) * (len(rows) - 1) / 2)
    most = (first + second) / 2
    return 1.0 if most == expected else float((pairs - expected) / (most - expected))


def shaken(graph: AttributionGraph, by: float, seed: int) -> AttributionGraph:
    """Every edge times exp(by × a normal number)."""
    scale = np.exp(by * np.random.default_rng(seed).normal(size=graph.weights.shape))
    return replace(graph, weights=graph.weights * scale)


def thinned(graph: AttributionGraph, keep: set[Feature], seed: int) -> AttributionGraph:
    """A tenth of the features left out, none of those to keep."""
    n, chance = len(graph.features), np.random.default_rng(seed).random(len(graph.features))
    stay = np.array(
        [c < 0.9 or f in keep for c, f in zip(chance.tolist(), graph.nodes[:n], strict=True)]
    )
    ends = [np.append(stay, np.ones(size - n, dtype=bool)) for size in graph.weights.shape]
    return replace(
        graph,
        features=graph.features[stay],
        activations=graph.activations[stay],
        weights=graph.weights[np.ix_(*ends)],
    )


def person(folder: Path, method: Method, draws: int = 20) -> None:
    """The first judge."""
    file = read(folder / "small-big-plt.json")
    drawn = [group.features for group in file.annotations.groups]
    features = [feature for group in drawn for feature in group]
    pins = [node for node in file.annotations.pins if isinstance(node, Feature)]
    wanted = numbered(drawn, features)

    def judge(graph: AttributionGraph, given: Sequence[Feature] | None = None) -> float:
        return pairwise_f1(numbered(method(graph, given), features), wanted)

    report("F1, the file as it is", judge(file.graph))
    report("F1, the pinned features alone", judge(file.graph, pins))
    for by in (0.05, 0.1):
        found = [judge(shaken(file.graph, by, seed)) for seed in range(draws)]
        report(f"F1, edges times exp({by} normal), mean of {draws}", float(np.mean(found)))
    found = [judge(thinned(file.graph, set(features), seed)) for seed in range(draws)]
    report(f"F1, a tenth of the others left out, mean of {draws}", float(np.mean(found)))


def two_hops(model: ReplacementModel, most: int) -> Iterator[tuple[AttributionGraph, list[str]]]:
    """Graphs of two-hop prompts drawn at random, and the concepts each is about."""
    world = load_world()
    every: list[tuple[Place, str, str]] = [
        (place, city, relation)
        for held_out in (True, False)
        for place, city in world.cities(held_out=held_out)
        for relation in world.relations(place.kind)
    ]
    random.Random(0).shuffle(every)
    for place, city, relation in every[:most]:
        text = fill(TWO_HOP_FORMS[relation][0], place, city)
        answer = place.facts[relation]
        article = "an" if relation[0] in "aeiou" else "a"
        about = [place.name, relation, f"say {article} {relation}", f"say {answer}"]
        prompt = text.removesuffix(".").removesuffix(answer).rstrip()
        yield replace(attribute(model, prompt, progress=False), provenance={}), about


def concepts(graph: AttributionGraph, names: Sequence[str] | None) -> Groups:
    """Concepts present in a graph, each feature in the first that holds it."""
    present = shipped.supernodes(tuple(row) for row in graph.features.tolist())
    taken: set[Feature] = set()
    groups: list[list[Feature]] = []
    for name in present if names is None else names:
        group = [Feature(*row) for row in present.get(name, ())]
        groups.append([feature for feature in group if feature not in taken])
        taken.update(group)
    return [group for group in groups if group]


def known(cases: Sequence[tuple[AttributionGraph, list[str]]], method: Method) -> None:
    """The second judge."""
    for what, own in (("a prompt's own concepts", True), ("all active concepts", False)):
        found: list[float] = []
        for graph, about in cases:
            groups = concepts(graph, about if own else None)
            features = [feature for group in groups for feature in group]
            if len(groups) > 1:
                ours = numbered(method(graph), features)
                found.append(adjusted_rand(ours, numbered(groups, features)))
        report(f"adjusted Rand, {what}, mean of {len(found)}", float(np.mean(found)))


def behaviour(
    model: ReplacementModel, cases: Sequence[tuple[AttributionGraph, list[str]]], most: int = 40
) -> None:
    """The third judge."""
    draw, ours, theirs = random.Random(0), [], []
    for graph, _ in cases[:most]:
        every = [Feature(*row) for row in graph.features.tolist()]
        for group in propose(graph):
            other = draw.sample(every, len(group.features))
            ours.append(lost(model, graph, group))
            theirs.append(lost(model, graph, Supernode("random", other)))
    more = np.mean(np.array(ours) > np.array(theirs))
    report(f"answer's probability lost, {len(ours)} proposed groups, mean", float(np.mean(ours)))
    report("the same, as many random features each, mean", float(np.mean(theirs)))
    report("share of groups that do more than the random one", float(more))


def lost(model: ReplacementModel, graph: AttributionGraph, group: Supernode) -> float:
    """By how much switching a group off lowers the probability of the answer."""
    outcome = intervene(model, graph.prompt, [Intervention.ablate(group)])
    answer = int(graph.target_ids[0])
    return float(outcome.before.probabilities[answer] - outcome.after.probabilities[answer])


def speed(folder: Path) -> None:
    """What a proposal takes, and for how many boxes."""
    from made import crowd

    graphs = {"5,000 features, 100,000 edges": crowd(5000, 100_000)}
    if folder.is_dir():
        graphs |= {p.stem: read(p).graph for p in sorted(folder.glob("*.json"))}
    for name, graph in graphs.items():
        fresh = replace(graph)
        begin = time.perf_counter()
        found = propose(fresh)
        took = 1000 * (time.perf_counter() - begin)
        shares = influence(graph)[graph.blocks.features].sum()
        held = sum(influence(graph)[graph.number(f)] for g in found for f in g.features) / shares
        print(f"{name:<62} {took:>7,.0f} ms, {len(found)} boxes, {held:.0%} of the influence")


def report(what: str, value: float) -> None:
    """One line of the table."""
    print(f"{what:<62} {value:>7.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--real-graphs", type=Path, default=ROOT.parent / "shared" / "real_graphs")
    options = parser.parse_args()
    model = load("atlas")
    cases = list(two_hops(model, options.prompts))
    for method in (by_position, proposed):
        print(f"\n{method.__name__.replace('_', ' ')}")
        if options.real_graphs.is_dir():
            person(options.real_graphs, method)
        known(cases, method)
    print()
    behaviour(model, cases)
    print()
    speed(options.real_graphs)


if __name__ == "__main__":
    main()

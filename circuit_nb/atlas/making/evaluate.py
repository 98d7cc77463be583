"""The atlas model's figures: `python -m circuit_nb.atlas.evaluate` prints its model card.

All figures are of held-out cities unless they say otherwise; features are those of
`concepts.json`, chosen on training cities.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from circuit_nb.atlas.forms import TWO_HOP_FORMS
from circuit_nb.atlas.making.concept_rules import KINDS, WORD_POSITION, capitals
from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.measures import Subject, answered_right, removed, share, swapped
from circuit_nb.atlas.making.probe import load_model, load_transcoders
from circuit_nb.atlas.making.prompts import Prompts, two_hop
from circuit_nb.atlas.making.samples import Samples, collect
from circuit_nb.atlas.making.sparsify import unexplained
from circuit_nb.atlas.shipped import DALLAS, WEIGHTS, read_concepts
from circuit_nb.atlas.world import load_world

Report = dict[str, Any]


@dataclass(frozen=True)
class Gate:
    """One figure that the shipped model must reach."""

    key: str
    """Where the figure is in the report, e.g. `interventions.place off`."""
    title: str
    wanted: float | None
    """Least value; None is a figure without a gate."""


GATES = (
    Gate("accuracy.state.capital.held out", "two-hop accuracy, states", 0.97),
    Gate("accuracy.all held out", "two-hop accuracy, all kinds, relations and forms", 0.97),
    Gate("replaced.state.capital", "every MLP replaced: same answer", 0.95),
    Gate("interventions.place off", "state off (×0) removes the answer", 0.90),
    Gate("interventions.place turned", "state at ×−1 removes the answer", None),
    Gate("interventions.place swap x1", "swap for another state ×1 gives its capital", 0.95),
    Gate("interventions.place swap x2", "swap for another state ×2", None),
    Gate("interventions.say off", "“say X” off (×0) removes the answer", 0.50),
    Gate("interventions.say turned", "“say X” at ×−1 removes the answer", 0.80),
    Gate("interventions.say swap x1", "swap “say A” for “say B” ×1 gives B", 0.50),
    Gate("relations.capital to abbreviation", "relation swap: capital → abbreviation", None),
    Gate("relations.capital to region", "relation swap: capital → region", None),
    Gate("relations.abbreviation to capital", "relation swap: abbreviation → capital", None),
    Gate("graph.replacement", "Dallas graph: replacement score", 0.60),
    Gate("graph.completeness", "Dallas graph: completeness score", 0.60),
)
"""The rows of the model card."""


def evaluate(folder: Path = WEIGHTS, *, quick: bool = False) -> Report:
    """Measure the model in `folder`; see `GATES` for what the keys mean.

    Args:
        folder: Where model, transcoders and concepts are.
        quick: Leave out interventions on countries and on training cities.
    """
    corpus = Corpus(load_world())
    subject = Subject(
        load_model(folder / "model"),
        load_transcoders(folder / "transcoders"),
        read_concepts(folder / "concepts.json"),
    )
    states = two_hop(corpus, "state", "capital", held_out=True)
    report: Report = {
        "prompt": {"text": DALLAS, "top": _top(subject, corpus)},
        "accuracy": _accuracy(subject, corpus),
        "replaced": _replaced(subject, corpus),
        "interventions": _interventions(subject, corpus, states),
        "relations": _relations(subject, corpus),
        "transcoders": _transcoders(subject, collect(subject.model, corpus)),
        "coverage": _coverage(subject, corpus),
        "graph": _graph(folder),
    }
    if not quick:
        trained = two_hop(corpus, "state", "capital", held_out=False)
        trained = trained.take([trained.places.index(p) for p in corpus.world.of_kind("state")])
        countries = two_hop(corpus, "country", "capital", held_out=True)
        report["interventions on training cities"] = _interventions(subject, corpus, trained)
        report["interventions on countries"] = _interventions(subject, corpus, countries)
    return report


def figure(report: Report, key: str) -> float | None:
    """Return one figure of a report by its dotted key; None if it was not measured."""
    value: Any = report
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def card(report: Report) -> str:
    """Return the report as the tables of the model card, in Markdown."""
    lines = ["| figure, on held-out cities | wanted | measured |", "|---|---|---|"]
    for gate in GATES:
        value = figure(report, gate.key)
        wanted = "" if gate.wanted is None else f"≥ {gate.wanted:g}"
        lines.append(f"| {gate.title} | {wanted} | {'–' if value is None else f'{value:.3f}'} |")
    lines += ["", "| layer | variance unexplained | L0 | dead features |", "|---|---|---|---|"]
    for layer, row in enumerate(report["transcoders"]):
        dead = f"{row['dead']} of {row['features']}"
        lines.append(f"| {layer} | {row['unexplained']:.3f} | {row['L0']:.2f} | {dead} |")
    lines += ["", "| accuracy | held out | training |", "|---|---|---|"]
    for kind in KINDS:
        for relation, row in report["accuracy"][kind].items():
            lines.append(f"| {kind}, {relation} | {row['held out']:.3f} | {row['training']:.3f} |")
    top = ", ".join(f"`{token}` {p:.3f}" for token, p in report["prompt"]["top"])
    return "\n".join([*lines, "", f"`{report['prompt']['text']}` → {top}"])


def main() -> None:
    """Measure a folder of weights and print the model card."""
    parser = argparse.ArgumentParser(description="Print the atlas model's figures.")
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="folder of the weights")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    print(card(evaluate(folder)))


def _top(subject: Subject, corpus: Corpus, count: int = 3) -> list[tuple[str, float]]:
    with torch.no_grad():
        logits = subject.model(torch.tensor([corpus.encode(DALLAS)])).logits[0, -1]
    best = logits.softmax(-1).topk(count)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(corpus.words[token], round(p, 4)) for token, p in pairs]


def _accuracy(subject: Subject, corpus: Corpus) -> Report:
    """Accuracy by kind and relation for form 0, and over all forms."""
    report: Report = {}
    right, rows = 0, 0
    for kind in KINDS:
        report[kind] = {}
        for relation in corpus.world.relations(kind):
            row: dict[str, Any] = {"forms": []}
            for form in range(len(TWO_HOP_FORMS[relation])):
                for title, held_out in (("held out", True), ("training", False)):
                    prompts = two_hop(corpus, kind, relation, held_out=held_out, form=form)
                    hits = subject.answer(prompts).argmax(-1) == prompts.answers
                    if form == 0:
                        row[title] = share(hits)
                    if held_out:
                        row["forms"].append(share(hits))
                        right, rows = right + int(hits.sum()), rows + len(hits)
            report[kind][relation] = row
    return report | {"all held out": round(right / rows, 4)}


def _replaced(subject: Subject, corpus: Corpus) -> Report:
    """Share of prompts that the fully replaced model answers like the model itself."""
    report: Report = {}
    for kind in KINDS:
        report[kind] = {}
        for relation in corpus.world.relations(kind):
            prompts = two_hop(corpus, kind, relation, held_out=True)
            own = subject.answer(prompts).argmax(-1)
            replaced = subject.answer_replaced(prompts).argmax(-1)
            report[kind][relation] = share(own == replaced)
            report[kind][f"{relation} right"] = share(replaced == prompts.answers)
    return report


def _interventions(subject: Subject, corpus: Corpus, prompts: Prompts) -> Report:
    """What switching places and *say CAPITAL* does, where the model answers right."""
    prompts = answered_right(subject, prompts)
    wanted = capitals(corpus, prompts.places[0].kind)
    report: Report = {"prompts": len(prompts)}
    for title, say in (("place", False), ("say", True)):
        off = removed(subject, prompts, factor=0.0, say=say)
        report[f"{title} off"] = share(off)
        report[f"{title} turned"] = share(removed(subject, prompts, factor=-1.0, say=say))
        for factor in (1, 2):
            over = swapped(subject, prompts, wanted, factor=factor, say=say)
            report[f"{title} swap x{factor}"] = share(over)
        report[f"{title} pairs"] = len(over)
        if "Dallas" in prompts.cities:
            report[f"{title} off removes Austin"] = bool(off[prompts.cities.index("Dallas")])
    return report


def _relations(subject: Subject, corpus: Corpus) -> Report:
    """Swap the relation at its own word; the share of rows that answer the other relation."""
    report: Report = {}
    for old, new in (
        ("capital", "abbreviation"),
        ("capital", "region"),
        ("abbreviation", "capital"),
    ):
        prompts = two_hop(corpus, "state", old, held_out=True)
        rows = len(prompts)
        logits = subject.answer_swapped(prompts, [old] * rows, [new] * rows, WORD_POSITION)
        wanted = [corpus.token(place.facts[new]) for place in prompts.places]
        report[f"{old} to {new}"] = share(logits.argmax(-1) == torch.tensor(wanted))
    return report


def _transcoders(subject: Subject, samples: Samples) -> list[Report]:
    """Per layer, over all distinct prefixes of the corpus."""
    rows = []
    for layer, transcoder in enumerate(subject.transcoders):
        fires = transcoder.encode(samples.inputs[layer]) > 0
        left = unexplained(transcoder, samples.inputs[layer], samples.outputs[layer])
        rows.append(
            {
                "unexplained": round(left, 4),
                "L0": round(fires.sum(1).float().mean().item(), 3),
                "dead": int((~fires.any(0)).sum()),
                "features": fires.shape[1],
            }
        )
    return rows


def _coverage(subject: Subject, corpus: Corpus) -> Report:
    """How many states and countries have features, and how many a *say CAPITAL*."""
    report: Report = {}
    for kind in KINDS:
        places = corpus.world.of_kind(kind)
        report[kind] = sum(place.name in subject.concepts for place in places)
        says = sum(f"say {place.capital}" in subject.concepts for place in places)
        report[f"{kind} say"] = says
    return report


def _graph(folder: Path) -> Report:
    """Replacement and completeness of the Dallas graph, by the library itself."""
    from circuit_nb.analysis import scores
    from circuit_nb.attribution import attribute
    from circuit_nb.model import load

    model = load(str(folder / "model"), str(folder / "transcoders"))
    measured = scores(attribute(model, DALLAS, progress=False))
    return {
        "replacement": round(float(measured.replacement), 4),
        "completeness": round(float(measured.completeness), 4),
    }


if __name__ == "__main__":
    main()

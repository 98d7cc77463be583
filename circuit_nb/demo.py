"""The demonstration: Dallas → Texas → Austin on the embedded model, and Texas switched off."""

from __future__ import annotations

from pathlib import Path

from circuit_nb import analysis, atlas, sharing
from circuit_nb.attribution.compute import attribute
from circuit_nb.figures.names import node_title
from circuit_nb.files import check_writable, explained
from circuit_nb.graph import AttributionGraph, Supernode, TargetNode, TokenNode
from circuit_nb.intervention.change import Intervention
from circuit_nb.intervention.outcome import Outcome
from circuit_nb.intervention.run import intervene_many
from circuit_nb.model.loading import load
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.panels.opening import opened

OAKLAND = atlas.DALLAS.replace("Dallas", "Oakland")


def run(folder: Path) -> None:
    """Print the demonstration and write `dallas_austin.html` and `.safetensors` to a folder."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("dallas_austin.safetensors", "dallas_austin.html"):
        check_writable(folder / name)
    model = load("atlas")
    graph = attribute(model, atlas.DALLAS, max_features=None, progress=False)
    outcomes = experiments(model, graph)
    print(f"Prompt   {graph.prompt}")
    print(f"Answers  {_top(next(iter(outcomes.values())).before.top)}\n")
    for step in strongest_path(graph):
        print(f"         {step}")
    result = analysis.scores(graph)
    print(
        f"\n{graph.n_active} active features; replacement score {result.replacement:.2f}, "
        f"completeness {result.completeness:.2f}\n"
    )
    austin = named(graph, "say Austin")
    print(f"{'What is changed':<28}{'say Austin':>12}   most likely next")
    for name, outcome in outcomes.items():
        print(f"{name:<28}{outcome.fraction(austin):>12.0%}   {_top(outcome.after.top)}")
    print(f"\nwrote {graph.save(folder / 'dallas_austin.safetensors')}")
    page = sharing.page(opened(graph, model, None, None), progress=False)
    print(page.contents)
    print(f"wrote {page.write(folder / 'dallas_austin.html')}  (open it in any browser)")


def named(graph: AttributionGraph, name: str) -> Supernode:
    """A concept of the embedded model as it is active in a graph.

    Raises:
        ValueError: If it is not.
    """
    found = atlas.supernodes(graph.features.tolist())
    if name not in found:
        raise ValueError(f"{name!r} is not active on {graph.prompt!r}; active: {sorted(found)}.")
    return Supernode(name, found[name])


def experiments(model: ReplacementModel, graph: AttributionGraph) -> dict[str, Outcome]:
    """What happens with Texas off, `capital` off, Texas swapped for California, and a control."""
    oakland = attribute(model, OAKLAND, max_features=None, progress=False)
    texas, capital = named(graph, "Texas"), named(graph, "capital")
    california = named(oakland, "California")
    at_dallas = [texas.features[0].position]
    changes = {
        "nothing": [],
        "Texas off": [Intervention.ablate(texas)],
        "capital off": [Intervention.ablate(capital)],
        "Texas → California": [
            Intervention.ablate(texas),
            Intervention.from_graph(california, oakland, positions=at_dallas),
        ],
        "control: California off": [Intervention.ablate(california, positions=at_dallas)],
    }
    watch = [named(graph, "say Austin")]
    outcomes = intervene_many(model, graph.prompt, list(changes.values()), watch=watch, top_k=3)
    return dict(zip(changes, outcomes, strict=True))


def labels_here(graph: AttributionGraph) -> dict[tuple[int, int], str]:
    """Shipped labels; a feature of a concept that is present here is called by that concept.

    Some features stand for two things, e.g. Iraq and Austin, and a prompt tells which.
    """
    here = {
        (layer, index): name
        for name, rows in atlas.supernodes(graph.features.tolist()).items()
        for layer, _, index in rows
    }
    return atlas.labels() | here


def strongest_path(graph: AttributionGraph) -> list[str]:
    """The strongest chain from the city to the answer, one line a step."""
    city = TokenNode(graph.tokens.index(" Dallas"))
    labels = labels_here(graph)
    path = analysis.paths(graph, city, TargetNode(0), top_k=1)[0]
    lines: list[str] = []
    for number, node in enumerate(path.nodes):
        name = node_title(graph, node, labels)
        edge = f"{graph.weight(path.nodes[number - 1], node):+.2f} → " if number else ""
        lines.append(f"{edge:>9}{name}")
    return lines


def _top(top: list[tuple[str, float]]) -> str:
    return ", ".join(f"{token.strip()} {probability:.1%}" for token, probability in top)

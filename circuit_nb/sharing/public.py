"""What a page says about itself, and what of a graph's provenance may be public."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuit_nb.figures.style import number, percent
from circuit_nb.graph import AttributionGraph
from circuit_nb.version import __version__

SETTINGS = (
    *("circuit_nb", "model", "model_revision", "transcoders", "transcoders_revision", "scan"),
    *("dtype", "max_logits", "logit_mass", "max_features", "targets", "pruned"),
    *("pruning_settings", "generation_settings"),
)
"""What of a graph's provenance a page tells; all else stays."""
CITATION = (
    "Method: Ameisen et al. 2025, Circuit Tracing: Revealing Computational Graphs in Language "
    "Models, https://transformer-circuits.pub/2025/attribution-graphs/methods.html. "
    "Made with circuit-nb {version}, https://github.com/circuit-nb/circuit-nb."
)
_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+)?")
_DEEPEST = 4


def settings(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The settings a graph was made with, without what tells of a machine or its user."""
    return {name: public(provenance[name]) for name in SETTINGS if name in provenance}


def public(value: Any, depth: int = 0) -> Any:
    """A JSON value whose texts are no paths: of a path the last name is left."""
    if isinstance(value, str):
        return _name(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {_name(str(k)): public(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        return [public(v, depth + 1) for v in value]
    return value if isinstance(value, int | float | bool) else None


def _name(text: str) -> str:
    slashes = text.replace("\\", "/").rstrip("/")
    if "/" not in slashes or (_HUB.fullmatch(text) and not _is_here(text)):
        return text
    return slashes.rsplit("/", 1)[-1]


def _is_here(text: str) -> bool:
    """Whether what looks like a name of the Hub is a folder of this machine."""
    try:
        return text.startswith(".") or Path(text).exists()
    except OSError:
        return True


def paper(graph: AttributionGraph, scores: tuple[float, float]) -> str:
    """Settings, numbers and citation, to be put into a paper."""
    made = settings(graph.provenance)
    shares = ", ".join(
        f"{target!r} {percent(float(share))}"
        for target, share in zip(graph.targets, graph.target_probabilities, strict=True)
    )
    told = [
        f"Attribution graph of {graph.prompt!r} ({len(graph.tokens)} tokens)",
        f"outputs {shares}",
        f"{len(graph.features)} of {graph.n_active} active features, {len(graph.errors)} error "
        f"nodes, {int((graph.weights != 0).sum())} edges",
        f"replacement score {number(scores[0])}, completeness {number(scores[1])}",
    ]
    how = "; ".join(f"{k} {v}" for k, v in made.items() if v is not None)
    return f"{'; '.join(told)}. Settings: {how}. {CITATION.format(version=__version__)}"


def contents(page: Mapping[str, Any]) -> str:
    """What a page holds, in words; of its JSON all but `about` is there."""
    graph, cards, outcomes = page["graph"], page["cards"], page["outcomes"]
    texts = sum(len(card["examples"]) for card in cards.values())
    parts = [
        f"the prompt, “{graph['prompt']}”",
        f"{len(graph['nodes'])} nodes with their names and {len(graph['edges'])} edges",
        f"{len(cards)} cards of features, with {texts} texts that activate them",
    ]
    if outcomes is None:
        parts.append("no outcomes of switches, as there was no model")
    else:
        more = ", each with a continuation" if outcomes["new_tokens"] else ""
        parts.append(f"{len(outcomes['runs'])} outcomes of {len(outcomes['rows'])} switches{more}")
    if page["evidence"] is not None:
        parts.append(f"what was measured of {len(page['evidence']['parts'])} boxes")
    if page["attention"] is not None:
        parts.append(f"the attention heads of {len(page['attention']['edges'])} edges")
    return f"This page holds {'; '.join(parts)}. Whoever opens it can read all of it."

"""What the explorer has measured, for the page: evidence for the boxes, and heads of edges.

Nothing is computed for it; what nobody asked for is not there, and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.subgraph import Group
from circuit_nb.graph import Feature, Node, Supernode
from circuit_nb.panels.attending import carriers_of
from circuit_nb.panels.session import Session
from circuit_nb.panels.state import Identity
from circuit_nb.panels.trials import effect_text
from circuit_nb.sharing.page import short

if TYPE_CHECKING:
    from circuit_nb.evidence import Faithfulness
    from circuit_nb.evidence.keeping import Control

Json: TypeAlias = "dict[str, Any]"
Floats: TypeAlias = "npt.NDArray[np.floating[Any]]"


def evidence_data(session: Session, boxes: Sequence[Group]) -> Json | None:
    """What was measured of the boxes; None where nothing was.

    Args:
        session: Its `trials` hold the findings.
        boxes: The circuit's boxes, to tell which is meant.
    """
    trials, found = session.trials, session.trials.found
    effects, kept = trials.effects(), found.faithfulness
    swept = [part for part in trials.parts if Identity.of(part) in found.sweeps]
    if kept is None and found.combinations is None and not swept:
        return None

    def part_data(i: int, part: Supernode | Feature) -> Json:
        alone, predicted = effects.get(part, (None, None))
        return {
            "box": boxes.index(part),
            "name": trials.names[i],
            "without": None if kept is None else short(kept.without[i]),
            "needed": None if kept is None else bool(kept.needed[i]),
            "alone": short(alone),
            "predicted": short(predicted),
            "badge": None if alone is None else effect_text(alone, predicted),
        }

    return {
        "parts": [part_data(i, part) for i, part in enumerate(trials.parts)],
        "kept": None if kept is None else _kept(kept),
        "verified": _told(found.verified, "correlation", "slope"),
        "combinations": _told(found.combinations, "label", "on", "metric", "answers", "shapley"),
        "sweeps": [
            {
                "box": boxes.index(part),
                **(_told(trials.sweep(part), "multipliers", "tokens", "probabilities") or {}),
            }
            for part in swept
        ],
    }


def _told(found: object, *names: str) -> Json | None:
    """A result in words, and its attributes of these names; None where there is none."""
    if found is None:
        return None
    return {"text": str(found), **{name: _plain(getattr(found, name)) for name in names}}


def _kept(kept: Faithfulness) -> Json | None:
    names = ("label", "ablation", "faithfulness", "completeness", "n_features", "n_active")
    told = _told(kept, *names, "cpr", "cmd")
    return told and {
        **told,
        "random": _random(kept.control),
        "curve": {
            "sizes": _plain(kept.curve.sizes),
            "values": _plain(kept.curve.values),
            "random": _random(kept.curve.control),
        },
    }


def _random(control: Control) -> list[Any]:
    """Mean, and between which values 95 % lie."""
    return [_plain(values) for values in (control.mean, *control.interval)]


def attention_data(session: Session, numbers: Mapping[int, int]) -> Json | None:
    """Which heads carried edges, where they looked and why; None where nobody asked.

    Args:
        session: Its `attending` remembers what was asked.
        numbers: Number of a node in the page, by its number in the graph.
    """
    asked, known, graph = session.attending, session.attending.known, session.graph
    if not known.heads and not known.looking:
        return None

    def ends(edge: tuple[Node, Node]) -> list[int]:
        return [numbers[n] for n in map(graph.number, edge) if n in numbers]

    edges = {
        (source, target): (found.flows[t, s], float(found.edges[t, s]))
        for (sources, targets), found in known.heads.items()
        for s, source in enumerate(sources)
        for t, target in enumerate(targets)
    }
    return {
        "size": list(asked.size),
        "edges": [
            [*ends(edge), [[c.layer, c.head, short(c.share)] for c in carriers_of(*found)]]
            for edge, found in edges.items()
            if len(ends(edge)) == 2
        ],
        "moved": [
            _moved(session, ends(edge), (layer, head), np.abs(moved))
            for (edge, layer, head), moved in known.moved.items()
            if len(ends(edge)) == 2
        ],
        "looked": [
            {
                "head": [layer, head],
                "places": [query, key],
                "above_mean": contrast == "mean",
                "text": asked.sentence(found),
                "score": short(found.score),
                "soft_cap": short(found.soft_cap),
                "pattern": _plain(asked.pattern_of(layer, head)[query, : query + 1]),
                **{
                    side: [[name, short(value)] for name, value in rows]
                    for side, rows in asked.reasons(found).items()
                },
            }
            for (layer, head, query, key, contrast), found in known.looking.items()
        ],
        "without": [
            {"head": [layer, head], "query": query, "token": token, "shares": [before, after]}
            for (layer, head, query), (token, before, after) in known.without.items()
        ],
    }


def _moved(session: Session, edge: list[int], head: tuple[int, int], moved: Floats) -> Json:
    """Where a head moved an edge: `sent` from each position, and where the one looked that sent
    most."""
    sent = moved.sum(1)
    query = int(sent.argmax())
    pattern = session.attending.pattern_of(*head)[query, : query + 1]
    return {
        "edge": edge,
        "head": list(head),
        "sent": _plain(sent),
        "query": query,
        "pattern": _plain(pattern),
    }


def _plain(value: Any) -> Any:
    """Arrays and numbers of a result as JSON values."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    return short(value) if isinstance(value, float) else value

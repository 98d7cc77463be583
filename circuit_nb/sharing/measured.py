"""What the explorer has measured, for the page: evidence for the boxes, and heads of edges.

Nothing is computed for it; what nobody asked for is not there, and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.subgraph import Group
from circuit_nb.graph import Node
from circuit_nb.panels.attending import carriers_of
from circuit_nb.panels.session import Session
from circuit_nb.panels.state import Identity
from circuit_nb.panels.trials import effect_text
from circuit_nb.sharing.page import short

if TYPE_CHECKING:
    from circuit_nb.evidence import Combinations, Faithfulness, Sweep, Verified

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
    needs = None if kept is None else zip(kept.without, kept.needed, strict=True)
    return {
        "parts": [
            {
                "box": boxes.index(part),
                "name": name,
                **_needed(*(next(needs) if needs is not None else (None, None))),
                **_effect(*effects.get(part, (None, None))),
            }
            for part, name in zip(trials.parts, trials.names, strict=True)
        ],
        "kept": None if kept is None else _kept(kept),
        "verified": None if found.verified is None else _verified(found.verified),
        "combinations": None if found.combinations is None else _combined(found.combinations),
        "sweeps": [_swept(boxes.index(part), trials.sweep(part)) for part in swept],
    }


def _needed(without: float | None, needed: bool | None) -> Json:
    return {"without": short(without), "needed": None if needed is None else bool(needed)}


def _effect(alone: float | None, predicted: float | None) -> Json:
    badge = None if alone is None else effect_text(alone, predicted)
    return {"alone": short(alone), "predicted": short(predicted), "badge": badge}


def _kept(kept: Faithfulness) -> Json:
    curve, (low, high) = kept.curve, kept.control.interval
    return {
        "text": str(kept),
        "label": kept.label,
        "ablation": kept.ablation,
        "share": short(kept.faithfulness),
        "left": short(kept.completeness),
        "features": [kept.n_features, kept.n_active],
        "random": [short(v) for v in (kept.control.mean, low, high)],
        "curve": {
            "sizes": _list(curve.sizes),
            "values": _list(curve.values),
            "random": [_list(v) for v in (curve.control.mean, *curve.control.interval)],
            "cpr": short(kept.cpr),
            "cmd": short(kept.cmd),
        },
    }


def _verified(found: Verified) -> Json:
    return {
        "text": str(found),
        "correlation": short(found.correlation),
        "slope": short(found.slope),
    }


def _combined(found: Combinations) -> Json:
    return {
        "text": str(found),
        "label": found.label,
        "on": found.on.astype(int).tolist(),
        "metric": _list(found.metric),
        "answers": list(found.answers),
        "shapley": _list(found.shapley),
    }


def _swept(box: int, found: Sweep) -> Json:
    return {
        "box": box,
        "text": str(found),
        "multipliers": _list(found.multipliers),
        "tokens": list(found.tokens),
        "probabilities": [_list(column) for column in found.probabilities.T],
    }


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
                "pattern": _list(asked.pattern_of(layer, head)[query, : query + 1]),
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
        "sent": _list(sent),
        "query": query,
        "pattern": _list(pattern),
    }


def _list(values: Floats) -> list[float | None]:
    return [short(value) for value in values.tolist()]

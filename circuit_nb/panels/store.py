"""Keeping a session: graph, pins, supernodes, labels and switches in one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from circuit_nb.files import quoted, shown
from circuit_nb.graph import AttributionGraph
from circuit_nb.panels.cards import CardSource
from circuit_nb.panels.session import Session
from circuit_nb.panels.state import Setup
from circuit_nb.strict_json import Reader, finite

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel

_TRAITS = ("kept", "errors", "links", "new_tokens")


def save(session: Session, path: str | Path) -> Path:
    """Write a session to one file, which `load` reads.

    The file is an ordinary graph file; `AttributionGraph.load` reads it too.

    Args:
        session: What to keep.
        path: Where to write; `.safetensors` is added if it has no suffix.

    Returns:
        The path written.
    """
    labels = [[layer, index, text] for (layer, index), text in session.cards.shipped.items()]
    state = {
        "setup": session.setup.to_json(),
        "shipped_labels": labels,
        **{n: getattr(session, n) for n in _TRAITS},
    }
    provenance = {**session.graph.provenance, "session": state}
    return dataclasses.replace(session.graph, provenance=provenance).save(_file(path))


def load(
    path: str | Path,
    model: ReplacementModel | None = None,
    *,
    cards: CardSource | None = None,
) -> Session:
    """Read what `save` wrote, or any graph file, and run the switches if there is a model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a graph file, or its session is damaged.
    """
    path = _file(path)
    graph = AttributionGraph.load(path)
    provenance = dict(graph.provenance)
    state = provenance.pop("session", None)
    labels = _labels(state, path) if isinstance(state, dict) else None
    graph = dataclasses.replace(graph, provenance=provenance)
    session = Session(graph, model, cards=cards, labels=labels)
    if state is not None:
        try:
            with session.hold_trait_notifications():  # so that the model is run once
                _restore(session, Reader(state, "The saved session"))
        except (ValueError, traitlets.TraitError) as error:
            raise ValueError(f"{shown(path)}: {error}") from error
    if session.outcome is None:
        session.run()
    return session


def _labels(state: dict[str, Any], path: Path) -> dict[tuple[int, int], str]:
    """Labels that came with the graph when it was first opened."""
    try:
        return {
            (int(layer), int(index)): str(text)
            for layer, index, text in state.get("shipped_labels", ())
        }
    except (TypeError, ValueError) as error:
        raise ValueError(f"{shown(path)}: The saved session is damaged in its labels.") from error


def _restore(session: Session, state: Reader) -> None:
    """Set up a session as it was saved."""
    setup = Setup.from_json(state.get("setup"))
    setup.check_fits(session.graph)
    for name in _TRAITS:
        value = state.get(name)
        try:
            setattr(session, name, finite(value, name) if isinstance(value, float) else value)
        except traitlets.TraitError:
            state.fail(f"is damaged: it has {quoted(value)} for {name!r}")
    session.setup = setup


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix else path.with_suffix(".safetensors")

"""What the switches do, computed before the page is written: nothing on it is guessed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from tqdm import tqdm

from circuit_nb.figures.subgraph import Group
from circuit_nb.graph import Feature
from circuit_nb.panels.asking import features_of, fractions, interventions
from circuit_nb.panels.session import TOP_TOKENS, Session
from circuit_nb.panels.state import HIGHEST, LOWEST, Added, Row, Switch
from circuit_nb.sharing.page import short

if TYPE_CHECKING:
    from circuit_nb.intervention.change import Intervention
    from circuit_nb.intervention.outcome import Freeze, Outcome

MOST_SWITCHES = 8
"""Of so many switches every on/off combination is computed, of further ones each alone."""
STEP = 0.5
"""Between two multipliers of a switch."""
BATCH = 32
"""How many settings the model is run on at once."""

Setting: TypeAlias = "float | None"
"""The multiplier of a switch that is on; None where it is off."""
State: TypeAlias = "tuple[Setting, ...]"
"""A setting for each row."""


def multipliers() -> list[float]:
    """The multipliers at which each switch is computed."""
    count = round((HIGHEST - LOWEST) / STEP)
    return [LOWEST + STEP * i for i in range(count + 1)]


def key(state: State) -> str:
    """A state as the page's JSON names it, e.g. `1 off 2.5`."""
    return " ".join("off" if s is None else f"{s:g}" for s in state)


def states(rows: Sequence[Row], start: State) -> list[State]:
    """What is computed, each once.

    Around everything as it was, and around what the session has set: all on/off combinations of
    the first `MOST_SWITCHES` rows, and each row at every multiplier, the others as they were.
    """
    neutral: State = tuple(None if isinstance(row, Added) else 1.0 for row in rows)
    found: dict[State, None] = {start: None}
    for base in dict.fromkeys((neutral, start)):
        on = tuple(1.0 if s is None else s for s in base)
        choices = [(s, None) if i < MOST_SWITCHES else (base[i],) for i, s in enumerate(on)]
        found.update(dict.fromkeys(itertools.product(*choices)))
        for i in range(len(rows)):
            each = [None, *multipliers()]
            found.update(dict.fromkeys((*base[:i], m, *base[i + 1 :]) for m in each))
    return list(found)


def start_of(session: Session) -> State:
    """What the session's switches are set to."""
    switches = [session.setup.switch(row) for row in session.setup.rows]
    return tuple(s.multiplier if s.on else None for s in switches)


def changes(session: Session, state: State) -> list[Intervention]:
    """What a state does to the model; where a switch acts is as it is set up."""
    end = len(session.graph.tokens)
    found: list[Intervention] = []
    named = zip(session.rows, session.setup.rows, strict=True)
    for (name, row), setting in zip(named, state, strict=True):
        found += interventions(row, name, _switch(session.setup.switch(row), setting), end)
    return found


def _switch(switch: Switch, setting: Setting) -> Switch:
    if setting is None:
        return replace(switch, on=False)
    each = switch.each if setting == switch.multiplier else ()
    return replace(switch, on=True, multiplier=setting, each=each)


def outcomes(
    session: Session, groups: Sequence[Group], *, new_tokens: int, progress: bool
) -> dict[str, Any] | None:
    """Run the model on every state, in batches.

    Args:
        session: What is set up.
        groups: The boxes of which it is told what is left.
        new_tokens: How many tokens each continuation has.
        progress: Whether a bar is shown.

    Returns:
        JSON values; None without a model, or where nothing has a switch.
    """
    rows = session.setup.rows
    if session.model is None or not rows:
        return None
    wanted, start = states(rows, start_of(session)), start_of(session)
    runs: dict[str, Any] = {}
    before: Outcome | None = None
    shares: dict[int, float] = {}
    with tqdm(total=len(wanted), desc="what the switches do", disable=not progress) as bar:
        for at in range(0, len(wanted), BATCH):
            batch = wanted[at : at + BATCH]
            for state, outcome in _run(session, batch, new_tokens):
                before = outcome
                ids = _ids(session, outcome)
                shares.update(zip(ids, _shares(outcome.before.probabilities, ids), strict=True))
                runs[key(state)] = _told(session, outcome, groups, ids)
            bar.update(len(batch))
    if before is None:
        return None
    return {
        "rows": [
            _row(session, name, row, groups) for name, row in zip(session.rows, rows, strict=True)
        ],
        "start": key(start),
        "multipliers": multipliers(),
        "freeze": session.freeze,
        "new_tokens": new_tokens,
        "temperature": session.temperature,
        "seed": session.seed,
        "tokens": {str(i): session.model.token(i) for i in shares},
        "before": {"top": _ranked(shares), "text": before.before.text},
        "runs": runs,
    }


def _run(
    session: Session, batch: Sequence[State], new_tokens: int
) -> Iterator[tuple[State, Outcome]]:
    """States and their outcomes; one at which the model's numbers overflow is left out."""
    from circuit_nb.intervention.run import intervene_many

    assert session.model is not None
    try:
        found = intervene_many(
            session.model,
            session.graph.token_ids.tolist(),
            [changes(session, state) for state in batch],
            watch=_watched(session),
            top_k=TOP_TOKENS,
            max_new_tokens=new_tokens,
            freeze=cast("Freeze", session.freeze),
            temperature=session.temperature,
            seed=session.seed,
        )
    except ValueError:
        if len(batch) > 1:
            for state in batch:
                yield from _run(session, [state], new_tokens)
        return
    yield from zip(batch, found, strict=True)


def _watched(session: Session) -> list[Feature]:
    return [f for g in session.groups for f in features_of(g)]


def _ids(session: Session, outcome: Outcome) -> list[int]:
    """Tokens told of: the likeliest before and after, and the graph's outputs."""
    from circuit_nb.intervention.outcome import most_likely

    both = (outcome.before.probabilities, outcome.after.probabilities)
    found = [i for p in both for i in most_likely(p, TOP_TOKENS).tolist()]
    found += [i for i in session.graph.target_ids.tolist() if i >= 0]
    return list(dict.fromkeys(found))


def _shares(probabilities: Any, ids: Sequence[int]) -> list[float]:
    """Probabilities in the fewest digits that tell them from all others."""
    return [float(str(np.float32(probabilities[i]))) for i in ids]


def _ranked(shares: Mapping[int, float]) -> list[list[float]]:
    """[token, probability], the likeliest first and ties by id, as `most_likely` has them."""
    from circuit_nb.intervention.outcome import TIE

    order = sorted(shares, key=lambda i: (-round(shares[i] / TIE), i))
    return [[i, shares[i]] for i in order]


def _told(
    session: Session, outcome: Outcome, groups: Sequence[Group], ids: Sequence[int]
) -> dict[str, Any]:
    left = fractions(outcome, groups, len(session.graph.tokens)) if outcome.interventions else {}
    shares = dict(zip(ids, _shares(outcome.after.probabilities, ids), strict=True))
    return {
        "top": _ranked(shares),
        "left": [short(left.get(g)) for g in groups],
        "text": outcome.after.text,
    }


def _row(session: Session, name: str, row: Row, groups: Sequence[Group]) -> dict[str, Any]:
    group = row.supernode if isinstance(row, Added) else row
    switch = session.setup.switch(row)
    return {
        "name": name,
        "box": groups.index(group),
        "added": isinstance(row, Added),
        "features": len(features_of(row)),
        "positions": None if switch.positions is None else list(switch.positions),
        "generated": switch.generated,
    }

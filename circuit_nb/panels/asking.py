"""What the model is asked under the switches: each row's setting as interventions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from circuit_nb.figures.subgraph import Group
from circuit_nb.graph import Feature, Supernode
from circuit_nb.panels.state import Added, Row, Switch

if TYPE_CHECKING:
    from circuit_nb.intervention.change import Intervention
    from circuit_nb.intervention.outcome import Outcome


@dataclass(frozen=True)
class Question:
    """What the model is asked: an answer is shown only as that to what is asked now."""

    changes: tuple[Intervention, ...]
    """What the switches do, without names."""
    watched: tuple[Feature, ...]
    """Whose activation is wanted."""
    new_tokens: int
    freeze: str
    temperature: float
    seed: int


def features_of(row: object) -> tuple[Feature, ...]:
    """The features of a row or a box; none of a token, an error or an output."""
    if isinstance(row, Added):
        return row.supernode.features
    if isinstance(row, Supernode):
        return row.features
    return (row,) if isinstance(row, Feature) else ()


def held_or_read(outcome: Outcome, end: int) -> dict[Feature, float]:
    """Activations after interventions: what a feature is held at, or what was read of it.

    Args:
        outcome: What the interventions did.
        end: How many tokens the prompt has.
    """
    from circuit_nb.intervention.change import Intervention

    before, after = outcome.before.activations, dict(outcome.after.activations)
    for change in (c for c in outcome.interventions if isinstance(c, Intervention)):
        for feature, value in zip(change.features, change.values, strict=True):
            positions = change.positions or (feature.position,)
            if change.from_position is not None:
                positions = range(change.from_position, end)
            for place in (Feature(feature.layer, p, feature.index) for p in positions):
                if place in after:
                    after[place] = value * before[place] if change.relative else value
    return after


def fractions(outcome: Outcome, groups: Iterable[Group], end: int) -> dict[Group, float]:
    """Mean of activation after over activation before, of the groups whose features were watched.

    Args:
        outcome: What the interventions did.
        groups: Boxes; those without features are left out.
        end: How many tokens the prompt has.
    """
    before, after = outcome.before.activations, held_or_read(outcome, end)
    found: dict[Group, float] = {}
    for group in groups:
        features = features_of(group)
        if features and all(f in after for f in features):
            shares = [after[f] / before[f] for f in features if before[f]]
            found[group] = float(np.mean(shares)) if shares else float("nan")
    return found


def interventions(row: Row, name: str, switch: Switch, end: int) -> Iterator[Intervention]:
    """What one row does to the model; nothing where it changes nothing.

    Args:
        row: What is switched.
        name: What the interventions are called.
        switch: Its setting.
        end: How many tokens the prompt has: generated ones begin there.
    """
    features = features_of(row)
    values = row.values if isinstance(row, Added) else None
    if switch.positions is None:
        for factor, positions in _by_factor(switch, sorted({f.position for f in features})):
            at = [i for i, f in enumerate(features) if f.position in positions]
            part = Supernode(name, [features[i] for i in at])
            picked = None if values is None else [values[i] for i in at]
            yield from _one(part, picked, switch, factor)
    else:
        every = Supernode(name, features)
        for factor, positions in _by_factor(switch, switch.positions):
            yield from _one(every, values, switch, factor, positions=positions)
    if switch.generated:
        every = Supernode(name, features)
        yield from _one(every, values, switch, switch.multiplier, from_position=end)


def _by_factor(switch: Switch, positions: Iterable[int]) -> list[tuple[float, tuple[int, ...]]]:
    """The positions that share a multiplier."""
    found: dict[float, list[int]] = {}
    for position in positions:
        found.setdefault(switch.at(position), []).append(position)
    return [(factor, tuple(at)) for factor, at in found.items()]


def _one(
    features: Supernode,
    values: Iterable[float] | None,
    switch: Switch,
    factor: float,
    *,
    positions: tuple[int, ...] | None = None,
    from_position: int | None = None,
) -> Iterator[Intervention]:
    from circuit_nb.intervention.change import Intervention

    if values is not None:
        if switch.on:
            put = [factor * v for v in values]
            yield Intervention.set(features, put, positions=positions, from_position=from_position)
    elif not switch.on:
        yield Intervention.ablate(features, positions=positions, from_position=from_position)
    elif factor != 1:
        yield Intervention.scale(features, factor, positions=positions, from_position=from_position)

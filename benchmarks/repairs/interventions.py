"""Point 4: interventions that did something else than they said."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from registry import DALLAS, atlas, case, dallas_graph


def _feature() -> Any:
    """The most active feature at the last token."""
    from circuit_nb import Feature

    graph = dallas_graph()
    rows = zip(graph.activations.tolist(), graph.features.tolist(), strict=True)
    return Feature(*max((a, row) for a, row in rows if row[1] == len(graph.tokens) - 1)[1])


def _intervened(*changes: Any) -> Any:
    from circuit_nb import intervene

    return intervene(atlas(), DALLAS, list(changes))


def placed(positions: Any) -> str:
    from circuit_nb import Intervention

    change = Intervention.set(_feature(), 9.0, positions=positions)
    moved = abs(_intervened(change).after.logits[-1] - _intervened().after.logits[-1]).max()
    return f"accepted as {change.positions}; logits move by up to {moved:.2f}"


for given in ([], [9.7], "9"):
    case(4, f"`positions={given!r}`")(partial(placed, given))


@case(4, "overlapping `from_position` ranges in generation")
def overlapping() -> str:
    from circuit_nb import Feature, Intervention
    from circuit_nb.intervention import intervene_many

    graph = dallas_graph()
    once, twice = [], []
    for row in graph.features.tolist():
        if row[1] == len(graph.tokens) - 1:
            first, last = (Intervention.set(Feature(*row), 2.0, from_position=p) for p in (11, 12))
            once.append([replace(first, from_position=11)])
            twice.append([first, last])
    one, two = (
        intervene_many(atlas(), DALLAS, changes, freeze="none", max_new_tokens=6)
        for changes in (once, twice)
    )
    differ = sum(a.after.generated != b.after.generated for a, b in zip(one, two, strict=True))
    return f"set to a value twice or once: {differ} of {len(one)} continuations differ"


def value(make: Any) -> str:
    from circuit_nb import Intervention

    return f"accepted as {Intervention.set(_feature(), make()).values}"


case(4, "`set(f, graph.activations[0])`")(partial(value, lambda: dallas_graph().activations[0]))
case(4, "`set(f, torch.tensor(2.0))`")(partial(value, lambda: torch.tensor(2.0)))


@case(4, "`scale(f, 1e39)`")
def beyond_float32() -> str:
    from circuit_nb import Intervention

    found = _intervened(Intervention.scale(_feature(), 1e39)).after
    return f"accepted; logits {found.logits[-1][:2].tolist()}, top {found.top[:1]}"


@case(4, "`set(f, 3e38)`: a pass that overflows")
def overflow() -> str:
    from circuit_nb import Intervention

    found = _intervened(Intervention.set(_feature(), 3e38)).after
    return f"an answer as if nothing were wrong: {found.top[:1]}"


@case(4, "generation at a second end token (end of turn)")
def end_of_turn() -> str:
    from circuit_nb import intervene, load

    model = load("atlas", device="cpu")
    generated = intervene(model, DALLAS, [], max_new_tokens=8).before.generated
    settings = model.bridge.original_model.generation_config
    settings.eos_token_id = [model.tokenizer.eos_token_id, generated[1]]
    after = intervene(model, DALLAS, [], max_new_tokens=8).before.generated
    return f"{len(generated)} tokens without it, {len(after)} with it as the second"


@case(4, "`intervene_many(model, prompt, [])`")
def none() -> str:
    from circuit_nb.intervention import intervene_many

    return str(intervene_many(atlas(), DALLAS, []))


@case(4, "active features that read as off, in bfloat16")
def bfloat16() -> str:
    from circuit_nb import Feature, attribute, intervene, load

    model = load("atlas", device="cpu", dtype=torch.bfloat16)
    off = total = 0
    for city in ("Dallas", "Oakland", "Houston", "Miami", "Chicago", "Boston", "Seattle"):
        try:
            graph = attribute(model, DALLAS.replace("Dallas", city), progress=False)
        except ValueError:  # a city that it does not know
            continue
        features = [Feature(*row) for row in graph.features.tolist()]
        found = intervene(model, graph.token_ids.tolist(), [], freeze="none", watch=features)
        total += len(features)
        off += sum(not found.before.activations[feature] for feature in features)
    return f"{off} of {total}"

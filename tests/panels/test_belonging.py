"""A graph is opened with the model it was computed from, or with none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from families import DALLAS, PROMPT, tiny

from circuit_nb import attribute, explore
from circuit_nb.panels import Session


@pytest.fixture(scope="module")
def graph(atlas: Any) -> Any:
    return attribute(atlas, DALLAS, max_features=40, progress=False)


def saying(graph: Any, **origin: object) -> Any:
    return replace(graph, provenance={**graph.provenance, **origin})


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"model": "google/gemma-2-2b"}, r"the model 'google/gemma-2-2b', and .* is 'atlas'; lo"),
        ({"model": "/data/models/gemma"}, r"the model '/data/models/gemma'"),
        ({"transcoders": "someone/other-set"}, r"the transcoders 'someone/other-set', and the tr"),
    ],
)
def test_another_model_or_set_is_refused(
    origin: dict[str, object], message: str, graph: Any, atlas: Any
) -> None:
    for open_ in (Session, lambda g, m: explore(m, g, propose=False)):
        with pytest.raises(ValueError, match=message):
            open_(saying(graph, **origin), atlas)
    assert Session(saying(graph, **origin)).model is None


@pytest.mark.parametrize(
    "origin",
    [
        {},
        {"model": "Atlas"},
        {"model": None, "transcoders": ""},
        {"model": 5},
        {"model": "/elsewhere/atlas"},
        {"scan": "gemma-2-2b"},
    ],
)
def test_the_same_under_another_name_and_what_is_not_known_are_not(
    origin: dict[str, object], graph: Any, atlas: Any
) -> None:
    assert Session(saying(graph, **origin), atlas).model is atlas


def test_layers_and_features_must_exist(graph: Any, atlas: Any, tokenizer: Any) -> None:
    unknown = replace(graph, provenance={})
    with pytest.raises(ValueError, match=r"graph has 4 layers and .* has 3; give the model"):
        Session(unknown, tiny("llama", tokenizer))
    model = tiny("llama", tokenizer)
    small = attribute(model, PROMPT, max_features=20, progress=False)
    features = np.array(small.features)
    features[-1, 2] = 99
    moved = replace(small, features=features, provenance={})
    with pytest.raises(ValueError, match=r"has feature 99 at layer 2, where .* have 40; give th"):
        Session(moved, model)

"""What interventions take as values and positions, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from families import PROMPT, tiny

from circuit_nb import Feature, Intervention, Supernode, attribute, intervene, intervene_many

FEATURE = Feature(0, 1, 1)
PAIR = Supernode("pair", [Feature(0, 1, 1), Feature(1, 2, 3)])


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny("llama", tokenizer)


@pytest.mark.parametrize(
    "value",
    [
        2,
        np.float32(2),
        np.int64(2),
        np.array(2.0),
        torch.tensor(2.0),
        torch.tensor(2.0, dtype=torch.bfloat16, requires_grad=True),
    ],
    ids=str,
)
def test_numpy_and_torch_scalars_are_numbers(value: Any) -> None:
    assert Intervention.set(PAIR, value).values == (2.0, 2.0)
    assert Intervention.set(PAIR, [value, 3]).values == (2.0, 3.0)
    assert Intervention.scale(FEATURE, value).values == (2.0,)
    assert Intervention.set(FEATURE, value) == Intervention.set(FEATURE, 2.0)


def test_arrays_and_tensors_give_one_value_a_feature(model: Any) -> None:
    graph = attribute(model, PROMPT, progress=False)
    one, two = graph.nodes[:2]
    made = Intervention.set(Supernode("two", [one, two]), graph.activations[:2])
    assert made.values == tuple(graph.activations[:2].tolist())
    assert Intervention.set(one, graph.activations[0]).values == made.values[:1]
    assert Intervention.set(PAIR, torch.tensor([1.0, 2.0])).values == (1, 2)
    assert Intervention.set(PAIR, (v for v in (1, 2))).values == (1, 2)


@pytest.mark.parametrize(
    "positions", [[4], (4,), np.array([4]), torch.tensor([4]), range(4, 5), iter([np.int64(4)])]
)
def test_positions_are_any_whole_numbers(positions: Any) -> None:
    assert Intervention.ablate(FEATURE, positions=positions).positions == (4,)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([], "positions is empty"),
        ((), "positions is empty"),
        (np.array([], dtype=int), "positions is empty"),
        ([9.7], "One of positions is 9.7"),
        ([3.0], "One of positions is 3.0"),
        (torch.tensor([3.0]), "One of positions is 3.0"),
        (["9"], "One of positions is '9'"),
        ([True], "One of positions is True"),
        ([-1], "One of positions is -1"),
        ([None], "One of positions is None"),
        ("9", "positions is '9'; give a list"),
        (9, "positions is 9; give a list"),
    ],
)
def test_what_is_no_list_of_positions_is_refused(positions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Intervention.ablate(FEATURE, positions=positions)
    with pytest.raises(ValueError, match=message):
        replace(Intervention.ablate(FEATURE), positions=positions)


@pytest.mark.parametrize("start", [2.5, "2", True, -1, [2], float("nan")])
def test_what_is_no_position_is_refused(start: Any) -> None:
    with pytest.raises(ValueError, match=r"from_position is .*; give a whole number, 0 or more"):
        Intervention.ablate(FEATURE, from_position=start)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1e39, "not a finite number that float32 can hold"),
        pytest.param(-(10**400), "not a finite number", id="-10^400"),
        (float("inf"), "not a finite number"),
        (np.float64("nan"), "not a finite number"),
        ("2", "which is not a number"),
        (["2"], "which is not a number"),
        (None, "which is not a number"),
        (True, "which is not a number"),
        (1j, "which is not a number"),
        ([[1.0]], "which is not a number"),
        ([], "0 values were given for the 1 features"),
        (np.ones(2), "2 values were given for the 1 features"),
    ],
)
def test_what_is_no_value_is_refused(value: Any, message: str) -> None:
    for make in (Intervention.set, Intervention.scale):
        with pytest.raises(ValueError, match=message) as told:
            make(FEATURE, value)
        assert len(str(told.value)) < 300


def test_what_is_no_feature_is_refused(model: Any) -> None:
    wrong: Any = (0, 1, 1)
    with pytest.raises(ValueError, match="neither a feature nor a supernode"):
        Intervention.ablate(wrong)
    with pytest.raises(ValueError, match="neither a feature nor a supernode"):
        intervene(model, PROMPT, [], watch=[wrong])
    halves: Any = 1.5
    with pytest.raises(ValueError, match="whole numbers"):
        intervene(model, PROMPT, [Intervention.ablate(Feature(0, halves, 1))])


@pytest.mark.parametrize("freeze", ["attention", "none"])
def test_a_pass_that_overflows_is_refused_in_words(freeze: Any, model: Any) -> None:
    rows = model.record(PROMPT).features.tolist()
    feature = next(Feature(*row) for row in rows if row[1] == 8)
    large = Intervention.set(Supernode("large", [feature]), 3e38)
    small = Intervention.scale(feature, 0.5)
    with pytest.raises(ValueError, match=r"pass under large = 3e\+38 produced NaN or infinity"):
        intervene_many(model, PROMPT, [[small], [large, small], [large]][::2], freeze=freeze)
    later = replace(large, from_position=9)
    with pytest.raises(ValueError, match=r"under large = 3e\+38 produced NaN or infinity"):
        intervene(model, PROMPT, [later], max_new_tokens=3)
    early = replace(large, positions=(2,))
    with pytest.raises(ValueError, match=r"under large = 3e\+38 produced NaN or infinity"):
        intervene(model, PROMPT, [early], freeze=freeze)
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())


def test_no_experiment_has_no_outcome(model: Any) -> None:
    assert intervene_many(model, PROMPT, []) == []
    assert intervene_many(model, PROMPT, [], max_new_tokens=3, watch=[FEATURE]) == []
    with pytest.raises(ValueError, match="freeze is 'some'"):
        intervene_many(model, PROMPT, [], freeze="some")  # type: ignore[arg-type]


def test_a_single_intervention_is_no_list_of_them(model: Any) -> None:
    one: Any = Intervention.ablate(FEATURE)
    with pytest.raises(ValueError, match=r"a list of interventions is needed"):
        intervene(model, PROMPT, one)
    with pytest.raises(ValueError, match=r"a list of interventions is needed"):
        intervene_many(model, PROMPT, [one])
    with pytest.raises(ValueError, match="is no intervention"):
        intervene(model, PROMPT, [FEATURE])  # type: ignore[list-item]


def test_values_from_another_prompt_take_no_graph(model: Any) -> None:
    other = "<bos> the big river in Texas is"
    graph = attribute(model, other, max_features=None, progress=False)
    group = Supernode("Texas", [n for n in graph.nodes if isinstance(n, Feature)][3:8])
    assert Intervention.from_prompt(group, model, other, 2.0) == Intervention.from_graph(
        group, graph, 2.0
    )
    moved = Intervention.from_prompt(group, model, other, positions=[7])
    assert moved == Intervention.from_graph(group, graph, positions=[7])
    small = attribute(model, other, max_features=1, progress=False)
    left_out = next(f for f in group.features if f not in small)
    assert Intervention.from_prompt(left_out, model, other).values[0] != 0
    off = next(f for i in range(40) if (f := Feature(1, 2, i)) not in graph)
    assert Intervention.from_prompt(off, model, other).values == (0.0,)
    with pytest.raises(ValueError, match="Position 8 does not exist"):
        Intervention.from_prompt(Feature(0, 8, 1), model, other)
    with pytest.raises(ValueError, match="factor"):
        Intervention.from_prompt(group, model, other, "two")  # type: ignore[arg-type]


def test_activations_are_those_of_the_graph(model: Any) -> None:
    graph = attribute(model, PROMPT, max_features=None, progress=False)
    features = [n for n in graph.nodes if isinstance(n, Feature)]
    order = np.random.default_rng(0).permutation(len(features))
    found = model.activations(PROMPT, [features[i] for i in order])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, graph.activations[order])
    assert model.activations(PROMPT, []).shape == (0,)
    off = [Feature(0, 0, 3), *(f for i in range(40) if (f := Feature(2, 4, i)) not in graph)]
    assert len(off) > 1 and not model.activations(PROMPT, off).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_feature_near_its_threshold_reads_as_in_the_graph(dtype: Any, tokenizer: Any) -> None:
    """Thresholds lie one step under or at the pre-activations that the recorded pass finds."""
    model = tiny("llama", tokenizer)
    model.bridge.original_model.to(dtype)
    model.place_transcoders(dtype)
    reads, position = model.record(PROMPT).reads, 5
    layers = []
    for layer, x in zip(model.transcoders.layers, reads, strict=True):
        pre = layer.pre_activations(x)[position]
        under = torch.nextafter(pre, torch.full_like(pre, -torch.inf))
        steps = torch.arange(len(pre)) % 2 == 0
        layers.append(replace(layer, threshold=torch.where(steps, under, pre)))
    model.transcoders = replace(model.transcoders, layers=tuple(layers))
    model._last = None  # the record of the thresholds before
    graph = attribute(model, PROMPT, max_features=None, progress=False)
    every = [Feature(layer, position, i) for layer in range(3) for i in range(40)]
    expected = [graph.activations[graph.number(f)] if f in graph else 0.0 for f in every]
    assert np.count_nonzero(expected) == 60
    for freeze in ("none", "attention"):
        out = intervene(model, PROMPT, [], watch=every, freeze=freeze)
        assert list(out.before.activations.values()) == expected
        assert list(out.after.activations.values()) == expected
        same = [Intervention.scale(f, 1.0) for f in every]
        np.testing.assert_array_equal(
            intervene(model, PROMPT, same, freeze=freeze).after.logits, out.after.logits
        )

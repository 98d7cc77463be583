"""Edges: against circuit-tracer, against autograd, and by the completeness identity."""

from __future__ import annotations

import math
import signal
import sys
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, PROMPT, VARIANTS, Case, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import autograd_edges, frozen_outputs, source_writes

from circuit_nb import Target, attribute, scores
from circuit_nb.analysis import compare, prune_masks


def _attribute(model: Any, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    return attribute(model, prompt, progress=False, **{"max_features": None, **kwargs})


def test_agrees_with_circuit_tracer(case: Case, case_model: Any) -> None:
    s, data = case.settings, case.data
    graph = _attribute(
        case_model,
        s["prompt"],
        max_logits=s["max_n_logits"],
        logit_mass=s["desired_logit_prob"],
    )
    n_targets, n_nodes = len(data["full.logit_token_ids"]), len(data["full.adjacency"])
    rows = np.r_[0 : len(graph.features), n_nodes - n_targets : n_nodes]
    expected = data["full.adjacency"][rows][:, : n_nodes - n_targets]
    np.testing.assert_array_equal(graph.token_ids, data["input_ids"])
    np.testing.assert_array_equal(graph.features, data["full.active_features"])
    np.testing.assert_array_equal(graph.target_ids, data["full.logit_token_ids"])
    np.testing.assert_allclose(graph.activations, data["full.activation_values"], atol=1e-5)
    assert np.abs(graph.weights - expected).max() < 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(scores(graph), data["full.scores"], atol=1e-5)
    nodes, edges = prune_masks(graph, 0.8, 0.98)
    np.testing.assert_array_equal(nodes, data["full.node_mask"])
    np.testing.assert_array_equal(edges, data["full.edge_mask"][rows][:, : n_nodes - n_targets])


def test_limited_features_agree_where_both_have_them(case: Case, case_model: Any) -> None:
    s, data = case.settings, case.data
    graph = _attribute(
        case_model, s["prompt"], max_logits=5, logit_mass=0.9, max_features=60, batch_size=16
    )
    theirs = data["top60.active_features"][data["top60.selected_features"]]
    ours = {tuple(row): i for i, row in enumerate(graph.features.tolist())}
    shared = [(ours[tuple(row)], i) for i, row in enumerate(theirs.tolist()) if tuple(row) in ours]
    assert len(graph.features) == 60
    assert len(shared) > 45
    a, b = map(list, zip(*shared, strict=True))
    expected = data["top60.adjacency"][np.ix_(b, b)]
    largest = np.abs(data["top60.adjacency"]).max()
    assert np.abs(graph.weights[np.ix_(a, a)] - expected).max() < 1e-5 * largest


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_edges_equal_autograd_and_are_complete(family: str, variant: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer, **VARIANTS[variant])
    record = model.record(PROMPT)
    graph = _attribute(model, max_logits=3)
    expected = autograd_edges(model, record, graph.target_ids.tolist()).numpy()
    largest = np.abs(expected).max()
    assert len(graph.features) > 20
    assert np.abs(graph.weights - expected).max() < 1e-5 * largest

    # What the frozen model gives for the constants alone, plus all edges, is the real thing.
    written, constants = source_writes(model, record)
    zero = torch.zeros_like(record.embeddings)
    pre, logits = frozen_outputs(model, record, zero, constants)
    layer, position, index = record.features.T
    target_ids = torch.from_numpy(graph.target_ids)
    bias = torch.cat([pre[layer, position, index], logits[-1, target_ids]])
    both = {i: written[i] + constants[i] for i in written}
    pre, logits = frozen_outputs(model, record, record.embeddings, both)
    total = torch.cat([pre[layer, position, index], logits[-1, target_ids]])
    gap = (bias + torch.from_numpy(graph.weights.sum(1)) - total).abs().max()
    assert gap < 2e-5 * total.abs().max()
    # The frozen model is the real one here: features on are at their pre-activation.
    torch.testing.assert_close(total[: len(layer)], record.activations, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("raised_bytes", [0, 2**24])
@pytest.mark.parametrize("variant", ["plt-skip", "clt-skip", "as-added"])
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_of_a_longer_prefix_are_carried_up(
    family: str, variant: str, raised_bytes: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(family, tokenizer, **VARIANTS[variant])
    monkeypatch.setattr(model, "ignored_positions", lambda token_ids: 3)
    monkeypatch.setattr("circuit_nb.frozen.tuning.RAISED_BYTES", raised_bytes)
    record = model.record(PROMPT)
    graph = _attribute(model, max_logits=3)
    expected = autograd_edges(model, record, graph.target_ids.tolist()).numpy()
    assert record.prefix == 3
    assert graph.features[:, 1].min() == 3
    assert np.abs(expected[:, -len(graph.tokens) :][:, :3]).max(0).min() > 0
    assert np.abs(graph.weights - expected).max() < 1e-5 * np.abs(expected).max()


def test_one_token_alone_has_only_itself_as_a_cause(clt_model: Any) -> None:
    record = clt_model.record([1])
    graph = _attribute(clt_model, [1], max_logits=3)
    expected = autograd_edges(clt_model, record, graph.target_ids.tolist()).numpy()
    assert (record.ignored, record.prefix, len(graph.features)) == (1, 0, 0)
    assert np.abs(graph.weights[:, -1]).min() > 0
    np.testing.assert_allclose(graph.weights, expected, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="session")
def clt_model(tokenizer: Any) -> Any:
    return tiny("gemma2", tokenizer, cross_layer=True)


@pytest.fixture(scope="session")
def clt_graph(clt_model: Any) -> Any:
    return _attribute(clt_model)


@settings(max_examples=25, deadline=None)
@given(
    batch_size=st.sampled_from([None, 1, 7, 90]),
    max_features=st.sampled_from([None, 17, 60]),
    threads=st.sampled_from([1, 2]),
    group_cost=st.sampled_from([0, 1, 100]),
    key_block=st.sampled_from([1, 4, 128]),
    kept_bytes=st.sampled_from([0, 2**27]),
    span_bytes=st.sampled_from([1, 5000, 2**24]),
    raised_bytes=st.sampled_from([0, 2**24]),
)
def test_no_setting_changes_an_edge(
    clt_model: Any,
    clt_graph: Any,
    batch_size: int | None,
    max_features: int | None,
    threads: int,
    group_cost: int,
    key_block: int,
    kept_bytes: int,
    span_bytes: int,
    raised_bytes: int,
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("circuit_nb.frozen.tuning.GROUP_COST", {"cpu": group_cost})
        patch.setattr("circuit_nb.frozen.tuning.KEY_BLOCK", key_block)
        patch.setattr("circuit_nb.frozen.tuning.KEPT_BYTES", kept_bytes)
        patch.setattr("circuit_nb.frozen.tuning.SPAN_BYTES", span_bytes)
        patch.setattr("circuit_nb.frozen.tuning.RAISED_BYTES", raised_bytes)
        graph = _attribute(clt_model, batch_size=batch_size, max_features=max_features)
    torch.set_num_threads(before)
    assert compare(clt_graph, graph).largest_edge_difference < 1e-5


def test_targets_by_token_id_direction_and_difference(case_model: Any) -> None:
    graph = _attribute(case_model, targets=["Austin", 11])
    difference = Target.difference("Austin", 11)
    direction = case_model.unembedding[:, 10].float() - case_model.unembedding[:, 11].float()
    given = Target("given", direction, weight=0.5)
    other = _attribute(case_model, targets=[difference, given])
    assert graph.targets == ("Austin", "Texas")
    assert graph.target_ids.tolist() == [10, 11]
    assert other.target_ids.tolist() == [-1, -1]
    assert other.target_probabilities.tolist() == [1.0, 0.5]
    expected = graph.weights[-2] - graph.weights[-1]
    for row in other.weights[-2:]:
        np.testing.assert_allclose(row, expected, atol=1e-5 * np.abs(expected).max())


def test_most_likely_tokens_until_the_mass(case_model: Any) -> None:
    probabilities = case_model.record(PROMPT).logits[-1].softmax(-1)
    graph = _attribute(case_model, max_features=5, logit_mass=0.5)
    held = np.cumsum(graph.target_probabilities)
    assert held[-1] >= 0.5
    assert len(held) == 1 or held[-2] < 0.5
    assert math.isclose(graph.target_probabilities[0], probabilities.max(), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_logits": 0}, "max_logits is 0"),
        ({"logit_mass": 1.5}, "logit_mass is 1.5"),
        ({"max_features": -1}, "max_features is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"targets": []}, "give a list of tokens"),
        ({"targets": "Austin"}, "give a list of tokens"),
        ({"targets": ["Houston"]}, "no token for 'Houston'"),
        ({"targets": ["Austin Texas"]}, "is 2 tokens"),
        ({"targets": [35]}, "Token id 35 is not in the vocabulary"),
        ({"targets": [5.7]}, r"token's id is 5\.7; give a whole number"),
        ({"targets": [True]}, "token's id is True; give a whole number"),
        ({"targets": 5.7}, "give a list of tokens"),
        ({"targets": [Target("x", torch.zeros(3))]}, "must have shape"),
    ],
)
def test_bad_settings_are_said(setting: dict[str, Any], message: str, clt_model: Any) -> None:
    with pytest.raises(ValueError, match=message):
        _attribute(clt_model, **setting)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), True, "1", [1.0]])
def test_a_targets_weight_is_a_share(weight: Any) -> None:
    with pytest.raises(ValueError, match="'up'"):
        Target("up", torch.ones(32), weight)


def test_interrupt_says_how_far_and_leaves_no_hook(
    clt_model: Any, clt_graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from circuit_nb.attribution.rows import Rounds

    real, calls = Rounds._compute, []

    def interrupted(self: Any, *args: Any) -> int:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(self, *args)

    # A shell that starts the tests in the background has the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt, match=r"\d+ of 60 feature rows"),
    ):
        patch.setattr(Rounds, "_compute", interrupted)
        _attribute(clt_model, max_features=60, batch_size=20)
    signal.signal(signal.SIGINT, before)
    assert compare(clt_graph, _attribute(clt_model)).largest_edge_difference == 0
    assert not any(point.fwd_hooks for point in clt_model.bridge.hook_dict.values())


def test_what_does_not_fit_is_refused_with_what_would(
    clt_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuit_nb.attribution.budget.available_memory", lambda: 200_000)
    with pytest.raises(ValueError, match=r"need .* GiB.*max_features=\d+ would fit") as error:
        _attribute(clt_model)
    fits = int(str(error.value).rpartition("=")[2].split()[0])
    with pytest.raises(ValueError, match="would fit"):
        _attribute(clt_model, max_features=fits + 1)
    assert len(_attribute(clt_model, max_features=fits).features) == fits


def test_with_little_memory_only_some_columns_are_kept_and_it_is_said(
    clt_model: Any, clt_graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuit_nb.attribution.budget.available_memory", lambda: 80_000)
    graph = _attribute(clt_model, max_features=60)
    monkeypatch.undo()
    plenty = _attribute(clt_model, max_features=60)
    assert 60 < graph.provenance["columns_kept"] < 450
    assert "columns_kept" not in plenty.provenance
    assert compare(clt_graph, graph).largest_edge_difference < 1e-5
    assert len(compare(plenty, graph).shared) > 50


def test_out_of_memory_halves_the_batch(
    clt_model: Any, clt_graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from circuit_nb.frozen.written import Sources

    real, sizes = Sources.contract, []

    def narrow(self: Any, arrival: Any, edges: list[torch.Tensor]) -> None:
        sizes.append(sum(map(len, edges)))
        real(self, arrival, edges)
        if sizes[-1] > 30:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(Sources, "contract", narrow)
    graph = _attribute(clt_model, batch_size=100)
    assert 30 < max(sizes) <= 100
    assert sizes[-1] <= 30
    assert compare(clt_graph, graph).largest_edge_difference < 1e-5


def test_memory_that_ends_while_rows_are_kept_does_not_keep_one_twice(
    clt_model: Any, clt_graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = torch.Tensor.cpu, []

    def short(self: torch.Tensor) -> torch.Tensor:
        if sys._getframe(1).f_code.co_name == "add":
            calls.append(1)
            # The second group of the third batch of rows.
            if len(calls) == 12:
                raise torch.OutOfMemoryError
        return real(self)

    monkeypatch.setattr(torch.Tensor, "cpu", short)
    graph = _attribute(clt_model, batch_size=100)
    assert len(calls) > 12
    assert compare(clt_graph, graph).largest_edge_difference < 1e-5


def test_two_descents_of_one_frozen_model_do_not_disturb_each_other(clt_model: Any) -> None:
    from circuit_nb.frozen.descent import Descent, FrozenModel
    from circuit_nb.frozen.starts import Starts

    record = clt_model.record(PROMPT)
    frozen = FrozenModel(clt_model, [record])
    last, top = record.positions - 1, len(clt_model.blocks)
    directions = clt_model.unembedding[:, :3].T.float()
    starts = [
        Starts(torch.full((1,), top), torch.full((1,), last), directions[i : i + 1], (1,))
        for i in range(3)
    ]

    def alone(start: Starts) -> list[torch.Tensor]:
        at_tokens = [torch.zeros(1, last + 1)]
        arrived = [a.gradients[0].clone() for a in Descent(frozen).run(start, at_tokens)]
        return [*arrived, at_tokens[0]]

    at_tokens = [[torch.zeros(1, last + 1)] for _ in starts]
    running = zip(
        *(Descent(frozen).run(s, at) for s, at in zip(starts, at_tokens, strict=True)), strict=True
    )
    together = [[a.gradients[0].clone() for a in arrivals] for arrivals in running]
    for i, start in enumerate(starts):
        found = [arrivals[i] for arrivals in together] + at_tokens[i]
        assert all(torch.equal(a, b) for a, b in zip(alone(start), found, strict=True))


TOGETHER = (
    PROMPT,
    "<bos> the capital of Dallas is",
    "<bos> Dallas",
    "<bos> the capital of the state containing Dallas",
    PROMPT,
)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["gemma2", "llama", "gpt2", "neox"])
def test_prompts_together_are_as_each_by_itself(family: str, variant: str, tokenizer: Any) -> None:
    from circuit_nb.attribution.compute import attribute_together

    model = tiny(family, tokenizer, **VARIANTS[variant])
    targets = [None, [3, 4], None, None, None]
    asked = list(zip(TOGETHER, targets, strict=True))
    together = attribute_together(model, asked, 3, 0.95, None, 20, progress=False)
    lengths = {len(graph.tokens) for graph in together}
    assert len(lengths) == 4
    for graph, (prompt, own) in zip(together, asked, strict=True):
        alone = _attribute(model, prompt, targets=own, max_logits=3)
        np.testing.assert_array_equal(graph.features, alone.features)
        np.testing.assert_array_equal(graph.target_ids, alone.target_ids)
        np.testing.assert_allclose(graph.activations, alone.activations, atol=1e-5)
        np.testing.assert_allclose(
            graph.target_probabilities, alone.target_probabilities, atol=1e-6
        )
        assert graph.provenance == alone.provenance
        assert np.abs(graph.weights - alone.weights).max() < 1e-5 * np.abs(alone.weights).max()


def test_prompts_together_keep_to_their_budget_and_choose_for_themselves(
    clt_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from circuit_nb.attribution import compute

    asked = [(prompt, None) for prompt in TOGETHER]
    real, sizes = compute._compute, []

    def counted(model: Any, part: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(part))
        return real(model, part, *args, **kwargs)

    monkeypatch.setattr(compute, "_compute", counted)
    monkeypatch.setattr("circuit_nb.frozen.tuning.TOGETHER_BYTES", 120_000)
    found = compute.attribute_together(clt_model, asked, 10, 0.95, 30, None, progress=False)
    assert 1 < len(sizes) < len(asked)
    assert sum(sizes) == len(asked)
    for graph, prompt in zip(found, TOGETHER, strict=True):
        alone = _attribute(clt_model, prompt, max_features=30)
        np.testing.assert_array_equal(graph.features, alone.features)
        assert compare(alone, graph).largest_edge_difference < 1e-5

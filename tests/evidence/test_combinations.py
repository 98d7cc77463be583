"""All ways of switching parts on and off: known games, and one by one."""

from __future__ import annotations

import signal
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from families import DALLAS

from circuit_nb import Intervention, atlas, attribute, evidence, intervene
from circuit_nb.evidence.combining import Combinations
from circuit_nb.graph import Feature, Supernode


def _game(k: int, worth: Any) -> Combinations:
    on = (np.arange(2**k)[:, None] >> np.arange(k)) & 1 == 1
    names = tuple("abcdefghij"[:k])
    metric = np.array([float(worth(*row)) for row in on.tolist()])
    return Combinations(names, " x", on, metric, ("",) * 2**k)


def test_shapley_values_and_pairs_of_known_games() -> None:
    added = _game(3, lambda a, b, c: 3 * a + 2 * b - c)
    assert added.shapley.tolist() == pytest.approx([3, 2, -1])
    assert np.abs(added.pairs).max() == pytest.approx(0)
    both = _game(2, lambda a, b: 4 * (a and b))
    assert both.shapley.tolist() == pytest.approx([2, 2])
    assert both.pairs.tolist() == [[0, -4], [-4, 0]]
    assert "need each other most" in str(both)
    either = _game(2, lambda a, b: 4 * (a or b))
    assert either.pairs.tolist() == [[0, 4], [4, 0]]
    assert "stand in for each other most" in str(either)
    # The glove game: one left glove, two right ones.
    gloves = _game(3, lambda left, r1, r2: left and (r1 or r2))
    assert gloves.shapley.tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_shapley_values_are_means_over_orders() -> None:
    random = np.random.default_rng(0).standard_normal(32)
    game = _game(5, lambda *on: random[sum(bit << i for i, bit in enumerate(on))])
    expected = np.zeros(5)
    orders = list(permutations(range(5)))
    for order in orders:
        now = 0
        for part in order:
            expected[part] += random[now | 1 << part] - random[now]
            now |= 1 << part
    np.testing.assert_allclose(game.shapley, expected / len(orders))
    assert game.shapley.sum() == pytest.approx(game.metric[-1] - game.metric[0])


@pytest.fixture(scope="module")
def graph(atlas: Any) -> Any:
    return attribute(atlas, DALLAS, progress=False)


@pytest.fixture(scope="module")
def parts(graph: Any) -> list[Supernode]:
    found = atlas.supernodes(graph.features)
    return [Supernode(n, found[n]) for n in ("capital", "Texas", "say a capital", "say Austin")]


def test_every_combination_is_what_one_run_gives(atlas: Any, graph: Any, parts: Any) -> None:
    found = evidence.combinations(atlas, graph, parts, batch_size=5, progress=False)
    target = int(graph.target_ids[0])
    assert found.on[0].tolist() == [False] * 4 and found.on[-1].tolist() == [True] * 4
    for on, metric, answer in zip(found.on, found.metric, found.answers, strict=True):
        off = [Intervention.ablate(p) for p, is_on in zip(parts, on, strict=True) if not is_on]
        after = intervene(atlas, DALLAS, off).after
        logits = after.logits[-1].astype(np.float64)
        assert metric == pytest.approx(logits[target] - logits.mean(), rel=1e-6)
        assert answer == after.top[0][0]
    assert found.answers[-1] == " Austin"
    assert dict(zip(found.parts, found.shapley, strict=True))["Texas"] > 1
    assert found.pairs[1, 3] < -1  # Texas acts through say Austin: neither is of use alone


def test_parts_that_cannot_be_combined_are_said(atlas: Any, graph: Any, parts: Any) -> None:
    many = [Feature(*row) for row in graph.features.tolist()[:11]]
    with pytest.raises(ValueError, match=r"11 parts have 2\^11 combinations; give 1 to 10"):
        evidence.combinations(atlas, graph, many)
    with pytest.raises(ValueError, match="0 parts"):
        evidence.combinations(atlas, graph, [])
    with pytest.raises(ValueError, match="give each feature to one part"):
        evidence.combinations(atlas, graph, [parts[0], parts[0].features[0]])


def test_interrupted_runs_say_how_far_and_leave_no_hook(
    atlas: Any, graph: Any, parts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from circuit_nb.evidence import experiments

    real, calls = experiments.intervene_many, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(*args, **kwargs)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(experiments, "intervene_many", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt, match="Combinations interrupted after 8 of 16 runs"):
            evidence.combinations(atlas, graph, parts, batch_size=4, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not any(point.fwd_hooks for point in atlas.bridge.hook_dict.values())


def test_out_of_memory_halves_the_batch(
    atlas: Any, graph: Any, parts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from circuit_nb.evidence import experiments

    whole = evidence.combinations(atlas, graph, parts, progress=False)
    real, sizes = experiments.intervene_many, []

    def narrow(model: Any, prompt: Any, rows: Any, **kwargs: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 5:
            raise torch.OutOfMemoryError
        return real(model, prompt, rows, **kwargs)

    monkeypatch.setattr(experiments, "intervene_many", narrow)
    parts_at_once = evidence.combinations(atlas, graph, parts, progress=False)
    assert sizes == [16, 8, 4, 4, 4, 4]
    np.testing.assert_allclose(parts_at_once.metric, whole.metric, atol=1e-5)

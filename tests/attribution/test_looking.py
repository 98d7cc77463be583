"""Why a head looked: shares and pairs add up to the score of the run, on every family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from families import DALLAS, FAMILIES, PROMPT, VARIANTS, tiny
from test_heads import atlas_parts

from circuit_nb import attribute, prune
from circuit_nb.attribution import heads, looking


def _graph(model: Any, prompt: Any = PROMPT) -> Any:
    return attribute(model, prompt, max_features=None, max_logits=3, progress=False)


def _scores(model: Any, graph: Any, layer: int) -> np.ndarray:
    """The run's own scores, (heads, queries, keys), after the soft cap."""
    seen: list[torch.Tensor] = []

    def keep(x: torch.Tensor, hook: Any) -> None:
        seen.append(x[0])

    hook = f"blocks.{layer}.attn.hook_attn_scores"
    model.run(torch.from_numpy(graph.token_ids)[None], [(hook, keep)])
    return seen[0].numpy()


def _check(found: Any, recorded: float) -> None:
    size = max(1.0, abs(recorded))
    shares = found.query_shares, found.key_shares
    assert abs(found.recorded - recorded) < 1e-5 * size
    assert abs(found.score - recorded) < 1e-5 * size
    assert abs(shares[0].sum() + found.query_bias + found.query_left_out - recorded) < 1e-5 * size
    assert abs(shares[1].sum() + found.key_bias + found.key_left_out - recorded) < 1e-5 * size
    assert abs(found.pairs.sum() - recorded) < 1e-5 * size
    # Rows of the table are carried up, shares down.
    for nodes, share, table in zip(
        (found.asked, found.answered), shares, (found.pairs, found.pairs.T), strict=True
    ):
        expected = share[[found.graph.number(n) for n in nodes]]
        np.testing.assert_allclose(table[: len(nodes)].sum(1), expected, atol=1e-5 * size)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_shares_and_pairs_are_the_score(family: str, variant: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer, **VARIANTS[variant])
    graph = _graph(model)
    for layer, head, query, key in ((2, 3, 8, 7), (1, 1, 4, 4), (0, 2, 8, 3)):
        score = _scores(model, graph, layer)[head, query, : query + 1]
        cap = looking(model, graph, layer, head, query, key).soft_cap
        assert cap == (50.0 if family == "gemma2" else None)
        score = cap * np.arctanh(score / cap) if cap else score
        _check(looking(model, graph, layer, head, query, key), score[key])
        _check(looking(model, graph, layer, head, query, key, 0), score[key] - score[0])
        mean = score[key] - score.mean()
        _check(looking(model, graph, layer, head, query, key, "mean"), mean)
    found = looking(model, graph, 2, 3, 8, 7)
    assert found.query_left_out == found.key_left_out == 0
    assert np.abs(found.query_shares).max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_graph_leaves_out_is_counted(family: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer, cross_layer=True)
    graph = _graph(model)
    small = prune(graph, 0.5)
    score = looking(model, graph, 2, 1, 8, 5)
    found = looking(model, small, 2, 1, 8, 5)
    _check(found, score.recorded)
    assert abs(found.query_left_out) + abs(found.key_left_out) > 1e-3
    same = [graph.number(node) for node in small.nodes[: small.blocks.tokens.stop]]
    np.testing.assert_allclose(found.key_shares, score.key_shares[same], atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "neox", "qwen2"])
def test_biases_are_sources_of_their_own(family: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer)
    graph = _graph(model)
    found = looking(model, graph, 1, 0, 8, 6)
    assert abs(found.query_bias) > 1e-3
    assert abs(found.key_bias) > 1e-3
    bias_alone = looking(model, graph, 0, 0, 8, 6)
    # Where nothing lies below but embeddings, shares are of tokens alone: of the two positions.
    for shares, position in ((bias_alone.query_shares, 8), (bias_alone.key_shares, 6)):
        assert np.flatnonzero(shares[graph.blocks.tokens]).tolist() == [position]
        assert not shares[: graph.blocks.errors.stop].any()


def test_the_soft_cap_is_undone(tokenizer: Any) -> None:
    model = tiny("gemma2", tokenizer)
    for block in model.bridge.blocks:
        block.attn.original_component.attn_logit_softcapping = 2.0
    graph = _graph(model)
    capped = _scores(model, graph, 1)[2, 8]
    found = looking(model, graph, 1, 2, 8, int(np.abs(capped[:9]).argmax()))
    assert np.abs(capped[:9]).max() > 1
    assert abs(found.score) > np.abs(capped[:9]).max()
    assert found.soft_cap == 2.0
    _check(found, 2 * np.arctanh(capped[found.key].astype(np.float64) / 2))


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
def test_a_key_outside_the_window_has_no_score(family: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer)
    for block in model.bridge.blocks:
        config = block.attn.original_component.config
    config.sliding_window = 3
    graph = _graph(model)
    patterns = model.record(PROMPT).patterns
    local = next(k for k, pattern in enumerate(patterns) if not pattern[:, 8, 0].any())
    assert patterns[local][0, 8, 6] > 0
    with pytest.raises(ValueError, match=r"position 8 cannot see the key at 3.*window"):
        looking(model, graph, local, 0, 8, 3)
    found = looking(model, graph, local, 0, 8, 6, "mean")
    in_sight = patterns[local][0, 8].numpy() > 0
    score = np.where(in_sight, _scores(model, graph, local)[0, 8], 0)
    score = 50 * np.arctanh(score / 50) if family == "gemma2" else score
    _check(found, score[6] - score[in_sight].mean())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((0, 0, 3, 4), "cannot see the key at 4"),
        ((0, 0, 9, 4), "Position 9 does not exist"),
        ((0, 0, 5, -1), "Position -1 does not exist"),
        ((3, 0, 5, 1), "Layer 3 does not exist"),
        ((0, 4, 5, 1), "Head 4 does not exist"),
        ((0, 0, 5, 1, 7), "cannot see the key at 7"),
        ((0, 0, 5, 1, "all"), "contrast is 'all'"),
    ],
)
def test_what_cannot_be_looked_at_is_said(place: Any, message: str, tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    with pytest.raises(ValueError, match=message):
        looking(model, _graph(model), *place)


def test_capital_asked_and_texas_answered(atlas: Any) -> None:
    """Why the head that carries Dallas → say Austin looks at Dallas, in the embedded model."""
    graph = _graph(atlas, DALLAS)
    parts = atlas_parts(graph)
    best = heads(atlas, graph, [parts["Texas"]], [parts["say Austin"]]).top(1)[0]
    found = looking(atlas, graph, best.layer, best.head, 10, 9, "mean")
    places = {node: i for i, node in enumerate(graph.nodes)}
    asked = found.query_shares[[places[f] for f in parts["capital"].features]].sum()
    answered = found.key_shares[[places[f] for f in parts["Texas"].features]].sum()
    assert asked > 0.3 * found.score
    assert answered > 0.1 * found.score
    assert found.score > 3
    assert "' is' to ' Dallas'" in str(found) and "above its mean" in str(found)

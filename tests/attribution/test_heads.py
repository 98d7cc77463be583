"""Heads that carried edges: a partition at every block, and what the edge loses without a head."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from families import DALLAS, FAMILIES, PROMPT, VARIANTS, tiny
from oracle import autograd_edges

from circuit_nb import Target, atlas, attribute
from circuit_nb.attribution import between, heads
from circuit_nb.graph import ErrorNode, Feature, Supernode, TargetNode, TokenNode


def _every(model: Any, graph: Any) -> Any:
    sources = graph.nodes[: graph.blocks.tokens.stop]
    return heads(model, graph, sources, [graph.nodes[i] for i in graph.rows])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_heads_of_each_block_and_what_goes_past_are_the_edge(
    family: str, variant: str, tokenizer: Any
) -> None:
    model = tiny(family, tokenizer, **VARIANTS[variant])
    graph = attribute(model, PROMPT, max_features=None, max_logits=3, progress=False)
    found = _every(model, graph)
    largest = np.abs(graph.weights).max()
    assert np.abs(found.edges - graph.weights).max() < 1e-5 * largest
    assert np.abs(found.flows).max((0, 1)).min() > 0.01 * largest
    best = found.top(1)[0]
    moved = between(model, graph, best.source, best.target, best.layer, best.head)
    assert abs(moved.sum() - best.flow) < 1e-5 * largest
    assert np.all(np.triu(moved, 1) == 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flow_is_what_the_edge_loses_without_the_head(family: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer, cross_layer=True, skip=True)
    graph = attribute(model, PROMPT, max_features=None, max_logits=3, progress=False)
    found = _every(model, graph)
    for layer, head in ((0, 1), (1, 3), (2, 0)):
        left = _edges_without(model, graph, layer, slice(head, head + 1))
        lost, largest = graph.weights - left, np.abs(left).max()
        assert np.abs(lost).max() > 0.01 * largest
        assert np.abs(found.flows[:, :, layer, head] - lost).max() < 2e-5 * largest
        past = _edges_without(model, graph, layer, slice(None))
        assert np.abs(found.past[:, :, layer] - past).max() < 2e-5 * largest


def _edges_without(model: Any, graph: Any, layer: int, heads: slice) -> np.ndarray:
    """The graph's edges by backpropagation, where some heads of a block move nothing."""
    record = model.record(PROMPT)
    patterns = [p.clone() for p in record.patterns]
    patterns[layer][heads] = 0
    without = replace(record, patterns=tuple(patterns))
    return autograd_edges(model, without, graph.target_ids.tolist()).numpy()


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny("gemma2", tokenizer, cross_layer=True)


@pytest.fixture(scope="module")
def graph(model: Any) -> Any:
    return attribute(model, PROMPT, max_features=None, max_logits=3, progress=False)


@pytest.mark.parametrize("constant", ["KEPT_BYTES", "CARRIED_BYTES"])
def test_batches_change_nothing(
    constant: str, model: Any, graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _every(model, graph)
    # The function `heads` stands before its module on the way there.
    monkeypatch.setattr(import_module("circuit_nb.attribution.heads"), constant, 50_000)
    parts = _every(model, graph)
    for name in ("edges", "flows", "past"):
        largest = np.abs(whole.edges).max()
        assert np.abs(getattr(whole, name) - getattr(parts, name)).max() < 1e-5 * largest


def test_more_sources_than_targets_or_fewer(model: Any, graph: Any) -> None:
    """The fewer are kept while the others are carried: either way the flows are the same."""
    sources = graph.nodes[: graph.blocks.tokens.stop]
    targets = [graph.nodes[i] for i in graph.rows]
    whole = heads(model, graph, sources, targets)
    one = heads(model, graph, sources, targets[-1:])
    other = heads(model, graph, sources[:1], targets)
    largest = np.abs(whole.edges).max()
    assert len(sources) > len(targets) > 1
    for name in ("edges", "flows", "past"):
        assert np.abs(getattr(whole, name)[-1:] - getattr(one, name)).max() < 1e-5 * largest
        assert np.abs(getattr(whole, name)[:, :1] - getattr(other, name)).max() < 1e-5 * largest


def test_a_supernode_is_the_sum_of_its_features(model: Any, graph: Any) -> None:
    features = [Feature(*row) for row in graph.features.tolist()]
    low = [f for f in features if f.layer == 0][:3] + [f for f in features if f.layer == 1][:1]
    high = [f for f in features if f.layer == 2][-2:] + [f for f in features if f.layer == 1][-1:]
    apart = heads(model, graph, low, high)
    whole = heads(model, graph, [Supernode("low", low)], [Supernode("high", high)])
    for name in ("edges", "flows", "past"):
        summed = getattr(apart, name).sum((0, 1))
        np.testing.assert_allclose(getattr(whole, name)[0, 0], summed, atol=1e-5)


def test_a_target_by_direction(model: Any) -> None:
    difference = Target.difference("Austin", 11)
    graph = attribute(model, PROMPT, [difference], max_features=None, progress=False)
    source = TokenNode(7)
    found = heads(model, graph, [source], [difference])
    assert found.edges[0, 0] == pytest.approx(graph.weight(source, TargetNode(0)), rel=1e-4)
    with pytest.raises(ValueError, match=r"keeps no direction .* give the Target"):
        heads(model, graph, [source], [TargetNode(0)])


def test_no_edge_no_head(model: Any, graph: Any) -> None:
    late, early = TokenNode(8), Feature(*graph.features[0].tolist())
    found = heads(model, graph, [late], [early])
    assert early.position < 8
    assert not found.edges.any() and not found.flows.any() and not found.past.any()
    assert found.top() == []
    assert "No head carries" in str(found)


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ([TargetNode(0)], [TargetNode(0)], "causes nothing"),
        ([TokenNode(1)], [TokenNode(2)], "has no causes"),
        ([TokenNode(1)], [ErrorNode(1, 2)], "has no causes"),
        ([Feature(0, 0, 0)], [TargetNode(0)], "is not active on this prompt"),
        ([], [TargetNode(0)], "No sources were given"),
        ([TokenNode(1)], [], "No targets were given"),
        ([TokenNode(99)], [TargetNode(0)], "does not exist"),
        ([ErrorNode(9, 1)], [TargetNode(0)], "does not exist"),
        ([TokenNode(1)], [TargetNode(9)], "not in this graph"),
    ],
)
def test_what_is_no_edge_is_said(
    sources: Any, targets: Any, message: str, model: Any, graph: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        heads(model, graph, sources, targets)


def test_a_head_that_does_not_exist_is_refused(model: Any, graph: Any) -> None:
    with pytest.raises(ValueError, match="Head 4 does not exist; they are 0 to 3"):
        between(model, graph, TokenNode(1), TargetNode(0), 0, 4)


def test_a_graph_of_another_model_is_refused(model: Any, atlas_graph: Any) -> None:
    with pytest.raises(ValueError, match="of a model with 4 layers"):
        heads(model, atlas_graph, [TokenNode(1)], [TargetNode(0)])


@pytest.fixture(scope="module")
def atlas_graph(atlas: Any) -> Any:
    return attribute(atlas, DALLAS, progress=False)


def test_the_heads_found_are_those_that_matter(atlas: Any, atlas_graph: Any) -> None:
    """The embedded model's head story: found by `heads`, confirmed by knocking them out."""
    named = atlas_parts(atlas_graph)
    found = heads(atlas, atlas_graph, [named["Texas"]], [named["say Austin"]])
    best = [(flow.layer, flow.head) for flow in found.top(4)]
    assert sum(flow.share for flow in found.top(4)) > 0.85
    moved = between(atlas, atlas_graph, named["Texas"], named["say Austin"], *best[0])
    query, key = np.unravel_index(moved.argmax(), moved.shape)
    assert (atlas_graph.tokens[query], atlas_graph.tokens[key]) == (" is", " Dallas")
    every = [(k, h) for k in range(4) for h in range(16)]
    others = [head for head in every if head not in best]
    before = _probability(atlas, atlas_graph, [], query, key)
    without = _probability(atlas, atlas_graph, best, query, key)
    without_others = _probability(atlas, atlas_graph, others, query, key)
    assert before > 0.9
    assert without < 0.1  # four entries of four patterns
    assert without_others > 0.9  # the same entry of the sixty others


def test_another_edge_has_another_head(atlas: Any, atlas_graph: Any) -> None:
    named = atlas_parts(atlas_graph)
    found = heads(atlas, atlas_graph, [named["capital"]], [named["say a capital"]])
    best = found.top(1)[0]
    moved = between(atlas, atlas_graph, best.source, best.target, best.layer, best.head)
    query, key = np.unravel_index(moved.argmax(), moved.shape)
    assert (atlas_graph.tokens[query], atlas_graph.tokens[key]) == (" is", " capital")
    assert best.share > 0.95
    assert _probability(atlas, atlas_graph, [(best.layer, best.head)], query, key) < 0.1


def atlas_parts(graph: Any) -> dict[str, Supernode]:
    """The embedded model's concepts on a prompt, as supernodes."""
    return {name: Supernode(name, rows) for name, rows in atlas.supernodes(graph.features).items()}


def _probability(model: Any, graph: Any, knocked: Any, query: int, key: int) -> float:
    """Probability of the first target where heads do not look from a query to a key."""

    def cut(x: torch.Tensor, hook: Any) -> torch.Tensor:
        layer = int(hook.name.split(".")[1])
        for head in (h for k, h in knocked if k == layer):
            x[:, head, query, key] = 0
        return x

    hooks = [(block.hook("pattern"), cut) for block in model.blocks]
    logits = model.run(torch.from_numpy(graph.token_ids)[None], hooks)[0, -1]
    return float(logits.softmax(-1)[int(graph.target_ids[0])])

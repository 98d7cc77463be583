"""Sources carried up the frozen model, and targets down: against the run, and each other."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from families import FAMILIES, PROMPT, VARIANTS, tiny

from circuit_nb import attribute
from circuit_nb.attribution.ends import record_of, sources_of, targets_of
from circuit_nb.frozen.ascent import ascend, biases, descend
from circuit_nb.frozen.block import FrozenBlock


def _parts(model: Any, prompt: Any = PROMPT) -> tuple[Any, Any, list[FrozenBlock]]:
    graph = attribute(model, prompt, max_features=None, max_logits=3, progress=False)
    record = record_of(model, graph)
    return graph, record, [FrozenBlock(model, record, k) for k in range(len(model.blocks))]


def _recorded_streams(model: Any, record: Any) -> dict[int, torch.Tensor]:
    """The residual stream where it enters each block, and after the last."""
    n, found = len(model.blocks), dict[int, torch.Tensor]()

    def keep(x: torch.Tensor, hook: Any, layer: int) -> None:
        found[layer] = x[0]

    names = [*(f"blocks.{k}.ln1.hook_in" for k in range(n)), "ln_final.hook_in"]
    hooks = [(name, partial(keep, layer=layer)) for layer, name in enumerate(names)]
    model.run(record.token_ids[None], hooks)
    return found


@pytest.mark.parametrize(
    ("variant", "prefix"), [*((v, 1) for v in VARIANTS), ("plt-skip", 3), ("clt-skip", 3)]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_sources_and_biases_are_the_recorded_stream(
    family: str, variant: str, prefix: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(family, tokenizer, **VARIANTS[variant])
    monkeypatch.setattr(model, "ignored_positions", lambda token_ids: prefix)
    graph, record, blocks = _parts(model)
    nodes = graph.nodes[: graph.blocks.tokens.stop]
    sources = sources_of(model, record, blocks, nodes)
    last = record.positions - 1
    recorded = _recorded_streams(model, record)
    bias = biases(model, record, range(len(blocks)))
    entered = 0
    for level in ascend(blocks, sources, len(nodes), 0, last):
        layer = level.depth // 2
        if level.depth % 2 or layer == len(blocks):
            continue
        gap = (level.x.sum(1) + bias[layer] - recorded[layer]).abs().max()
        assert gap < 1e-5 * recorded[layer].abs().max()
        assert bias[layer].abs().max() > 0 or layer == 0
        entered += 1
    assert entered == len(blocks)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_up_and_down_give_the_graphs_edges(family: str, variant: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer, **VARIANTS[variant])
    graph, record, blocks = _parts(model)
    sources = graph.nodes[: graph.blocks.tokens.stop]
    targets = [graph.nodes[i] for i in graph.rows]
    wrote = sources_of(model, record, blocks, sources)
    reads = targets_of(model, graph, record, blocks, targets)
    last, edges = record.positions - 1, torch.from_numpy(graph.weights)
    up, down = torch.zeros_like(edges), torch.zeros_like(edges)
    for level in ascend(blocks, wrote, len(sources), 0, last):
        up += reads.meet(level.depth, level.x, 0, len(targets))
    for level in descend(blocks, reads, len(targets), 0, last):
        down += wrote.meet(level.depth, level.x, 0, len(sources)).T
    assert (up - edges).abs().max() < 1e-5 * edges.abs().max()
    assert (down - edges).abs().max() < 1e-5 * edges.abs().max()

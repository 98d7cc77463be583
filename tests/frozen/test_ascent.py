"""Sources carried up the frozen model, and targets down: against the run, and each other."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from families import FAMILIES, PROMPT, VARIANTS, tiny

from circuit_nb import attribute
from circuit_nb.attribution.ends import record_of, sources_of, targets_of
from circuit_nb.frozen.ascent import ascend, descend
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


def _biases(model: Any, record: Any) -> dict[int, torch.Tensor]:
    """What biases alone put into each block: a pass without tokens, features and errors."""
    t, found, read = model.transcoders, dict[int, torch.Tensor](), dict[int, torch.Tensor]()
    held = dict(record.scales)
    held |= {b.hook("pattern"): p for b, p in zip(model.blocks, record.patterns, strict=True)}
    held |= {"hook_embed": torch.zeros_like(record.embeddings)}

    def hold(x: torch.Tensor, hook: Any, value: torch.Tensor) -> torch.Tensor:
        return value.to(x.dtype).expand_as(x)

    def keep(x: torch.Tensor, hook: Any, into: dict[int, torch.Tensor], layer: int) -> None:
        into[layer] = x[0]

    def write(x: torch.Tensor, hook: Any, layer: int) -> torch.Tensor:
        transcoder = t.layers[layer]
        constant = transcoder.b_dec.expand_as(x[0]).clone().to(x.dtype)
        early = slice(record.ignored)
        skipped = transcoder.skip(record.reads[layer][early])
        constant[early] = record.writes[layer][early] - skipped.to(x.dtype)
        return (constant + transcoder.skip(read[layer]).to(x.dtype))[None]

    hooks: list[Any] = [(name, partial(hold, value=value)) for name, value in held.items()]
    for layer, block in enumerate(model.blocks):
        hooks.append((block.hook(t.input_hook), partial(keep, into=read, layer=layer)))
        hooks.append((block.hook(t.output_hook), partial(write, layer=layer)))
    enter = [
        (f"blocks.{k}.ln1.hook_in", partial(keep, into=found, layer=k))
        for k in range(len(model.blocks))
    ]
    model.run(record.token_ids[None], hooks + enter, last_only=True)
    return {layer: x.float() for layer, x in found.items()}


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
    bias = _biases(model, record)
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

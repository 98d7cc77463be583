"""Where edges begin and end: what nodes wrote and what they read, in the residual stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from circuit_nb.attribution.targets import Target, resolve
from circuit_nb.frozen.ascent import Placed
from circuit_nb.frozen.block import FrozenBlock
from circuit_nb.frozen.written import caused
from circuit_nb.graph import (
    AttributionGraph,
    ErrorNode,
    Feature,
    Node,
    Supernode,
    TargetNode,
    TokenNode,
)
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel

Source: TypeAlias = Node | Supernode
"""A feature, an error, a token, or the features of a supernode together."""
Reader: TypeAlias = Node | Supernode | Target
"""A feature, an output of the graph, a direction, or the features of a supernode together."""


def record_of(model: ReplacementModel, graph: AttributionGraph) -> Record:
    """The recorded pass of a graph's prompt.

    Raises:
        ValueError: If the graph is of another model.
    """
    if graph.n_layers != len(model.blocks):
        raise ValueError(
            f"This graph is of a model with {graph.n_layers} layers, and {model.name} has "
            f"{len(model.blocks)}; give the model that the graph was made with."
        )
    return model.record(graph.token_ids.tolist())


def numbers_of(record: Record, rows: Iterable[Sequence[int]]) -> Tensor:
    """The numbers of features, given as rows (layer, position, index), among the active, (n,).

    Raises:
        ValueError: If one is not active on the prompt.
    """
    asked = torch.tensor([list(row) for row in rows], dtype=torch.int64).view(-1, 3)
    both = torch.cat([record.features.cpu(), asked])
    # Rows as single numbers, ascending as the active ones are.
    span = 1 + both.max(0).values if len(both) else torch.ones(3, dtype=torch.int64)
    keys = (both[:, 0] * span[1] + both[:, 1]) * span[2] + both[:, 2]
    active, wanted = keys.tensor_split([len(record.features)])
    found = torch.searchsorted(active, wanted).clamp(max=max(len(active) - 1, 0))
    missing = torch.ones(len(wanted), dtype=torch.bool)
    if len(active):
        missing = (active[found] != wanted) | (asked < 0).any(1)
    if missing.any():
        raise ValueError(
            f"{Feature(*asked[missing][0].tolist())} is not active on this prompt in this model; "
            "give a graph and features that belong to it."
        )
    return found


def sources_of(
    model: ReplacementModel, record: Record, blocks: Sequence[FrozenBlock], nodes: Sequence[Source]
) -> Placed:
    """What nodes wrote, by owner as they are given.

    Raises:
        ValueError: If one writes nothing, or is not active on the prompt.
    """
    features, others = _apart(nodes)
    pieces: list[Placed] = []
    for layer, (owners, chosen) in features.items():
        numbers = numbers_of(record, ((f.layer, f.position, f.index) for f in chosen))
        positions = torch.tensor([f.position for f in chosen])
        decoder = model.transcoders.layers[layer].decoder
        rows = decoder.rows(torch.tensor([f.index for f in chosen])).float()
        rows = rows * record.activations[numbers].float().to(rows.device)[:, None, None]
        for offset, written in enumerate(model.transcoders.writes(layer)):
            frozen = blocks[written]
            above = frozen.write(rows[:, offset].to(frozen.block.device), positions)
            pieces.append(_placed(owners, 2 * written + 2, positions, above))
    for owner, node in others:
        if not isinstance(node, ErrorNode | TokenNode):
            raise ValueError(f"{node} is an output and causes nothing; give it as a target.")
        layer = node.layer if isinstance(node, ErrorNode) else 0
        if not (0 <= node.position < record.positions and 0 <= layer < len(blocks)):
            raise ValueError(
                f"{node} does not exist: this prompt has {record.positions} tokens and "
                f"{model.name} {len(blocks)} layers."
            )
        where = torch.tensor([node.position])
        if isinstance(node, ErrorNode):
            above = blocks[layer].write(_error(model, record, node)[None], where)
            pieces.append(_placed([owner], 2 * layer + 2, where, above))
        else:
            pieces.append(_placed([owner], 0, where, record.embeddings[where].float()))
    return _joined(pieces, "sources")


def _error(model: ReplacementModel, record: Record, node: ErrorNode) -> Tensor:
    """What features, bias and skip path leave of what an MLP wrote, (d_model,)."""
    layer, position = node.layer, node.position
    t = model.transcoders
    error = caused(model, record, layer, slice(position, position + 1))[0]
    for reader in t.readers(layer):
        here = (record.features[:, 0] == reader) & (record.features[:, 1] == position)
        rows = t.layers[reader].decoder.rows(record.features[here, 2])[:, layer - reader].float()
        error -= (record.activations[here].float().to(rows.device) @ rows).to(error.device)
    return error


def everything(model: ReplacementModel, record: Record, blocks: Sequence[FrozenBlock]) -> Placed:
    """All tokens, features and errors of a prompt as one source."""
    positions = torch.arange(record.positions)
    owners = [0] * record.positions
    pieces = [_placed(owners, 0, positions, record.embeddings.float())]
    for layer, frozen in enumerate(blocks):
        written = caused(model, record, layer, slice(0, record.positions))
        above = frozen.write(written, positions)
        pieces.append(_placed(owners, 2 * layer + 2, positions, above))
    return _joined(pieces, "sources")


def targets_of(
    model: ReplacementModel,
    graph: AttributionGraph,
    record: Record,
    blocks: Sequence[FrozenBlock],
    nodes: Sequence[Reader],
) -> Placed:
    """What nodes read, by owner as they are given.

    Raises:
        ValueError: If one reads nothing, is not active on the prompt, or is an output whose
            direction the graph does not keep.
    """
    features, others = _apart(nodes)
    pieces: list[Placed] = []
    for layer, (owners, chosen) in features.items():
        numbers_of(record, ((f.layer, f.position, f.index) for f in chosen))
        frozen, positions = blocks[layer], torch.tensor([f.position for f in chosen])
        rows = frozen.transcoder.encoder_rows(torch.tensor([f.index for f in chosen])).float()
        read = frozen.read_back(rows.to(frozen.block.device), positions)
        pieces.append(_placed(owners, 2 * layer + (not frozen.block.parallel), positions, read))
    if others:
        asked = [_asked(graph, node) for _, node in others]
        directions = resolve(model, record, asked, len(asked), 1.0).directions
        norm, last = model.final_norm, record.positions - 1
        scale = record.scales[norm.hook][last].to(directions.device)
        positions = torch.full((len(asked),), last)
        read = norm.transpose(directions, scale)
        pieces.append(_placed([o for o, _ in others], 2 * len(blocks), positions, read))
    return _joined(pieces, "targets")


def _asked(graph: AttributionGraph, node: Reader) -> Target | int:
    """An output as `resolve` takes it."""
    if isinstance(node, Target):
        return node
    if not isinstance(node, TargetNode):
        raise ValueError(f"{node} has no causes; give a feature, an output or a Target.")
    graph.number(node)
    token = int(graph.target_ids[node.index])
    if token < 0:
        raise ValueError(
            f"The graph keeps no direction for its output {graph.targets[node.index]!r}; give the "
            "Target it was made with instead."
        )
    return token


def _apart(
    nodes: Sequence[Reader],
) -> tuple[dict[int, tuple[list[int], list[Feature]]], list[tuple[int, Reader]]]:
    """Features by layer, those of supernodes too, with their owners; and the other nodes."""
    features: dict[int, tuple[list[int], list[Feature]]] = {}
    others: list[tuple[int, Reader]] = []
    for owner, node in enumerate(nodes):
        if isinstance(node, Feature | Supernode):
            for feature in node.features if isinstance(node, Supernode) else (node,):
                owners, chosen = features.setdefault(feature.layer, ([], []))
                owners.append(owner)
                chosen.append(feature)
        else:
            others.append((owner, node))
    return features, others


def _placed(owners: Sequence[int], depth: int, positions: Tensor, vectors: Tensor) -> Placed:
    depths = torch.full((len(owners),), depth)
    return Placed(torch.tensor(owners), depths, positions, vectors)


def _joined(pieces: Sequence[Placed], what: str) -> Placed:
    if not pieces:
        raise ValueError(f"No {what} were given; give at least one node.")
    device = pieces[0].vectors.device
    return Placed(
        torch.cat([p.owners for p in pieces]),
        torch.cat([p.depths for p in pieces]),
        torch.cat([p.positions for p in pieces]),
        torch.cat([p.vectors.to(device) for p in pieces]),
    )

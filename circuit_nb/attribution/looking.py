"""`looking`: why an attention head looked from one position to another.

The score before the softmax is a product of a query and a key. With the whole query fixed it is
linear in the key's residual stream, and so a sum over everything that was written there, and the
other way round; by both sides, it is a table of pairs. After Kamath et al. 2025, *Tracing Attention
Computation Through Feature Interactions*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from circuit_nb.attribution.ends import everything, numbers_of, record_of, sources_of
from circuit_nb.attribution.heads import check_head
from circuit_nb.frozen.ascent import Placed, ascend, descend
from circuit_nb.frozen.block import FrozenBlock
from circuit_nb.frozen.descent import Arrival
from circuit_nb.frozen.scores import HeadScores, head_scores
from circuit_nb.frozen.written import Decoders, Sources
from circuit_nb.graph import AttributionGraph, Node
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel

if TYPE_CHECKING:
    import plotly.graph_objects as go

Floats = npt.NDArray[np.float32]

CARRIED = 5
"""Nodes of the table carried at once, from the first position of any of them."""


@dataclass(frozen=True)
class Looking:
    """One attention score, taken apart. All numbers are in units of the score."""

    graph: AttributionGraph
    layer: int
    head: int
    query: int
    """Position that looked."""
    key: int
    """Position looked at."""
    contrast: int | Literal["mean"] | None
    """What is subtracted: the score for another key, or the mean over all the query can see."""
    score: float
    """Computed from the residual stream, before the soft cap if the model has one."""
    recorded: float
    """The same in the model's own run."""
    soft_cap: float | None
    """Where the model squashes scores to ± this (Gemma-2), what is explained is before that."""
    query_shares: Floats
    """What each node put into the query, (n_features + n_errors + positions,) in node order, with
    the key as it is. With what the graph leaves out, and biases, they add up to `score`."""
    key_shares: Floats
    """The same of the key, with the query as it is."""
    query_bias: float
    """Through biases: of embeddings of positions, norms, attention and MLPs."""
    key_bias: float
    query_left_out: float
    """Through active features and errors that the graph does not hold."""
    key_left_out: float
    asked: tuple[Node, ...]
    """The nodes with the largest |query_shares|."""
    answered: tuple[Node, ...]
    """The nodes with the largest |key_shares|."""
    pairs: Floats
    """(asked + 2, answered + 2): what each pair adds to the score. After the nodes come all others
    together, and biases; the table adds up to `score`."""

    def figure(
        self, labels: dict[tuple[int, int], str] | None = None, *, numbers: bool = True
    ) -> go.Figure:
        """The table of pairs.

        Args:
            labels: Labels of features by (layer, index).
            numbers: Whether cells say their numbers, which a narrow place has no room for.
        """
        from circuit_nb.figures.heads import looking_figure

        return looking_figure(
            self.graph, self.asked, self.answered, self.pairs, labels or {}, numbers=numbers
        )

    def __str__(self) -> str:
        tokens = self.graph.tokens
        said = f"Head {self.layer}.{self.head} looked from {tokens[self.query]!r} to "
        said += f"{tokens[self.key]!r} (score {self.score:+.3g}"
        if self.contrast is not None:
            mean = self.contrast == "mean"
            said += f" above {'its mean' if mean else repr(tokens[int(self.contrast)])}"
        between = self.pairs[:-2, :-2]
        if not between.size:
            return f"{said}), through biases alone."
        i, j = np.unravel_index(np.abs(between).argmax(), between.shape)
        return (
            f"{said}); the strongest pair: {self.asked[i]} asked and {self.answered[j]} answered, "
            f"{between[i, j]:+.3g}."
        )


@torch.inference_mode()
def looking(
    model: ReplacementModel,
    graph: AttributionGraph,
    layer: int,
    head: int,
    query: int,
    key: int,
    contrast: int | Literal["mean"] | None = None,
    *,
    top: int = 10,
) -> Looking:
    """Why an attention head looked from one position to another.

    Args:
        model: The model the graph was made with.
        graph: The graph; shares are by its nodes.
        layer: Block of the head.
        head: The head within its block.
        query: Position that looked.
        key: Position looked at.
        contrast: The softmax ignores what all keys share. With another key here, the difference of
            the two scores is explained; with `"mean"`, that to the mean over all keys in sight.
        top: How many nodes of either side make the table of pairs.

    Raises:
        ValueError: If there is no such head or position, the query cannot see the key, or the graph
            is not of this model.
    """
    record = record_of(model, graph)
    check_head(model, layer, head)
    scores = head_scores(model, record, layer, head)
    weights = _weights(scores, query, key, contrast)
    q = scores.query(scores.stream)[query] + scores.query.constant()[query]
    k = weights @ (scores.key(scores.stream) + scores.key.constant())
    blocks = [FrozenBlock(model, record, number) for number in range(len(model.blocks))]
    everywhere = everything(model, record, blocks)
    bias = scores.stream - _carried(blocks, everywhere, 1, layer, record.positions)[0]
    q_bias = scores.query(bias)[query] + scores.query.constant()[query]
    k_bias = weights @ (scores.key(bias) + scores.key.constant())
    rows = _rows(scores, 2 * layer, query, weights, q, k)
    shares, left_out = _shares(model, graph, record, blocks, rows)
    best = [_largest(graph, row, top) for row in shares]
    carried = _table(model, record, blocks, best, layer)
    asked = scores.query(carried)[: len(best[0]), query]
    answered = torch.einsum("p,npd->nd", weights, scores.key(carried)[len(best[0]) :])
    queries = torch.cat([asked, (q - q_bias - asked.sum(0))[None], q_bias[None]])
    keys = torch.cat([answered, (k - k_bias - answered.sum(0))[None], k_bias[None]])
    seen = weights != 0
    return Looking(
        graph=graph,
        layer=layer,
        head=head,
        query=query,
        key=key,
        contrast=contrast,
        score=scores.scaling * float(q @ k),
        recorded=float(weights[seen].double() @ scores.recorded[query][seen]),
        soft_cap=scores.soft_cap,
        query_shares=shares[0],
        key_shares=shares[1],
        query_bias=scores.scaling * float(q_bias @ k),
        key_bias=scores.scaling * float(q @ k_bias),
        query_left_out=left_out[0],
        key_left_out=left_out[1],
        asked=best[0],
        answered=best[1],
        pairs=(scores.scaling * queries @ keys.T).cpu().numpy(),
    )


def _weights(scores: HeadScores, query: int, key: int, contrast: int | str | None) -> Tensor:
    """How much the score of each key counts, (positions,): 1 for one alone."""
    positions = len(scores.recorded)
    visible = scores.recorded > -torch.inf
    weights = torch.zeros(positions, device=scores.stream.device)
    for place in (query, key, *([contrast] if isinstance(contrast, int) else [])):
        if not 0 <= place < positions:
            raise ValueError(
                f"Position {place} does not exist in this prompt of {positions} tokens; positions "
                f"are 0 to {positions - 1}."
            )
        if place != query and not visible[query, place]:
            raise ValueError(
                f"The query at position {query} cannot see the key at {place}, which has no score: "
                "it comes later, or lies outside this layer's window."
            )
    weights[key] = 1
    if isinstance(contrast, int):
        weights[contrast] -= 1
    elif contrast == "mean":
        weights -= visible[query].float() / visible[query].sum()
    elif contrast is not None:
        raise ValueError(f"contrast is {contrast!r}; give a position, 'mean' or None.")
    return weights


def _rows(
    scores: HeadScores, depth: int, query: int, weights: Tensor, q: Tensor, k: Tensor
) -> Placed:
    """The score's gradients by the stream: by the query's (owner 0), and by the keys' (1)."""
    by_query = scores.query.transpose(k.expand(len(weights), -1))[query]
    by_keys = scores.key.transpose(weights[:, None] * q)
    positions = torch.cat([torch.tensor([query]), torch.arange(len(weights))])
    vectors = scores.scaling * torch.cat([by_query[None], by_keys])
    owners = (torch.arange(len(vectors)) > 0).long()
    return Placed(owners, torch.full_like(owners, depth), positions, vectors)


def _shares(
    model: ReplacementModel,
    graph: AttributionGraph,
    record: Record,
    blocks: Sequence[FrozenBlock],
    rows: Placed,
) -> tuple[Floats, list[float]]:
    """What each node of the graph put into the query and into the key, and what all others did.

    Returns:
        (2, n_features + n_errors + positions), and two numbers.
    """
    sources = Sources(model, record, Decoders(model, [record]))
    columns, n = sources.columns, record.positions
    found = torch.zeros(2, columns.n, device=sources.device)
    here = torch.arange(n).repeat_interleave(2)
    for level in descend(blocks, rows, 2, 0, n - 1):
        if level.depth == 0:
            own = record.embeddings.float()[:, None].to(level.x.device)
            found[:, columns.tokens] += (level.x * own).sum(-1).T.to(found.device)
        elif level.depth % 2 == 0:
            layer = level.depth // 2 - 1
            written = blocks[layer].write_back(level.x.flatten(0, 1), here)
            written = written.view(level.x.shape)[record.prefix :]
            sources.contract(Arrival(layer, [written]), [found])
    numbers = numbers_of(record, graph.features.tolist())
    errors = columns.errors[tuple(torch.from_numpy(graph.errors).T)]
    places = torch.cat([columns.features[numbers], errors, columns.tokens])
    outside = torch.ones(columns.n, dtype=torch.bool)
    outside[places[places >= 0]] = False
    found = found.cpu()
    shares = torch.where(places >= 0, found[:, places], 0.0)
    return shares.numpy(), found[:, outside].sum(1).tolist()


def _largest(graph: AttributionGraph, shares: Floats, top: int) -> tuple[Node, ...]:
    order = np.argsort(-np.abs(shares), kind="stable")[:top]
    return tuple(graph.nodes[i] for i in order.tolist() if shares[i])


def _table(
    model: ReplacementModel,
    record: Record,
    blocks: Sequence[FrozenBlock],
    best: Sequence[Sequence[Node]],
    layer: int,
) -> Tensor:
    """What nodes have in the stream that enters a block, (nodes, positions, d_model): of those that
    asked, then of those that answered. Nodes of like positions are carried together."""
    nodes = list(dict.fromkeys([*best[0], *best[1]]))
    found = record.embeddings.new_zeros(len(nodes), *record.embeddings.shape, dtype=torch.float32)
    if not nodes:
        return found
    wrote = sources_of(model, record, blocks, nodes)
    for some in wrote.batches(len(nodes), CARRIED):
        found[some] = _carried(blocks, wrote.of(some), len(some), layer, record.positions)
    return found[[nodes.index(node) for node in [*best[0], *best[1]]]]


def _carried(
    blocks: Sequence[FrozenBlock], wrote: Placed, n: int, layer: int, positions: int
) -> Tensor:
    """What n sources have in the stream that enters a block, (n, positions, d_model)."""
    first = int(wrote.positions.min())
    levels = ascend(blocks[: layer + 1], wrote, n, first, positions - 1)
    x = next(level.x for level in levels if level.depth == 2 * layer)
    return torch.nn.functional.pad(x.transpose(0, 1), (0, 0, first, 0))

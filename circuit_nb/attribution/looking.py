"""`looking`: why an attention head looked from one position to another.

The score before the softmax is a product of a query and a key. With the whole query fixed it is
linear in the key's residual stream, and so a sum over everything that was written there, and the
other way round; by both sides, it is a table of pairs. After Kamath et al. 2025, *Tracing Attention
Computation Through Feature Interactions*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from circuit_nb.frozen.scores import HeadScores, head_scores
from circuit_nb.frozen.written import caused
from circuit_nb.graph import AttributionGraph, Node
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel

if TYPE_CHECKING:
    import plotly.graph_objects as go

Floats = npt.NDArray[np.float32]


AT_ONCE = 2**10
"""Features whose decoder rows are multiplied at once."""


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
    blocks = [FrozenBlock(model, record, number) for number in range(len(model.blocks))]
    score = _Score(model, record, blocks, scores, layer, query, weights)
    whole = score.sides(scores.stream)
    written = score.carried(everything(model, record, blocks[:layer]), 1)[0]
    bias = score.sides(scores.stream - written)
    shares, left_out = _shares(graph, score, whole)
    asked, answered = (_largest(graph, row, top) for row in shares)
    seen = weights != 0
    return Looking(
        graph=graph,
        layer=layer,
        head=head,
        query=query,
        key=key,
        contrast=contrast,
        score=scores.scaling * float(whole[0] @ whole[1]),
        recorded=float(weights[seen].double() @ scores.recorded[query][seen]),
        soft_cap=scores.soft_cap,
        query_shares=shares[0],
        key_shares=shares[1],
        query_bias=scores.scaling * float(bias[0] @ whole[1]),
        key_bias=scores.scaling * float(whole[0] @ bias[1]),
        query_left_out=left_out[0],
        key_left_out=left_out[1],
        asked=asked,
        answered=answered,
        pairs=_pairs(score, asked, answered, whole, bias),
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


@dataclass(frozen=True)
class _Score:
    """What is explained: the product of a query and a key, each an affine map of the stream. No
    position after the query's has a part in it."""

    model: ReplacementModel
    record: Record
    blocks: Sequence[FrozenBlock]
    scores: HeadScores
    layer: int
    query: int
    weights: Tensor
    """How much each key counts, (positions,)."""

    def linear(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Query and key of streams (…, positions, d_model) without biases, (…, d_head) each."""
        return self.scores.query(x)[..., self.query, :], self.weights @ self.scores.key(x)

    def sides(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Query and key of a stream (positions, d_model), (d_head,) each."""
        q, k = self.linear(x)
        constants = self.scores.query.constant(), self.scores.key.constant()
        return q + constants[0][self.query], k + self.weights @ constants[1]

    def gradients(self, q: Tensor, k: Tensor) -> Placed:
        """Its rows in the stream that enters the block: of the query (owner 0), with the key as it
        is, and of the keys (1), with the query as it is."""
        by_query = self.scores.query.transpose(k.expand(len(self.weights), -1))[self.query]
        by_keys = self.scores.key.transpose(self.weights[:, None] * q)[: self.query + 1]
        vectors = self.scores.scaling * torch.cat([by_query[None], by_keys])
        positions = torch.cat([torch.tensor([self.query]), torch.arange(self.query + 1)])
        owners = (torch.arange(len(vectors)) > 0).long()
        depths = torch.full_like(owners, 2 * self.layer)
        return Placed(owners, depths, positions, vectors)

    def carried(self, wrote: Placed, n: int) -> Tensor:
        """What n sources have in the stream that enters the block, (n, positions, d_model)."""
        wrote = wrote.within(0, self.query)
        first = int(wrote.positions.min())
        levels = ascend(self.blocks[: self.layer + 1], wrote, n, first, self.query)
        x = next(level.x for level in levels if level.depth == 2 * self.layer)
        after = len(self.weights) - 1 - self.query
        return torch.nn.functional.pad(x.transpose(0, 1), (0, 0, first, after))


def _shares(
    graph: AttributionGraph, score: _Score, whole: tuple[Tensor, Tensor]
) -> tuple[Floats, list[float]]:
    """What each node of the graph put into the query and into the key, and what all others did.

    Returns:
        (2, n_features + n_errors + positions), and two numbers.
    """
    record, last = score.record, score.query
    here = torch.arange(last + 1).repeat_interleave(2)
    at_tokens = torch.zeros(record.positions, 2)
    gradients: dict[int, Tensor] = {}
    for level in descend(score.blocks, score.gradients(*whole), 2, 0, last):
        if level.depth == 0:
            own = record.embeddings[: last + 1].float()[:, None].to(level.x.device)
            at_tokens[: last + 1] = (level.x * own).sum(-1).cpu()
        elif level.depth % 2 == 0:
            frozen = score.blocks[level.depth // 2 - 1]
            written = frozen.write_back(level.x.clone().flatten(0, 1), here)
            gradients[frozen.block.layer] = written.view(level.x.shape)
    by_feature, by_error = _written(score.model, record, gradients)
    layer, position = torch.from_numpy(graph.errors).T
    numbers = numbers_of(record, graph.features.tolist()), layer * record.positions + position
    left_out, shares = torch.zeros(2), list[Tensor]()
    for found, inside in zip((by_feature, by_error.flatten(0, 1)), numbers, strict=True):
        shares.append(found[inside])
        outside = torch.ones(len(found), dtype=torch.bool)
        outside[inside] = False
        left_out += found[outside].sum(0)
    return torch.cat([*shares, at_tokens]).T.numpy(), left_out.tolist()


def _written(
    model: ReplacementModel, record: Record, gradients: Mapping[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """Products of gradients with what features and errors wrote.

    Args:
        model: The model.
        record: The recorded pass.
        gradients: Where each of the lowest layers writes, (positions, 2, d_model), from the first
            position on.

    Returns:
        Of every active feature, (n_features, 2), and error, (layers, positions, 2).
    """
    features = record.features.cpu()
    by_feature = torch.zeros(len(features), 2)
    by_error = torch.zeros(len(record.patterns), record.positions, 2)
    for layer, gradient in gradients.items():
        here = slice(0, len(gradient))
        together = torch.einsum("pd,pnd->pn", caused(model, record, layer, here), gradient)
        by_error[layer, here] = together.cpu()
    for reader, gradient in gradients.items():
        inside = (features[:, 0] == reader) & (features[:, 1] < len(gradient))
        _, position, index = features[inside].T
        unique, place = index.unique(return_inverse=True)
        rows = model.transcoders.layers[reader].decoder.rows(unique)
        activations = record.activations[inside.to(record.activations.device)].float().cpu()
        for offset, layer in enumerate(model.transcoders.writes(reader)):
            if layer in gradients:
                found = _products(rows[:, offset], place, gradients[layer], position)
                found *= activations[:, None]
                by_feature[inside] += found
                by_error[layer].index_add_(0, position, found, alpha=-1)
    return by_feature, by_error


def _products(rows: Tensor, place: Tensor, gradient: Tensor, position: Tensor) -> Tensor:
    """Of features, by the place of their rows and by their positions, (features, 2)."""
    rows, found = rows.to(gradient.device), list[Tensor]()
    for some in torch.arange(len(place)).split(AT_ONCE):
        row, there = (x[some].to(gradient.device) for x in (place, position))
        found.append(torch.einsum("fd,fnd->fn", rows[row].float(), gradient[there]).cpu())
    return torch.cat(found)


def _largest(graph: AttributionGraph, shares: Floats, top: int) -> tuple[Node, ...]:
    order = np.argsort(-np.abs(shares), kind="stable")[:top]
    return tuple(graph.nodes[i] for i in order.tolist() if shares[i])


def _pairs(
    score: _Score,
    asked: Sequence[Node],
    answered: Sequence[Node],
    whole: tuple[Tensor, Tensor],
    bias: tuple[Tensor, Tensor],
) -> Floats:
    """What each pair of nodes adds to the score, then all others together, and biases."""
    nodes = list(dict.fromkeys([*asked, *answered]))
    sides = tuple(x.new_empty(0, len(x)) for x in whole)
    if nodes:
        wrote = sources_of(score.model, score.record, score.blocks, nodes)
        sides = score.linear(score.carried(wrote, len(nodes)))
    queries, keys = (
        _with_rest(of_nodes[[nodes.index(node) for node in chosen]], all_, own)
        for of_nodes, chosen, all_, own in zip(sides, (asked, answered), whole, bias, strict=True)
    )
    return (score.scores.scaling * queries @ keys.T).cpu().numpy()


def _with_rest(of_nodes: Tensor, whole: Tensor, bias: Tensor) -> Tensor:
    """Of nodes, (n, d_head), of all others and of biases, (n + 2, d_head)."""
    return torch.cat([of_nodes, (whole - bias - of_nodes.sum(0))[None], bias[None]])

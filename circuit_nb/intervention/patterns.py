"""Attention patterns of some heads, put in the place of those of a pass.

A pass may hold the whole prompt or, with a key-value cache, only its last positions; of the keys a
sliding window may have dropped the first. Both end at the same position, from which all others are
counted, so one function serves every pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.intervention.heads import HeadIntervention


@dataclass(frozen=True)
class HeadEdit:
    """A head's intervention in one row of a batched pass."""

    row: int
    change: HeadIntervention


def edited(pattern: Tensor, edits: Sequence[HeadEdit], last: int) -> Tensor:
    """Patterns with some heads' changed, one edit after the other.

    Args:
        pattern: (rows, heads, queries, keys); it is not changed.
        edits: Those of this layer.
        last: Position of the last query, which is that of the last key.

    Returns:
        The same shape.
    """
    result = pattern.clone()
    queries, keys = (range(last + 1 - n, last + 1) for n in pattern.shape[2:])
    for edit in edits:
        head = result[edit.row, edit.change.head]
        if edit.change.pattern is not None:
            _replace(head, edit.change, queries)
        else:
            _knock_out(head, edit.change, queries, keys)
    return result


def _replace(head: Tensor, change: HeadIntervention, queries: range) -> None:
    """Rows of one head, (queries, keys), in place; they are the prompt's, where no key is gone."""
    assert change.pattern is not None
    given = torch.from_numpy(change.pattern).to(head)
    for number, query in enumerate(change.positions or range(len(given))):
        if query in queries:
            seen = given[number, : query + 1]
            head[query - queries.start] = 0
            head[query - queries.start, : len(seen)] = seen


def _knock_out(head: Tensor, change: HeadIntervention, queries: range, keys: range) -> None:
    """Entries of one head, (queries, keys), in place."""
    first = change.from_position or 0
    rows = queries if change.positions is None else change.positions
    at = [q - queries.start for q in rows if q in queries and q >= first]
    away = [k - keys.start for k in (keys if change.keys is None else change.keys) if k in keys]
    left = head[at]
    whole = left.sum(-1, keepdim=True)
    left[:, away] = 0
    if change.renormalize:
        rest = left.sum(-1, keepdim=True)
        left = left * torch.where(rest > 0, whole / rest, torch.zeros_like(rest))
    head[at] = left

"""What fits into memory: the matrix of edges, and one batch of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from circuit_nb.frozen import tuning
from circuit_nb.frozen.columns import Columns
from circuit_nb.model.memory import available_memory, free_memory
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


def columns_that_fit(columns: Columns, n_targets: int, n_rows: int, share: float = 1.0) -> int:
    """How many columns of a matrix of edges can be kept.

    Args:
        columns: All there are.
        n_targets: Rows of targets.
        n_rows: Rows of features; their columns must be among those kept.
        share: How much of the memory for edges it may take.

    Raises:
        ValueError: If so many rows do not fit; it says how many would.
    """
    budget = int(share * tuning.MATRIX_SHARE * available_memory())
    fixed = columns.n - len(columns.features)
    fit = budget // (4 * max(n_targets + n_rows, 1))
    if fit < fixed + n_rows:
        # The largest r with 4 (targets + r) (fixed + r) <= budget.
        b, c = fixed + n_targets, fixed * n_targets - budget / 4
        most = max(0, int(((max(b * b - 4 * c, 0.0)) ** 0.5 - b) / 2))
        raise ValueError(
            f"{n_rows:,} rows of this prompt need "
            f"{4 * (n_targets + n_rows) * (fixed + n_rows) / 2**30:.1f} GiB for their edges, and "
            f"{budget / 2**30:.1f} GiB can be used; max_features={most:,} would fit."
        )
    return min(columns.n, fit)


def rows_of(record: Record, max_features: int | None) -> int:
    """How many features' rows of a prompt are computed."""
    n = len(record.features)
    return n if max_features is None else min(max_features, n)


def that_fit_together(records: Sequence[Record], max_features: int | None) -> Iterator[slice]:
    """Prompts, in order, cut into those whose edges and sources fit into `TOGETHER_BYTES`."""
    if len(records) == 1:  # how much memory is free takes long to ask
        yield slice(0, 1)
        return
    begin = held = 0
    most = min(tuning.TOGETHER_BYTES, int(tuning.MATRIX_SHARE * available_memory()))
    for number, record in enumerate(records):
        n_layers, positions, d_model = len(record.reads), record.positions, record.final.shape[1]
        columns = len(record.features) + (n_layers + 1) * positions
        size = 4 * columns * (rows_of(record, max_features) + d_model)
        if number > begin and held + size > most:
            yield slice(begin, number)
            begin, held = number, 0
        held += size
    yield slice(begin, len(records))


def batch_bytes(device: torch.device, *, laid_out_once: bool) -> int:
    """Working memory that one batch of rows may take.

    Args:
        device: Where it is computed.
        laid_out_once: Whether what sources wrote is kept from batch to batch.
    """
    small = device.type == "cpu" and laid_out_once
    most = tuning.BATCH_BYTES if small else tuning.LARGE_BATCH_BYTES
    return min(most, int(tuning.BATCH_SHARE * free_memory(device)))


def row_bytes(model: ReplacementModel, columns: Columns, position: int) -> int:
    """Working memory of a row that begins at a position.

    Gradients, by residual stream and by head, each with a copy, and on an accelerator its edges.
    """
    heads, d_head, d_model = model.blocks[0].W_O.shape
    gradients = (position + 1) * (2 * d_model + 3 * heads * d_head)
    edges = 0 if model.device.type == "cpu" else 2 * columns.up_to(position)
    return 4 * (gradients + edges)

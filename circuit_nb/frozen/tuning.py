"""How work is cut into batches: every constant that only changes speed and memory, never an edge.

Measured on two CPU cores (about 100 GFLOP/s each) with `benchmarks/attribution.py` and, for
memory, `benchmarks/memory.py`; the accelerator's figures are reckoned, not measured.
"""

from __future__ import annotations

BATCH_BYTES = 2**26
"""Working memory of one batch of rows on a CPU: with more, gradients leave the caches and 1,000
rows of a short prompt take longer."""

LARGE_BATCH_BYTES = 2**28
"""The same on an accelerator, or where what sources wrote is laid out anew for every batch: there
fewer, larger batches won, with cross-layer sets most of all."""

GROUP_COST = {"cpu": 2}
"""What a group of rows costs by itself at each position, in rows: 1 to 4 made no difference beyond
the noise on a CPU."""

OTHER_GROUP_COST = 64
"""The same on an accelerator, which waits longer for what it is told than for the arithmetic."""

MATRIX_SHARE = 0.5
"""How much of the free main memory the matrix of edges may take."""

TOGETHER_BYTES = 2**29
"""Up to this size, edges and sources of several short prompts are held and computed together."""

BATCH_SHARE = 0.5
"""How much of a device's free memory one batch may take."""

WRITTEN_SHARE = 0.25
"""How much of a device's free memory may be taken to keep what sources wrote."""

KEPT_BYTES = 2**27
"""Up to this size, what sources wrote is laid out once for all batches; beyond it, for each."""

SPAN_BYTES = 2**24
"""Size of what is laid out at a time."""

KEY_BLOCK = 128
"""Keys multiplied at once in a descent: the queries before them, which cannot see them, are left
out. At 704 tokens that halves attention's arithmetic; smaller blocks cost more calls."""

RAISED_BYTES = 2**24
"""Up to this size, what each token has at each position above the first attention is kept (85
tokens of SmolLM2, 42 of Gemma-2-2B); there it saves 5 % of the time of 1,000 rows."""

"""What is held in memory, and what happens when there is too little."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from families import GOLDEN, PROMPT

from circuit_nb import attribute, load
from circuit_nb.attribution.budget import row_bytes
from circuit_nb.attribution.rows import Rounds
from circuit_nb.frozen.starts import Starts
from circuit_nb.model import ReplacementModel
from circuit_nb.model.memory import free_memory, is_out_of_memory
from circuit_nb.transcoders.lazy_files import Encoder, OnDisk, SafetensorsFile

GPU = torch.device("cuda")


@pytest.fixture
def bench() -> Iterator[Any]:
    """The memory benchmark and what it is made of."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import allocations
        import gemma_shaped
        import memory

        yield SimpleNamespace(memory=memory, made=gemma_shaped, allocations=allocations)
    finally:
        sys.path.remove(folder)


def test_the_written_budget_holds_on_a_small_model(bench: Any, tmp_path: Path) -> None:
    """Gemma-2's shape made small, but for what would fill a GPU: vocabulary and features."""
    shape = bench.made.Shape(
        layers=3, d_model=128, heads=4, kv_heads=2, d_head=32, d_mlp=256, vocabulary=40_000,
        features=8192, active=40,
    )  # fmt: skip
    bench.made.write(tmp_path, shape)
    found = bench.memory.measure(tmp_path, shape, 64, 64)
    so_far = 0
    for phase, need in bench.memory.budget(shape, 64, 64).items():
        assert found["tensors"][phase] <= so_far + need.stays + need.passes, phase
        so_far += need.stays
    assert found["weights"] == 2 * shape.parameters + found["buffers"]
    assert found["tensors"]["encoders"] >= found["weights"] + 2 * 3 * 8192 * 128
    # Nothing comes near the unembedding in float32, or all encoders in it.
    assert found["largest"] < min(4 * 40_000, 4 * 3 * 8192) * 128 * 0.8


def test_allocations_are_counted_and_forgotten(bench: Any) -> None:
    weights = torch.zeros(1000)
    with bench.allocations.Allocations() as counted:
        counted.phase = "first"
        held = weights + 1
        held.view(10, 100).add_(1)
        weights[:500].reshape(5, 100)
        assert counted.live == 4000
        counted.phase = "second"
        del held
        assert counted.live == 0
        double = weights.double()
    assert counted.peaks == {"first": 4000, "second": 8000}
    assert bench.allocations.bytes_of([weights, weights[:3], double]) == 12_000


@pytest.mark.parametrize("case", ["gemma2-plt", "gemma2-clt"])
def test_decoders_are_read_once_and_only_at_active_features(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(GOLDEN / case / "model", GOLDEN / case / "transcoders", device="cpu")
    active = model.record(PROMPT).features
    asked: list[list[int]] = []
    real = OnDisk.rows

    def rows(self: OnDisk, features: torch.Tensor) -> torch.Tensor:
        asked.append(features.tolist())
        return real(self, features)

    whole: list[str] = []
    monkeypatch.setattr(OnDisk, "rows", rows)
    monkeypatch.setattr(SafetensorsFile, "read", lambda self, name: whole.append(name))
    attribute(model, PROMPT, progress=False)
    layers = range(model.transcoders.n_layers)
    assert asked == [active[active[:, 0] == i, 2].unique().tolist() for i in layers]
    assert not whole


def _opened(**settings: Any) -> ReplacementModel:
    folder = GOLDEN / "gemma2-plt"
    return load(folder / "model", folder / "transcoders", device="cpu", **settings)


def _held(model: ReplacementModel) -> list[bool]:
    encoders = [layer.W_enc for layer in model.transcoders.layers]
    return [isinstance(e, Encoder) and e._read is not None for e in encoders]


def test_encoders_stay_only_if_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = _opened()
    expected = attribute(roomy, PROMPT, progress=False).weights
    assert all(_held(roomy))
    monkeypatch.setattr("circuit_nb.model.replacement.free_memory", lambda _: 1_500_010_000)
    tight = _opened()
    np.testing.assert_array_equal(attribute(tight, PROMPT, progress=False).weights, expected)
    assert not any(_held(tight))
    asked = _opened(keep_encoders=True)
    attribute(asked, PROMPT, progress=False)
    assert all(_held(asked))


def test_the_type_is_what_fits_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma-2-2B with Gemma Scope: float32 on a GPU of 24 GB, bfloat16 on one of 15."""
    from circuit_nb.model import loading

    sets: Any = SimpleNamespace(encoder_weights=26 * 16_384 * 2304)
    monkeypatch.setattr(loading, "weights_in", lambda _: 2_614_000_000)
    for free, dtype in ((24e9, torch.float32), (15e9, torch.bfloat16)):
        monkeypatch.setattr(loading, "free_memory", lambda _, free=free: int(free))
        assert loading._dtype_that_fits(GPU, Path(), sets) is dtype
    assert loading._dtype_that_fits(torch.device("cpu"), Path(), sets) is torch.float32


def test_weights_are_counted_by_their_headers() -> None:
    from circuit_nb.transcoders.lazy_files import weights_in

    model = _opened()
    hf_model = model.bridge.original_model
    counted = {p.data_ptr(): p.numel() for p in hf_model.parameters()}
    assert weights_in(GOLDEN / "gemma2-plt" / "model") == sum(counted.values())


def test_free_memory_of_a_gpu_counts_what_the_allocator_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (500, 1000))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 300)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda _: 100)
    assert free_memory(GPU) == 700
    monkeypatch.setattr("torch.mps.recommended_max_memory", lambda: 900)
    monkeypatch.setattr("torch.mps.current_allocated_memory", lambda: 100)
    assert free_memory(torch.device("mps")) == 800
    assert free_memory(torch.device("cpu")) > 0


def test_the_batch_is_what_fits_into_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _opened()
    expected = attribute(model, PROMPT, progress=False).weights
    batches: list[tuple[int, int]] = []
    real = Rounds._compute

    def compute(self: Rounds, starts: Starts) -> int:
        groups, columns = zip(starts.sizes, starts.lasts, strict=True), self.graphs[0].columns
        size = sum(n * row_bytes(self.model, columns, last) for n, last in groups)
        batches.append((len(starts), size))
        return real(self, starts)

    monkeypatch.setattr(Rounds, "_compute", compute)
    for free in (10**9, 500_000, 0):
        batches.clear()
        monkeypatch.setattr("circuit_nb.attribution.budget.free_memory", lambda _, free=free: free)
        found = attribute(model, PROMPT, progress=False).weights
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert all(rows == 1 or size <= free / 2 for rows, size in batches)
        # All but the last, of the targets and of the features, are at least half full.
        full = [rows > 1 and size > free / 4 for rows, size in batches]
        assert full.count(False) <= 2 or free == 0


EXHAUSTED = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.2 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
)


@pytest.mark.parametrize("error", EXHAUSTED, ids=["cuda", "mps", "cpu"])
def test_every_kind_of_exhaustion_halves_the_batch_and_is_said_at_one_row(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_out_of_memory(error)
    model, sizes = _opened(), []

    def compute(self: Rounds, starts: Starts) -> int:
        sizes.append(len(starts))
        raise error

    monkeypatch.setattr(Rounds, "_compute", compute)
    with pytest.raises(MemoryError, match=r"^cpu ran out of memory while .* a shorter prompt"):
        attribute(model, PROMPT, targets=list(range(9)), batch_size=8, progress=False)
    assert sizes == [8, 4, 2, 1]


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(self: Rounds, starts: Starts) -> int:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Rounds, "_compute", compute)
    with pytest.raises(RuntimeError, match="shapes differ"):
        attribute(_opened(), PROMPT, progress=False)


def test_exhaustion_while_loading_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    def boot(*args: Any, **kwargs: Any) -> None:
        raise EXHAUSTED[0]

    monkeypatch.setattr(TransformerBridge, "boot_transformers", boot)
    with pytest.raises(MemoryError, match=r"while loading the model.*bfloat16"):
        _opened()

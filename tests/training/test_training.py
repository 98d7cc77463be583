"""Training on small models: what is computed, what is written, and going on after a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tiny
from torch.nn import functional as F
from torch.optim import Adam

from circuit_nb import ReplacementModel, load, training
from circuit_nb.training import checkpoints
from circuit_nb.training.coders import Coders
from circuit_nb.training.firing import Firing
from circuit_nb.training.fitting import learning_rate
from circuit_nb.training.kept import Kept
from circuit_nb.training.mlps import read
from circuit_nb.training.plan import Plan
from circuit_nb.training.replacing import reconstruct
from circuit_nb.training.saving import save, transcoders_of
from circuit_nb.training.sequences import Sequences
from circuit_nb.transcoders.formats import open_transcoders

HOOKS = ("mlp.hook_in", "mlp.hook_out")
SMALL = Plan(features=48, k=6, tokens=64, bfloat16=False, epochs=6)
KINDS: dict[str, dict[str, Any]] = {
    "jumprelu": {},
    "topk": {"activation": "topk"},
    "clt": {"cross_layer": True},
    "clt-skip": {"cross_layer": True, "skip": True},
    "skip": {"skip": True},
    "as-added": {"input_hook": "ln2.hook_normalized", "output_hook": "hook_mlp_out"},
}


def made_texts(n: int = 24) -> list[list[int]]:
    drawn = torch.randint(3, 30, (n, 9), generator=torch.Generator().manual_seed(0))
    return [[1, *row] for row in drawn.tolist()]


def plan_of(kind: str, **settings: Any) -> Plan:
    return Plan(**{**vars(SMALL), **KINDS[kind], **settings})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_computes_what_was_trained(
    kind: str, tokenizer: Any, tmp_path: Path
) -> None:
    """Folded scales, files and the loader's activation functions change no number."""
    model, plan = tiny("gemma2", tokenizer), plan_of(kind)
    batch = next(Sequences(model, made_texts(), 128).batches(10**6, 0))
    inputs, outputs = read(model, batch, plan.input_hook, plan.output_hook)
    coders = Coders(plan, inputs, outputs)
    optimiser = Adam([p for p in coders.parameters() if p.requires_grad], lr=0.01)
    for step in range(25):
        optimiser.zero_grad()
        coders.losses(inputs, outputs, learning=step / 25)[0].backward()
        optimiser.step()
    save(tmp_path, transcoders_of(coders), plan, model_name="tiny")
    model.transcoders = open_transcoders(tmp_path)
    made = [torch.zeros_like(y) for y in outputs]
    for i, x in enumerate(inputs):
        for target, part in reconstruct(model, i, x).items():
            made[target] += part
    with torch.no_grad():
        pres = [
            F.linear(x / coders.in_scale[i], coders.W_enc[i], coders.b_enc[i])
            for i, x in enumerate(inputs)
        ]
        active = [coders.firing(i, pre).dense(pre) for i, pre in enumerate(pres)]
    for i, found in enumerate(made):
        wanted = coders.b_dec[i].detach().clone().expand_as(found)
        for j in model.transcoders.readers(i):
            wanted = wanted + active[j] @ coders.W_dec[j][:, i - j].detach()
        wanted = wanted + inputs[i] / coders.in_scale[i] @ coders.W_skip[i].detach().T
        torch.testing.assert_close(found, wanted * coders.out_scale[i], atol=1e-4, rtol=1e-4)
        assert (active[i] != 0).any()


@pytest.mark.parametrize("kind", ["topk", "skip"])
def test_the_loop_is_adam_on_the_squared_error(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    """Beside a plain loop, layer by layer, in PyTorch's own words."""
    model, plan = tiny("llama", tokenizer), plan_of(kind, epochs=4, start="random")
    trained = training.train_transcoders(model, made_texts(), tmp_path, plan, progress=False)
    sequences = Sequences(model, made_texts(), plan.length)
    first = next(sequences.batches(plan.tokens, 2**31))
    first_in, first_out = read(model, first, plan.input_hook, plan.output_hook)
    steps = round(plan.epochs * sequences.tokens / plan.tokens)
    batches = [
        read(model, batch, plan.input_hook, plan.output_hook)
        for epoch in range(9)
        for batch in sequences.batches(plan.tokens, epoch)
    ][:steps]
    generator = torch.Generator().manual_seed(0)
    for i in range(3):
        s_in, s_out = (t.pow(2).mean().sqrt() for t in (first_in[i], first_out[i]))
        W_enc = torch.randn(48, 32, generator=generator)
        W_enc = W_enc / W_enc.norm(dim=1, keepdim=True)
        b_enc = -W_enc @ (first_in[i].mean(0) / s_in)
        parts = [W_enc, b_enc, torch.zeros(48, 32), first_out[i].mean(0) / s_out]
        parts.append(torch.zeros(32, 32))
        for part in parts:
            part.requires_grad_()
        optimiser = Adam(parts, betas=(0.9, 0.995))
        threshold = torch.zeros(())
        for step, (inputs, outputs) in enumerate(batches):
            optimiser.param_groups[0]["lr"] = learning_rate(plan, step / steps, step)
            x, y = inputs[i] / s_in, outputs[i] / s_out
            pre = x @ parts[0].T + parts[1]
            if plan.activation == "topk":
                least = pre.topk(6, dim=1).values[:, -1:]
                active = torch.where(pre >= least, pre, 0.0)
            else:
                cut = pre.detach()[:: max(1, len(pre) // 64)].flatten()
                cut = cut.sort(descending=True).values[max(1, round(len(cut) * 6 / 48)) - 1]
                speed = 0.2 * max(0.05, 1 - step / steps) if step else 1.0
                threshold = threshold + speed * (cut - threshold)
                active = torch.where(pre > threshold, pre, 0.0)
            made = active @ parts[2] + parts[3]
            if plan.skip:
                made = made + x @ parts[4].T
            optimiser.zero_grad()
            (made - y).pow(2).sum(1).mean().backward()
            optimiser.step()
        own = trained.layers[i]
        every = torch.arange(48)
        close = {"atol": 2e-4, "rtol": 2e-3}
        torch.testing.assert_close(own.encoder_rows(every), parts[0].detach() / s_in, **close)
        decoder = own.decoder.rows(every)[:, 0]
        torch.testing.assert_close(decoder, parts[2].detach() * s_out, **close)


RUN = """
import sys
from circuit_nb import load, training
texts = [[1, *range(5 + i % 7, 14 + i % 7)] for i in range(40)]
training.train_transcoders(load("atlas", device="cpu"), texts, sys.argv[1], features=64, k=6,
    tokens=80, epochs=float(sys.argv[2]), every=3, bfloat16=False, progress=False,
    keep=sys.argv[3] if len(sys.argv) > 3 else None)
"""


def _tensors(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


@pytest.mark.parametrize("kept", [False, True])
def test_killed_and_called_again_it_ends_with_the_same_weights(kept: bool, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-c", RUN]

    def arguments(folder: Path) -> list[str]:
        keep = [str(tmp_path / f"activations of {folder.name}")] if kept else []
        return [*command, str(folder), "20", *keep]

    subprocess.run(arguments(whole), check=True, env=environment)
    process = subprocess.Popen(arguments(killed), env=environment)
    began = time.monotonic()
    while not (killed / checkpoints.NAME).is_file() and time.monotonic() - began < 120:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "config.yaml").exists(), "it had ended before it could be killed"
    assert (killed / checkpoints.NAME).is_file()
    subprocess.run(arguments(killed), check=True, env=environment)
    assert _tensors(killed) == _tensors(whole)
    assert not (killed / checkpoints.NAME).exists()


def test_activations_that_are_kept_are_those_that_are_read(tokenizer: Any, tmp_path: Path) -> None:
    """To bfloat16's 8 digits, in whatever batch; and the model reads no sequence twice."""
    model, plan = tiny("llama", tokenizer), plan_of("topk")
    sequences = Sequences(model, made_texts(), 128)
    passes = passes_of(model)
    for epoch in range(3):
        # As a process of its own would open it.
        kept = Kept(tmp_path, model, sequences, plan, progress=False)
        for batch in sequences.batches(40, epoch):
            found = kept.read(batch)
            before = len(passes)
            expected = read(model, batch, plan.input_hook, plan.output_hook)
            del passes[before:]
            for ours, plain in zip(found, expected, strict=True):
                for a, b in zip(ours, plain, strict=True):
                    torch.testing.assert_close(a, b, atol=1e-5, rtol=2**-7)
    assert sum(rows for rows, _ in passes) == len(sequences.all)


def passes_of(model: ReplacementModel) -> list[tuple[int, int]]:
    """The shapes of what the model is run on from now on."""
    passes: list[tuple[int, int]] = []
    run = model.run

    def told(token_ids: torch.Tensor, *given: Any, **more: Any) -> Any:
        passes.append((token_ids.shape[0], token_ids.shape[1]))
        return run(token_ids, *given, **more)

    model.run = told  # type: ignore[method-assign]
    return passes


def test_short_and_long_sequences_are_not_padded_to_one_length(tokenizer: Any) -> None:
    """And what is read is what each sequence alone gives, in the batch's order."""
    model = tiny("llama", tokenizer)
    draw = torch.Generator().manual_seed(0)
    lengths = [3, 40, 4, 38, 5, 3, 12, 36]
    texts = [[1, *torch.randint(3, 30, (n - 1,), generator=draw).tolist()] for n in lengths]
    batch = next(Sequences(model, texts, 64).batches(1000, 0))
    passes = passes_of(model)
    found = read(model, batch, *HOOKS)
    assert sum(rows * width for rows, width in passes) < 1.35 * sum(lengths)
    alone = [
        read(model, next(Sequences(model, [texts[row]], 64).batches(64, 0)), *HOOKS)
        for row in batch.rows
    ]
    for side, tensors in enumerate(found):
        for layer, tensor in enumerate(tensors):
            expected = torch.cat([each[side][layer] for each in alone])
            torch.testing.assert_close(tensor, expected, atol=1e-5, rtol=1e-4)


def test_products_with_what_fires_are_those_with_everything() -> None:
    """Values and every gradient, beside dense products; some features never fire."""
    torch.manual_seed(0)
    x, W_enc, b_enc = torch.randn(9, 5), torch.randn(12, 5), torch.randn(12)
    W_dec, out = torch.randn(12, 7), torch.randn(9, 7)
    mask = torch.rand(9, 12) < 0.2
    mask[:, 3] = mask[4] = False
    found: list[list[torch.Tensor]] = []
    for sparse in (False, True):
        parts = [part.clone().requires_grad_() for part in (W_enc, b_enc, W_dec)]
        pre = F.linear(x, parts[0], parts[1])
        if sparse:
            firing = Firing(*mask.nonzero().unbind(1), 9, 12)
            values = firing.encoded(x, parts[0], parts[1], pre.detach())
            made = firing.times(values, parts[2])
        else:
            made = (pre * mask) @ parts[2]
        (made * out).sum().backward()
        found.append([made.detach(), *(part.grad for part in parts if part.grad is not None)])
    for dense, sparse_one in zip(*found, strict=True):
        torch.testing.assert_close(sparse_one, dense)


def test_another_run_does_not_go_on_from_a_checkpoint(tokenizer: Any, tmp_path: Path) -> None:
    model, plan = tiny("llama", tokenizer), plan_of("topk")
    coders = Coders(plan, *_some(model, plan))
    checkpoints.save(tmp_path, coders, Adam(coders.parameters()), 3, '{"k": 5}')
    with pytest.raises(ValueError, match=r"another run \(other k\)"):
        checkpoints.resume(tmp_path, coders, Adam(coders.parameters()), '{"k": 6}')
    with pytest.raises(ValueError, match="another run"):
        training.train_transcoders(model, made_texts(), tmp_path, plan, progress=False)


def _some(model: Any, plan: Plan) -> Any:
    batch = next(Sequences(model, made_texts(), 128).batches(64, 0))
    return read(model, batch, plan.input_hook, plan.output_hook)


def test_dead_features_come_back(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    alive: dict[bool, int] = {}
    for helped in (False, True):
        plan = plan_of("jumprelu", dead_after=100 if helped else 10**9)
        inputs, outputs = _some(model, plan)
        coders = Coders(plan, inputs, outputs)
        with torch.no_grad():
            coders.b_enc[:, :24] -= 5  # half of them will never fire
        optimiser = Adam(coders.parameters(), lr=0.02)
        for step in range(150):
            optimiser.zero_grad()
            coders.losses(inputs, outputs, learning=step / 150)[0].backward()
            optimiser.step()
        alive[helped] = int((coders.silent_for == 0).sum())
    assert alive[True] > alive[False]


def test_a_learned_set_beats_a_random_one(tmp_path: Path) -> None:
    model = load("atlas", device="cpu")
    words = ["Dallas", "Oakland", "Houston", "Miami", "Chicago", "Seattle"]
    texts = [f"Fact: the capital of the state containing {word} is" for word in words]
    learned = training.train_transcoders(
        model, texts * 20, tmp_path, features=96, k=8, tokens=256, epochs=15, progress=False,
        activation="topk",
    )  # fmt: skip
    reports = []
    for transcoders in (learned, training.random_like(learned)):
        model.transcoders = transcoders
        reports.append(training.report(model, texts, texts[:1]))
    own, beside = reports
    assert own.unexplained.mean() < 0.1 < 0.5 < beside.unexplained.mean()
    assert own.loss_all < own.loss + 0.5 < beside.loss_all
    assert own.replacement[0] > beside.replacement[0] and own.completeness[0] > 0.9
    assert own.same_top > beside.same_top
    assert abs(own.active.mean() - 8) < 3
    assert own.density.shape == (4, 96) and (own.dead == (own.density == 0).mean(1)).all()
    assert len(own.figure().data) == 2
    card = own.card("A set", {"random": beside})
    assert "| random |" in card and f"{own.unexplained.mean():.3f}" in card


def test_a_report_says_nothing_is_lost_where_nothing_is_replaced(tokenizer: Any) -> None:
    model = tiny("gemma2", tokenizer)
    told = training.report(model, made_texts())
    from circuit_nb.training.replacing import logits_under

    batch = next(Sequences(model, made_texts(), 128).batches(10**6, 0))
    torch.testing.assert_close(logits_under(model, batch, ()), model.run(batch.token_ids))
    assert told.loss_all != told.loss and told.tokens == int(batch.counted.sum())
    assert 0 <= told.same_top <= 1 and not len(told.replacement)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 4096}, "more than the"),
        ({"features": True}, "features is True"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"input_hook": "mlp.hook_out"}, "input_hook is"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Plan(**settings)


def test_texts_that_cannot_be_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    model = tiny("llama", tokenizer)
    with pytest.raises(ValueError, match="a list of texts"):
        training.train_transcoders(model, "the capital", tmp_path)
    with pytest.raises(ValueError, match="no text of at least two tokens"):
        training.train_transcoders(model, [], tmp_path)


def test_padding_and_the_ignored_prefix_are_not_trained_on(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer)
    sequences = Sequences(model, [[1, 5, 6, 7], [1, 5], [1, *range(3, 13)]], 6)
    assert [len(ids) for ids in sequences.all] == [4, 2, 6, 6]
    batch = next(sequences.batches(100, 0))
    assert batch.counted.sum() == sum(len(ids) - 1 for ids in sequences.all)
    assert not batch.counted[:, 0].any()
    inputs, outputs = read(model, batch, "mlp.hook_in", "mlp.hook_out")
    assert len(inputs) == len(outputs) == 3 and inputs[0].shape == (14, 32)

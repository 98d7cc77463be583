"""The shipped weights: that they load, and that their figures pass the gates."""

import json
from pathlib import Path

import pytest
import torch

from circuit_nb import atlas
from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.evaluate import GATES, card, evaluate, figure
from circuit_nb.atlas.making.probe import load_model, load_transcoders, run
from circuit_nb.atlas.making.tokenizer import BOS, load_tokenizer
from circuit_nb.atlas.world import load_world

TOKENS = [
    "<bos>", " Fact", ":", " the", " capital", " of", " the", " state", " containing",
    " Dallas", " is",
]  # fmt: skip


@pytest.fixture(scope="module")
def report() -> dict:
    """Measure the shipped weights once."""
    torch.set_num_threads(1)
    return evaluate(quick=True)


@pytest.mark.parametrize("gate", [g for g in GATES if g.wanted], ids=lambda g: g.key)
def test_gate(report: dict, gate) -> None:
    assert figure(report, gate.key) >= gate.wanted


def test_every_relation_and_form_composes(report: dict) -> None:
    for kind in ("state", "country"):
        for relation, row in report["accuracy"][kind].items():
            assert row["held out"] >= 0.93 and row["training"] >= 0.97, (kind, relation)
            assert min(row["forms"]) >= 0.93, (kind, relation)


def test_switching_texas_off_removes_austin(report: dict) -> None:
    assert report["interventions"]["place off removes Austin"]


def test_transcoders_reconstruct(report: dict) -> None:
    for row in report["transcoders"]:
        assert row["unexplained"] < 0.15 and row["L0"] < 6


def test_shipped_report_is_of_these_weights(report: dict) -> None:
    shipped = json.loads((atlas.WEIGHTS / "report.json").read_text())
    for gate in GATES:
        assert figure(report, gate.key) == pytest.approx(figure(shipped, gate.key), abs=0.02)
    assert "Dallas" in card(shipped)


def test_the_model_says_austin() -> None:
    tokenizer = load_tokenizer(atlas.model_folder())
    ids = tokenizer(atlas.DALLAS).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == TOKENS
    assert ids[0] == BOS
    logits = run(load_model(atlas.model_folder()), torch.tensor([ids])).logits[0, -1]
    assert tokenizer.decode(logits.argmax()) == " Austin"
    assert logits.softmax(-1).max() > 0.9


def test_shipped_tokenizer_is_that_of_the_corpus() -> None:
    corpus = Corpus(load_world())
    tokenizer = load_tokenizer(atlas.model_folder())
    assert tokenizer.convert_ids_to_tokens(range(len(corpus.words))) == corpus.words
    held_out = json.loads((atlas.WEIGHTS / "held_out.json").read_text())
    assert held_out == sorted(corpus.world.held_out)


def test_bridge_gives_the_same_logits() -> None:
    from transformer_lens.model_bridge import TransformerBridge

    folder = str(atlas.model_folder())
    bridge = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
    corpus = Corpus(load_world())
    ids = torch.tensor([corpus.encode(atlas.DALLAS)])
    with torch.no_grad():
        ours = bridge(ids, return_type="logits")
        theirs = load_model(atlas.model_folder())(ids).logits
    assert torch.equal(ours, theirs)


def test_shapes_and_size() -> None:
    transcoders = load_transcoders(atlas.transcoder_folder())
    assert len(transcoders) == 4
    for transcoder in transcoders:
        features, d_model = transcoder.encoder.shape
        assert transcoder.decoder.shape == (features, d_model) == (features, 128)
        assert transcoder.threshold.shape == (features,)
        assert all(torch.isfinite(t).all() for t in vars(transcoder).values())
    size = sum(f.stat().st_size for f in Path(atlas.WEIGHTS).rglob("*") if f.is_file())
    assert size <= 20 * 2**20
    assert not list(Path(atlas.WEIGHTS).rglob("*.pt")) + list(Path(atlas.WEIGHTS).rglob("*.bin"))

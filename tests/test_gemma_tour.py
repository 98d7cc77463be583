"""The tour of Gemma-2-2B runs on a tiny stand-in, served by a stand-in for the Hub.

The notebook is run as it is. The stand-in has Gemma-2-2B's 26 layers and 16k features a layer in
Gemma Scope's layout, of which the published ones, and no others, are active.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_server
import nbformat
import neuronpedia_server
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from circuit_nb import attribute, load, neuronpedia, published
from circuit_nb.neuronpedia import Annotations

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NOTEBOOK = NOTEBOOKS / "gemma_tour.ipynb"
CASES = ("dallas", "oakland", "shanghai", "vancouver", "petit", "chinese", "grand")
LAYERS, D_MODEL, FEATURES = 26, 32, 16_384
SOURCE_SET = "gemmascope-transcoder-16k"
ANSWERS = "Austin Texas Sacramento California Beijing Victoria big 大 small"


def save_model(folder: Path) -> None:
    """A Gemma-2 with one token a word, so that positions are those of the real tokenizer."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

    split = pre_tokenizers.Split(Regex(r"义词|[\u4e00-\u9fff]|[A-Za-z]+|[^\sA-Za-z]"), "isolated")
    spaces = pre_tokenizers.Split(" ", "removed")
    texts = [published.case(name).prompt for name in CASES] + [ANSWERS]
    words = {w for t in texts for w, _ in split.pre_tokenize_str(t) if w.strip()}
    vocabulary = ["<pad>", "<eos>", "<bos>", "<unk>", *sorted({w.strip() for w in words})]
    model = models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaces, split])
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(vocabulary), hidden_size=D_MODEL, intermediate_size=64,
        num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        query_pre_attn_scalar=16, initializer_range=0.2, bos_token_id=2, eos_token_id=1,
        pad_token_id=0,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(folder)


def gemma_scope() -> dict[str, bytes]:
    """One npz a layer in which the published features are always active and no other ever is."""
    wanted: dict[int, set[int]] = {layer: set() for layer in range(LAYERS)}
    for name in CASES:
        for supernode in published.case(name).supernodes.values():
            for feature in supernode.features:
                wanted[feature.layer].add(feature.index)
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for layer, indices in wanted.items():
        rows = sorted(indices)
        encoder = np.zeros((FEATURES, D_MODEL), dtype=np.float16)
        decoder = np.zeros((FEATURES, D_MODEL), dtype=np.float16)
        bias = np.zeros(FEATURES, dtype=np.float32)
        encoder[rows] = 0.02 * rng.standard_normal((len(rows), D_MODEL))
        decoder[rows] = 0.3 * rng.standard_normal((len(rows), D_MODEL))
        bias[rows] = 1.0
        file = io.BytesIO()
        threshold = np.full(FEATURES, 0.5, dtype=np.float32)
        np.savez(file, W_enc=encoder.T, W_dec=decoder, b_enc=bias,
                 b_dec=np.zeros(D_MODEL, dtype=np.float32), threshold=threshold)  # fmt: skip
        files[f"layer_{layer}/width_16k/average_l0_50/params.npz"] = file.getvalue()
    return files


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hub_server.HubState]:
    folder = tmp_path_factory.mktemp("gemma")
    save_model(folder)
    weights = "google/gemma-scope-2b-pt-transcoders"
    with hub_server.serve() as state:
        files = gemma_scope()
        config = {
            "model_name": "google/gemma-2-2b",
            "model_kind": "transcoder_set",
            "feature_input_hook": "ln2.hook_normalized",
            "feature_output_hook": "hook_mlp_out",
            "transcoders": [f"hf://{weights}/{name}" for name in files],
        }
        state.repos["google/gemma-2-2b"] = {p.name: p.read_bytes() for p in folder.iterdir()}
        state.repos["mwhanna/gemma-scope-transcoders"] = {
            "config.yaml": json.dumps(config).encode()
        }
        state.repos[weights] = files
        state.gated.add("google/gemma-2-2b")
        for tokens in (state.valid_tokens, state.granted):
            tokens.add("hf_madeUpTokenOfATest")
        yield state


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def model(hub: hub_server.HubState, cache: Path) -> Any:
    """The stand-in, loaded as a reader would load the real model."""
    with pytest.MonkeyPatch.context() as patch:
        hub_server.point_client_at(hub, cache, patch)
        patch.setenv("HF_TOKEN", "hf_madeUpTokenOfATest")
        return load("google/gemma-2-2b", dtype=torch.bfloat16, device="cpu")


@pytest.mark.parametrize("name", CASES)
def test_published_features_are_where_they_are_said_to_be(model: Any, name: str) -> None:
    case = published.case(name)
    active = {tuple(row) for row in model.record(case.prompt).features.tolist()}
    for supernode in case.supernodes.values():
        for f in supernode.features:
            assert (f.layer, f.position, f.index) in active


def execute(
    notebook: nbformat.NotebookNode, hub: hub_server.HubState, cache: Path, site_url: str
) -> None:
    env = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "HF_TOKEN": "hf_madeUpTokenOfATest",
        "NEURONPEDIA_URL": site_url,
        "CIRCUIT_NB_CACHE": str(cache / site_url.rpartition(":")[2]),
        "PYTHONPATH": os.pathsep.join([str(NOTEBOOKS.parent), *sys.path]),
    }
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(env=env)
    assert "hf_madeUp" not in json.dumps(notebook)


def test_the_notebook_runs(model: Any, hub: hub_server.HubState, cache: Path) -> None:
    dallas = published.case("dallas")
    graph = attribute(model, dallas.prompt, progress=False)
    notes = Annotations(pins=dallas["Texas"].features)
    with neuronpedia_server.serve() as site:
        site.add(20, 15589, "Texas")
        site.add(23, 12237, "capital of Texas, as Neuronpedia says")
        site.graphs[dallas.graph] = json.dumps(neuronpedia.to_json(graph, notes)).encode()
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        execute(notebook, hub, cache, site.url)
        assert "/api/features" in site.paths("POST")
    shown = [o.data for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]
    picture = next(data["image/svg+xml"] for data in shown if "image/svg+xml" in data)
    assert "Say Austin" in picture and "as Neuronpedia says" in picture
    said = {
        cell.id: "".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert said["ablate"].count("published:") == 5
    assert "Texas -2x: " in said["ablate"]
    assert "Sacramento 37" in said["swap"] and "Say Austin" in said["swap"]
    assert "大 85" in said["petit-run"]
    n = len(graph.features)
    assert f"{n} of their {n} features are in our graph" in said["published"]


def test_cells_are_short_and_saved_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 10
            assert not cell.outputs
            assert "def " not in cell.source

"""What the notebooks on Gemma-2-2B run on where there is neither: stand-ins for model and site.

The model is random and tiny, with Gemma-2-2B's 26 layers and 16k features a layer in Gemma Scope's
layout, of which the published ones, and no others, are active. The published graph is one of the
embedded model, in Neuronpedia's form.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hub_server
import neuronpedia_server
import numpy as np
import pytest
import torch

from circuit_nb import atlas, attribute, load, neuronpedia, published
from circuit_nb.model import ReplacementModel
from circuit_nb.neuronpedia import Annotations

CASES = ("dallas", "oakland", "shanghai", "vancouver", "petit", "chinese", "grand")
LAYERS, D_MODEL, FEATURES = 26, 32, 16_384
SOURCE_SET = "gemmascope-transcoder-16k"
ANSWERS = "Austin Texas Sacramento California Beijing Victoria big 大 small"
TOKEN = "hf_madeUpTokenOfATest"
NEEDED = {
    "gemma_tour": "a random model of Gemma-2-2B's shape, in which the published features are "
    "active and nothing else is: no number here is Gemma's own",
    "published_graph": "a graph of the embedded model, written in Neuronpedia's form and served "
    "from where the published one is",
}
"""What stands in for what, by notebook."""


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


@contextmanager
def hub_of_gemma(folder: Path) -> Iterator[hub_server.HubState]:
    """A stand-in for the Hub that holds the stand-in for Gemma, whose files pass by `folder`."""
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
            tokens.add(TOKEN)
        yield state


def load_gemma(hub: hub_server.HubState, cache: Path) -> ReplacementModel:
    """The stand-in, loaded as a reader would load the real model."""
    with pytest.MonkeyPatch.context() as patch:
        hub_server.point_client_at(hub, cache, patch)
        patch.setenv("HF_TOKEN", TOKEN)
        return load("google/gemma-2-2b", dtype=torch.bfloat16, device="cpu")


@contextmanager
def site_of_gemma(model: ReplacementModel) -> Iterator[neuronpedia_server.SiteState]:
    """A stand-in for Neuronpedia with a graph of the stand-in, and labels of two features."""
    dallas = published.case("dallas")
    graph = attribute(model, dallas.prompt, progress=False)
    notes = Annotations(pins=dallas["Texas"].features)
    with neuronpedia_server.serve() as site:
        site.add(20, 15589, "Texas")
        site.add(23, 12237, "capital of Texas, as Neuronpedia says")
        site.graphs[dallas.graph] = json.dumps(neuronpedia.to_json(graph, notes)).encode()
        yield site


@contextmanager
def site_of_atlas() -> Iterator[neuronpedia_server.SiteState]:
    """A stand-in for Neuronpedia with a labelled graph of the embedded model."""
    graph = attribute(load("atlas", device="cpu"), atlas.DALLAS, progress=False)
    known = atlas.labels()
    features = [n for n in graph.nodes[graph.blocks.features] if (n.layer, n.index) in known]
    notes = Annotations(labels={n: known[n.layer, n.index] for n in features})
    content = neuronpedia.to_json(graph, notes, scan="gemma-2-2b", source_set="stand-in")
    del content["metadata"]["circuit_nb"]  # a published file says nothing of this library
    with neuronpedia_server.serve() as site:
        site.graphs[published.case("dallas").graph] = json.dumps(content).encode()
        yield site


def environment(cache: Path, site_url: str, hub: hub_server.HubState | None) -> dict[str, str]:
    """Variables under which a notebook finds the stand-ins."""
    found = {
        "NEURONPEDIA_URL": site_url,
        "CIRCUIT_NB_CACHE": str(cache / site_url.rpartition(":")[2]),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
    }
    if hub is not None:
        found |= {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "HF_TOKEN": TOKEN,
        }
    return found


@contextmanager
def surroundings(name: str) -> Iterator[dict[str, str]]:
    """What a notebook needs to run here, as environment variables."""
    with tempfile.TemporaryDirectory() as folder:
        cache, files = Path(folder) / "cache", Path(folder) / "files"
        files.mkdir()
        if name == "published_graph":
            with site_of_atlas() as site:
                yield environment(cache, site.url, None)
        elif name == "gemma_tour":
            with hub_of_gemma(files) as hub, site_of_gemma(load_gemma(hub, cache)) as site:
                yield environment(cache, site.url, hub)
        else:
            yield {}

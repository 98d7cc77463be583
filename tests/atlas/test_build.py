"""A build of a few steps: every stage runs, writes what it should and repeats exactly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from circuit_nb.atlas import read_concepts
from circuit_nb.atlas.making.build import Build
from circuit_nb.atlas.making.network import Constraints, Shape, blocks, new_model, spread_head
from circuit_nb.atlas.making.probe import load_model, load_transcoders
from circuit_nb.atlas.making.stages import PLANS, ROUNDS, STAGES
from circuit_nb.atlas.world import World, load_world

TINY = Shape(embedding=8, workspace=16, output=24, kinds=10, words=4, heads=8, mlp=128, layers=2)


def short_build(folder: Path) -> Build:
    """Return a build of two steps a stage, in a world of eight places."""
    whole = load_world()
    world = World((*whole.places[:4], *whole.places[50:54]), whole.held_out)
    stages = [replace(s, steps=2, batch=16, sparsity_from=0) for s in STAGES]
    plans = tuple(replace(plan, steps=4, batch=64) for plan in (PLANS[0], PLANS[-1]))
    rounds = tuple(replace(r, steps=1, batch=8) for r in ROUNDS)
    return Build(
        folder,
        world=world,
        shape=TINY,
        stages=stages,
        plans=plans,
        rounds=rounds,
        log=lambda line: None,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("build")
    build = short_build(folder)
    for name in ("compose", "rewire", "route", "sharpen", "transcoders"):
        build.steps()[name]()
    return folder


def test_build_writes_what_ships(built: Path) -> None:
    model = load_model(built / "model")
    assert (built / "model" / "tokenizer.json").exists()
    assert len(load_transcoders(built / "transcoders")) == model.config.num_hidden_layers


def test_build_repeats_exactly(built: Path, tmp_path: Path) -> None:
    again = short_build(tmp_path)
    for name in ("compose", "rewire"):
        again.steps()[name]()
    first = load_model(built / "stages" / "rewire").state_dict()
    second = load_model(tmp_path / "stages" / "rewire").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_split_holds_after_training(built: Path) -> None:
    shape = TINY
    model = load_model(built / "model")
    layers = blocks(model)
    assert not any(p.any() for p in layers[0].self_attn.parameters())
    for i, layer in enumerate(layers):
        writes = layer.mlp.down_proj.weight.abs().sum(1) > 0
        allowed = shape.part("output" if i == len(layers) - 1 else "free") > 0
        assert not (writes & ~allowed).any()
        reads = layer.post_attention_layernorm.weight != 0
        part = "embedding" if i == 0 else "free"
        assert not (reads & ~((shape.part(part) + shape.part("constant")) > 0)).any()
    assert not model.lm_head.weight[:, shape.part("output") == 0].any()
    embedding = model.model.embed_tokens.weight * shape.part("embedding")
    assert embedding.norm(dim=1).max() <= shape.embedding_norm + 1e-6


def test_constraints_need_the_right_shape() -> None:
    shape = Shape()
    assert shape.d_model == 128 and shape.d_model % shape.heads == 0
    torch.manual_seed(0)
    model = new_model(50, shape)
    Constraints(model, shape)
    assert (model.model.embed_tokens.weight[:, shape.embedding] == shape.constant).all()


def test_head_directions_are_unit_and_apart() -> None:
    kinds = torch.tensor([-1] * 10 + [0] * 20 + [1] * 20)
    head = spread_head(kinds, Shape(), seed=0)
    assert (head.norm(dim=1) - 1).abs().max() < 1e-5
    overlap = head @ head.T
    assert not overlap[:10, 10:].any()
    assert (overlap - 2 * torch.eye(50)).max() < 0.6


def test_concepts_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"Texas": {"kind": "state", "features": [[0, 3, 1.5]]}}')
    assert read_concepts(tmp_path / "c.json")["Texas"].features == ((0, 3, 1.5),)

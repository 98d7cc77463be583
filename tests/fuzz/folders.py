"""Folders of transcoder files, damaged."""

from __future__ import annotations

import copy
import functools
import io
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from mutations import Tensors, damage_bytes, damage_tensors, damage_tree, safetensors

from circuit_nb.transcoders.formats import open_transcoders

LAYERS, FEATURES, WIDTH = 2, 5, 4
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
)
HOSTILE = (
    BOMB,
    "k: &a [*a]",
    "k: *nothing",
    "<<: *a",
    "<<: {k: 3}",
    "k: !!python/object/apply:os.getcwd []",
    "k: !!int abc",
    "k: !!timestamp x",
    "k: 2024-13-45",
    "k: 2024-12-24",
    "k: =",
    "k: !foo 5",
    "k: 1:99:99",
    "k: .nan",
    "k: 9" + "9" * 5000,
    "? [a, b]\n: c",
    "x: " + "[" * 30 + "]" * 30,
    "x: " + "[" * 100_000,
    "x: [" + "a, " * 30_000 + "]",
    "x: [" + "[], " * 300_000 + "]",
    "transcoders: [/etc/passwd, /etc/hosts]",
    "transcoders: [../layer_0.safetensors, layer_1.safetensors]",
    "transcoders: {a: b}",
    "transcoders: [5]",
    "transcoders: ['']",
    'transcoders: ["a\\0b", "\\uDC00"]',
    "transcoders: [hf://a/b/c, hf://a/b/d]",
    "transcoders: [" + "x" * 300 + "]",
    "\x00",
    "\u2028: \ufeff",
)


def archive(arrays: Tensors, draw: random.Random) -> bytes:
    """An .npz file, packed or not, now and then with a member that is no array."""
    file = io.BytesIO()
    packing = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    if draw.random() < 0.05:
        packing = draw.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(file, "w", packing) as made:
        for name, array in arrays.items():
            one = io.BytesIO()
            if draw.random() < 0.02:
                array = np.array([{"a": 1}], dtype=object)
            elif draw.random() < 0.02:
                array = array.astype(array.dtype.newbyteorder(">"))
            np.lib.format.write_array(one, array, allow_pickle=True)
            data = one.getvalue()
            if draw.random() < 0.05:
                data = damage_bytes(data, draw)
            made.writestr(f"{name}.npy", data)
    return file.getvalue()


@functools.cache
def _sets() -> tuple[tuple[str, dict[str, Any], dict[str, Tensors]], ...]:
    """Per-layer, cross-layer, Gemma Scope's archives, Gemma Scope 2, CLT-Forge and llamascopium.

    Each is the name of its config, what this says, and its files.
    """
    random_ = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return random_.normal(size=shape).astype(np.float32)

    config = {
        "model_name": "ann/model",
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
        "scan": ["ann/0-set", "ann/1-set"],
    }
    plain, cross, scope, scope_2 = ({} for _ in range(4))
    for i in range(LAYERS):
        encoder, decoder = numbers(FEATURES, WIDTH), numbers(FEATURES, WIDTH)
        biases = {"b_enc": numbers(FEATURES), "b_dec": numbers(WIDTH)}
        threshold = np.abs(numbers(FEATURES))
        plain[f"layer_{i}.safetensors"] = {
            "W_enc": encoder, "W_dec": decoder, **biases,
            "activation_function.threshold": threshold, "W_skip": numbers(WIDTH, WIDTH),
        }  # fmt: skip
        named = {f"{name}_{i}": array for name, array in biases.items()}
        cross[f"W_enc_{i}.safetensors"] = {f"W_enc_{i}": encoder, **named}
        cross[f"W_dec_{i}.safetensors"] = {f"W_dec_{i}": numbers(FEATURES, LAYERS - i, WIDTH)}
        scope[f"layer_{i}.npz"] = {
            "W_enc": encoder.T.copy(), "W_dec": decoder, **biases, "threshold": threshold,
        }  # fmt: skip
        scope_2[f"layer_{i}.safetensors"] = {
            "w_enc": encoder.T.copy(), "w_dec": decoder, **biases, "threshold": threshold,
            "affine_skip_connection": numbers(WIDTH, WIDTH),
        }  # fmt: skip
    kind = {"model_kind": "cross_layer_transcoder"}
    listed = {"transcoders": list(scope), "activation": "topk", "k": 2}
    n, name = LAYERS, "config.yaml"
    forge = {
        "W_enc": numbers(n, WIDTH, FEATURES), "b_enc": numbers(n, FEATURES),
        "W_dec": numbers(3, FEATURES, WIDTH), "b_dec": numbers(3, WIDTH),
        "log_threshold": numbers(n, FEATURES), "estimated_norm_scaling_factor_in": 1 + numbers(n),
        "estimated_norm_scaling_factor_out": 9 + numbers(n),
    }  # fmt: skip
    hooks = [
        [f"blocks.{i}.{hook}" for i in range(n)] for hook in ("hook_resid_mid", "hook_mlp_out")
    ]
    llama = {
        "W_E": numbers(n, WIDTH, FEATURES), "b_E": numbers(n, FEATURES),
        "activation_function.log_jumprelu_threshold": numbers(n, FEATURES),
        **{f"W_D.{i}": numbers(i + 1, FEATURES, WIDTH) for i in range(n)},
        **{f"b_D.{i}": numbers(WIDTH) for i in range(n)},
        **{f"dataset_average_activation_norm.{h}": np.abs(numbers()) for h in hooks[0] + hooks[1]},
    }  # fmt: skip
    said = {
        "sae_type": "clt", "act_fn": "jumprelu", "norm_activation": "dataset-wise", "top_k": 3,
        "hook_points_in": hooks[0], "hook_points_out": hooks[1],
    }  # fmt: skip
    joint = {**said, "act_fn": "layertopk"}
    chosen = {name: array for name, array in llama.items() if not name.startswith("activation_")}
    forged = {"n_layers": n, "cross_layer_decoders": True, "model_name": "ann/model"}
    return (
        (name, config, plain),
        (name, {**config, **kind}, cross),
        (name, {**config, **listed}, scope),
        (name, config, scope_2),
        ("clt_cfg.json", forged, {"clt_weights.safetensors": forge}),
        ("config.json", said, {"sae_weights.safetensors": llama}),
        ("config.json", joint, {"sae_weights.safetensors": chosen}),
    )


def transcoders(folder: Path, draw: random.Random) -> Callable[[], object]:
    """A folder that `load` is given."""
    described, config, files = copy.deepcopy(draw.choice(_sets()))
    text = yaml.safe_dump(config)
    way = draw.randrange(6)
    if way == 0:
        tree = damage_tree(config, draw)
        text = yaml.safe_dump(tree, allow_unicode=draw.random() < 0.5)
    elif way == 1:
        text = draw.choice((f"{text}\n{draw.choice(HOSTILE)}", draw.choice(HOSTILE)))
    elif way in (2, 3):
        name = draw.choice(sorted(files))
        files[name] = damage_tensors(files[name], draw)
    content = {
        name: archive(arrays, draw) if name.endswith("npz") else safetensors(arrays, {}, draw)
        for name, arrays in files.items()
    }
    content[described] = text.encode("utf-8", "surrogatepass")
    if way == 4:
        name = draw.choice(sorted(content))
        content[name] = damage_bytes(content[name], draw)
    elif way == 5:
        name = draw.choice(sorted(content))
        moved = content.pop(name)
        if draw.random() < 0.7:
            content[draw.choice((*content, "layer_9.safetensors", "layer_x.npz", "x"))] = moved
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)

    def use() -> None:
        opened = open_transcoders(folder)
        assert opened.scan is None or isinstance(opened.scan, str | list)
        x = torch.ones(3, opened.d_model)
        cut = opened.cut([x] * opened.n_layers)
        for layer in opened.layers:
            activations = layer.activate(layer.pre_activations(x), cut)
            every = torch.arange(min(50, len(layer.b_enc)))
            rows = layer.decoder.rows(every.flip(0))
            for tensor in (activations, rows, layer.skip(x), layer.encoder_rows(every)):
                assert not tensor.isnan().any()

    return use

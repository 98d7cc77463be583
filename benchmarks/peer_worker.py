"""One measurement in circuit-tracer 0.5.0; run by `attribution.py` with the peer's Python.

Prints one JSON line: seconds, peak extra bytes, and where the edges were written.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from measuring import peak_memory_above, tokens_of
from safetensors.torch import save_file


def load(folder: Path, kind: str):
    """circuit-tracer's model from a local folder, which its own loader cannot name."""
    from circuit_tracer.replacement_model.replacement_model_transformerlens import (
        TransformerLensReplacementModel,
    )
    from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
    from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hf = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    c = hf.config
    cfg = HookedTransformerConfig(
        model_name="smollm2",
        d_model=c.hidden_size,
        d_head=c.hidden_size // c.num_attention_heads,
        n_heads=c.num_attention_heads,
        n_key_value_heads=c.num_key_value_heads,
        d_mlp=c.intermediate_size,
        n_layers=c.num_hidden_layers,
        n_ctx=2048,
        eps=c.rms_norm_eps,
        d_vocab=c.vocab_size,
        act_fn=c.hidden_act,
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_base=int(c.to_dict()["rope_parameters"]["rope_theta"]),
        rotary_adjacent_pairs=False,
        rotary_dim=c.hidden_size // c.num_attention_heads,
        final_rms=True,
        gated_mlp=True,
        original_architecture="LlamaForCausalLM",
        dtype=torch.float32,
        device="cpu",
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "peer_tokenizer")
    model = TransformerLensReplacementModel(cfg, tokenizer=tokenizer, default_padding_side="right")
    model.load_and_process_state_dict(
        convert_llama_weights(hf, cfg),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    hooks = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "mlp.hook_out"}
    cpu = torch.device("cpu")
    if kind == "clt":
        sets = load_clt(str(folder / kind), **hooks, device=cpu, dtype=torch.float32)
    else:
        paths = {i: str(folder / kind / f"layer_{i}.safetensors") for i in range(cfg.n_layers)}
        sets = load_transcoder_set(
            paths, "benchmark", **hooks, device=cpu, dtype=torch.float32, lazy_encoder=False
        )
    model._configure_replacement_model(sets)
    return model


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    from circuit_tracer import attribute

    model = load(Path(job["folder"]), job["kind"])
    ids = torch.tensor(tokens_of(model.tokenizer, job["length"]))
    with torch.no_grad():
        model(ids)  # weights are mapped: read them before anything is timed
    if job["task"] == "intervene":
        print(json.dumps(_intervene(model, ids, job)))
        return

    def run():
        return attribute(
            ids,
            model,
            max_n_logits=10,
            desired_logit_prob=0.95,
            batch_size=job["peer_batch"],
            max_feature_nodes=job["rows"],
            verbose=False,
        )

    with peak_memory_above() as peak:
        start = time.perf_counter()
        graph = run()
        seconds = time.perf_counter() - start
    tensors = {
        "features": graph.active_features[graph.selected_features].contiguous(),
        "edges": graph.adjacency_matrix,
    }
    save_file(tensors, job["edges"])
    print(json.dumps({"seconds": seconds, "bytes": peak.value}))


def _intervene(model, ids, job):
    changes = [tuple(c) for c in job["changes"]]
    model.feature_intervention(ids, changes[:1], return_activations=False)
    start = time.perf_counter()
    for change in changes:
        logits, _ = model.feature_intervention(ids, [change], return_activations=False)
    seconds = time.perf_counter() - start
    save_file({"logits": logits[0].contiguous()}, job["edges"])
    return {"seconds": seconds, "bytes": 0}


if __name__ == "__main__":
    main()

"""Points 2, 3, 5 and 8: hooks, threads, models and what is remembered of them, memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from registry import DALLAS, GOLDEN, GOLDEN_PROMPT, atlas, case, golden

OAKLAND = DALLAS.replace("Dallas", "Oakland")


def _hooks(model: Any) -> int:
    modules = dict.fromkeys([*model.bridge.modules(), *model.bridge.original_model.modules()])
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def _logits(model: Any, prompt: str) -> torch.Tensor:
    with torch.no_grad():
        return model.bridge(model.tokenize(prompt)[None], return_type="logits").clone()


def _intervened(model: Any, graph: Any) -> Any:
    from circuit_nb import Feature, Intervention, intervene

    feature = Feature(*graph.features[5].tolist())
    return intervene(model, graph.prompt, [Intervention.scale(feature, -3.0)])


@case(2, "KeyboardInterrupt while the bridge takes its hooks away")
def interrupt() -> str:
    from torch.utils.hooks import RemovableHandle

    from circuit_nb import attribute

    model = golden()
    graph = attribute(model, GOLDEN_PROMPT, progress=False)
    _intervened(model, graph)
    hooks, expected = _hooks(model), _logits(model, GOLDEN_PROMPT)
    real, raised = RemovableHandle.remove, []

    def remove(handle: Any) -> None:
        if not raised:
            raised.append(True)
            raise KeyboardInterrupt
        real(handle)

    RemovableHandle.remove = remove  # type: ignore[method-assign]
    try:
        _intervened(model, graph)
    except KeyboardInterrupt:
        pass
    finally:
        RemovableHandle.remove = real  # type: ignore[method-assign]
    same = torch.equal(_logits(model, GOLDEN_PROMPT), expected)
    return f"{_hooks(model) - hooks} hooks left, logits {'the same' if same else 'others for good'}"


@case(2, "a hook of the reader's own between two passes")
def foreign_hook() -> str:
    import warnings

    model = golden()
    before = model.record(GOLDEN_PROMPT).next_logits.clone()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.bridge.add_hook("blocks.0.hook_resid_pre", lambda tensor, hook: 2 * tensor)
        after = model.record(GOLDEN_PROMPT).next_logits
    ours = next((str(w.message) for w in told if "of your own" in str(w.message)), "nothing said")
    stale = torch.equal(before, after)
    return f"the record {'from before the hook is used' if stale else 'is run anew'}; {ours}"


def _threads(what: Callable[[int], bool], times: int) -> str:
    def right(i: int) -> bool:
        try:
            return what(i)
        except Exception:
            return False

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(right, range(times)))
    return f"{found.count(False)} of {times} wrong"


@case(3, "`attribute` from two threads")
def attribute_threads() -> str:
    from circuit_nb import attribute

    def graph(prompt: str) -> Any:
        return attribute(atlas(), prompt, max_features=40, progress=False)

    prompts = (DALLAS, OAKLAND)
    expected = [graph(prompt) for prompt in prompts]

    def right(i: int) -> bool:
        found, wanted = graph(prompts[i % 2]), expected[i % 2]
        return found.prompt == wanted.prompt and np.array_equal(found.weights, wanted.weights)

    return _threads(right, 100)


@case(3, "`intervene` from two threads")
def intervene_threads() -> str:
    from circuit_nb import attribute

    graphs = [attribute(atlas(), p, max_features=40, progress=False) for p in (DALLAS, OAKLAND)]
    expected = [_intervened(atlas(), graph).after.logits[-1] for graph in graphs]

    def right(i: int) -> bool:
        found = _intervened(atlas(), graphs[i % 2]).after.logits[-1]
        return np.array_equal(found, expected[i % 2])

    return _threads(right, 200)


def _bridge(folder: Any) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)


@case(5, "loads a weight-processed bridge")
def weight_processed() -> str:
    from circuit_nb import atlas as embedded
    from circuit_nb import attribute, load

    bridge = _bridge(embedded.model_folder())
    bridge.enable_compatibility_mode(disable_warnings=True)
    wrong = load(bridge, atlas().transcoders, device="cpu")
    mine, right = (
        {tuple(row) for row in attribute(m, DALLAS, max_features=None, progress=False).features}
        for m in (wrong, atlas())
    )
    return f"accepted; {len(mine)} features instead of {len(right)}, {len(mine ^ right)} others"


@case(5, "`load(hf_model)` of a model in bfloat16, training")
def callers_model() -> str:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from circuit_nb import load

    hf = AutoModelForCausalLM.from_pretrained(GOLDEN / "model", dtype=torch.bfloat16).train()

    def state() -> dict[str, object]:
        return {
            "dtype": hf.dtype,
            "attention": hf.config._attn_implementation,
            "gradients": [p.requires_grad for p in hf.parameters()],
            "training": hf.training,
            "modules": [type(m).__name__ for m in hf.modules()],
        }

    before = state()
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "model")
    load(hf, GOLDEN / "transcoders", tokenizer=tokenizer, device="cpu")
    after = state()
    return f"changed: {', '.join(n for n in before if before[n] != after[n]) or 'nothing'}"


@case(5, "`load(bridge, …, dtype=torch.bfloat16)`")
def dtype_with_a_bridge() -> str:
    from circuit_nb import load

    model = load(_bridge(GOLDEN / "model"), GOLDEN / "transcoders", dtype=torch.bfloat16)
    return f"ignored: the model is in {model.dtype}"


@case(5, "the kept record after `model.transcoders` is set")
def other_transcoders() -> str:
    model = golden()
    model.record(GOLDEN_PROMPT)
    first, *others = model.transcoders.layers
    moved = replace(first, b_enc=first.b_enc + 5)
    model.transcoders = replace(model.transcoders, layers=(moved, *others))
    kept = model.record(GOLDEN_PROMPT).features
    fresh = type(model)(model.bridge, model.transcoders).record(GOLDEN_PROMPT).features
    return f"{len(kept)} active features, {len(fresh)} are right"


@case(5, "the kept record after a weight is tripled")
def other_weights() -> str:
    model = golden()
    before = model.record(GOLDEN_PROMPT).next_logits.clone()
    named = model.bridge.original_model.named_parameters()
    next(p for name, p in named if "down_proj" in name).data.mul_(3)
    stale = torch.equal(model.record(GOLDEN_PROMPT).next_logits, before)
    return "used, stale" if stale else "run anew"


@case(5, "a graph's prompt after the same tokens were written otherwise")
def other_text() -> str:
    from circuit_nb import attribute

    model, short = golden(), GOLDEN_PROMPT.removeprefix("<bos> ")
    attribute(model, GOLDEN_PROMPT, progress=False)
    found = attribute(model, short, progress=False).prompt
    return "its own" if found == short else f"the other's: {found!r}"


@case(5, "`Session(graph, another_model)`")
def another_model() -> str:
    from circuit_nb import attribute
    from circuit_nb.panels import Session

    Session(attribute(golden(), GOLDEN_PROMPT, progress=False), atlas())
    return "accepted without a word"


@case(8, "a prompt of 65 tokens, context 64")
def beyond_the_context() -> str:
    from circuit_nb import attribute

    model = golden()
    model.bridge.cfg.n_ctx = 64  # its own 8,192 take a minute
    graph = attribute(model, [1] + [5] * 64, max_features=5, progress=False)
    return f"a graph of {len(graph.tokens)} tokens"


@case(8, "attention patterns of 2 TiB")
def beyond_memory() -> str:
    """Only whether the pass is begun: the old code would fill this machine."""
    from circuit_nb import attribute

    model = golden()
    cfg = model.bridge.cfg
    length = int((2 * 2**40 / (4 * cfg.n_layers * cfg.n_heads)) ** 0.5)
    cfg.n_ctx = length + 1

    def forward(*_: Any, **__: Any) -> Any:
        raise SystemExit("the pass is begun")

    type(model.bridge).forward = forward
    return str(attribute(model, torch.full((length,), 5), progress=False))


@case(8, "free memory in a container that leaves 1 GiB (cgroup v2)")
def container() -> str:
    import builtins
    import io

    try:
        from circuit_nb.model.memory import free_memory
    except ImportError:
        from circuit_nb.memory import free_memory  # type: ignore[no-redef]
    files = {
        "/proc/self/cgroup": "0::/\n",
        "/sys/fs/cgroup/memory.max": str(2**31),
        "/sys/fs/cgroup/memory.current": str(2**30),
        "/sys/fs/cgroup/memory.stat": "anon 5\n",
    }
    real = builtins.open

    def opened(file: Any, mode: str = "r", *args: Any, **settings: Any) -> Any:
        path = str(file).replace("//", "/")
        if path in files:
            return io.BytesIO(files[path].encode()) if "b" in mode else io.StringIO(files[path])
        if path.startswith("/sys/fs/cgroup/"):
            raise FileNotFoundError(path)
        return real(file, mode, *args, **settings)

    builtins.open = io.open = opened
    return f"{free_memory(torch.device('cpu')) / 2**30:.1f} GiB"


@case(8, "memory runs out between two groups of rows")
def retry() -> str:
    from circuit_nb import attribute

    model = golden()
    expected = attribute(model, GOLDEN_PROMPT, max_features=None, progress=False).weights
    real, calls = torch.linalg.vector_norm, []

    def norm(*args: Any, **settings: Any) -> Any:
        calls.append(True)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*args, **settings)

    torch.linalg.vector_norm = norm
    found = attribute(model, GOLDEN_PROMPT, max_features=None, progress=False).weights
    return f"edges differ by {np.abs(found - expected).max() / np.abs(expected).max():.0e}"

"""Points 1 and 11: what newer releases bring, and what a reader is shown or may ask."""

from __future__ import annotations

import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from registry import DALLAS, atlas, case, python

LLAMA = Path("tests/golden/llama-plt-skip")
OPENED = f"from circuit_nb import load, intervene; m = load('{LLAMA}/model', '{LLAMA}/transcoders')"


def generated() -> str:
    """Generated tokens beside those of passes over everything before each."""
    from circuit_nb import intervene, load

    model, ids = load(LLAMA / "model", LLAMA / "transcoders", device="cpu"), [1, 5, 9, 12]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = intervene(model, ids, [], max_new_tokens=8).after.generated
    prefix = list(ids)
    for _ in found:
        prefix.append(int(intervene(model, prefix, []).after.logits[-1].argmax()))
    right = sum(a == b for a, b in zip(found, prefix[4:], strict=True))
    ours = [str(w.message) for w in caught if "key-value cache" in str(w.message)]
    return f"{right} of {len(found)} tokens right, {f'said: {ours[0]}' if ours else 'no warning'}"


case(1, "generates with the transformers that is installed")(generated)


@case(1, "generates with a key-value cache that keeps nothing")
def lost_cache() -> str:
    from transformers.cache_utils import Cache

    Cache.update = lambda self, k, v, *args, **settings: (k, v)  # type: ignore[method-assign]
    return generated()


def _has(file: str, text: str) -> str:
    path = Path(file)
    found = path.is_file() and text in path.read_text(encoding="utf-8")
    return "yes" if found else "no"


case(1, "the README's test command takes tested versions")(
    partial(_has, "README.md", "-c tests/constraints.txt")
)
case(1, "CI runs the newest of everything")(partial(_has, ".ci/run", "newest of everything"))
case(11, "an extra brings gguf for `benchmarks/`")(partial(_has, "pyproject.toml", "gguf"))


def shown(code: str) -> str:
    """What a reader sees of others: warnings and bars."""
    text = python("-W", "default", "-c", code).stderr.replace("\r", "\n")
    found = re.findall(r"\w+Warning: [^\n]{0,60}|Loading weights|Traceback.*", text)
    return f"{len(found)} lines, such as {found[-1]!r}" if found else "nothing"


case(11, "is shown while a model of 5 MB is loaded")(
    partial(shown, "from circuit_nb import load; load('atlas', device='cpu')")
)
case(11, "is shown while text is generated")(
    partial(shown, f"{OPENED}; intervene(m, [1, 5, 9], [], max_new_tokens=6)")
)


def attributed(prompt: str = DALLAS, **settings: Any) -> str:
    from circuit_nb import attribute

    graph = attribute(atlas(), prompt, max_features=20, progress=False, **settings)
    return f"accepted; targets {graph.targets}, weights {graph.target_probabilities.tolist()}"


def negative() -> str:
    import torch

    from circuit_nb import Target

    return attributed(targets=[Target("up", torch.ones(atlas().bridge.cfg.d_model), -1.0)])


case(11, "`targets=[5.7]`")(partial(attributed, targets=[5.7]))
case(11, "`targets=[True]`")(partial(attributed, targets=[True]))
case(11, "a target of weight −1")(negative)
case(11, "a lone surrogate in a prompt")(partial(attributed, "the \ud83d is"))

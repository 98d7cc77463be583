"""What is too long, or for which there is too little memory, is refused before the pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families import PROMPT, tiny

from circuit_nb import attribute, intervene
from circuit_nb.hub.free_memory import available_memory, left_in_container
from circuit_nb.model.memory import free_memory

GIB = 2**30


@pytest.fixture
def no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Any, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(
        "transformer_lens.model_bridge.transformer_bridge.TransformerBridge.forward", forward
    )


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "neox"])
def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(
    family: str, tokenizer: Any, no_pass: None
) -> None:
    model = tiny(family, tokenizer)
    for run in (attribute, lambda m, p: intervene(m, p, []), lambda m, p: m.record(p)):
        with pytest.raises(ValueError, match=r"has 65 tokens, and .* was made for 64; give a sh"):
            run(model, [1, *range(3, 35), *range(3, 35)])
    with pytest.raises(ValueError, match="65 tokens"):
        model.run(torch.zeros(1, 65, dtype=torch.int64))


def test_the_whole_context_can_be_used(tokenizer: Any) -> None:
    model = tiny("gpt2", tokenizer)
    graph = attribute(model, [1, *range(3, 34), *range(3, 35)], max_features=5, progress=False)
    assert len(graph.tokens) == 64


def test_text_is_not_generated_beyond_the_context(tokenizer: Any) -> None:
    model = tiny("gpt2", tokenizer)
    with pytest.raises(ValueError, match=r"has 9 tokens and 56 are to be generated.* for 64"):
        intervene(model, PROMPT, [], max_new_tokens=56)
    assert len(intervene(model, PROMPT, [], max_new_tokens=55).after.generated) <= 55


def test_patterns_beyond_what_is_free_are_refused_with_the_numbers(
    tokenizer: Any, no_pass: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama", tokenizer)
    monkeypatch.setattr(model.bridge.cfg, "n_ctx", 100_000)
    monkeypatch.setattr("circuit_nb.model.room.free_memory", lambda device: 3 * GIB)
    # 3 layers of 4 heads, 4 bytes each: 12 heads × 20,000² × 4 bytes.
    with pytest.raises(
        MemoryError, match=r"of 20,000 tokens take 17\.9 GiB, and cpu has 3\.0 GiB.*most 8,192 tok"
    ):
        attribute(model, [1] + [5] * 19_999, progress=False)


def test_patterns_that_fit_are_not_refused(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama", tokenizer)
    monkeypatch.setattr("circuit_nb.model.room.free_memory", lambda device: 0)
    assert len(model.record(PROMPT).features)  # 4 KB of them are not worth asking


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


SECOND = "sys/fs/cgroup/job/memory"
FIRST = "sys/fs/cgroup/memory/docker/abc/memory"
NONE = "9223372036854771712"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        # Version 2: a limit on the group itself, page cache given up first.
        (
            {
                "proc/self/cgroup": "0::/job\n",
                f"{SECOND}.max": f"{4 * GIB}\n",
                f"{SECOND}.current": f"{3 * GIB}\n",
                f"{SECOND}.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file 5\n",
            },
            2 * GIB,
        ),
        # A group above has the lower limit.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "5\n",
                "sys/fs/cgroup/a/memory.max": f"{GIB}\n",
                "sys/fs/cgroup/a/memory.current": f"{GIB // 4}\n",
            },
            GIB - GIB // 4,
        ),
        # In a container the group is mounted at the top, whatever the host calls it.
        (
            {
                "proc/self/cgroup": "0::/../../host/pod\n",
                "sys/fs/cgroup/memory.max": f"{GIB}\n",
                "sys/fs/cgroup/memory.current": f"{GIB // 2}\n",
            },
            GIB // 2,
        ),
        # Version 1, beside other controllers; and used up.
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n",
                f"{FIRST}.limit_in_bytes": f"{2 * GIB}\n",
                f"{FIRST}.usage_in_bytes": f"{2 * GIB}\n",
                f"{FIRST}.stat": f"total_inactive_file {GIB // 8}\n",
            },
            GIB // 8,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{2 * GIB}\n",
            },
            0,
        ),
        # No limit at all, in either version.
        (
            {
                "proc/self/cgroup": "4:memory:/\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{NONE}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
                "sys/fs/cgroup/unified/memory.max": "max\n",
                "sys/fs/cgroup/unified/memory.current": "7\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "nonsense\n\n0\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_limit_counts(files: dict[str, str], left: int | None, tmp_path: Path) -> None:
    assert left_in_container(write(tmp_path, files)) == left


def test_free_memory_is_what_the_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("circuit_nb.hub.free_memory.left_in_container", lambda: None)
    machine = available_memory()
    assert machine > 2**20
    monkeypatch.setattr("circuit_nb.hub.free_memory.left_in_container", lambda: 2**20)
    assert available_memory() == free_memory(torch.device("cpu")) == 2**20

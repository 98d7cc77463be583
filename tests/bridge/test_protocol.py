"""What is said to be used of TransformerLens's bridge is there, in every family."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from families import FAMILIES, tiny

from circuit_nb.bridge import protocol as said


def members(protocol: Any) -> set[str]:
    own = {name for name in vars(protocol) if not name.startswith("__") and name[:5] != "_abc_"}
    hints = set(get_type_hints(protocol)) if protocol.__annotations__ else set[str]()
    return (own | hints) - {"_is_protocol", "_is_runtime_protocol"}


def lacking(thing: Any, protocol: Any) -> list[str]:
    return sorted(name for name in members(protocol) if not hasattr(thing, name))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_what_is_used(family: str, tokenizer: Any) -> None:
    model = tiny(family, tokenizer)
    bridge: Any = model.bridge
    parts = said.parts_of(bridge)
    assert not lacking(bridge, said.Bridge)
    assert not lacking(bridge.cfg, said.Config)
    assert not lacking(bridge.adapter, said.Adapter)
    assert not lacking(bridge.tokenizer, said.Tokenizer)
    assert not lacking(parts.final_norm, said.NormPart)
    assert len(parts.blocks) == 3
    for block in parts.blocks:
        assert not lacking(block, said.BlockPart)
        assert not lacking(block.attn, said.AttentionPart)
        assert not lacking(block.ln1, said.NormPart)
    assert not lacking(bridge.hook_dict["blocks.0.attn.hook_pattern"], said.HookPoint)


def test_the_bridge_and_its_parts_have_types_wherever_they_are_used() -> None:
    """Only where TransformerLens itself leaves a type open does `Any` stand for it."""
    loose: list[str] = []
    for path in Path(said.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.arg) and node.annotation is not None:
                open_ = ast.unparse(node.annotation) == "Any"
                if open_ and node.arg in {"bridge", "tokenizer", "module", "block", "parts"}:
                    loose.append(f"{path.name}:{node.lineno} {node.arg}")
    allowed = {"loading.py", "opening.py", "cache.py"}  # what a caller gives; PyTorch's own hooks
    assert [found for found in loose if found.partition(":")[0] not in allowed] == []

"""Profiles of a whole set in one file, so that they are computed once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from circuit_nb.files import write_tensors
from circuit_nb.patterns.profile import Profile

FILE = ".profiles-1.safetensors"
_ARRAYS = ("features", "influence", "edges", "flow", "words")
_TEXTS = ("prompt", "tokens", "answer")
_NUMBERS = (
    *("probability", "replacement", "completeness", "n_features", "n_active", "n_errors"),
    "error_share",
)
Stamp = tuple[int, int]
"""Size and time of a graph's file when its profile was made."""


def read(path: Path) -> dict[str, tuple[Stamp, Profile]]:
    """The profiles of a file by name; none where it is missing or damaged: they are made anew."""
    from safetensors import safe_open

    if not path.is_file():
        return {}
    with suppress(Exception):
        with safe_open(path, framework="numpy") as file:
            rows = json.loads((file.metadata() or {})["profiles"])
            arrays = {name: file.get_tensor(name) for name in (*_ARRAYS, "numbers", "counts")}
        ends = {"features": 0, "influence": 0, "edges": 1, "flow": 1, "words": 2}
        cuts = arrays["counts"].cumsum(0)
        pieces = {name: np.split(arrays[name], cuts[:-1, ends[name]]) for name in _ARRAYS}
        found: dict[str, tuple[Stamp, Profile]] = {}
        for i, (name, size, time, prompt, tokens, answer) in enumerate(rows):
            numbers: dict[str, Any] = dict(
                zip(_NUMBERS, arrays["numbers"][i].tolist(), strict=True)
            )
            numbers |= {k: int(v) for k, v in numbers.items() if k.startswith("n_")}
            texts = {"prompt": prompt, "tokens": tuple(tokens), "answer": answer}
            parts: dict[str, Any] = {key: pieces[key][i] for key in _ARRAYS}
            found[name] = (size, time), Profile(**texts, **numbers, **parts)
        return found
    return {}


def write(path: Path, profiles: Mapping[str, tuple[Stamp, Profile]]) -> None:
    """Write profiles. Where the folder cannot be written to, they are made again next time."""
    every = list(profiles.values())
    rows = [
        [name, *stamp, p.prompt, list(p.tokens), p.answer] for name, (stamp, p) in profiles.items()
    ]
    numbers = [[float(getattr(p, name)) for name in _NUMBERS] for _, p in every]
    counts = [[len(p.features), len(p.edges), len(p.words)] for _, p in every]
    arrays = {name: np.concatenate([getattr(p, name) for _, p in every]) for name in _ARRAYS}
    arrays |= {"numbers": np.array(numbers), "counts": np.array(counts, dtype=np.int64)}
    with suppress(OSError, ValueError):
        write_tensors(path, arrays, {"profiles": json.dumps(rows)})

"""Ways to damage a file: its bytes, the JSON in it, its tensors. All drawn from one generator."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]

DTYPES = {
    "float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "uint64": "U64", "bool": "BOOL",
    "complex64": "C64",
}  # fmt: skip


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


ODD: tuple[Callable[[], Any], ...] = tuple(
    (lambda value=value: copy.copy(value))
    for value in (
        None, True, False, 0, 1, -1, -3, 5, 9.7, 0.5, 1e30, -1e39, 1e308, float("nan"),
        float("inf"), 2**31, 2**53, 2**63, 10**9, 10**41, "", "x", "5", "0_0_0", "\ud800", "a\0b",
        "<script>", "a" * 20_000, [], {}, [[]], [1, 2, 3], ["x", "x"], {"a": 1}, {"": None},
        {"node_mass": 7}, [None] * 50,
    )
) + (lambda: deep(20), lambda: deep(40))  # fmt: skip
"""What may stand where something else is expected."""


def damage_bytes(data: bytes, draw: random.Random) -> bytes:
    """Bytes turned, cut, repeated, moved or added."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at, size = draw.randrange(len(data) + 1), draw.choice((1, 2, 8, 64, 1000))
        head, chunk, tail = data[:at], data[at : at + size], data[at + size :]
        noise = draw.randbytes(min(size, 64))
        between = (
            bytes(255 - byte for byte in chunk),
            bytes(len(chunk)),
            noise,
            noise + chunk,
            draw.choice((b"[", b"{", b'"', b",")) * size + chunk,
            chunk * draw.choice((0, 2, 3, 50)),
        )
        data = head if draw.random() < 0.15 else head + draw.choice(between) + tail
    return data


def damage_tree(tree: Any, draw: random.Random) -> Any:
    """Values of JSON replaced, left out, added, repeated or moved."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        place = _place(tree, draw)
        if place is None:
            return draw.choice(ODD)()
        holder, key = place
        odd = draw.choice(ODD)()
        action = draw.randrange(8)
        if action == 0:
            del holder[key]
        elif action == 1 and isinstance(holder, list):
            holder.insert(draw.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
        elif action == 2 and isinstance(holder, list):
            draw.shuffle(holder)
        elif action == 3 and isinstance(holder, dict):
            holder[str(odd)[:50]] = holder[key]
        elif action == 4 and isinstance(holder[key], int | float):
            step = draw.choice((-1, 1, -(2**31), 2**31, 10**9))
            holder[key] = holder[key] + step
        elif action == 5 and isinstance(holder[key], str):
            holder[key] += draw.choice(("_", "0", "-1", "\n", "é", "\ud83d", '"'))
        else:
            holder[key] = odd
    return tree


def _place(tree: Any, draw: random.Random) -> tuple[Any, Any] | None:
    """A container somewhere in the tree, and one of its keys."""
    holder = None
    value = tree
    while isinstance(value, dict | list) and value and (holder is None or draw.random() < 0.8):
        key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        holder = (value, key)
        value = value[key]
    return holder


def to_json(tree: Any, draw: random.Random) -> bytes:
    """A tree as JSON, half surrogate pairs, NaN and long integers among it."""
    text = json.dumps(tree)
    if draw.random() < 0.05:  # deeper than any parser goes
        text = text.replace("[", "[" * draw.choice((100, 5000, 200_000)), 1)
    return text.encode()


def damage_tensors(tensors: Tensors, draw: random.Random) -> Tensors:
    """Numbers out of range, rows in another order, other shapes and types, tensors missing."""
    tensors = dict(tensors)
    for _ in range(draw.choice((1, 1, 2, 3))):
        if not tensors:
            return tensors
        name = draw.choice(sorted(tensors))
        tensors[name] = _damaged(tensors[name].copy(), draw)
        if draw.random() < 0.05:
            del tensors[name]
        elif draw.random() < 0.05:
            tensors[draw.choice((name, "weights", "b_enc", "x"))] = tensors.pop(name)
    return tensors


def _damaged(array: np.ndarray, draw: random.Random) -> np.ndarray:
    flat = array.reshape(-1)
    action = draw.randrange(9)
    if action < 3 and flat.size:
        odd = draw.choice((np.nan, np.inf, -1, 0, 3e38, 1e30, 5, 2**40, -(2**62), 1e-45))
        with np.errstate(all="ignore"):
            for _ in range(draw.choice((1, 1, 5))):
                flat[draw.randrange(flat.size)] = np.float64(odd).astype(array.dtype)
        return flat.reshape(array.shape)
    if action == 3 and array.ndim and len(array) > 1:
        return array[draw.sample(range(len(array)), len(array))]
    if action == 4 and array.ndim and len(array):
        kept = sorted(draw.choices(range(len(array)), k=draw.randrange(2 * len(array))))
        return array[kept]
    if action == 5:
        with np.errstate(all="ignore"):
            return array.astype(draw.choice(sorted(DTYPES)))
    if action == 6:
        shapes: list[tuple[int, ...]] = [(), (0,), (0, 3), (0, 2), (1, 1, 1), (3,), (2, 2)]
        return np.zeros(draw.choice(shapes), array.dtype)
    if action == 7:
        return array.T.copy() if draw.random() < 0.5 else array[..., None]
    return array[:0] if array.ndim else array[None]


def safetensors(tensors: Tensors, metadata: dict[str, str], draw: random.Random) -> bytes:
    """A safetensors file, now and then with a header that says something else."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": DTYPES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    if draw.random() < 0.1:
        header = damage_tree(header, draw)
        if draw.random() < 0.5 and isinstance(header, dict):
            for entry in header.values():
                if isinstance(entry, dict) and "dtype" in entry and draw.random() < 0.3:
                    entry["dtype"] = draw.choice(("BF16", "F8_E4M3", "F4", "U16", "F64", "x"))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body

"""What an attribution graph must be: checked once, when one is made, from whichever source.

A graph can come from `attribute`, a stranger's file or a caller's own arrays. Whatever is built on
one may rely on what is said here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from circuit_nb.files import quoted
from circuit_nb.limits import MAX_LAYERS as MAX_LAYERS

ARRAYS: Mapping[str, type[np.generic]] = {
    "token_ids": np.int64,
    "features": np.int64,
    "activations": np.float32,
    "errors": np.int64,
    "target_ids": np.int64,
    "target_probabilities": np.float32,
    "weights": np.float32,
}
"""The arrays of a graph and their types."""

MAX_POSITIONS = 2**20
"""More tokens than any prompt has; as many targets."""
MAX_INDEX = 2**53
"""Indices of features are below it: up to there a number in JSON is exact."""
MAX_VOCABULARY = 10**9
"""Vocabulary ids are below it."""
MAX_NUMBER = 1e30
"""Largest weight, activation and probability: sums of a hundred million of them are finite."""
MAX_DEPTH = 32
"""How deep provenance may be nested."""
MAX_INTEGER = 10**40
"""Integers in provenance are below it."""

_any = np.logical_or.reduce
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def checked(given: Any) -> dict[str, Any]:
    """The fields of an attribution graph, each in its own type.

    Args:
        given: An object with the fields of `AttributionGraph`.

    Returns:
        All fields by name; arrays that have their type already are not copied.

    Raises:
        ValueError: If it is no graph that can be; one sentence says what is wrong.
    """
    found: dict[str, Any] = {
        "prompt": _text(given.prompt, "prompt"),
        "tokens": _texts(given.tokens, "tokens"),
        "targets": _texts(given.targets, "targets"),
        **{name: _array(getattr(given, name), name) for name in ARRAYS},
    }
    n_features, n_errors = (_length(found[name]) for name in ("features", "errors"))
    positions, n_targets = len(found["tokens"]), len(found["targets"])
    if not 0 < positions <= MAX_POSITIONS:
        _fail(f"has {positions} tokens; a prompt has 1 to {MAX_POSITIONS}")
    if n_targets > MAX_POSITIONS:
        _fail(f"has {n_targets} targets; {MAX_POSITIONS} are the most there can be")
    _check_shapes(found, n_features, n_errors)
    n_layers = _whole(given.n_layers, "n_layers", 1, MAX_LAYERS)
    _check_places(found["features"], "features", (n_layers, positions, MAX_INDEX))
    _check_places(found["errors"], "errors", (n_layers, positions))
    for name in ("token_ids", "target_ids"):
        _check_ids(found[name], name)
    for name in ("activations", "target_probabilities", "weights"):
        _check_numbers(found[name], name)
    if (found["target_probabilities"] < 0).any():
        _fail("has a target_probability below 0")
    _check_edges(found["weights"], found["features"], found["errors"])
    return {
        **found,
        "n_layers": n_layers,
        "n_active": _whole(given.n_active, "n_active", n_features, 2**63 - 1),
        "provenance": _provenance(given.provenance),
    }


def _fail(problem: str) -> NoReturn:
    raise ValueError(f"The graph {problem}.")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        _fail(f"has {quoted(value)} for {name}, where a text is needed")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        _fail(f"has {quoted(value)} for {name}, half a surrogate pair, which is no text")
    return value


def _texts(value: object, name: str) -> tuple[str, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        _fail(f"has {quoted(value)} for {name}, where a list of texts is needed")
    texts = tuple(cast("Iterable[object]", value))
    try:
        # All at once: a prompt can have thousands of tokens.
        "".join(cast("tuple[str, ...]", texts)).encode("utf-8")
    except (TypeError, UnicodeEncodeError):
        for number, text in enumerate(texts):
            _text(text, f"{name}[{number}]")
    return cast("tuple[str, ...]", texts)


def _array(value: object, name: str) -> npt.NDArray[Any]:
    """An array of the type that belongs to it; no number is changed on the way."""
    dtype = ARRAYS[name]
    try:
        given = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        _fail(f"has {name} that are no array of numbers")
    if given.dtype == dtype:
        return given
    if given.size and given.dtype.kind not in "iuf":
        _fail(f"has {name} of type {str(given.dtype)[:40]}, where numbers are needed")
    with np.errstate(all="ignore"):  # what does not fit is found here or in `_check_numbers`
        array = given.astype(dtype)
        whole = dtype is np.float32 or given.dtype.kind == "i" or bool((array == given).all())
    if not whole:
        _fail(f"has {name} that are no whole numbers of 64 bits")
    return array


def _length(array: npt.NDArray[Any]) -> int:
    return array.shape[0] if array.ndim else 0


def _check_shapes(found: Mapping[str, Any], n_features: int, n_errors: int) -> None:
    positions, n_targets = len(found["tokens"]), len(found["targets"])
    shapes = {
        "token_ids": (positions,),
        "features": (n_features, 3),
        "activations": (n_features,),
        "errors": (n_errors, 2),
        "target_ids": (n_targets,),
        "target_probabilities": (n_targets,),
        "weights": (n_features + n_targets, n_features + n_errors + positions),
    }
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise ValueError(
                f"The graph's {name} has shape {str(found[name].shape)[:60]}, expected {shape} "
                f"for {n_features} features, {n_errors} errors, {positions} tokens and "
                f"{n_targets} targets."
            )


def _whole(value: object, name: str, least: int, most: int) -> int:
    try:
        number = operator.index(cast("Any", value))
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        _fail(f"has {quoted(value)} for {name}, where {least} to {most} is possible")
    return number


def _check_places(rows: Ints, name: str, bounds: Sequence[int]) -> None:
    """Rows (layer, position, …) within bounds, in strictly ascending order."""
    if not len(rows):
        return
    # Seen as unsigned, what is below zero is above every bound.
    outside = rows.view(np.uint64) >= np.array(bounds, dtype=np.uint64)
    if outside.any():
        row = int(outside.any(axis=1).argmax())
        most = ", ".join(str(bound - 1) for bound in bounds)
        _fail(f"has {tuple(rows[row].tolist())} as {name}[{row}]; 0 to ({most}) is possible")
    place = rows[:, 0] * bounds[1] + rows[:, 1]
    ascends = place[1:] > place[:-1]
    if rows.shape[1] > 2:
        ascends |= (place[1:] == place[:-1]) & (rows[1:, 2] > rows[:-1, 2])
    if not ascends.all():
        row = int(ascends.argmin()) + 1
        _fail(
            f"has {tuple(rows[row].tolist())} as {name}[{row}] after "
            f"{tuple(rows[row - 1].tolist())}; they are needed in ascending order, each once"
        )


def _check_ids(ids: Ints, name: str) -> None:
    # Seen as unsigned, as above: one is added so that -1 is the least.
    wrong = (ids + 1).view(np.uint64) > MAX_VOCABULARY
    if wrong.any():
        place = int(wrong.argmax())
        _fail(
            f"has {ids[place]} as {name}[{place}], where -1 (no token) to {MAX_VOCABULARY - 1} is "
            "possible"
        )


def _check_numbers(values: Floats, name: str) -> None:
    if values.flags.c_contiguous:
        flat = values.reshape(-1)
        with np.errstate(all="ignore"):
            # The fastest pass over many numbers; it is finite if all are, and none is enormous.
            if math.isfinite(float(np.dot(flat, flat))):
                return
    least, most = float(values.min(initial=0)), float(values.max(initial=0))
    if not -MAX_NUMBER <= least <= most <= MAX_NUMBER:
        wrong = "a number beyond 1e30" if np.isfinite(values).all() else "NaN or infinity"
        raise ValueError(f"The graph's {name} hold {wrong}; it is damaged.")


def _check_edges(weights: Floats, features: Ints, errors: Ints) -> None:
    """No edge leads from a feature or an error to a feature of its own layer or a lower one."""
    n, n_inner = len(features), len(features) + len(errors)
    if not n:
        return
    layers = features[:, 0]
    begins = [0, *(np.flatnonzero(layers[1:] != layers[:-1]) + 1).tolist()]
    above = (np.searchsorted(errors[:, 0], layers[begins]) + n).tolist()
    for begin, end, error in zip(begins, [*begins[1:], n], above, strict=True):
        # The rows of one layer, and the columns of that layer and all above it.
        into = weights[begin:end]
        if _any(into[:, begin:n], axis=None) or _any(into[:, error:n_inner], axis=None):
            wrong = into[:, :n_inner] != 0
            wrong[:, :begin] = wrong[:, n:error] = False
            row, column = np.argwhere(wrong)[0].tolist()
            source = features[column] if column < n else errors[column - n]
            _fail(
                f"has an edge from the {'feature' if column < n else 'error'} "
                f"{tuple(source.tolist())} to the feature {tuple(features[begin + row].tolist())}; "
                "edges lead to higher layers only"
            )


def _provenance(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        _fail(f"has {quoted(value)} for provenance, where a dict is needed")
    found = cast("dict[str, Any]", _json(cast("object", value), 0))
    pruned = found.get("pruned")
    if pruned is None:
        return found
    shares = [pruned.get("node_mass"), pruned.get("edge_mass")] if isinstance(pruned, dict) else [5]
    if not all(share is None or _is_share(share) for share in shares):
        _fail(
            f"says in provenance that it was pruned at {quoted(pruned)}; that is a dict of "
            "the shares node_mass and edge_mass, each from 0 to 1"
        )
    return found


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _json(value: Any, depth: int) -> Any:
    """A copy in JSON's types: what a file can give back."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, "a text in provenance")
    if isinstance(value, int) and abs(value) < MAX_INTEGER:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if depth > MAX_DEPTH:
        _fail(f"has provenance nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_text(key, "a key in provenance"): _json(item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [_json(item, depth + 1) for item in cast("Sequence[Any]", value)]
    if getattr(value, "shape", None) == ():  # a number of NumPy or torch
        return _json(cast("Any", value).item(), depth + 1)
    return _fail(f"has {quoted(value)} in provenance; only JSON's values can be kept there")

"""What Neuronpedia says about features: in batches, cached on disk, patient with its limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from circuit_nb.neuronpedia.links import base_url, source_id
from circuit_nb.neuronpedia.web import Cache, NeuronpediaError, Patience, request
from circuit_nb.strict_json import Reader, clean, parse

Key: TypeAlias = tuple[int, int]
"""(layer, index) of a feature."""
_T = TypeVar("_T")

_BATCH = 32
_EXAMPLES = 8
_EXAMPLE_TOKENS = 256
_MAX_TEXT = 10_000
_DAY = 24 * 3600.0
_MAX_AGE = 30 * _DAY
_KEPT = ("pos_str", "pos_values", "neg_str", "neg_values",
         "freq_hist_data_bar_heights", "freq_hist_data_bar_values")  # fmt: skip


def features(
    model_id: str,
    source_set: str,
    keys: Iterable[Key],
    *,
    offline: bool = False,
    patience: Patience | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[tuple[Key, dict[str, Any]]]:
    """What Neuronpedia says about features, from the cache where it was asked before.

    Args:
        model_id: Neuronpedia's id of the model, e.g. `"gemma-2-2b"`.
        source_set: Its id of the transcoder set, e.g. `"gemmascope-transcoder-16k"`.
        keys: (layer, index) of each feature.
        offline: Ask the cache only, however old.
        patience: How long to try.
        progress: Called with the number of features done since it was last called.

    Yields:
        (layer, index) and the reply's fields, checked and shortened; an empty dict for a feature
        that Neuronpedia does not have. In no particular order.

    Raises:
        NeuronpediaError: If Neuronpedia cannot be asked; what was found is yielded before.
    """
    cache, missing = Cache(), list[Key]()
    for key in dict.fromkeys(keys):
        name = _name(model_id, source_set, key)
        kept = cache.read(name, float("inf") if offline else _MAX_AGE)
        if kept == {} and not offline:
            kept = cache.read(name, _DAY)
        if kept is None:
            missing.append(key)
        else:
            yield key, kept
    if offline or not missing:
        return
    for batch in _batches(missing, _BATCH):
        found = _ask(model_id, source_set, batch, patience)
        for key in batch:
            cache.write(_name(model_id, source_set, key), found.get(key, {}))
            yield key, found.get(key, {})
        if progress:
            progress(len(batch))


def _name(model_id: str, source_set: str, key: Key) -> str:
    return f"{base_url()} feature {model_id} {source_set} {key[0]} {key[1]}"


def _batches(items: Sequence[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _ask(
    model_id: str, source_set: str, keys: Sequence[Key], patience: Patience | None
) -> dict[Key, dict[str, Any]]:
    """One request for many features; where that fails but Neuronpedia is there, one for each."""
    patience = patience or Patience()
    body = [
        {"modelId": model_id, "layer": source_id(layer, source_set), "index": index,
         "maxActsToReturn": _EXAMPLES}
        for layer, index in keys
    ]  # fmt: skip
    try:
        reply = request(
            "POST",
            f"{base_url()}/api/features",
            content=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
            patience=replace(patience, attempts=min(patience.attempts, 3)),
        )
        return _by_key(parse(reply, "Neuronpedia's reply"), source_set)
    except NeuronpediaError as error:
        if error.status in (None, 429):
            raise
    except ValueError:
        pass
    pool = ThreadPoolExecutor(max_workers=4)
    try:
        replies = list(pool.map(lambda key: _ask_one(model_id, source_set, key, patience), keys))
    finally:  # Not waiting: an interrupt, or a first failure, is obeyed at once.
        pool.shutdown(wait=False, cancel_futures=True)
    return {key: reply for key, reply in zip(keys, replies, strict=True) if reply}


def _by_key(reply: Any, source_set: str) -> dict[Key, dict[str, Any]]:
    """The batch reply's features by layer and index.

    Raises:
        ValueError: If it is no list of features.
    """
    result: dict[Key, dict[str, Any]] = {}
    for item in Reader({"features": reply}, "Neuronpedia's reply").items("features"):
        fields = Reader(item, "A feature of Neuronpedia's reply")
        layer, _, named_set = fields.text("layer").partition("-")
        index = str(fields.get("index"))
        if not (layer.isdecimal() and index.isdecimal() and named_set == source_set):
            fields.fail("is not one that was asked for")
        result[int(layer), int(index)] = _shortened(fields)
    return result


def _ask_one(
    model_id: str, source_set: str, key: Key, patience: Patience | None
) -> dict[str, Any] | None:
    parts = (model_id, source_id(key[0], source_set), str(key[1]))
    address = "/".join([base_url(), "api/feature", *(quote(part, safe="") for part in parts)])
    try:
        reply = request("GET", address, patience=patience)
    except NeuronpediaError as error:
        if error.status == 404:
            return None
        raise
    return _shortened(Reader(parse(reply, "Neuronpedia's reply"), "Neuronpedia's feature"))


def _shortened(fields: Reader) -> dict[str, Any]:
    """The fields a card is made of, with texts cleaned; a field of a wrong type is dropped."""
    result: dict[str, Any] = {}
    for name in _KEPT:
        value = fields.get(name)
        if isinstance(value, list):
            result[name] = _flat(value[:200])
    if isinstance(fields.get("frac_nonzero"), int | float):
        result["frac_nonzero"] = fields.number("frac_nonzero")
    explanations = fields.get("explanations")
    result["explanations"] = [
        {"description": _short(item["description"]), "typeName": _short(str(item.get("typeName")))}
        for item in (explanations if isinstance(explanations, list) else [])[:10]
        if isinstance(item, Mapping) and isinstance(item.get("description"), str)
    ]
    activations = fields.get("activations")
    result["activations"] = [
        {"tokens": _flat(item["tokens"][:_EXAMPLE_TOKENS]),
         "values": _flat(item["values"][:_EXAMPLE_TOKENS])}
        for item in (activations if isinstance(activations, list) else [])[:_EXAMPLES]
        if isinstance(item, Mapping)
        and all(isinstance(item.get(name), list) for name in ("tokens", "values"))
    ]  # fmt: skip
    return result


def _flat(values: Iterable[Any]) -> list[str | float | None]:
    """Texts and numbers as they are, anything else as None."""
    return [
        _short(value)
        if isinstance(value, str)
        else float(value)
        if isinstance(value, int | float) and abs(value) < 1e30
        else None
        for value in values
    ]


def _short(text: str) -> str:
    return clean(text[:_MAX_TEXT])

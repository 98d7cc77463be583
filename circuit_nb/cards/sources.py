"""Where cards come from, joined behind one call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from circuit_nb.atlas import shipped_with
from circuit_nb.cards.types import Example, FeatureCard, Histogram, Key, named_by
from circuit_nb.graph import AttributionGraph
from circuit_nb.hub import known
from circuit_nb.hub.known import NeuronpediaIds
from circuit_nb.neuronpedia import NeuronpediaError, Patience, feature_url, features

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel

_PATIENCE = Patience(attempts=4, timeout=10.0)
_PREFERRED = ("np_max-act-logits", "np_max-act")


def _warn(problem: str) -> None:
    warnings.warn(problem, stacklevel=4)


def of(
    source: AttributionGraph | ReplacementModel,
    keys: Iterable[Key],
    *,
    model: ReplacementModel | None = None,
    computed: Mapping[Key, FeatureCard] | None = None,
    online: bool = True,
    on_problem: Callable[[str], object] = _warn,
) -> dict[Key, FeatureCard]:
    """What is known about features: shipped labels, Neuronpedia, computed cards, plain labels.

    A label of the embedded model comes before one of Neuronpedia, that before a computed one;
    where there is none, a plain one says what the feature fires on and what it promotes; where the
    model says that, only if it stands out from the vocabulary. Every other field is taken from the
    first place that has it.

    Args:
        source: A graph or a model; its provenance says where labels may be found.
        keys: (layer, index) of each feature.
        model: The model, where `source` is a graph: gives the tokens that features promote.
        computed: Cards of one's own, from `compute` or `load`.
        online: Whether Neuronpedia may be asked; its replies are cached, and the cache is used in
            either case. Setting HF_HUB_OFFLINE has the same effect as `False`.
        on_problem: Told in one sentence if Neuronpedia cannot be asked; by default a warning.

    Returns:
        A card for every key, an empty one where nothing is known.
    """
    wanted = list(dict.fromkeys(keys))
    graph = source if isinstance(source, AttributionGraph) else None
    model = source if not isinstance(source, AttributionGraph) else model
    places = [
        _shipped(graph, model),
        _from_neuronpedia(_ids(graph, model), wanted, online, on_problem),
        computed or {},
    ]
    cards = {key: _join([place[key] for place in places if key in place]) for key in wanted}
    bare = [key for key, card in cards.items() if not card.promotes]
    telling: dict[Key, int] = {}
    if model is not None and bare:
        from circuit_nb.cards.effects import logit_effects

        for key, effects in logit_effects(model, bare).items():
            cards[key] = replace(
                cards[key], promotes=effects.promotes, suppresses=effects.suppresses
            )
            telling[key] = effects.telling
    fires_on = _fires_on(graph)
    return {
        key: card if card.label else _named(card, fires_on.get(key, []), telling.get(key))
        for key, card in cards.items()
    }


def _join(cards: list[FeatureCard]) -> FeatureCard:
    """One card of several: every field from the first that has it."""
    result = FeatureCard()
    for card in cards:
        named = bool(result.label)
        empty = {
            name: getattr(card, name)
            for name in ("examples", "promotes", "suppresses", "density", "histogram", "url")
            if not getattr(result, name)
        }
        result = replace(
            result,
            **empty,
            label=result.label or card.label,
            source=result.source if named else card.source,
        )
    return result


def _named(card: FeatureCard, fires_on: Iterable[str], telling: int | None) -> FeatureCard:
    """A card with a plain label, if anything is known to make one of."""
    label = named_by(card, telling, fires_on)
    return replace(card, label=label, source="automatic") if label else card


def _fires_on(graph: AttributionGraph | None) -> dict[Key, list[str]]:
    """The prompt's tokens at which each feature of a graph is active."""
    result: dict[Key, list[str]] = {}
    if graph is not None:
        for layer, position, index in graph.features.tolist():
            result.setdefault((layer, index), []).append(graph.tokens[position])
    return result


def _origin(graph: AttributionGraph | None, model: ReplacementModel | None) -> dict[str, Any]:
    """Model, transcoders and scan as the graph's provenance or the model says them."""
    if graph is not None:
        return graph.provenance
    if model is None:
        return {}
    t = model.transcoders
    return {"model": model.name, "transcoders": t.source, "scan": t.scan}


def _shipped(
    graph: AttributionGraph | None, model: ReplacementModel | None
) -> dict[Key, FeatureCard]:
    """Labels that ship with an embedded model."""
    found = shipped_with(_origin(graph, model))
    if found is None:
        return {}
    return {key: FeatureCard(label, source=found.name) for key, label in found.labels.items()}


def _ids(graph: AttributionGraph | None, model: ReplacementModel | None) -> NeuronpediaIds | None:
    """How Neuronpedia calls the transcoders, if it has them.

    Said by a graph that was read from Neuronpedia, or by the table of known sets, in which the set
    is found by its own name or by its `scan` (`model id/source set`, or a list of `model
    id/layer-source set`).
    """
    origin = _origin(graph, model)
    scan = origin.get("scan")
    first = scan[0] if isinstance(scan, list) and scan else scan
    if isinstance(first, str) and origin.get("source_set"):
        return NeuronpediaIds(first, str(origin["source_set"]))
    listed = known.neuronpedia_ids(str(origin.get("transcoders", "")))
    return listed or known.neuronpedia_ids_of_scan(first if isinstance(first, str) else "")


def _from_neuronpedia(
    ids: NeuronpediaIds | None,
    keys: list[Key],
    online: bool,
    on_problem: Callable[[str], object],
) -> dict[Key, FeatureCard]:
    if ids is None:
        return {}
    found: dict[Key, FeatureCard] = {}
    offline = not online or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes")
    try:
        for key, reply in features(*ids, keys, offline=offline, patience=_PATIENCE):
            if reply:
                found[key] = card_of_reply(reply, feature_url(*ids, *key))
    except NeuronpediaError as error:
        missing = len(keys) - len(found)
        on_problem(f"{missing} of {len(keys)} features have no label from Neuronpedia: {error}")
    return found


def card_of_reply(reply: Mapping[str, Any], url: str | None = None) -> FeatureCard:
    """A card of what Neuronpedia says about a feature (`circuit_nb.neuronpedia.features`)."""
    explanations = {e["typeName"]: e["description"] for e in reply.get("explanations", ())[::-1]}
    named = [explanations[name] for name in _PREFERRED if name in explanations]
    label = (named or list(explanations.values())[::-1] or [""])[0]
    return FeatureCard(
        label=label.strip(),
        examples=tuple(_examples(reply)),
        promotes=_pairs(reply, "pos_str", "pos_values"),
        suppresses=_pairs(reply, "neg_str", "neg_values"),
        density=reply.get("frac_nonzero"),
        histogram=_histogram(reply),
        url=url,
        source="neuronpedia",
    )


def _examples(reply: Mapping[str, Any]) -> Iterable[Example]:
    for item in reply.get("activations", ()):
        tokens, values = item["tokens"], item["values"]
        whole = len(tokens) == len(values) > 0 and all(isinstance(t, str) for t in tokens)
        if whole and all(isinstance(v, int | float) for v in values):
            yield Example(tuple(tokens), tuple(values))


def _pairs(reply: Mapping[str, Any], texts: str, values: str) -> tuple[tuple[str, float], ...]:
    return tuple(
        (text, value)
        for text, value in zip(reply.get(texts, ()), reply.get(values, ()), strict=False)
        if isinstance(text, str) and isinstance(value, int | float)
    )


def _histogram(reply: Mapping[str, Any]) -> Histogram | None:
    """Neuronpedia gives the bars' heights and their middles, some exporters their edges."""
    heights = reply.get("freq_hist_data_bar_heights", ())
    places = reply.get("freq_hist_data_bar_values", ())
    numbers = all(isinstance(n, int | float) for n in [*heights, *places])
    if not numbers or len(heights) < 2 or len(places) - len(heights) not in (0, 1):
        return None
    if len(places) == len(heights):
        half = (places[1] - places[0]) / 2
        places = [place - half for place in places] + [places[-1] + half]
    return Histogram(tuple(heights), tuple(places))

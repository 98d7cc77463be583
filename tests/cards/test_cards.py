"""Feature cards: computed, saved, read from Neuronpedia, and joined."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import GOLDEN, N_FEATURES, N_LAYERS, PROMPT, VOCAB, hf_model, tiny, transcoders
from made import small_graph
from neuronpedia_server import SiteState, serve
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from circuit_nb import atlas, attribute, cards, load
from circuit_nb.cards import Example, FeatureCard, Histogram, automatic_label
from circuit_nb.graph import AttributionGraph, Feature
from circuit_nb.transcoders.lazy_files import InMemory

TEXTS = ("the capital of the state containing Dallas is", "the state of Texas is", "Dallas is")
SOURCE_SET = "gemmascope-transcoder-16k"


def active(model: Any, texts: tuple[str, ...] = TEXTS) -> dict[tuple[int, int], list[float]]:
    """Every activation of every feature, by brute force."""
    found: dict[tuple[int, int], list[float]] = {}
    for text in texts:
        record = model.record(text)
        for (layer, _, index), value in zip(
            record.features.tolist(), record.activations.tolist(), strict=True
        ):
            found.setdefault((layer, index), []).append(value)
    return found


@pytest.fixture(scope="module", params=["gemma2-plt", "gemma2-clt"])
def golden(request: pytest.FixtureRequest) -> Any:
    from circuit_nb import load

    folder = GOLDEN / request.param
    return load(folder / "model", folder / "transcoders", device="cpu")


def test_computed_cards_are_what_the_model_does(golden: Any) -> None:
    found = cards.compute(golden, iter(TEXTS), progress=False)
    truth = active(golden)
    assert set(found) == set(truth)
    n_tokens = sum(golden.record(text).positions - 1 for text in TEXTS)
    for key, values in truth.items():
        card = found[key]
        peaks = [max(example.activations) for example in card.examples]
        assert peaks == sorted(peaks, reverse=True)
        assert peaks[0] == pytest.approx(max(values))
        assert card.density == pytest.approx(len(values) / n_tokens)
        assert card.histogram is not None
        assert sum(card.histogram.counts) == len(values)
        assert card.histogram.edges[-1] >= max(values) * (1 - 1e-6)
        assert card.source == "computed"
    strongest = max(truth, key=lambda key: max(truth[key]))
    example = found[strongest].examples[0]
    assert example.tokens in [
        tuple(map(golden.token, golden.tokenize(text).tolist())) for text in TEXTS
    ]


def test_histograms_agree_with_counting(golden: Any) -> None:
    found = cards.compute(golden, TEXTS, progress=False, effects=0)
    for key, values in active(golden).items():
        counts, edges = found[key].histogram or Histogram((), ())
        expected, _ = np.histogram(values, bins=np.array(edges) * (1 + 1e-6))
        assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1


def test_negative_activations_of_a_topk_set_are_counted(tokenizer: Any) -> None:
    """Where k exceeds the positive pre-activations, the largest negative ones are active too."""
    sets = transcoders(activation="topk")
    layers = tuple(replace(layer, k=N_FEATURES - 2) for layer in sets.layers)
    model = load(hf_model("llama"), replace(sets, layers=layers), tokenizer=tokenizer, device="cpu")
    found, truth = cards.compute(model, TEXTS, progress=False, effects=0), active(model)
    assert set(found) == set(truth)
    assert any(max(values) < 0 for values in truth.values())
    assert any(min(values) < 0 < max(values) for values in truth.values())
    for key, values in truth.items():
        counts, edges = found[key].histogram or Histogram((), ())
        assert len(counts) == 20
        assert sum(counts) == len(values)
        assert edges[0] == (-edges[-1] if min(values) < 0 else 0)
        expected, _ = np.histogram(values, bins=np.array(edges) * (1 + 1e-6))
        assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1
        example = found[key].examples[0]
        assert max(v for v in example.activations if v) == pytest.approx(max(values), rel=1e-5)


def test_a_feature_is_named_by_a_token_at_which_it_is_active() -> None:
    from circuit_nb.cards.types import peak_token

    assert peak_token(Example(("a", "b", "c"), (0.0, -2.0, -1.0))) == "c"
    assert peak_token(Example(("a", "b", "c"), (0.0, 2.0, -1.0))) == "b"
    assert peak_token(Example(("a", "b"), (0.0, 0.0))) == "a"


def test_keys_pieces_and_counts(golden: Any) -> None:
    key = next(iter(active(golden)))
    found = cards.compute(golden, TEXTS, keys=[key], effects=3, progress=False)
    assert list(found) == [key]
    assert len(found[key].promotes) <= 3
    pieces = cards.compute(golden, TEXTS, max_tokens=4, effects=0, progress=False)
    assert pieces.provenance["pieces"] == 3 + 2 + 1
    assert max(len(e.tokens) for card in pieces.values() for e in card.examples) == 4
    assert pieces[next(iter(pieces))].promotes == ()


def test_the_strongest_pieces_are_kept(golden: Any) -> None:
    words = PROMPT.split()[1:]
    texts = [" ".join(words[:n]) for n in range(1, len(words))]
    found = cards.compute(golden, texts, effects=0, progress=False)
    for key, card in found.items():
        peaks = [max(values[key]) for text in texts if key in (values := active(golden, (text,)))]
        kept = [max(example.activations) for example in card.examples]
        assert kept == pytest.approx(sorted(peaks, reverse=True)[:5], abs=1e-5)


def test_tallies_are_what_counting_gives() -> None:
    """In batches of any order; of equal pieces the earlier ones are kept."""
    from circuit_nb.cards.tallies import Tally

    draw = torch.Generator().manual_seed(0)
    pieces = torch.randint(-4, 9, (40, 6, 12), generator=draw).float()
    pieces[torch.rand(pieces.shape, generator=draw) < 0.7] = 0
    pieces[:, :, 7] = 0
    tally = Tally(8, wanted=[*range(10), 99])
    for part in torch.randperm(40, generator=draw).split(7):
        flat = pieces[part].flatten(0, 1)
        token, feature = flat.nonzero().unbind(1)
        counted = torch.ones(len(part), 6, dtype=torch.bool)
        tally.add((token, feature, flat[token, feature]), counted, part)
    assert sorted(tally.features.tolist()) == [i for i in range(10) if i != 7]
    for index, tokens, histogram, strongest in tally.found():
        own = pieces[:, :, index]
        assert tokens == (own != 0).sum() == sum(histogram.counts)
        peaks = own.masked_fill(own == 0, -torch.inf).amax(1).tolist()
        expected = sorted(range(40), key=lambda i: (-peaks[i], i))[:5]
        assert strongest == [(i, [*own[i].tolist(), 0.0, 0.0]) for i in expected]


def test_token_ids_are_texts_too(golden: Any) -> None:
    ids = [golden.tokenize(text).tolist() for text in TEXTS]
    expected = cards.compute(golden, TEXTS, progress=False)
    assert dict(cards.compute(golden, ids, progress=False)) == dict(expected)


def test_readers_can_name_features_themselves(golden: Any) -> None:
    def name(card: FeatureCard) -> str:
        return f"fires on {card.examples[0].tokens[-1]!r}, {len(card.promotes)}"

    found = cards.compute(golden, TEXTS, effects=2, name=name, progress=False)
    assert all(card.label == name(card) for card in found.values())


@pytest.mark.parametrize("where", ["among the texts", "between passes"])
def test_stopped_and_called_again_it_goes_on(
    where: str, golden: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from circuit_nb.cards import reading

    monkeypatch.setattr(reading, "_EVERY", 0.0)
    monkeypatch.setattr(reading, "_TOKENS", 20)
    monkeypatch.setattr(reading, "_POOLED", 2)
    texts, kept = [*TEXTS] * 6, tmp_path / "kept"
    passes: list[int] = []
    run = golden.run

    def counting(ids: Any, *given: Any, **named: Any) -> Any:
        if len(passes) == 3 and where == "between passes":
            raise KeyboardInterrupt
        passes.append(len(ids))
        return run(ids, *given, **named)

    def stopping() -> Iterator[str]:
        yield from texts[: 11 if where == "among the texts" else None]
        raise KeyboardInterrupt

    settings: dict[str, Any] = {"max_tokens": 12, "progress": False}
    expected = cards.compute(golden, texts, **settings)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(golden, "run", counting)
        cards.compute(golden, stopping(), resume=kept, **settings)
    assert kept.is_file()
    done, where = sum(passes), ""
    assert done
    passes.clear()
    with monkeypatch.context() as patch:
        patch.setattr(golden, "run", counting)
        found = cards.compute(golden, iter(texts), resume=kept, **settings)
    assert sum(passes) == len(texts) - done  # what was read is not read again
    assert dict(found) == dict(expected) and found.provenance == expected.provenance
    assert not kept.exists()


@pytest.mark.parametrize("change", ["texts", "fewer", "keys", "torn"])
def test_what_was_kept_for_something_else_is_refused(
    change: str, golden: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from circuit_nb.cards import reading

    monkeypatch.setattr(reading, "_EVERY", 0.0)
    monkeypatch.setattr(reading.Reading, "forget", lambda self: None)
    kept = tmp_path / "kept"
    cards.compute(golden, TEXTS, effects=0, resume=kept, progress=False)
    if change == "torn":
        kept.write_bytes(kept.read_bytes()[:-50])
    content = kept.read_bytes()
    given = {"texts": TEXTS[::-1], "fewer": TEXTS[:1]}.get(change, TEXTS)
    keys = [(0, 1)] if change == "keys" else None
    with pytest.raises(ValueError, match="remove it to begin anew"):
        cards.compute(golden, given, keys=keys, effects=0, resume=kept, progress=False)
    assert kept.read_bytes() == content


def test_nothing_to_compute_from(golden: Any) -> None:
    with pytest.raises(ValueError, match="no texts"):
        cards.compute(golden, ["", "  "], progress=False)
    with pytest.raises(ValueError, match="give at least 2"):
        cards.compute(golden, TEXTS, max_tokens=1, progress=False)
    with pytest.raises(ValueError, match="does not exist"):
        cards.logit_effects(golden, [(99, 0)])


@pytest.mark.parametrize("at_once", [4096, 7])
def test_logit_effects_are_what_setting_a_feature_does(
    at_once: int, tokenizer: Any, monkeypatch: Any
) -> None:
    """In the last layer nothing else follows: one more unit adds the effects over the norm."""
    from circuit_nb import Intervention, intervene
    from circuit_nb.cards import effects as computing

    monkeypatch.setattr(computing, "_TOKENS", at_once)
    model = tiny("llama", tokenizer)
    record = model.record(PROMPT)
    feature = Feature(N_LAYERS - 1, record.positions - 1, 7)
    out = intervene(
        model, PROMPT, [Intervention.set(feature, 3.0)], freeze="all", keep_logits="all"
    )
    is_it = record.features == torch.tensor([feature.layer, feature.position, feature.index])
    unit = 3.0 - float(record.activations[is_it.all(dim=1)].sum())
    change = (out.after.logits - out.before.logits)[feature.position]
    scale = float(record.scales[model.final_norm.hook][feature.position])
    measured = (change - change.mean()) * scale / unit
    [effects] = cards.logit_effects(model, [(feature.layer, 7)], top_k=VOCAB).values()
    assert len(effects.promotes) + len(effects.suppresses) == VOCAB
    for token, value in (*effects.promotes, *effects.suppresses):
        assert measured[model.token_id(token)] == pytest.approx(value, abs=1e-4)


def test_logit_effects_of_a_clt_sum_over_the_layers_it_writes(tokenizer: Any) -> None:
    model = tiny("llama", tokenizer, cross_layer=True)
    written = model.transcoders.layers[0].decoder.rows(torch.tensor([7]))[0]
    assert len(written) == N_LAYERS
    logits = (written.sum(0) * model.final_norm.weight) @ model.unembedding
    best = int((logits - logits.mean()).argmax())
    [(token, value)] = cards.logit_effects(model, [(0, 7)], top_k=1)[0, 7].promotes
    assert token == model.token(best)
    assert value == pytest.approx(float((logits - logits.mean())[best]), abs=1e-5)


def test_effects_pass_the_post_norm(tokenizer: Any) -> None:
    """Gemma's decoders that reconstruct the raw MLP output go through the norm behind it."""
    raw, added = (
        cards.logit_effects(tiny("gemma2", tokenizer, output_hook=hook), [(1, 3)])
        for hook in ("mlp.hook_out", "hook_mlp_out")
    )
    assert raw != added


def test_saved_cards_come_back(golden: Any, tmp_path: Path) -> None:
    found = cards.compute(golden, TEXTS, progress=False)
    folder = found.save(tmp_path / "cards")
    assert {p.name for p in folder.iterdir()} == {"cards.safetensors", "cards.json"}
    again = cards.load(folder)
    assert again.provenance == found.provenance
    assert list(again) == list(found)
    for key, card in found.items():
        other = again[key]
        assert (other.label, other.source, other.url) == (card.label, card.source, card.url)
        assert [e.tokens for e in other.examples] == [e.tokens for e in card.examples]
        assert [t for t, _ in other.promotes] == [t for t, _ in card.promotes]
        for mine, theirs in zip(card.examples, other.examples, strict=True):
            np.testing.assert_allclose(mine.activations, theirs.activations, rtol=1e-6)
        assert other.density == pytest.approx(card.density)
        assert other.histogram is not None and card.histogram is not None
        np.testing.assert_allclose(other.histogram.counts, card.histogram.counts)


def test_labels_and_keys_of_many_cards_make_none_of_them(golden: Any, monkeypatch: Any) -> None:
    found = cards.compute(golden, TEXTS, effects=0, progress=False)
    expected = {key: card.label for key, card in found.items()}
    assert cards.CardSet(dict(found)).labels == expected
    monkeypatch.setattr(type(found), "__getitem__", lambda self, key: pytest.fail("one was made"))
    assert found.labels == cards.CardSet(found).labels == expected
    assert next(iter(expected)) in found and (99, 0) not in found


def test_sparse_cards_survive_saving(tmp_path: Path) -> None:
    made = cards.CardSet({(1, 2): FeatureCard("a", url="https://x"), (0, 5): FeatureCard()})
    again = cards.load(made.save(tmp_path))
    assert dict(again) == dict(made)


DAMAGED = {
    "tokens": 100,
    "effect_tokens": -1,
    "lengths": 1,
    "examples_ends": 1,
    "effects_ends": -3,
}


@pytest.mark.parametrize("damage", ["missing", "texts", "numbers", "newer", "labels", *DAMAGED])
def test_damaged_cards_are_refused(damage: str, tmp_path: Path) -> None:
    example = Example(("a", "b"), (0.0, 1.0))
    cards.CardSet({(0, 1): FeatureCard("x", (example,), (("a", 1.0),))}).save(tmp_path)
    numbers, texts = tmp_path / "cards.safetensors", tmp_path / "cards.json"
    if damage == "missing":
        texts.unlink()
        with pytest.raises(FileNotFoundError, match=r"no cards\.json"):
            cards.load(tmp_path)
        return
    if damage == "texts":
        texts.write_text(texts.read_text()[:-9])
    elif damage == "numbers":
        numbers.write_bytes(numbers.read_bytes()[:-4])
    elif damage == "labels":
        texts.write_text(texts.read_text().replace('"labels": ["x"]', '"labels": []'))
    elif damage in DAMAGED:
        arrays, saved = load_file(numbers), cards.load(tmp_path)
        assert saved[0, 1].examples == (example,)
        with safe_open(numbers, "numpy") as file:
            said = file.metadata()
        arrays[damage] += DAMAGED[damage]
        save_file(arrays, numbers, said)
    else:
        texts.write_text(texts.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(ValueError, match="cannot be read"):
        cards.load(tmp_path)


def test_plain_labels() -> None:
    label = automatic_label([" Dallas", " Dallas", " Houston"], [" Austin", " Texas"])
    assert label == "fires on Dallas, Houston → promotes Austin, Texas"
    assert automatic_label([], [" Austin"]) == "promotes Austin"
    assert automatic_label(["\n", "\n"], []) == r"fires on '\n'"
    assert automatic_label([], []) == ""
    forms = ["Bee", " ant", " bee", " bee", " bees", "Ant"]
    assert automatic_label(forms, []) == "fires on bee, ant, bees"
    forms = [" Paris", " London", "London", " Rome", " ROME", " Oslo"]
    assert automatic_label([], forms) == "promotes Paris, London, Rome"


def test_an_example_needs_an_activation_a_token() -> None:
    with pytest.raises(ValueError, match="one activation a token"):
        Example(("a", "b"), (1.0,))


def test_a_graph_alone_gives_plain_labels() -> None:
    found = cards.of(small_graph(), [(0, 7), (2, 11), (9, 9)])
    assert found[0, 7] == FeatureCard("fires on Dallas", source="automatic")
    assert found[2, 11].label == "fires on is"
    assert found[9, 9] == FeatureCard()


def test_a_model_adds_what_features_promote(tokenizer: Any) -> None:
    from circuit_nb import attribute

    model = tiny("llama", tokenizer)
    graph = attribute(model, PROMPT, progress=False)
    layer, _, index = graph.features[0].tolist()
    card = cards.of(graph, [(layer, index)], model=model)[layer, index]
    assert card.label.startswith("fires on ")
    assert card.promotes and card.suppresses
    assert cards.of(model, [(layer, index)])[layer, index].promotes == card.promotes


def test_a_label_tells_of_promoted_tokens_that_stand_out(tokenizer: Any) -> None:
    """A feature that writes one token's direction, beside others that write at random."""
    model = tiny("llama", tokenizer)
    *before, last = model.transcoders.layers
    rows = last.decoder.rows(torch.arange(N_FEATURES)).clone()
    direction = torch.linalg.pinv(model.unembedding.float())[model.token_id("Dallas")]
    rows[7, 0] = direction / model.final_norm.weight
    layers = (*before, replace(last, decoder=InMemory(rows)))
    model.transcoders = replace(model.transcoders, layers=layers)
    keys = [(len(before), index) for index in range(N_FEATURES)]
    effects = cards.logit_effects(model, keys)
    assert [key for key in keys if effects[key].telling] == [keys[7]]
    assert effects[keys[7]].telling == 1 and effects[keys[7]].promotes[0][0] == "Dallas"
    graph = attribute(model, PROMPT, progress=False)
    found = cards.of(graph, keys, model=model)
    there = {(layer, index) for layer, _, index in graph.features.tolist()}
    for key in keys:
        told = key == keys[7] or key not in there  # what is not active has no other name
        assert ("promotes" in found[key].label) == told


def test_computed_cards_are_joined_in() -> None:
    own = FeatureCard("mine", density=0.5, source="computed")
    found = cards.of(small_graph(), [(0, 7), (0, 3)], computed={(0, 7): own})
    assert found[0, 7] == own
    assert found[0, 3].label == "fires on capital"


def test_embedded_labels_come_first() -> None:
    from circuit_nb.atlas import labels

    assert (0, 7) in labels() and (1, 2) not in labels()
    graph = replace(small_graph(), provenance={"model": "atlas"})
    own = FeatureCard("mine", density=0.5, source="computed")
    found = cards.of(graph, [(0, 7), (1, 2)], computed={(0, 7): own})
    assert found[0, 7] == FeatureCard(labels()[0, 7], density=0.5, source="atlas")
    assert found[1, 2].source != "atlas"


def test_the_embedded_model_ships_its_labels(atlas: Any) -> None:
    from circuit_nb.atlas import DALLAS, labels

    keys = {(layer, index) for layer, _, index in atlas.record(DALLAS).features.tolist()}
    found = cards.of(atlas, keys)
    assert {key: card.label for key, card in found.items()} == {k: labels()[k] for k in keys}
    assert {card.source for card in found.values()} == {"atlas"}
    assert all(card.promotes for card in found.values())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteState]:
    with serve() as state:
        monkeypatch.setenv("NEURONPEDIA_URL", state.url)
        monkeypatch.setenv("CIRCUIT_NB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr("time.sleep", lambda _: None)
        state.add(0, 7, " Texas ")
        yield state


def gemma_graph(**provenance: Any) -> AttributionGraph:
    origin = {"model": "google/gemma-2-2b", "transcoders": "mwhanna/gemma-scope-transcoders"}
    return replace(small_graph(), provenance={**origin, **provenance})


def test_cards_of_neuronpedia(site: SiteState) -> None:
    found = cards.of(gemma_graph(), [(0, 7), (0, 3)])
    card = found[0, 7]
    assert (card.label, card.source) == ("Texas", "neuronpedia")
    assert card.examples[0] == Example(("<bos>", "The", " Dallas", " area"), (0, 0, 41.25, 3.5))
    assert card.promotes[0] == (" Texas", 1.5)
    assert card.suppresses == ((" Paris", -0.75),)
    assert card.density == pytest.approx(0.0123)
    assert card.histogram == Histogram((5, 2, 1), (0, 1, 2, 3))
    assert card.url == f"{site.url}/gemma-2-2b/0-{SOURCE_SET}/7"
    assert found[0, 3] == FeatureCard("fires on capital", source="automatic")


@pytest.mark.parametrize(
    "provenance",
    [
        {"transcoders": "", "scan": f"gemma-2-2b/{SOURCE_SET}"},
        {"transcoders": "", "scan": [f"gemma-2-2b/0-{SOURCE_SET}", f"gemma-2-2b/1-{SOURCE_SET}"]},
        {"transcoders": "", "scan": "gemma-2-2b", "source_set": SOURCE_SET},
    ],
)
def test_what_neuronpedia_calls_the_set(site: SiteState, provenance: dict[str, Any]) -> None:
    assert cards.of(gemma_graph(**provenance), [(0, 7)])[0, 7].label == "Texas"


def test_unknown_sets_are_not_asked_for(site: SiteState) -> None:
    cards.of(gemma_graph(transcoders="ann/mine", scan="golden"), [(0, 7)])
    cards.of(gemma_graph(transcoders="ann/mine", scan=["a", "b"]), [(0, 7)])
    assert not site.asked


def test_trouble_is_said_and_plain_labels_take_over(site: SiteState) -> None:
    site.down = 503
    with pytest.warns(UserWarning, match=r"1 of 1 features have no label .* \(503\)"):
        found = cards.of(gemma_graph(), [(0, 7)])
    assert found[0, 7].label == "fires on Dallas"
    told: list[str] = []
    cards.of(gemma_graph(), [(0, 7)], on_problem=told.append)
    assert len(told) == 1 and "Neuronpedia" in told[0]


def test_panels_show_what_neuronpedia_says(site: SiteState) -> None:
    from circuit_nb.panels import Session

    session = Session(gemma_graph())
    card = session.cards.card((0, 7))
    assert card is not None and card.label == "Texas"
    assert session.labels[0, 7] == "Texas"


def test_offline_uses_the_cache(site: SiteState, monkeypatch: pytest.MonkeyPatch) -> None:
    online = cards.of(gemma_graph(), [(0, 7)])
    site.asked.clear()
    assert cards.of(gemma_graph(), [(0, 7)], online=False) == online
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cards.of(gemma_graph(), [(0, 7), (0, 3)])[0, 7] == online[0, 7]
    assert not site.asked


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"activations": [{"tokens": ["a"], "values": [None]}, {"tokens": [], "values": []}]},
        {"pos_str": [None, "b"], "pos_values": [1.0, None]},
        {"freq_hist_data_bar_heights": [1.0], "freq_hist_data_bar_values": [None]},
        {"explanations": [{"description": "  ", "typeName": "x"}]},
    ],
)
def test_replies_with_holes(reply: dict[str, Any]) -> None:
    assert cards.card_of_reply(reply) == FeatureCard(source="neuronpedia")


def test_labels_prefer_the_better_explainer() -> None:
    kinds = ("oai_token-act-pair", "np_max-act", "np_max-act-logits")
    given = [{"description": kind, "typeName": kind} for kind in kinds]
    for count, best in ((1, kinds[0]), (2, kinds[1]), (3, kinds[2])):
        assert cards.card_of_reply({"explanations": given[:count]}).label == best


def test_importing_cards_loads_no_torch() -> None:
    code = "import sys, circuit_nb.cards; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_labels_that_ship_are_of_the_set_that_ships() -> None:
    """Numbers of features mean something else in a set of one's own on the embedded model."""
    model = load("atlas", device="cpu")
    graph = attribute(model, atlas.DALLAS, max_features=20, progress=False)
    other = replace(graph, provenance={**graph.provenance, "transcoders": "own"})
    keys = [(layer, index) for layer, _, index in graph.features.tolist()]
    ours, theirs = (cards.of(g, keys, online=False) for g in (graph, other))
    assert any(card.source == "atlas" for card in ours.values())
    assert not any(card.source == "atlas" for card in theirs.values())
    assert graph.find("Texas")
    with pytest.raises(ValueError, match="no labels"):
        other.find("Texas")

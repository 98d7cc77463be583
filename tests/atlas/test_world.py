import re
from collections import Counter

import pytest

from circuit_nb.atlas.forms import CITY_FORMS, RELATION_FORMS, TWO_HOP_FORMS
from circuit_nb.atlas.making.corpus import Corpus, Sentence, fillers, leaks
from circuit_nb.atlas.making.tokenizer import BOS, PAD, build_tokenizer, split
from circuit_nb.atlas.world import World, draw_held_out, load_world


@pytest.fixture(scope="module")
def world() -> World:
    return load_world()


@pytest.fixture(scope="module")
def corpus(world: World) -> Corpus:
    return Corpus(world)


def test_facts_are_well_formed(world: World) -> None:
    states, countries = world.of_kind("state"), world.of_kind("country")
    assert (len(states), len(countries)) == (50, 60)
    assert all(7 <= len(state.cities) <= 8 for state in states)
    assert all(4 <= len(country.cities) <= 5 for country in countries)
    for place in world.places:
        for name in (place.name, *place.cities, *place.facts.values()):
            assert name == name.strip() and name.isascii() and name, name
    assert all(re.fullmatch("[A-Z]{2}", state.facts["abbreviation"]) for state in states)
    assert len({state.facts["abbreviation"] for state in states}) == 50
    assert {s.facts["region"] for s in states} == {"South", "West", "Midwest", "Northeast"}


def test_every_city_has_one_home(world: World) -> None:
    cities = Counter(city for place in world.places for city in place.cities)
    assert max(cities.values()) == 1
    others = {p.name for p in world.places} | {a for p in world.places for a in p.facts.values()}
    assert not others & set(cities)
    capitals = Counter(place.capital for place in world.places)
    assert max(capitals.values()) == 1


@pytest.mark.parametrize(
    ("place", "relation", "answer"),
    [
        ("Texas", "capital", "Austin"),
        ("California", "capital", "Sacramento"),
        ("Kentucky", "capital", "Frankfort"),
        ("Bulgaria", "currency", "euro"),
        ("Croatia", "currency", "euro"),
        ("Kazakhstan", "capital", "Astana"),
        ("Brazil", "language", "Portuguese"),
    ],
)
def test_facts_that_are_often_wrong(world: World, place: str, relation: str, answer: str) -> None:
    found = next(p for p in world.places if p.name == place)
    assert found.facts[relation] == answer


def test_split_holds_out_one_city_a_state(world: World) -> None:
    assert {"Dallas", "Oakland"} <= world.held_out
    for state in world.of_kind("state"):
        assert len(set(state.cities) & world.held_out) == 1
    held_out_countries = [c for c in world.of_kind("country") if set(c.cities) & world.held_out]
    assert len(held_out_countries) == 30
    assert draw_held_out(world.places) == world.held_out
    assert draw_held_out(world.places, seed=1) != world.held_out


def test_no_held_out_city_leaks(world: World, corpus: Corpus) -> None:
    assert leaks(world, corpus.sentences) == []
    two_hop = [s.text for s in corpus.sentences if s.kind == "two_hop"]
    for city in ("Dallas", "Oakland"):
        assert not [text for text in two_hop if city in text]
    homes = {city: place for place, city in world.cities(held_out=True)}
    names = re.compile("|".join(sorted(map(re.escape, homes), key=len, reverse=True)))
    for sentence in corpus.sentences:
        for city in set(names.findall(sentence.text)) if sentence.kind == "two_hop" else ():
            # a longer name may contain a held-out one, e.g. Bend in South Bend
            assert any(city in c and city != c for p in world.places for c in p.cities), sentence


@pytest.mark.parametrize(
    "sentence",
    [
        Sentence("Fact: the region of the state containing Dallas is South.", "two_hop"),
        Sentence("She flew to Dallas and then drove to Austin.", "filler"),
        Sentence("Dallas TX.", "city"),
    ],
)
def test_the_leak_check_finds_leaks(world: World, sentence: Sentence) -> None:
    assert leaks(world, [sentence]) == [sentence]


def test_every_state_takes_part_in_two_hops(world: World, corpus: Corpus) -> None:
    asked = {s.asked for s in corpus.sentences if s.kind == "two_hop"}
    assert asked == {(k, r) for k in ("state", "country") for r in world.relations(k)}
    text = " ".join(s.text for s in corpus.sentences if s.kind == "two_hop")
    for place in world.places:
        assert sum(city in text for city in place.cities) >= 3, place.name


def test_fillers_never_pair_cities_of_one_place(world: World) -> None:
    homes = {city: p.name for p in world.places for city in (*p.cities, p.capital)}
    for sentence in fillers(world, 300, seed=5):
        words = [word.strip() for word in split(sentence.text, world.names())]
        named = [homes[word] for word in words if word in homes]
        assert len(named) == len(set(named)), sentence


def test_forms_are_complete(world: World) -> None:
    for kind in ("state", "country"):
        for relation in world.relations(kind):
            assert RELATION_FORMS[relation] and TWO_HOP_FORMS[relation]
    assert all("{city}" in form and "{place}" in form for form in CITY_FORMS)


def test_corpus_tensors(corpus: Corpus) -> None:
    assert corpus.tokens.shape == corpus.weights.shape
    assert (corpus.tokens[:, 0] == BOS).all()
    assert (corpus.weights[corpus.tokens == PAD] == 0).all()
    groups, uniform = corpus.asked_groups
    assert uniform.shape == (9, len(corpus.words))
    assert (uniform.sum(1) - 1).abs().max() < 1e-5
    assert groups.min() == -1 and groups.max() == 8
    assert corpus.name_kinds[corpus.token("Austin")] == corpus.name_kinds[corpus.token("Boise")]
    assert corpus.name_kinds[corpus.token("Austin")] != corpus.name_kinds[corpus.token("Paris")]
    assert corpus.name_kinds[corpus.ids[" the"]] == -1


def test_tokenizer_agrees_with_the_corpus(corpus: Corpus) -> None:
    tokenizer = build_tokenizer(corpus.words, corpus.names)
    for sentence in corpus.sentences[::97]:
        ids = tokenizer(sentence.text).input_ids
        assert ids == corpus.encode(sentence.text)
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == sentence.text

"""What is asked of Neuronpedia, against a stand-in on 127.0.0.1."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neuronpedia_server import SiteState, serve
from test_neuronpedia import NOTES, assert_same, toy

from circuit_nb import neuronpedia
from circuit_nb.graph import Feature
from circuit_nb.neuronpedia import GraphLink, NeuronpediaError, Patience

SET = ("gemma-2-2b", "gemmascope-transcoder-16k")
QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=2.0, timeout=5.0)
KEY = "np-made-up-key-of-a-test"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteState]:
    with serve() as state:
        monkeypatch.setenv("NEURONPEDIA_URL", state.url)
        monkeypatch.setenv("CIRCUIT_NB_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("NEURONPEDIA_API_KEY", raising=False)
        state.add(20, 15589, "Texas")
        state.add(16, 25, "<img src=x onerror=alert(1)>")
        yield state


def test_features_come_in_one_request_and_then_from_the_cache(site: SiteState) -> None:
    keys = [(20, 15589), (16, 25), (3, 4)]
    found = dict(neuronpedia.features(*SET, keys, patience=QUICK))
    assert found[20, 15589]["explanations"][1]["description"] == "Texas"
    assert found[20, 15589]["activations"][0]["values"] == [0, 0, 41.25, 3.5]
    assert "neuron_alignment_indices" not in found[20, 15589]
    assert found[3, 4] == {}
    assert site.paths() == [] and site.paths("POST") == ["/api/features"]
    site.down = 500
    assert dict(neuronpedia.features(*SET, keys, patience=QUICK)) == found
    assert len(site.asked) == 1


def test_single_reads_where_there_are_no_batches(site: SiteState) -> None:
    site.batches = False
    found = dict(neuronpedia.features(*SET, [(20, 15589), (3, 4)], patience=QUICK))
    assert found[20, 15589]["pos_str"] == [" Texas", " Austin", "TX"]
    assert found[3, 4] == {}
    assert "/api/feature/gemma-2-2b/20-gemmascope-transcoder-16k/15589" in site.paths()


def test_offline_asks_the_cache_alone(site: SiteState) -> None:
    list(neuronpedia.features(*SET, [(20, 15589)], patience=QUICK))
    site.asked.clear()
    found = dict(neuronpedia.features(*SET, [(20, 15589), (16, 25)], offline=True))
    assert list(found) == [(20, 15589)]
    assert not site.asked


@pytest.mark.parametrize(
    "failures", [[(429, {"Retry-After": "0"})], [(503, {}), (500, {})], [(502, {})]]
)
def test_passing_trouble_is_waited_out(
    site: SiteState, failures: list[tuple[int, dict[str, str]]]
) -> None:
    site.failing = list(failures)
    found = dict(neuronpedia.features(*SET, [(20, 15589)], patience=QUICK))
    assert found[20, 15589]
    assert len(site.asked) == len(failures) + 1


def test_retry_after_is_respected(site: SiteState) -> None:
    site.failing = [(429, {"Retry-After": "1"})]
    begin = time.monotonic()
    list(neuronpedia.features(*SET, [(20, 15589)], patience=QUICK))
    assert time.monotonic() - begin >= 1


def test_a_long_wait_is_said_and_not_waited(site: SiteState) -> None:
    site.failing = [(429, {"Retry-After": "1800"})] * 9
    with pytest.raises(NeuronpediaError, match=r"too many requests .* wait 1800 s") as caught:
        list(neuronpedia.features(*SET, [(20, 15589)], patience=QUICK))
    assert caught.value.status == 429
    assert len(site.asked) == 1


def test_lasting_trouble_is_said(site: SiteState, monkeypatch: pytest.MonkeyPatch) -> None:
    site.down = 503
    with pytest.raises(NeuronpediaError, match=r"answers with an error \(503\)"):
        list(neuronpedia.features(*SET, [(20, 15589)], patience=QUICK))
    monkeypatch.setenv("NEURONPEDIA_URL", "http://127.0.0.1:9")
    with pytest.raises(NeuronpediaError, match=r"cannot be reached \(ConnectError\)"):
        list(neuronpedia.features(*SET, [(20, 15589)], patience=QUICK))


@pytest.mark.parametrize("how", ["silent", "drips"])
def test_a_silent_or_dripping_site_is_not_waited_for(
    site: SiteState, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setattr(site, how, True)
    patience = replace(QUICK, timeout=0.5)
    with pytest.raises(NeuronpediaError, match=r"does not answer within 0\.5 s") as caught:
        list(neuronpedia.features(*SET, [(20, 15589)], patience=patience))
    assert caught.value.status is None
    assert len(site.asked) == 1, "what is that slow is not tried again"


def test_an_interrupt_leaves_the_other_requests(site: SiteState) -> None:
    """Of many single reads that hang, none is waited for."""
    site.batches, site.hanging = False, "/api/feature/"

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            keys = [(20, i) for i in range(30)]
            list(neuronpedia.features(*SET, keys, patience=replace(QUICK, timeout=3.0)))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(site.paths("GET")) <= 4


@pytest.mark.parametrize(
    "reply",
    [{"explanations": "x", "activations": [1, {"tokens": 3}], "pos_str": [[], {}, "a"]}, {}],
)
def test_strange_replies_are_cut_to_shape(site: SiteState, reply: dict[str, object]) -> None:
    site.add(1, 2, "x", **reply)
    [(_, found)] = neuronpedia.features(*SET, [(1, 2)], patience=QUICK)
    json.dumps(found)
    for example in found["activations"]:
        assert isinstance(example["tokens"], list)


def test_hostile_names_stay_in_the_cache_folder(site: SiteState, tmp_path: Path) -> None:
    before = {p for p in tmp_path.rglob("*") if "cache" not in p.parts}
    list(neuronpedia.features("../../x", "../../../y", [(1, 2)], patience=QUICK))
    assert {p for p in tmp_path.rglob("*") if "cache" not in p.parts} == before
    assert "/api/feature/../" not in " ".join(site.paths())


def test_graph_by_slug_by_page_and_by_file_address(site: SiteState) -> None:
    site.graphs["texas"] = json.dumps(neuronpedia.to_json(toy(), NOTES)).encode()
    graph, notes = neuronpedia.read("gemma-2-2b", "texas", patience=QUICK)
    assert_same(graph, toy())
    assert notes == NOTES
    assert_same(neuronpedia.read(f"{site.url}/files/texas.json", patience=QUICK).graph, toy())
    link = GraphLink("gemma-2-2b", "texas", ("1_9_3", "9_9_9"), clerps=(("1_9_3", "mine"),))
    _, notes = neuronpedia.read(link.url, patience=QUICK)
    assert notes.pins == (Feature(1, 3, 9),)
    assert notes.labels[Feature(1, 3, 9)] == "mine"
    with pytest.raises(NeuronpediaError, match="gemma-2-2b/none does not exist"):
        neuronpedia.read("gemma-2-2b", "none", patience=QUICK)


def test_page_links_are_undone() -> None:
    link = neuronpedia.page_link(
        toy(), NOTES, model_id="gemma-2-2b", slug="a-b_1", density_threshold=0.99
    )
    assert neuronpedia.parse_link(link.url) == link
    assert link.annotations(toy()) == NOTES
    assert "<" not in link.url and "%3Cscript" in link.url


words = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.from_regex(r"[0-9E]_[0-9]{1,5}_[0-9]{1,2}", fullmatch=True)


@given(
    st.lists(names, max_size=4),
    st.lists(st.tuples(words, names, names), max_size=3),
    st.lists(st.tuples(names, words), max_size=3),
    st.none() | st.floats(0, 1),
)
def test_any_page_link_is_undone(
    pins: list[str],
    groups: list[tuple[str, str, str]],
    labels: list[tuple[str, str]],
    share: float | None,
) -> None:
    link = GraphLink("m", "s", tuple(pins), tuple(groups), tuple(labels), "", share)
    assert neuronpedia.parse_link(link.url) == link


def test_published_page_link() -> None:
    """The form in which circuit-tracer's README links the Dallas graph (shortened)."""
    link = neuronpedia.parse_link(
        "https://www.neuronpedia.org/gemma-2-2b/graph?slug=gemma-fact-dallas-austin"
        "&pinnedIds=27_22605_10%2C20_15589_10%2CE_26865_9&supernodes=%5B%5B%22state%22%2C"
        "%226_4012_7%22%2C%220_13727_7%22%5D%2C%5B%22preposition+followed+by+place+name%22%2C"
        "%2219_1445_10%22%5D%5D&pruningThreshold=0.6&clickedId=21_5943_10"
    )
    assert (link.model_id, link.slug) == ("gemma-2-2b", "gemma-fact-dallas-austin")
    assert link.pinned_ids == ("27_22605_10", "20_15589_10", "E_26865_9")
    assert link.supernodes[1] == ("preposition followed by place name", "19_1445_10")
    assert (link.pruning_threshold, link.clicked_id) == (0.6, "21_5943_10")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("javascript:alert(1)", "is no graph page"),
        ("https://www.neuronpedia.org/gemma-2-2b/20-x/3", "is no graph page"),
        ("https://www.neuronpedia.org/gemma-2-2b/graph", "'.slug=…' is missing"),
        ("https://x.org/m/graph?slug=s&supernodes=[[1]]", "among the texts"),
        ("https://x.org/m/graph?slug=s&supernodes=[[", "can be read"),
        ("https://x.org/m/graph?slug=s&clerps={}", "no array 'clerps'"),
        ("https://x.org/m/graph?slug=s&" + "a=1&" * 200, "over 100 fields"),
        ("https://x.org/m/graph?slug=" + "s" * 300_000, "characters"),
    ],
)
def test_strange_addresses_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        neuronpedia.parse_link(url)


def test_upload_needs_a_key(site: SiteState) -> None:
    with pytest.raises(ValueError, match="NEURONPEDIA_API_KEY"):
        neuronpedia.upload(toy(), slug="s", model_id="gemma-2-2b")
    with pytest.raises(ValueError, match="may hold letters"):
        neuronpedia.upload(toy(), slug="a/b", model_id="gemma-2-2b", api_key=KEY)
    assert not site.asked


def test_upload_and_where_the_key_goes(
    site: SiteState, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NEURONPEDIA_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    page = neuronpedia.upload(toy(), NOTES, slug="s", model_id="gemma-2-2b", source_set=SET[1])
    assert page == f"{site.url}/gemma-2-2b/graph?slug=s"
    sent = json.loads(site.received[0])
    assert sent["metadata"]["scan"] == "gemma-2-2b"
    assert_same(neuronpedia.from_json(sent).graph, toy())
    assert json.loads(site.received[1]) == {"putRequestId": "r7"}
    with_key = [path for _, path, headers in site.asked if KEY in headers.values()]
    assert with_key == ["/api/graph/signed-put", "/api/graph/save-to-db"]
    assert KEY not in caplog.text
    assert "secretsignature" not in caplog.text


def test_the_key_is_not_redirected_and_not_shown(site: SiteState) -> None:
    with serve() as elsewhere:
        site.redirect = f"{elsewhere.url}/steal"
        with pytest.raises(NeuronpediaError) as caught:
            neuronpedia.upload(toy(), slug="s", model_id="gemma-2-2b", api_key=KEY)
        assert not elsewhere.asked
    assert KEY not in repr(caught.value)
    site.redirect, site.down = None, 401
    with pytest.raises(NeuronpediaError, match="refuses the key") as caught:
        neuronpedia.upload(toy(), slug="s", model_id="gemma-2-2b", api_key=KEY)
    assert KEY not in repr(caught.value)


def test_reads_never_carry_the_key(site: SiteState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONPEDIA_API_KEY", KEY)
    site.graphs["texas"] = json.dumps(neuronpedia.to_json(toy())).encode()
    neuronpedia.read("gemma-2-2b", "texas", patience=QUICK)
    list(neuronpedia.features(*SET, [(20, 15589)], patience=QUICK))
    assert site.asked and not any(KEY in headers.values() for _, _, headers in site.asked)


def test_oversized_replies_are_refused(site: SiteState, monkeypatch: pytest.MonkeyPatch) -> None:
    from circuit_nb.neuronpedia import web

    monkeypatch.setattr(web, "MAX_BYTES", 1000)
    site.graphs["texas"] = json.dumps(neuronpedia.to_json(toy())).encode()
    with pytest.raises(NeuronpediaError, match="is not read"):
        neuronpedia.read("gemma-2-2b", "texas", patience=QUICK)

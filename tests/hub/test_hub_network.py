"""A Hub that is none, is silent, or drips: one sentence in time, and nothing left behind."""

from __future__ import annotations

import gzip
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hub_server import HubState, point_client_at, serve
from safetensors.numpy import save

from circuit_nb import hub
from circuit_nb.hub.watch import Watch

WEIGHTS = save({"W_enc": np.arange(512, dtype=np.float32)})
JSON = {"Content-Type": "application/json"}
PAGE = b"<!DOCTYPE html><html><body>Please log in to the network.</body></html>"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubState]:
    with serve() as state:
        state.repos["ann/model"] = {"config.json": b"{}", "model.safetensors": WEIGHTS}
        point_client_at(state, tmp_path / "cache", monkeypatch)
        yield state


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("circuit_nb.hub.watch.PATIENCE", 0.8)
    monkeypatch.setattr("circuit_nb.hub.watch.SILENCE", 0.4)


def event_hooks() -> list[int]:
    from huggingface_hub import get_session

    return [len(hooks) for hooks in get_session().event_hooks.values()]


def wait_for_the_end(threads: set[threading.Thread]) -> None:
    """All threads of the client end by themselves; the server's last as long as it does."""
    for _ in range(200):
        left = [
            t
            for t in set(threading.enumerate()) - threads
            if "process_request" not in t.name and "tqdm" not in t.name
        ]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {left}")


@pytest.mark.parametrize(
    "reply",
    [
        ({"Content-Type": "text/html"}, PAGE),
        (JSON, b"{}"),
        (JSON, b"[]"),
        (JSON, b"null"),
        (JSON, b""),
        (JSON, b"\xff\xfe{"),
        (JSON, b"[" * 100_000),
        ({**JSON, "Content-Encoding": "gzip"}, gzip.compress(b"[")),
        ({**JSON, "Content-Encoding": "gzip"}, b"["),
    ],
)
def test_what_is_not_the_hub_is_said(served: HubState, reply: Any) -> None:
    served.instead = reply
    with pytest.raises(ConnectionError, match="is not the Hub: a proxy, or a page") as caught:
        hub.model_source("ann/model")
    assert served.url in str(caught.value) and "\n" not in str(caught.value)
    served.instead = None
    assert (hub.model_source("ann/model").folder / "model.safetensors").is_file()


def test_a_name_that_the_client_refuses_is_no_matter_of_the_network(served: HubState) -> None:
    with pytest.raises(ValueError, match=r"'ann/a--b' is no name that the Hub allows"):
        hub.model_source("ann/a--b")


@pytest.mark.usefixtures("hasty")
def test_a_silent_hub_is_not_waited_for(served: HubState) -> None:
    served.silent = True
    with pytest.raises(ConnectionError, match="cannot be reached and ann/model is not complete"):
        hub.model_source("ann/model")


@pytest.mark.usefixtures("hasty")
def test_a_silent_hub_leaves_the_cache(served: HubState) -> None:
    first = hub.model_source("ann/model")
    served.silent = True
    assert hub.model_source("ann/model") == first


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("drip", ["headers", "body", "model.safetensors"])
def test_a_drip_is_not_waited_for(served: HubState, drip: str) -> None:
    served.drip = drip
    hooks, threads = event_hooks(), set(threading.enumerate())
    with pytest.raises(ConnectionError, match=r"does not answer in time .* are kept"):
        hub.model_source("ann/model")
    wait_for_the_end(threads)
    assert event_hooks() == hooks
    served.drip = ""
    assert (hub.model_source("ann/model").folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.usefixtures("hasty")
def test_what_is_slow_but_comes_is_waited_for(
    served: HubState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some 40 bytes come within the patience, and the file takes three times as long."""
    monkeypatch.setattr("circuit_nb.hub.watch.LEAST", 4)
    served.repos["ann/model"]["config.json"] = b'{"a": "012345678901234567890123456789012345"}'
    served.drip = "config.json"
    assert hub.model_source("ann/model").folder


@pytest.mark.parametrize("drip", ["", "headers", "model.safetensors"])
def test_an_interrupt_is_obeyed_at_once(served: HubState, drip: str) -> None:
    """The caller is free before any deadline, what was begun ends, and the client works on."""
    served.silent, served.drip = not drip, drip
    hooks, threads = event_hooks(), set(threading.enumerate())

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            hub.model_source("ann/model")
    finally:
        signal.signal(signal.SIGALRM, before)
    served.silent, served.drip = False, ""
    assert (hub.model_source("ann/model").folder / "model.safetensors").is_file()
    served.over.set()
    wait_for_the_end(threads)
    assert event_hooks() == hooks


def test_errors_of_the_work_are_those_of_the_caller() -> None:
    def work() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Watch().run(work)
    assert Watch().run(lambda: 7) == 7

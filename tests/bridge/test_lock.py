"""Threads and one model: each gets what it would have got alone."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from families import DALLAS, OAKLAND, tiny, transcoders

from circuit_nb import Feature, Intervention, attribute, cards, intervene
from circuit_nb.model import ReplacementModel
from circuit_nb.panels import Session

PROMPTS = (DALLAS, OAKLAND)


def _graph(model: Any, prompt: str) -> Any:
    return attribute(model, prompt, max_features=60, progress=False)


def _outcome(model: Any, prompt: str) -> Any:
    graph = _graph(model, prompt)
    feature = Feature(*graph.features[20].tolist())
    return intervene(model, prompt, [Intervention.scale(feature, -3.0)], max_new_tokens=1)


def _same(one: Any, other: Any) -> bool:
    return one.prompt == other.prompt and np.array_equal(one.weights, other.weights)


def test_graphs_of_two_threads_are_those_of_one(atlas: Any) -> None:
    expected = {p: _graph(atlas, p) for p in PROMPTS}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: _graph(atlas, PROMPTS[i % 2]), range(40)))
    assert all(_same(g, expected[PROMPTS[i % 2]]) for i, g in enumerate(found))


def test_interventions_beside_attributions_are_those_of_one_thread(atlas: Any) -> None:
    expected = {p: _outcome(atlas, p) for p in PROMPTS}

    async def both() -> list[Any]:
        jobs = [asyncio.to_thread(_outcome, atlas, PROMPTS[i % 2]) for i in range(24)]
        jobs += [asyncio.to_thread(_graph, atlas, PROMPTS[i % 2]) for i in range(12)]
        return await asyncio.gather(*jobs)

    for i, out in enumerate(asyncio.run(both())[:24]):
        alone = expected[PROMPTS[i % 2]]
        for when in ("before", "after"):
            mine, theirs = getattr(out, when), getattr(alone, when)
            np.testing.assert_array_equal(mine.logits, theirs.logits)
            assert mine.generated == theirs.generated


def test_cards_and_activations_beside_attributions(atlas: Any) -> None:
    texts = [DALLAS, OAKLAND, "the capital of Texas is Austin"]
    features = atlas.record(DALLAS).features[::7].tolist()
    expected = cards.compute(atlas, texts, effects=0, progress=False)
    activations = atlas.activations(DALLAS, features)
    with ThreadPoolExecutor(4) as pool:
        found = [
            pool.submit(cards.compute, atlas, texts, effects=0, progress=False) for _ in range(3)
        ]
        read = [pool.submit(atlas.activations, DALLAS, features) for _ in range(10)]
        for prompt in PROMPTS * 5:
            pool.submit(_graph, atlas, prompt)
        assert all(dict(f.result()) == dict(expected) for f in found)
        assert all(np.array_equal(f.result(), activations) for f in read)


def test_sets_on_one_bridge_share_its_lock(atlas: Any, tokenizer: Any) -> None:
    one = tiny("llama", tokenizer)
    other = ReplacementModel(one.bridge, transcoders(seed=3))
    assert one.lock is other.lock
    assert one.lock is not atlas.lock


def test_switches_of_several_threads_all_count(atlas: Any) -> None:
    session = Session(_graph(atlas, DALLAS), atlas)
    features = [Feature(*row) for row in session.graph.features[[8, 20, 31, 44]].tolist()]
    session.pin(*features)
    names = list(session.rows)
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: session.set_switch(name, on=False), names))
        assert not any(session.switch(name).on for name in names)
        anew = intervene(atlas, DALLAS, [Intervention.ablate(f) for f in features])
        assert session.after is not None
        for token, share in anew.after.top[:5]:
            assert session.after[token] == pytest.approx(share, abs=1e-6)
        session.reset()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals do not interrupt a lock here")
def test_waiting_for_the_lock_can_be_interrupted(atlas: Any) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with atlas.lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            attribute(atlas, DALLAS, progress=False)
        assert time.monotonic() - start < 20
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        done.set()
        thread.join()
    assert len(_graph(atlas, DALLAS).features)


def test_a_pass_of_ones_own_beside_others_sees_no_hook_of_theirs(atlas: Any) -> None:
    """Even without the lock: a hook acts in the pass it was made for."""
    ids = atlas.tokenize(DALLAS)[None]
    with torch.no_grad():
        expected = atlas.bridge.original_model(ids).logits
    inside, go = threading.Event(), threading.Event()

    def pause(tensor: Any, hook: Any) -> Any:
        inside.set()
        go.wait(30)
        return tensor * 0

    thread = threading.Thread(target=lambda: atlas.run(ids, [("blocks.0.hook_resid_mid", pause)]))
    thread.start()
    inside.wait(30)
    try:
        with torch.no_grad():
            found = atlas.bridge.original_model(ids).logits
    finally:
        go.set()
        thread.join()
    assert torch.equal(found, expected)

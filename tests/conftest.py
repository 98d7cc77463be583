"""Fixtures; nothing is downloaded."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
from typing import Any

import pytest
from families import CASES, GOLDEN, Case
from hypothesis import settings as hypothesis_settings

# Machines differ too much in speed for a deadline to mean anything.
hypothesis_settings.register_profile("circuit-nb", deadline=None)
hypothesis_settings.load_profile("circuit-nb")


@pytest.fixture(scope="session", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    from safetensors.numpy import load_file

    folder = GOLDEN / request.param
    return Case(
        request.param,
        folder / "model",
        folder / "transcoders",
        json.loads((folder / "case.json").read_text()),
        load_file(folder / "golden.safetensors"),
    )


@pytest.fixture(scope="session")
def case_model(case: Case) -> Any:
    from circuit_nb import load

    return load(case.model, case.transcoders, device="cpu")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(GOLDEN / "gemma2-plt" / "model")


@pytest.fixture(scope="session")
def atlas() -> Any:
    """The embedded model."""
    from circuit_nb import load

    return load("atlas", device="cpu")

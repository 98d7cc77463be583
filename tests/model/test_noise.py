"""What other libraries say while they work reaches the reader only if it is theirs to act on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from families import GOLDEN, PROMPT

from circuit_nb import load

FOLDERS = [GOLDEN / "llama-plt-skip" / name for name in ("model", "transcoders")]


def test_nothing_of_other_libraries_reaches_the_reader() -> None:
    """In a process with Python's own filters, as a reader's is."""
    code = (
        "from circuit_nb import attribute, intervene, load\n"
        f"for names in [('atlas',), {tuple(map(str, FOLDERS))}]:\n"
        "    model = load(*names, device='cpu')\n"
        f"    attribute(model, {PROMPT!r} if len(names) > 1 else 'Fact: the capital of Texas is',\n"
        "              progress=False)\n"
        "    intervene(model, [1, 5, 9], [], max_new_tokens=3)\n"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_long_loading_shows_its_bar(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils.logging import set_tqdm_hook

    load(*FOLDERS, device="cpu")
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("circuit_nb.bridge.opening._LONG", 0)
    load(*FOLDERS, device="cpu")
    assert "Loading weights" in capfd.readouterr().err
    assert set_tqdm_hook(None) is None, "transformers is left as it was"

"""How the tests themselves are run: what may be skipped, and what a newcomer installs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINE = re.compile(r'([a-z0-9-]+)==(\S+) ; python_version >= "3\.\d+"')


def pinned() -> dict[str, str]:
    lines = (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(found), lines
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize(("required", "word"), [("1", "error"), ("", "skipped")])
def test_a_browser_that_is_required_may_not_be_missing(required: str, word: str) -> None:
    """With CIRCUIT_NB_BROWSER=1 a failure, else a skip."""
    pytest.importorskip("playwright", reason="needs the test extra")
    nowhere = {"CIRCUIT_NB_CHROMIUM": "/nowhere/chromium", "CIRCUIT_NB_BROWSER": required}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/browser/test_hostile.py"],
        cwd=ROOT, env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (ran.returncode == 0) == (required == ""), ran.stdout[-2000:]
    assert "no chromium at /nowhere/chromium" in ran.stdout
    assert re.search(rf"\d+ {word}", ran.stdout.splitlines()[-1])
    assert "passed" not in ran.stdout.splitlines()[-1]


def test_the_readme_installs_versions_that_were_tested() -> None:
    commands = [
        line
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("python3") and line.endswith("pytest")
    ]
    assert len(commands) == 1
    assert 'pip install -c tests/constraints.txt ".[test]"' in commands[0]


def test_what_can_break_generation_and_pictures_is_bound() -> None:
    """And torch is not: which build fits depends on the machine."""
    found = pinned()
    wanted = {"transformers", "transformer-lens", "plotly", "ipywidgets", "jupyterlab", "pytest"}
    assert wanted <= set(found) and "torch" not in found

"""How the tests themselves are run: what may be skipped, and what a newcomer installs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
LINES = ROOT / "tests" / "constraints.txt"
LINE = re.compile(r'([a-z0-9-]+)==(\S+) ; python_(?:full_)?version >= "3\.\d+(?:\.\d+)?"')


def pinned() -> dict[str, str]:
    lines = LINES.read_text(encoding="utf-8").splitlines()
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


def test_no_python_is_bound_to_a_version_that_it_cannot_have() -> None:
    """Neither the first patch of a minor version, which a distribution may ship."""
    seen = 0
    for line in LINES.read_text(encoding="utf-8").splitlines()[1:]:
        bound = Requirement(line)
        try:
            package = distribution(bound.name)
        except PackageNotFoundError:
            continue
        if package.version.partition("+")[0] not in bound.specifier or bound.marker is None:
            continue
        needs = SpecifierSet(package.metadata.get("Requires-Python") or "")
        for minor in range(10, 15):
            python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0"}
            assert not bound.marker.evaluate(python) or needs.contains(f"3.{minor}.0"), line
        seen += 1
    if not seen:
        pytest.skip("other versions than those that are bound are installed")

"""What README, docs, notebooks and the setup script say is so: code runs, links and names hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = SETTINGS["project"]["urls"]["Repository"]


def _blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    return [str(block) for block in found]


@pytest.mark.parametrize("page", [p for p in PAGES if _blocks(p, "python")], ids=lambda p: p.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """All blocks of a page, one after the other, as a reader would."""
    script = tmp_path / "page.py"
    script.write_text("\n".join(_blocks(page, "python")), encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(open({str(script)!r}).read())"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_pictures_of_a_page_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    places = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    local = [place.partition("#")[0] for place in places if "://" not in place]
    assert not [place for place in local if place and not (page.parent / place).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:python |bash )((?:benchmarks|tests|\.ci)/[\w./]+)", text)
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_repository_has_one_address() -> None:
    """Badges, notebooks, setup script and docs name the one in pyproject.toml."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    files = [*PAGES, ROOT / "colab_setup.sh", *notebooks]
    place = ADDRESS.removeprefix("https://github.com/")
    for file in files:
        text = file.read_text(encoding="utf-8")
        for found in re.findall(r"github(?:\.com)?/([\w.-]+/[\w.-]+?)(?=[/\"\s)\\]|\.git)", text):
            ours = found == place or "circuit-nb" not in found
            assert ours, f"{file.name} names {found}, pyproject.toml {place}"
    badge = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/"
    for notebook in notebooks:
        first = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
        assert f"{badge}{notebook.name}" in first


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 100

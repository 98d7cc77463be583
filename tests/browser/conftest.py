"""One Jupyter server a test module, one page a test; skipped where there is no chromium.

With CIRCUIT_NB_BROWSER=1, as in .ci/run, a missing browser is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

REQUIRED = os.environ.get("CIRCUIT_NB_BROWSER") == "1"
if not REQUIRED:
    pytest.importorskip("playwright", reason="needs the test extra")

from playwright.sync_api import Page  # noqa: E402
from serving import CHROMIUM, Server, browser_page  # noqa: E402

ROOT = Path(__file__).parents[2]
PICTURES = Path(os.environ.get("CIRCUIT_NB_PICTURES", ROOT / "build" / "browser"))
"""Where screenshots are left for CI to keep."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session", autouse=True)
def browser_is_here() -> None:
    """Before any server is started."""
    if not Path(CHROMIUM).exists():
        missing = f"no chromium at {CHROMIUM}"
        if REQUIRED:
            pytest.fail(f"{missing}: install it, or unset CIRCUIT_NB_BROWSER", pytrace=False)
        pytest.skip(missing)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of the repository's notebooks."""
    made = tmp_path_factory.mktemp("notebooks")
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, made)
    return made


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Server]:
    server = Server("lab", folder)
    yield server
    server.close()


@pytest.fixture(scope="module")
def classic(folder: Path) -> Iterator[Server]:
    """Notebook 7."""
    server = Server("notebook", folder)
    yield server
    server.close()


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page; its last state is left as a picture, and its console must be clean."""
    with browser_page(1500, 1500) as opened:
        yield opened
        PICTURES.mkdir(parents=True, exist_ok=True)
        opened.screenshot(path=PICTURES / f"{request.node.name}.png")
        problems: list[str] = opened.problems  # type: ignore[attr-defined]
    assert [p for p in problems if not own_to_notebook(p)] == []


def own_to_notebook(problem: str) -> bool:
    """An error that Notebook 7.6 reports on every notebook, an empty one included."""
    return "reading 'schema'" in problem and "static/notebook/notebook_core" in problem

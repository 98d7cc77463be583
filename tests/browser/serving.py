"""A Jupyter server on 127.0.0.1 and a page of Debian's chromium in it, for tests and pictures."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from playwright.sync_api import Page, sync_playwright

CHROMIUM = os.environ.get("CIRCUIT_NB_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 120_000
"""How long to wait for a page or a cell, milliseconds."""


class Server:
    """A running Jupyter server.

    Args:
        app: `lab` or `notebook`.
        folder: Where its notebooks are.
        dark: Whether it shows the dark theme.
        variables: Of its environment, and so of its kernels'.
    """

    def __init__(
        self,
        app: str,
        folder: Path,
        *,
        dark: bool = False,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.app, self.folder = app, folder
        self.token = secrets.token_hex(8)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        home = folder / ".jupyter-home"
        if app == "lab":
            self._write_settings(home, dark)
        name = {"lab": "LabApp", "notebook": "JupyterNotebookApp"}[app]
        self._log = (folder / f"{app}.log").open("w")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter", app, "--no-browser", "--allow-root"),
                *(f"--port={self.port}", "--ip=127.0.0.1", f"--ServerApp.root_dir={folder}"),
                *(f"--IdentityProvider.token={self.token}", f"--{name}.expose_app_in_browser=True"),
            ],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "JUPYTER_CONFIG_DIR": str(home / "config"),
                "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
                "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
                "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
                "HF_HUB_OFFLINE": "1",
                "PYTHONPATH": os.pathsep.join(
                    [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
                ),
                **variables,
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._wait()

    def _write_settings(self, home: Path, dark: bool) -> None:
        settings = {
            "notification": {"fetchNews": "false", "checkForUpdates": False},
            "themes": {"theme": "JupyterLab Dark" if dark else "JupyterLab Light"},
        }
        for name, values in settings.items():
            path = home / "settings/@jupyterlab/apputils-extension" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))

    def _wait(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self._url("api/status"), timeout=2).close()
                return
            except OSError:
                time.sleep(0.3)
        self.close()
        raise TimeoutError(f"jupyter {self.app} did not start; see {self._log.name}")

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    def notebook(self, name: str) -> str:
        """Address of a notebook, in a workspace of its own."""
        place = f"lab/workspaces/{Path(name).stem}/tree" if self.app == "lab" else "notebooks"
        return self._url(f"{place}/{name}")

    def stop_kernels(self) -> None:
        """Stop every running kernel."""
        with urllib.request.urlopen(self._url("api/kernels"), timeout=30) as reply:
            kernels = json.load(reply)
        for kernel in kernels:
            request = urllib.request.Request(
                self._url(f"api/kernels/{kernel['id']}"), method="DELETE"
            )
            urllib.request.urlopen(request, timeout=60).close()

    def close(self) -> None:
        """Stop the server and its kernels."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._log.close()


@contextmanager
def browser_page(width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page of a headless browser that keeps the console's errors in `page.problems`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        # The one picture the notebooks take from the network; nothing else may be fetched.
        badge = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="20"/>'
        page.route(
            "**/colab-badge.svg",
            lambda route: route.fulfill(content_type="image/svg+xml", body=badge),
        )
        problems: list[str] = []
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(f"{error}\n{error.stack}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.problems = problems  # type: ignore[attr-defined]
        try:
            yield page
        finally:
            browser.close()


def run_all(page: Page, address: str) -> None:
    """Open a notebook and run it to the end."""
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("() => window.jupyterapp?.commands.hasCommand('notebook:run-all-cells')")
    page.evaluate(
        """async () => {
          const app = window.jupyterapp;
          const context = () => app.shell.currentWidget?.sessionContext;
          const pause = (ms) => new Promise((done) => setTimeout(done, ms));
          while (!context()) await pause(100);
          await context().ready;
          while (context().session?.kernel?.status !== "idle") await pause(100);
          app.commands.execute("notebook:run-all-cells");
        }"""
    )


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of code cells, with the kernel named so that no dialog asks for it."""
    path.write_text(
        json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "id": f"cell-{i}",
                        "metadata": {},
                        "execution_count": None,
                        "outputs": [],
                        "source": source,
                    }
                    for i, source in enumerate(cells)
                ],
                "metadata": {
                    "kernelspec": {
                        "display_name": "Python 3",
                        "language": "python",
                        "name": "python3",
                    }
                },
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        )
    )
    return path

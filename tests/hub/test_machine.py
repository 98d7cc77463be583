"""Which model the demonstration takes, prompts for chat models, and the setup script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from circuit_nb.hub import machine
from circuit_nb.hub.machine import Machine
from circuit_nb.model.chat import chat_prompt
from circuit_nb.published import case

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("here", "model"),
    [
        (Machine("Tesla T4", 15.6, True), "google/gemma-2-2b"),
        (Machine("Tesla T4", 15.6, False), "atlas"),
        (Machine("small", 6.0, True), "atlas"),
        (Machine("", 0.0, True), "atlas"),
    ],
)
def test_the_demo_model_needs_memory_and_a_token(here: Machine, model: str) -> None:
    assert here.demo_model == model
    assert f"demo model: {model}" in str(here)
    assert ("HF_TOKEN" in str(here)) == (model == "atlas")


def test_looking_tells_of_a_token_but_not_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_madeUpTokenOfATest")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "Tesla T4")
    properties = SimpleNamespace(total_memory=15_600_000_000)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: properties)
    found = machine.look()
    assert found == Machine("Tesla T4", 15.6, True)
    assert "hf_" not in repr(found) + str(found)


class Tokenizer:
    chat_template: str | None = "made up"

    def apply_chat_template(self, turns: Any, **settings: Any) -> str:
        assert settings == {"tokenize": False, "add_generation_prompt": True}
        said = "".join(f"<start>{t['role']}\n{t['content']}<end>\n" for t in turns)
        return f"<bos>{said}<start>model\n"


def test_chat_prompts_use_the_template() -> None:
    tokenizer = Tokenizer()
    model: Any = SimpleNamespace(tokenizer=tokenizer, name="toy")
    text = chat_prompt(model, "What is the capital?", "It is")
    assert text == "<bos><start>user\nWhat is the capital?<end>\n<start>model\nIt is"
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="toy has no chat template"):
        chat_prompt(model, "What?")


def test_an_unknown_case_is_said() -> None:
    with pytest.raises(ValueError, match="there are dallas, oakland"):
        case("houston")


def test_setup_installs_the_checkout_and_changes_nothing(tmp_path: Path) -> None:
    """Twice, into an environment that sees this one's packages."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "circuit_nb", copy / "circuit_nb")
    for name in ("pyproject.toml", "README.md", "LICENSE", "colab_setup.sh"):
        shutil.copy(ROOT / name, copy)
    seen = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    env = {**os.environ, "VIRTUAL_ENV": str(venv), "PYTHONPATH": seen}
    n_before = len({d.metadata["Name"] for d in distributions()})
    assert n_before > 20
    for _ in range(2):
        done = subprocess.run(
            ["bash", copy / "colab_setup.sh"], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Installed; 0 packages added, none changed." in done.stdout
        assert "demo model: atlas" in done.stdout
    installed = list(venv.glob("lib/*/site-packages/*"))
    assert sorted(p.name for p in installed if "circuit" in p.name)[0] == "circuit_nb"
    assert not [p for p in installed if p.name.startswith(("torch", "numpy"))]


def test_setup_says_what_does_not_fit(tmp_path: Path) -> None:
    """A package that asks for another version of what is installed is refused, not obeyed."""
    venv, package = tmp_path / "venv", tmp_path / "package"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "asks-too-much"\nversion = "1"\ndependencies = ["numpy<1"]\n'
        "[tool.hatch.build.targets.wheel]\nbypass-selection = true\n"
    )
    seen = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    env = {**os.environ, "VIRTUAL_ENV": str(venv), "PYTHONPATH": seen}
    env |= {"CIRCUIT_NB_SOURCE": str(package)}
    done = subprocess.run(
        ["bash", ROOT / "colab_setup.sh"], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "does not fit the packages that are installed here" in done.stderr

"""The Hub's client code against a stand-in on 127.0.0.1."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hub_server import COMMIT, HubState, point_client_at, serve
from safetensors.numpy import save

from circuit_nb import hub
from circuit_nb.hub import known, resolve

CONFIG = b"model_kind: transcoder_set\nfeature_input_hook: mlp.hook_in\n"
WEIGHTS = save({"W_enc": np.arange(512, dtype=np.float32)})


def weights(number: int) -> bytes:
    return save({"W_enc": np.full(512, number, dtype=np.float32)})


def archive(number: int) -> bytes:
    file = io.BytesIO()
    np.savez(file, W_enc=np.full(512, number, dtype=np.float32))
    return file.getvalue()


SECRET = "hf_madeUpTokenOfATest"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubState]:
    with serve() as state:
        state.repos["ann/model"] = {
            "config.json": b"{}",
            "tokenizer.json": b"{}",
            "model.safetensors": WEIGHTS,
            "pytorch_model.bin": b"pickle" * 500,
            "original/params.json": b"{}",
        }
        state.repos["ann/set"] = {
            "config.yaml": CONFIG,
            **{f"layer_{i}.safetensors": weights(i) for i in range(3)},
            "features/layer_0.bin": b"x" * 5000,
            "small/config.yaml": CONFIG,
            "small/layer_0.safetensors": WEIGHTS,
        }
        point_client_at(state, tmp_path / "cache", monkeypatch)
        yield state


def test_model_takes_only_the_needed_files(served: HubState) -> None:
    found = hub.model_source("ann/model")
    names = {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*")}
    assert names == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert found.revision == COMMIT
    assert found.name == "ann/model"


def test_set_and_a_set_in_a_folder(served: HubState) -> None:
    found = hub.transcoder_set("ann/set")
    assert found.files is None
    assert sorted(p.name for p in found.folder.glob("layer_*")) == [
        f"layer_{i}.safetensors" for i in range(3)
    ]
    assert not (found.folder / "features").exists()
    inner = hub.transcoder_set("ann/set/small@main")
    assert inner.folder == found.folder / "small"
    assert (inner.folder / "layer_0.safetensors").read_bytes() == WEIGHTS
    assert (inner.revision, inner.name) == (COMMIT, "ann/set/small@main")


def test_listed_files_of_other_repositories(served: HubState) -> None:
    served.repos["bob/weights"] = {
        "layer_0/width_16k/l0_[7]/params.npz": archive(0),
        "layer_1/width_16k/l0_9/params.npz": archive(1),
        "layer_1/width_65k/params.npz": archive(2),
    }
    listed = (
        "transcoders:\n"
        "- hf://bob/weights/layer_0/width_16k/l0_[7]/params.npz\n"
        f"- hf://bob/weights/layer_1/width_16k/l0_9/params.npz?revision={COMMIT}\n"
        "- local.safetensors\n"
    )
    served.repos["ann/list"] = {
        "config.yaml": CONFIG + listed.encode(),
        "local.safetensors": WEIGHTS,
    }
    found = hub.transcoder_set("ann/list")
    assert found.files is not None
    assert [p.name for p in found.files] == ["params.npz", "params.npz", "local.safetensors"]
    assert [p.read_bytes() for p in found.files] == [archive(0), archive(1), WEIGHTS]
    assert not served.downloads("layer_1/width_65k/params.npz")


def test_local_config_may_list_the_hub(served: HubState, tmp_path: Path) -> None:
    served.repos["bob/weights"] = {"a.npz": archive(0)}
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.yaml").write_text("transcoders: [hf://bob/weights/a.npz, b.npz]")
    (folder / "b.npz").write_bytes(b"b")
    found = hub.transcoder_set(folder)
    assert found.files is not None and found.files[1] == folder / "b.npz"
    assert found.files[0].read_bytes() == archive(0)


def test_second_time_comes_from_the_cache(
    served: HubState, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub.transcoder_set("ann/set")
    served.asked.clear()
    assert hub.transcoder_set("ann/set") == first
    assert not served.downloads()
    served.failing = 503
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert hub.transcoder_set("ann/set") == first


def test_offline_uses_the_cache_and_asks_nothing(
    served: HubState, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    first = hub.transcoder_set("ann/set")
    served.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.transcoder_set("ann/set") == first
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        hub.model_source("ann/model")
    assert not served.asked


def test_a_download_cut_half_way_resumes(served: HubState, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    monkeypatch.setattr("time.sleep", lambda _: None)
    whole = save({"a": np.frombuffer(os.urandom(3_000_000), dtype=np.uint8)})
    served.repos["ann/model"]["model.safetensors"] = whole
    served.cut["model.safetensors"] = 1_500_000
    found = hub.model_source("ann/model")
    assert (found.folder / "model.safetensors").read_bytes() == whole
    ranges = [r for _, r in served.downloads("model.safetensors")]
    assert len(ranges) == 2 and ranges[1] is not None
    assert int(ranges[1].removeprefix("bytes=").split("-")[0]) > 500_000


def test_a_download_that_keeps_breaking_is_said_and_taken_up_later(
    served: HubState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the broken run finished is kept."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    served.broken.add("model.safetensors")
    with pytest.raises(ConnectionError, match=r"cannot be reached for ann/model .* are kept"):
        hub.model_source("ann/model")
    served.broken.clear()
    served.asked.clear()
    found = hub.model_source("ann/model")
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not served.downloads("config.json")


def test_a_changed_file_is_named_and_not_used(served: HubState) -> None:
    served.changed.add("layer_1.safetensors")
    with pytest.raises(OSError, match=r"layer_1\.safetensors of ann/set is corrupt"):
        hub.transcoder_set("ann/set")
    served.changed.clear()
    found = hub.transcoder_set("ann/set")
    assert (found.folder / "layer_1.safetensors").read_bytes() == weights(1)


def test_a_truncated_file_in_the_cache_is_named_and_fetched_anew(served: HubState) -> None:
    found = hub.model_source("ann/model")
    blob = (found.folder / "model.safetensors").resolve()
    blob.write_bytes(WEIGHTS[:-5])
    with pytest.raises(OSError, match=r"model\.safetensors of ann/model is corrupt"):
        hub.model_source("ann/model")
    assert (hub.model_source("ann/model").folder / "model.safetensors").read_bytes() == WEIGHTS


def test_gated_repository(served: HubState, monkeypatch: pytest.MonkeyPatch) -> None:
    served.gated.add("ann/model")
    with pytest.raises(PermissionError) as caught:
        hub.model_source("ann/model")
    said = str(caught.value)
    assert "https://huggingface.co/ann/model" in said
    assert "Colab secret HF_TOKEN" in said
    assert "\n" not in said
    served.valid_tokens.add(SECRET)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with pytest.raises(PermissionError, match="accept its terms at"):
        hub.model_source("ann/model")
    served.granted.add(SECRET)
    assert (hub.model_source("ann/model").folder / "model.safetensors").is_file()


def test_wrong_token_is_said_and_never_shown(
    served: HubState,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with pytest.raises(PermissionError, match="does not accept the token") as caught:
        hub.model_source("ann/model")
    shown = "".join(capfd.readouterr()) + caplog.text + repr(caught.value)
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (lambda: hub.model_source("ann/nothing"), FileNotFoundError, "no repository ann/nothing"),
        (lambda: hub.model_source("ann/model@v9"), FileNotFoundError, "no revision 'v9'"),
        (lambda: hub.transcoder_set("ann/set/large"), FileNotFoundError, "has no config.yaml"),
        (lambda: hub.transcoder_set("ann/model"), FileNotFoundError, "has no config.yaml"),
        (lambda: hub.model_source("ann/set"), FileNotFoundError, "has no config.json"),
        (lambda: hub.model_source("ann/pickled"), FileNotFoundError, "can run code"),
        (lambda: hub.transcoder_set("ann/gone"), FileNotFoundError, "has no file 'b.npz'"),
        (lambda: hub.transcoder_set("ann/outside"), ValueError, "outside its folder"),
        (lambda: hub.transcoder_set("ann/typed"), ValueError, "list of file names"),
        (lambda: hub.transcoder_set("ann/bad"), ValueError, "not readable YAML"),
        (lambda: hub.model_source("ann/model/sub"), ValueError, "whole repository"),
        (lambda: hub.model_source("just-a-name"), ValueError, "neither a folder here nor"),
        (lambda: hub.transcoder_set("/no/such"), ValueError, "neither a folder here nor"),
        (lambda: hub.model_source("./such"), ValueError, "neither a folder here nor"),
        (
            lambda: hub.transcoder_set("../no such"),
            ValueError,
            "neither a folder here nor",
        ),
        (lambda: hub.default_transcoders("ann/model"), ValueError, "google/gemma-2-2b"),
    ],
)
def test_what_is_missing_is_said(
    served: HubState, ask: Any, error: type[Exception], said: str
) -> None:
    lists = {"gone": b"[a.npz, b.npz]", "outside": b"[../../secret]", "typed": b"[1, 2]"}
    for name, listed in lists.items():
        served.repos[f"ann/{name}"] = {
            "config.yaml": b"transcoders: " + listed,
            "a.npz": archive(0),
        }
    served.repos["ann/bad"] = {"config.yaml": b"a: [b"}
    served.repos["ann/pickled"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    with pytest.raises(error, match=said) as caught:
        ask()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("status", "said"), [(429, "too many requests"), (500, r"\(500\)")])
def test_a_failing_hub_is_said(
    served: HubState, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    served.failing = status
    with pytest.raises(ConnectionError, match=said):
        hub.model_source("ann/model")


def test_no_network(served: HubState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    nowhere = HubState(url="http://127.0.0.1:9")
    point_client_at(nowhere, tmp_path / "empty", monkeypatch)
    with pytest.raises(ConnectionError, match="cannot be reached and ann/model is not complete"):
        hub.model_source("ann/model")


def test_room_is_checked_before_the_download(
    served: HubState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"needs 0\.0 GB on disk and 0\.0 GB are free .* HF_HOME"):
        hub.model_source("ann/model")
    assert not served.downloads()


def test_too_little_memory_is_said(served: HubState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_memory", lambda: 1000)
    with pytest.warns(UserWarning, match="known_models"):
        hub.model_source("ann/model")


def test_local_folders_need_no_client(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(CONFIG)
    code = (
        "import sys; from circuit_nb import hub\n"
        f"assert str(hub.transcoder_set({str(tmp_path)!r}).folder) == {str(tmp_path)!r}\n"
        f"assert hub.model_source({str(tmp_path)!r}).revision is None\n"
        "assert not {'torch', 'huggingface_hub'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_known_models() -> None:
    table = known.known_models()
    assert hub.default_transcoders("google/gemma-2-2b") == "mwhanna/gemma-scope-transcoders"
    assert hub.default_transcoders("Google/Gemma-2-2B@main") == "mwhanna/gemma-scope-transcoders"
    ids = known.neuronpedia_ids("mwhanna/gemma-scope-transcoders@main")
    assert ids == ("gemma-2-2b", "gemmascope-transcoder-16k")
    assert known.neuronpedia_ids("ann/set") is None
    defaults = [pair.model for pair in table if pair.default]
    assert len(set(defaults)) == len(defaults) == 17
    gemma = next(pair for pair in table if pair.default and pair.model == "google/gemma-2-2b")
    assert gemma.memory_gb is not None and gemma.memory_gb < 15
    for pair in table:
        assert hub.parse_place(pair.transcoders).repo.count("/") == 1
    assert "google/gemma-2-2b (gated)" in repr(table)
    assert "<td>" in table._repr_html_()

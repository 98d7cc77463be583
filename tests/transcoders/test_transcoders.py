"""Every format of transcoder files, and what is wrong with the others."""

from __future__ import annotations

import io
import json
import math
import os
import resource
import shutil
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from families import GOLDEN, N_FEATURES, PROMPT, transcoders
from safetensors.torch import load_file, save_file

from circuit_nb import attribute, load
from circuit_nb.transcoders.formats import open_transcoders
from circuit_nb.transcoders.lazy_files import InMemory, OnDisk, open_file
from circuit_nb.transcoders.transcoder import LayerTranscoder, Transcoders

THRESHOLD = "activation_function.threshold"
PLT, CLT = GOLDEN / "gemma2-plt" / "transcoders", GOLDEN / "gemma2-clt" / "transcoders"


def _copy(source: Path, to: Path, **config: Any) -> Path:
    shutil.copytree(source, to, dirs_exist_ok=True)
    path = to / "config.yaml"
    settings = {**yaml.safe_load(path.read_text()), **config}
    path.write_text(yaml.safe_dump({k: v for k, v in settings.items() if v is not None}))
    return to


def _tensors(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [load_file(folder / f"layer_{i}.safetensors") for i in range(4)]


def _gemma_scope(folder: Path) -> None:
    """`params.npz` in a folder a layer, encoder as (d_model, features), listed in the config."""
    names = []
    for i, tensors in enumerate(_tensors(PLT)):
        names.append(f"layer_{i}/width_40/params.npz")
        (folder / names[-1]).parent.mkdir(parents=True)
        np.savez(
            folder / names[-1],
            W_enc=tensors["W_enc"].T.numpy(),
            W_dec=tensors["W_dec"].numpy(),
            b_enc=tensors["b_enc"].numpy(),
            b_dec=tensors["b_dec"].numpy(),
            threshold=tensors["activation_function.threshold"].numpy(),
        )
    _copy(PLT, folder, transcoders=names)
    for path in folder.glob("layer_*.safetensors"):
        path.unlink()


def _gemma_scope_2(folder: Path) -> None:
    _copy(PLT, folder)
    for i, tensors in enumerate(_tensors(PLT)):
        renamed = {
            "w_enc": tensors["W_enc"].T.contiguous(),
            "w_dec": tensors["W_dec"],
            "b_enc": tensors["b_enc"],
            "b_dec": tensors["b_dec"],
            "threshold": tensors["activation_function.threshold"],
        }
        save_file(renamed, folder / f"layer_{i}.safetensors")


def _edges(folder: Path, case: str = "gemma2-plt") -> Any:
    model = load(GOLDEN / case / "model", folder, device="cpu")
    return attribute(model, PROMPT, max_features=None, progress=False)


@pytest.mark.parametrize("write", [_gemma_scope, _gemma_scope_2])
def test_gemma_scope_files_give_the_same_graph(write: Any, tmp_path: Path) -> None:
    write(tmp_path)
    ours, expected = _edges(tmp_path), _edges(PLT)
    np.testing.assert_array_equal(ours.features, expected.features)
    np.testing.assert_allclose(ours.weights, expected.weights, atol=1e-6)


def test_gemma_scope_2_cross_layer_with_skip(tmp_path: Path) -> None:
    """Its decoders have rows for every layer; those below the feature's own are not used."""
    skip = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)) / 32
    plain = _copy(CLT, tmp_path / "plain")
    other = _copy(CLT, tmp_path / "other")
    for i in range(4):
        encoder = load_file(CLT / f"W_enc_{i}.safetensors")
        decoder = load_file(CLT / f"W_dec_{i}.safetensors")[f"W_dec_{i}"]
        save_file({**encoder, "W_skip": skip.T.contiguous()}, plain / f"W_enc_{i}.safetensors")
        for name in ("enc", "dec"):
            (other / f"W_{name}_{i}.safetensors").unlink()
        padded = torch.full((40, 4, 32), 7.0)
        padded[:, i:] = decoder
        renamed = {
            "w_enc": encoder[f"W_enc_{i}"].T.contiguous(),
            "w_dec": padded,
            "b_enc": encoder[f"b_enc_{i}"],
            "b_dec": encoder[f"b_dec_{i}"],
            "threshold": torch.zeros(40),
            "affine_skip_connection": skip,
        }
        save_file(renamed, other / f"layer_{i}.safetensors")
    ours, expected = (_edges(folder, "gemma2-clt") for folder in (other, plain))
    assert np.abs(ours.weights - expected.weights).max() < 1e-6 * np.abs(ours.weights).max()


def test_topk_keeps_the_largest_pre_activations(tmp_path: Path) -> None:
    opened = open_transcoders(_copy(PLT, tmp_path, activation="topk", k=3))
    layer = opened.layers[0]
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    pre, acts = layer.pre_activations(x), layer.activate(layer.pre_activations(x))
    assert ((acts != 0).sum(-1) == 3).all()
    for row, values in zip(acts, pre, strict=True):
        assert set(row[row != 0].tolist()) == set(values.topk(3).values.tolist())
    for index in range(40):
        one = layer.of_features(x, torch.tensor([index] * 5))
        torch.testing.assert_close(one[1], acts[:, index])


@pytest.mark.parametrize("settings", [{"activation": "topk", "k": 3}, {}], ids=["topk", "jumprelu"])
def test_features_are_read_at_tokens_each_computed_once(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = open_transcoders(_copy(PLT, tmp_path, **settings)).layers[0]
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 32, generator=draw)
    at, indices = torch.tensor([4, 0, 0, 2, 4, 4]), torch.tensor([7, 7, 3, 39, 0, 12])
    expected = layer.of_features(x[:, at], indices)
    computed: list[int] = []
    real = type(layer).pre_activations
    monkeypatch.setattr(
        type(layer),
        "pre_activations",
        lambda own, x: (computed.append(x.shape[-2]), real(own, x))[1],
    )
    found = layer.of_features(x, indices, at=at)
    torch.testing.assert_close(found, expected)
    assert computed == ([3] if layer.k else [])


@pytest.mark.parametrize(
    "kind",
    [
        {"k": 3},
        {"k": 3, "rectified": True},
        {"k": 3, "rank": torch.arange(12.0)},
        {"k": 20},
        {"threshold": torch.ones(12)},
        {},
    ],
)
def test_what_is_active_is_what_the_activation_function_leaves(kind: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(12, 1, 4, generator=draw)
    layer = LayerTranscoder(
        W_enc=rows[:, 0],
        decoder=InMemory(rows),
        b_enc=torch.zeros(12),
        b_dec=torch.zeros(4),
        **kind,
    )
    pre = torch.randn(9, 12, generator=draw) - 1
    cuts = [None] if kind else [None, torch.full((9,), 0.5)]
    for cut in cuts:
        token, feature, value = layer.active(pre, cut)
        assert (token.diff() >= 0).all()
        found = torch.zeros(9, 12).index_put((token, feature), value)
        assert len(value) == (found != 0).sum()
        assert torch.equal(found, layer.activate(pre, cut))
    assert [len(of) for of in layer.active(pre[:0])] == [0, 0, 0]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system has no read-ahead calls")
@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_the_rows_announced_to_the_system_are_those_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, matrix = tmp_path / f"x.{suffix}", torch.randn(9, 3, 4)
    if suffix == "npz":
        np.savez(path, other=np.ones(5), W_dec=matrix.numpy())
    else:
        save_file({"other": torch.ones(5), "W_dec": matrix}, path)
    asked: list[bytes] = []

    def advise(file: int, begin: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        asked.append(os.pread(file, size, begin))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    wanted = torch.tensor([1, 4, 8])
    found = open_file(path).rows("W_dec", wanted)
    torch.testing.assert_close(found, matrix[wanted])
    assert asked == [row.numpy().tobytes() for row in found]


def test_decoder_rows_are_read_by_row_and_in_any_order() -> None:
    decoder = open_transcoders(CLT).layers[1].decoder
    whole = load_file(CLT / "W_dec_1.safetensors")["W_dec_1"]
    assert isinstance(decoder, OnDisk)
    assert decoder.shape == (40, 3, 32)
    wanted = torch.tensor([7, 3, 3, 39])
    torch.testing.assert_close(decoder.rows(wanted), whole[wanted])


def sparse_clt(folder: Path, *, n_layers: int, features: int, d_model: int) -> int:
    """A cross-layer set of zeros in sparse bf16 files; returns the bytes its decoders take."""
    folder.mkdir(exist_ok=True)
    config = yaml.safe_load((CLT / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    total = 0
    for i in range(n_layers):
        encoder = {
            f"W_enc_{i}": (features, d_model),
            f"b_enc_{i}": (features,),
            f"b_dec_{i}": (d_model,),
        }
        _sparse(folder / f"W_enc_{i}.safetensors", encoder)
        decoder = {f"W_dec_{i}": (features, n_layers - i, d_model)}
        total += _sparse(folder / f"W_dec_{i}.safetensors", decoder)
    return total


def _sparse(path: Path, shapes: dict[str, tuple[int, ...]]) -> int:
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return end


def test_opening_a_cross_layer_set_larger_than_memory_reads_nothing(tmp_path: Path) -> None:
    total = sparse_clt(tmp_path / "clt", n_layers=30, features=2**16, d_model=512)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = open_transcoders(tmp_path / "clt")
    rows = opened.layers[3].decoder.rows(torch.tensor([5, 65535]))
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert total > 25e9
    assert rows.shape == (2, 27, 512)
    assert grown < 0.01 * total


def _missing_layer(folder: Path) -> None:
    (folder / "layer_1.safetensors").unlink()


def _truncated(folder: Path) -> None:
    path = folder / "layer_2.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _config(**change: Any) -> Any:
    def write(folder: Path) -> None:
        _copy(PLT, folder, **change)

    return write


def _tensor(name: str, value: torch.Tensor | None) -> Any:
    def write(folder: Path) -> None:
        tensors = load_file(folder / "layer_0.safetensors")
        tensors.pop(name)
        if value is not None:
            tensors[name] = value
        save_file(tensors, folder / "layer_0.safetensors")

    return write


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_missing_layer, FileNotFoundError, "lacks layer 1"),
        (_truncated, ValueError, r"layer_2\.safetensors is not a readable safetensors"),
        (_config(feature_input_hook="hook_nowhere"), ValueError, "hook_nowhere.*can be one of"),
        (_config(feature_output_hook=None), ValueError, "lacks feature_output_hook"),
        (_config(model_kind="sae"), ValueError, "model_kind 'sae'"),
        (_config(activation="topk"), ValueError, "add k"),
        (_config(transcoders=["nope.safetensors"]), FileNotFoundError, r"nope\.safetensors"),
        (_tensor("W_dec", None), ValueError, "lacks the decoder"),
        (_tensor("b_enc", None), ValueError, "fit none of the known"),
        (_tensor("W_dec", torch.zeros(40, 31)), ValueError, "decoder.*layer 0 has shape"),
        (lambda f: (f / "config.yaml").unlink(), FileNotFoundError, "no config.yaml"),
        (lambda f: (f / "config.yaml").write_text("a: [1"), ValueError, "not readable YAML"),
        (lambda f: (f / "config.yaml").write_text("plain"), ValueError, "lacks model_kind"),
        (_config(k="64"), ValueError, r"config\.yaml has k '64'; give a whole number"),
        (_config(k=-1), ValueError, r"config\.yaml has k -1; give a whole number"),
        (_config(k=0), ValueError, r"config\.yaml has k 0"),
        (_config(k=True), ValueError, r"config\.yaml has k True"),
        (_config(k=64.0), ValueError, r"config\.yaml has k 64\.0"),
        (_config(scan=5), ValueError, r"config\.yaml has scan 5; it must be a text"),
        (_config(scan=["a", 5]), ValueError, r"config\.yaml has scan \['a', 5\]"),
        (_config(model_name=["a"]), ValueError, r"config\.yaml has model_name"),
        (_config(feature_input_hook=5), ValueError, "feature_input_hook 5; it must be a text"),
        (_config(transcoders="layer_0.safetensors"), ValueError, "must be a list of file names"),
        (_config(transcoders=[5]), ValueError, "must be a list of file names"),
        (_config(transcoders=["/etc/hosts"]), ValueError, "'/etc/hosts', outside its folder"),
        (_config(transcoders=["../x.safetensors"]), ValueError, "outside its folder"),
        (_config(transcoders=["C:\\x.npz"]), ValueError, "outside its folder"),
        (_config(transcoders=["a" * 300]), ValueError, "which names no file"),
        (_config(transcoders=["."]), ValueError, "which names no file"),
        (_tensor("b_enc", torch.zeros(0)), ValueError, r"layer_0.*b_enc of layer 0.* \(0,\)"),
        (_tensor("b_dec", torch.tensor(1.0)), ValueError, r"layer_0.*b_dec of layer 0.* \(\)"),
        (_tensor("W_enc", torch.tensor(1.0)), ValueError, r"layer_0.*encoder W_enc.* \(\)"),
        (_tensor("W_dec", torch.tensor(1.0)), ValueError, r"layer_0.*decoder W_dec.* \(\)"),
        (_tensor("W_dec", torch.ones(40)), ValueError, r"layer_0.*decoder W_dec.* \(40,\)"),
        (_tensor("b_enc", torch.zeros(40, 1)), ValueError, "layer_0.*b_enc of layer 0"),
        (_tensor("b_enc", torch.full((40,), torch.nan)), ValueError, "layer_0.*b_enc.* NaN"),
        (_tensor("b_enc", torch.full((40,), -torch.inf)), ValueError, "layer_0.*b_enc.* NaN"),
        (_tensor("b_dec", torch.full((32,), torch.nan)), ValueError, "layer_0.*b_dec.* NaN"),
        (_tensor(THRESHOLD, torch.full((40,), torch.nan)), ValueError, "threshold.* NaN"),
        (_tensor(THRESHOLD, torch.tensor(1.0)), ValueError, r"layer_0.*threshold.* \(\)"),
        (_tensor("W_enc", torch.zeros(40, 32).to(torch.int8)), ValueError, "W_enc.* type I8"),
        (_tensor("b_enc", torch.zeros(40).to(torch.int32)), ValueError, "b_enc.* type I32"),
    ],
)
def test_what_is_wrong_with_a_set_is_said(
    damage: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    damage(_copy(PLT, tmp_path))
    with pytest.raises(error, match=message) as caught:
        open_transcoders(tmp_path)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def _levels(levels: int) -> str:
    first = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    rest = (f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, levels))
    return first + "".join(rest)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_levels(9) + "feature_input_hook: *a8\n", "over 20000 values"),
        ("a: &a [*a]", "an alias stands for what it is in"),
        ("a: *b", "alias"),
        ("a: " + "[" * 30 + "]" * 30, "nested more than 20"),
        ("a: " + "[" * 100_000, "readable YAML"),
        ("a: [" + "[]," * 100_000 + "]", "over 20000 values"),
        ("a: '" + "x" * 1_000_001 + "'", "no config of a transcoder set has over 1 MB"),
        ("a: !!python/object/apply:os.getcwd []", "python/object/apply:os.getcwd', which no"),
        ("a: !!binary aGk=", "which no config needs"),
        ("a: !!int x", "readable YAML"),
        ("a: 2024-13-45", "readable YAML"),
        ("a: 1\n---\nb: 2", "readable YAML"),
        ("a: \x00", "readable YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_yaml_is_refused_at_once(text: str, reason: str, tmp_path: Path) -> None:
    from circuit_nb import hub

    folder = _copy(PLT, tmp_path)
    with (folder / "config.yaml").open("a") as file:
        file.write(text)
    for opening in (open_transcoders, hub.transcoder_set):
        with pytest.raises(ValueError, match=reason) as caught:
            opening(folder)
        assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_a_value_given_twice_by_an_alias_is_read(tmp_path: Path) -> None:
    folder = _copy(PLT, tmp_path)
    with (folder / "config.yaml").open("a") as file:
        file.write("note: &note [a, b]\nagain: *note\n")
    assert open_transcoders(folder).config["again"] == ["a", "b"]


def test_a_large_config_is_no_way_round_the_check_of_what_it_lists(tmp_path: Path) -> None:
    """The files were once looked for only in configs of up to 1 MB, and opened from any."""
    from circuit_nb import hub

    elsewhere = [str(PLT / f"layer_{i}.safetensors") for i in range(4)]
    folder = _copy(PLT, tmp_path, transcoders=elsewhere)
    for padding in ("", "# " + "x" * 1_000_001):
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(f"{text}\n{padding}")
        for opening in (open_transcoders, hub.transcoder_set, lambda f: load("atlas", f)):
            with pytest.raises(ValueError, match=r"outside its folder|over 1 MB"):
                opening(folder)


@pytest.mark.parametrize("name", ["W_dec", "W_enc"])
def test_weights_that_are_no_numbers_are_blamed_on_their_file(name: str, tmp_path: Path) -> None:
    folder = _copy(PLT, tmp_path)
    tensors = load_file(folder / "layer_2.safetensors")
    tensors[name][:, 3] = torch.nan
    save_file(tensors, folder / "layer_2.safetensors")
    model = load(GOLDEN / "gemma2-plt" / "model", folder, device="cpu")
    with pytest.raises(ValueError, match=rf"layer_2\.safetensors: {name} holds NaN or infinity"):
        attribute(model, PROMPT, progress=False)
    whole = load(GOLDEN / "gemma2-plt" / "model", PLT, device="cpu")
    model.transcoders = whole.transcoders
    ours = attribute(model, PROMPT, progress=False)  # nothing is left on the model
    np.testing.assert_array_equal(ours.weights, attribute(whole, PROMPT, progress=False).weights)


def test_a_threshold_that_no_feature_reaches_is_read(tmp_path: Path) -> None:
    folder = _copy(PLT, tmp_path)
    _tensor(THRESHOLD, torch.full((40,), torch.inf))(folder)
    layer = open_transcoders(folder).layers[0]
    assert not layer.activate(layer.pre_activations(torch.randn(3, 32))).any()


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_are_read_by_row_whether_packed_or_not(compressed: bool, tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(9, 4)).astype(">f4")
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", W_dec=matrix)
    file = open_file(tmp_path / "x.npz")
    assert file.shape("W_dec") == (9, 4) and file.holds_numbers("W_dec")
    rows = file.rows("W_dec", torch.tensor([1, 7]))
    np.testing.assert_array_equal(rows.numpy(), matrix[[1, 7]])
    np.testing.assert_array_equal(file.read("W_dec").numpy(), matrix)


def test_opening_a_packed_archive_unpacks_nothing(tmp_path: Path) -> None:
    """A few kilobytes can stand for gigabytes of zeros."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as made:
        header = io.BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (2**14, 2**12)}
        np.lib.format.write_array_header_1_0(header, shape)
        with made.open("W_enc.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range(256):
                member.write(bytes(2**20))
    tracemalloc.start()
    try:
        assert open_file(tmp_path / "x.npz").shape("W_enc") == (2**14, 2**12)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-30],
        lambda data: data.replace(b"(9, 4)", b"(9, 5)"),
        lambda data: data.replace(b"(9, 4)", b"(9,-4)"),
        lambda data: data.replace(b"'<f4'", b"'|O8'"),
        lambda data: data.replace(b"NUMPY", b"NUMPI"),
        lambda data: data.replace(b"{'descr'", b"(((((((("),
        lambda data: data.replace(b"'<f4'", b"',,8'"),
        lambda _: b"PK",
        lambda _: b"",
    ],
)
def test_damaged_archives_are_named(damage: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", W_dec=np.ones((9, 4), dtype=np.float32))
    (tmp_path / "x.npz").write_bytes(damage((tmp_path / "x.npz").read_bytes()))
    with pytest.raises(ValueError, match=r"x\.npz is not a readable \.npz file") as caught:
        open_file(tmp_path / "x.npz")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("b_enc", torch.zeros(0), "b_enc of the transcoder for layer 1 has shape"),
        ("b_enc", torch.tensor(1.0), "b_enc of the transcoder for layer 1 has shape"),
        ("b_dec", torch.tensor(1.0), "b_dec of the transcoder for layer 1 has shape"),
        ("b_enc", torch.full((N_FEATURES,), torch.nan), "b_enc .* layer 1 holds NaN"),
        ("threshold", torch.full((N_FEATURES,), torch.nan), "threshold .* layer 1 holds NaN"),
        ("k", 0, "layer 1 has k 0"),
        ("k", "64", "layer 1 has k '64'"),
        ("k", True, "layer 1 has k True"),
    ],
)
def test_sets_in_memory_are_checked_too(field: str, value: Any, message: str) -> None:
    made = transcoders()
    first, second, *rest = made.layers
    with pytest.raises(ValueError, match=message):
        replace(made, layers=(first, replace(second, **{field: value}), *rest))


def test_an_archive_with_python_objects_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "params.npz"
    np.savez(path, W_enc=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="Python objects"):
        open_file(path)


def test_a_set_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no layers"):
        Transcoders((), "mlp.hook_in", "mlp.hook_out")

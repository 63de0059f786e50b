"""Weights and checkpoints from the disk: checksums, wrong metadata, files of other kinds, one line for each."""

import argparse
import dataclasses
import functools
import json
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from nuat.config import ModelConfig, ThreatConfig
from nuat.errors import InputError
from nuat.records import checkpoints
from nuat.records.checkpoints import WeightsInfo

INFO = WeightsInfo(
    model=ModelConfig(name="small-cnn", width=2, mean=(0.5,), std=(0.25,)),
    channels=1,
    image_size=(8, 8),
    classes=("a", "b", "c"),
    threat=ThreatConfig(eps=0.1),
    recipe="mine",
    epoch=3,
    averaged=True,
    data="digits",
)


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return INFO.build().state_dict()


def shipped(folder: Path) -> Path:
    file = folder / "best.safetensors"
    checkpoints.save_weights(file, weights(), INFO)
    return file


@functools.cache
def shipped_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return shipped(Path(folder)).read_bytes()


@functools.cache
def checkpoint_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.pt"
        checkpoints.save_checkpoint(file, {"model": weights(), "epoch": 3, "rate": 0.1, "name": "x"})
        return file.read_bytes()


def metadata(file: Path) -> dict[str, object]:
    with safe_open(file, framework="pt") as opened:
        values: dict[str, object] = json.loads(opened.metadata()["nuat"])
    return values


def with_metadata(file: Path, text: str) -> Path:
    """Return the file with other metadata, and without checksums, as an older version wrote it."""
    tensors = safetensors.torch.load_file(file)
    file.write_bytes(safetensors.torch.save(tensors, {"nuat": text}))
    return file


def refused(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_was_written_is_read_and_equal_weights_are_equal_files(tmp_path):
    file = shipped(tmp_path)
    assert checkpoints.read_info(file) == INFO
    loaded = checkpoints.load(file)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in weights().items())
    (tmp_path / "again").mkdir()
    assert shipped(tmp_path / "again").read_bytes() == file.read_bytes()


def test_a_file_of_an_older_version_has_no_checksum_and_loads(tmp_path):
    file = shipped(tmp_path)
    values = metadata(file)
    del values["checksums"]
    with_metadata(file, json.dumps(values))
    assert checkpoints.read_info(file) == INFO
    assert torch.equal(checkpoints.load(file).state_dict()["net.fc2.bias"], weights()["net.fc2.bias"])


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flipped_bit_of_weights_is_read_as_another_value(data):
    with tempfile.TemporaryDirectory() as folder:
        file, content = Path(folder) / "best.safetensors", bytearray(shipped_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            loaded, info = checkpoints.load(file), checkpoints.read_info(file)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either is right
            return
        # what is left are names of nothing, such as of the metadata's padding
        assert info == INFO
        assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in weights().items())


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flipped_bit_of_a_checkpoint_is_read_as_another_value(data):
    with tempfile.TemporaryDirectory() as folder:
        file, content = Path(folder) / "checkpoint.pt", bytearray(checkpoint_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            loaded = checkpoints.read_checkpoint(file)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either is right
            return
        assert all(torch.equal(loaded["model"][name], tensor) for name, tensor in weights().items())
        assert {name: loaded[name] for name in ("epoch", "rate", "name")} == {"epoch": 3, "rate": 0.1, "name": "x"}


def test_a_file_of_torch_without_checksums_is_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        torch.save(weights(), tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert checkpoints.read_torch(tmp_path / "a.pt").keys() == weights().keys()


WRONG = {
    "channels": [True, 0, -1, 1.5, "1", None, [1], 10**18, 10**30],
    "image_size": [[8], [8, 8, 8], [8, "8"], 8, [0, 8], [10**18, 8]],
    "classes": [[], "abc", [1, 2], None, {"a": 1}],
    "threat": [{}, [], {"norm": "L7", "eps": 0.1}, {"eps": "8/255"}, {"eps": 99}, {"odd": 1}],
    "model": [
        [],
        {"name": 3},
        {"name": "small-cnn", "width": "x"},
        {"name": "none-such"},
        {"std": [0.0]},
        {"width": 10**15},
    ],
    "epoch": ["3", 1.5, None],
    "averaged": [1, "true"],
    "recipe": [None, 3],
    "data": [5],
    "format": [2, None, "1"],
    "odd": [1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_metadata_of_a_wrong_type_are_one_line(tmp_path, name, value):
    file = shipped(tmp_path)
    values = metadata(file)
    del values["checksums"]
    if name == "threat" and value == {}:
        value = {"norm": None}
    values[name] = value
    with_metadata(file, json.dumps(values))
    assert str(file) in refused(checkpoints.load, file)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "[]", "3", '{"format": NaN}', '{"format": 1' + "0" * 5000 + "}", "{}"]
)
def test_metadata_that_are_no_record_are_one_line(tmp_path, text):
    file = with_metadata(shipped(tmp_path), text)
    for call in (checkpoints.read_info, checkpoints.load):
        assert str(file) in refused(call, file)


def test_other_metadata_under_the_checksum_are_refused(tmp_path):
    file = shipped(tmp_path)
    with_metadata(file, json.dumps({**metadata(file), "classes": ["c", "b", "a"]}))
    assert "does not match the checksum" in refused(checkpoints.read_info, file)


def test_other_tensors_under_the_checksum_are_refused(tmp_path):
    file = shipped(tmp_path)
    text, tensors = json.dumps(metadata(file)), safetensors.torch.load_file(file)
    tensors["net.fc2.bias"][0] += 1
    file.write_bytes(safetensors.torch.save(tensors, {"nuat": text}))
    assert checkpoints.read_info(file) == INFO
    assert "does not match the checksum" in refused(checkpoints.load, file)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/ran",)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({"path": Path("x")}, "holds a pickled pathlib"),
        ({"x": Hostile()}, "holds a pickled posix.system"),
        (nn.Linear(2, 2), "holds a pickled torch.nn.modules.linear.Linear"),
    ],
)
def test_the_refused_type_of_a_pickle_is_named(tmp_path, value, word):
    torch.save(value, tmp_path / "a.pt")
    message = refused(checkpoints.read_torch, tmp_path / "a.pt")
    assert word in message
    assert "torch.save(model.state_dict(), FILE)" in message


def test_the_arguments_of_a_script_beside_the_weights_are_read(tmp_path):
    torch.save({"state_dict": weights(), "args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
    assert checkpoints.read_torch(tmp_path / "a.pt")["args"].lr == 1


def test_files_of_other_kinds_are_named_with_the_way_on(tmp_path):
    torch.save(weights(), tmp_path / "std.pt")
    torch.save(weights(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    (tmp_path / "one.py").write_text("def make():\n    return 1\n\ndef _helper():\n    pass\n")
    (tmp_path / "two.py").write_text("def a(): ...\ndef b(): ...\n")
    (tmp_path / "bad.py").write_text("def (")
    for name in ("x.zip", "a.npz", "m.keras"):  # these two are zip archives, too
        zipfile.ZipFile(tmp_path / name, "w").close()
    for name in ("m.h5", "m.tflite", "a.npy"):
        (tmp_path / name).write_bytes(b"anything")
    (tmp_path / "m.pkl").write_bytes(b"anything")
    (tmp_path / "weights").write_bytes(pickle.dumps([1]))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    checkpoints.save_checkpoint(run / "checkpoint.pt", {"model": weights()})
    for name, words in {
        "std.pt": ("a PyTorch file (torch.save)", "nuat.load('std.pt', model=network)", "file.py:function"),
        "old.pth": ("a PyTorch file of old format", "nuat.load('old.pth', model=network)"),
        "script.pt": ("a TorchScript archive", "--model torchscript"),
        "m.onnx": ("an ONNX file", "nuat evaluate"),
        "one.py": ("a Python file", f"{tmp_path}/one.py:make"),
        "two.py": ("a Python file", f"{tmp_path}/two.py:FUNCTION; it defines a, b"),
        "bad.py": ("a Python file", f"{tmp_path}/bad.py:FUNCTION"),
        "x.zip": ("a zip archive; give a run",),
        "a.npz": ("a NumPy archive, which gives no gradients", "name file.py:function"),
        "m.keras": ("a Keras model, which",),
        "m.h5": ("an HDF5 file, such as of Keras, which",),
        "m.tflite": ("a TensorFlow Lite model, which",),
        "a.npy": ("a NumPy array, which",),
        "m.pkl": ("a pickle, which could run code; not loaded. Save the state dict alone",),
        "weights": ("a pickle, which could run code",),
        "run/checkpoint.pt": ("the checkpoint of a run", f"name the run, {run}"),
        "run": ("is a folder",),
        "none": ("no such file",),
    }.items():
        message = refused(checkpoints.read_info, tmp_path / name)
        assert all(word in message for word in (str(tmp_path / name), *words)), message


@pytest.mark.parametrize("name", ["best.safetensors", "a.pt"])
def test_a_file_without_permission_is_one_line(tmp_path, monkeypatch, name):
    file = tmp_path / name
    if name == "a.pt":
        torch.save(weights(), file)
    else:
        shipped(tmp_path)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(file))

    for module, call in ((Path, "open"), (torch, "load")):
        monkeypatch.setattr(module, call, denied)
    model = dataclasses.replace(INFO).build()
    message = refused(lambda: checkpoints.load(file, model=model))
    assert "Permission denied" in message
    monkeypatch.setattr(Path, "is_file", denied)
    assert "Permission denied" in refused(checkpoints.load, file)


def test_checksums_that_are_none_are_one_line(tmp_path):
    file = shipped(tmp_path)
    values = metadata(file)
    values["checksums"] = 3
    assert "metadata: checksums" in refused(checkpoints.read_info, with_metadata(file, json.dumps(values)))


def test_the_checksum_holds_the_shapes(tmp_path):
    """The same bytes in another shape are other weights."""
    file = shipped(tmp_path)
    text = json.dumps(metadata(file))
    tensors = {name: tensor.reshape(1, -1) for name, tensor in safetensors.torch.load_file(file).items()}
    file.write_bytes(safetensors.torch.save(tensors, {"nuat": text}))
    assert "does not match the checksum" in refused(checkpoints.read_tensors, file)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("format", 2, "written in another format"),
        ("interpolation", "nearest", "prepared in another way"),
        ("crop", "random", "prepared in another way"),
        ("image_size", [1, 1], "a network that cannot be built"),
    ],
)
def test_what_this_version_cannot_do_is_refused(tmp_path, name, value, says):
    file = shipped(tmp_path)
    values = {**metadata(file), name: value}
    del values["checksums"]
    assert says in refused(checkpoints.load, with_metadata(file, json.dumps(values)))


def test_files_without_what_is_asked_for_are_refused(tmp_path):
    assert "no best.safetensors in this folder" in refused(checkpoints.load, tmp_path)
    file = tmp_path / "weights.pt"
    torch.save(weights(), file)
    assert "pass model=..." in refused(checkpoints.load, file)
    assert "not a checkpoint that this version of nuat reads" in refused(checkpoints.read_checkpoint, file)
    torch.save([torch.zeros(1)], file)
    assert "expected a dictionary of tensors; it holds a list" in refused(checkpoints.read_torch, file)
    cut_off = tmp_path / "cut.safetensors"
    cut_off.write_bytes(shipped_bytes()[:100])
    assert "not a readable safetensors file, or cut off" in refused(checkpoints.load, cut_off)
    script = tmp_path / "script.pt"
    torch.jit.script(nn.Linear(2, 2)).save(script)
    assert "a TorchScript archive, which is a program; not loaded" in refused(checkpoints.read_torch, script)


def test_tensors_of_a_type_that_torch_lacks_are_one_line(tmp_path):
    header = json.dumps({"a": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(3))
    assert "not a readable safetensors file" in refused(checkpoints.read_tensors, tmp_path / "a.safetensors")


def test_a_checkpoint_that_torch_cannot_write_is_not_kept(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no archive")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="no archive"):
        checkpoints.save_checkpoint(tmp_path / "a.pt", {"model": weights()})
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_of_a_tensor_in_a_checkpoint_is_refused(tmp_path):
    file = tmp_path / "checkpoint.pt"
    content = bytearray(checkpoint_bytes())
    content[content.index(weights()["net.fc2.bias"].numpy().tobytes())] ^= 1
    file.write_bytes(content)
    assert "damaged" in refused(checkpoints.read_checkpoint, file)

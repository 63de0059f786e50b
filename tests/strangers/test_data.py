"""A stranger's images and files, from the command line: right numbers, or one clear line."""

import gzip
import io
import json
import os
import shutil
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nuat.cli import main

SIZE = 8
FORMATS = {".png": "PNG", ".tif": "TIFF", ".jfif": "JPEG", ".ppm": "PPM", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"}
MODEL = '''
import torch


class Bright(torch.nn.Module):
    """Class 1 for images whose mean is above 1/2."""

    def forward(self, x):
        z = 20 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-z, z], 1)


def make():
    return Bright()
'''


class Shell:
    """The command line in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "bright.py").write_text(MODEL)

    def __call__(self, *words: object) -> tuple[int, str, str]:
        """Return the exit code and what was printed; whatever it is, a terminal can show it and there is no trace."""
        self._capsys.readouterr()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            code = main([str(word) for word in words])
        out, err = self._capsys.readouterr()
        err += "".join(warnings.formatwarning(w.message, w.category, w.filename, w.lineno) for w in caught)
        assert "Traceback" not in out + err
        assert all(line.isprintable() for line in (out + err).splitlines())
        return code, out, err

    def refused(self, *words: object) -> str:
        """Return the one line of a command that must be refused."""
        code, _, err = self(*words)
        assert code == 2
        assert len(err.splitlines()) == 1
        return err

    def accuracy(self, path: Path, *words: str) -> tuple[float, str]:
        """Return the clean accuracy of the model on images, and the warnings."""
        result = self.folder / "out.json"
        result.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            options = ("--eps", "0.1", "--attacks", "clean", "--json", result, "--data.path", path)
            code, _, err = self("evaluate", "bright.py:make", *options, *words)
        assert code == 0, err
        (row,) = json.loads(result.read_text())["results"]
        return row["correct"].count("1") / len(row["correct"]), err


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys)


def encoded(label: int, format_: str = "PNG", i: int = 0) -> bytes:
    """Return a dark image of class 0, a bright one of class 1."""
    file = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (40 + 160 * label + i,) * 3).save(file, format_)
    return file.getvalue()


def folder(root: Path, parts: tuple[str, ...] = ("train", "test"), suffixes: tuple[str, ...] = (".png",)) -> Path:
    """Write three images of each suffix, class and part."""
    for part in parts:
        for label, name in enumerate(("dark", "light")):
            (root / part / name).mkdir(parents=True)
            for suffix in suffixes:
                for i in range(3):
                    (root / part / name / f"{i}{suffix}").write_bytes(encoded(label, FORMATS[suffix], i))
    return root


@pytest.mark.slow
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffixes=st.lists(st.sampled_from(sorted(FORMATS)), min_size=1, max_size=4, unique=True))
def test_every_format_is_read(shell: Shell, suffixes: list[str]) -> None:
    root = shell.folder / "images"
    shutil.rmtree(root, ignore_errors=True)
    accuracy, said = shell.accuracy(folder(root, suffixes=tuple(suffixes)))
    assert (accuracy, said) == (1.0, "")
    assert json.loads((shell.folder / "out.json").read_text())["n"] == 6 * len(suffixes)


def test_what_is_passed_over_is_said(shell: Shell) -> None:
    root = folder(shell.folder / "images")
    for i in range(3):
        (root / "test" / "dark" / f"{i}.raw").write_bytes(b"")
    accuracy, said = shell.accuracy(root)
    assert accuracy == 1.0
    assert said == f"nuat: warning: image folder {root}: 3 files are passed over: 3 .raw (test/dark/0.raw)\n"


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_part_alone_is_evaluated_and_not_trained_on(shell: Shell, part: str) -> None:
    root = folder(shell.folder / "images", parts=(part,))
    accuracy, said = shell.accuracy(root)
    assert accuracy == 1.0
    assert ("there is no test/, so val/ holds the test images" in said) == (part == "val")
    code, out, err = shell("train", "quickstart", "--data.path", root)
    assert code == 2
    assert f"to evaluate only, {part}/ is enough" in err
    assert "writing to" not in out
    assert not Path("runs").exists()


def test_a_class_without_test_images_is_said(shell: Shell) -> None:
    root = folder(shell.folder / "images")
    shutil.rmtree(root / "test" / "dark")
    accuracy, said = shell.accuracy(root)
    assert accuracy == 1.0  # the labels of the other class stay
    assert "test/ has no image of 1 of 2 classes: dark" in said


def test_transparent_and_16_bit_images_have_the_brightness_that_people_see(shell: Shell) -> None:
    root = folder(shell.folder / "images")
    for label, name in enumerate(("dark", "light")):
        for file in (root / "test" / name).iterdir():
            file.unlink()
        alpha = np.full((SIZE, SIZE, 4), 0, np.uint8)
        alpha[..., 3] = 0 if label else 255  # black, on white where it is transparent
        Image.fromarray(alpha).save(root / "test" / name / "a.png")
        deep = np.full((SIZE, SIZE), (10_000, 60_000)[label], np.uint16)
        Image.fromarray(deep).save(root / "test" / name / "b.png")
    accuracy, said = shell.accuracy(root)
    assert accuracy == 1.0
    assert "1 images have transparent pixels, which are shown on white" in said
    assert "2 images of 16 bits per pixel are scaled to 8 bits" in said


def test_12_bits_in_16_are_refused(shell: Shell) -> None:
    root = folder(shell.folder / "images", parts=())
    for part in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            (root / part / name).mkdir(parents=True)
            pixels = np.full((SIZE, SIZE), (600, 4000)[label], np.uint16)
            Image.fromarray(pixels).save(root / part / name / "a.png")
    line = shell.refused("evaluate", "bright.py:make", "--eps", "0.1", "--attacks", "clean", "--data.path", root)
    assert "4 images have 16 bits per pixel, but no value above 4000, so they hold about 12 bits" in line


def tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
    path.write_bytes(gzip.compress(file.getvalue()) if path.name.endswith(".gz") else file.getvalue())


def samples(key: str = "{}") -> list[tuple[str, bytes]]:
    return [
        member
        for i in range(6)
        for member in (
            (f"{key.format(i)}.png", encoded(i % 2, i=i)),
            (f"{key.format(i)}.cls", str(i % 2).encode()),
        )
    ]


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_shards_are_read_with_a_byte_order_mark_in_the_classes(shell: Shell, ending: str) -> None:
    root = shell.folder / "shards"
    for part in ("train", "test"):
        tar(root / part / f"s-000000.{ending}", samples())
    (root / "classes.txt").write_text("\ufeffdark\nlight\n", encoding="utf-8")
    assert shell.accuracy(root) == (1.0, "")
    tar(root / "test" / f"s-000001.{ending}", samples("dotted.key{}"))
    accuracy, said = shell.accuracy(root)
    assert accuracy == 1.0
    assert "12 members of shards are passed over: 6 .cls with more dots in its name" in said


def test_a_shard_called_by_a_date_is_one_line(shell: Shell) -> None:
    root = shell.folder / "shards"
    tar(root / "train" / "d-20240101120000.tar", samples())
    tar(root / "test" / "d-0.tar", samples())
    line = shell.refused("evaluate", "bright.py:make", "--eps", "0.1", "--attacks", "clean", "--data.path", root)
    assert "shard d-00000000000000.tar is missing (and 20240101119999 more)" in line


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", os.fsdecode(b"\xff\xfe"), "[bold]"])
def test_names_reach_the_terminal_as_text(shell: Shell, name: str) -> None:
    root = folder(shell.folder / name)
    for part in ("train", "test"):
        (root / part / "dark").rename(root / part / f"A{name}")
    (root / "test" / f"A{name}" / f"{name}.raw").write_bytes(b"")
    accuracy, said = shell.accuracy(root)
    assert accuracy == 1.0
    assert "1 files are passed over: 1 .raw (test/A" in said
    (root / "test" / f"A{name}" / f"{name}.png").write_bytes(b"no image")
    line = shell.refused("evaluate", "bright.py:make", "--eps", "0.1", "--attacks", "clean", "--data.path", root)
    assert "cannot be read as an image" in line


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.int8, np.bool_])
def test_arrays_of_other_integers_are_refused(shell: Shell, dtype: type) -> None:
    x, y = np.zeros((4, SIZE, SIZE), dtype), np.arange(4) % 2
    x[1::2] = 1
    np.savez("a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    words = ("evaluate", "bright.py:make", "--eps", "0.1", "--attacks", "clean", "--data.path", "a.npz")
    assert f"x_test is {x.dtype}; expected uint8" in shell.refused(*words)
    np.savez("a.npz", x_train=x.astype(np.uint8), y_train=y, x_test=x.astype(np.uint8), y_test=y)
    assert "values are 0 and 1 only" in shell.refused(*words)


@pytest.mark.parametrize("command", ["evaluate", "diagnose", "export"])
def test_files_that_are_no_model_of_ours_are_named_with_the_way_on(shell: Shell, command: str) -> None:
    torch.save({"weight": torch.zeros(2)}, "std.pt")
    Path("m.onnx").write_bytes(b"\x08\x07")
    Path("theirs.safetensors").write_bytes(safetensors.torch.save({"weight": torch.zeros(2)}))
    more = {"export": ("--format", "safetensors")}.get(command, ())
    for file, words in {
        "std.pt": "does not say which network its weights are for",
        "m.onnx": "m.onnx",
        "bright.py": "is a Python file; name its function that returns the model, bright.py:make",
        "theirs.safetensors": "does not say which network its weights are for",
    }.items():
        assert words in shell.refused(command, file, *more)


@pytest.mark.parametrize("streamed", [(), ("--data.loading", "stream", "--data.image-size", str(SIZE))])
def test_further_frames_are_said(shell: Shell, streamed: tuple[str, ...]) -> None:
    root = folder(shell.folder / "images")
    bright, dark = (Image.open(io.BytesIO(encoded(label))) for label in (1, 0))
    for suffix, format_ in {".gif": "GIF", ".tif": "TIFF", ".png": "PNG", ".webp": "WEBP"}.items():
        file = root / "test" / "light" / f"several{suffix}"
        bright.save(file, format_, save_all=True, append_images=[dark, dark])
    accuracy, said = shell.accuracy(root, *streamed)
    assert accuracy == 1.0
    first = ", ".join(str(root / "test" / "light" / f"several{suffix}") for suffix in (".gif", ".png", ".tif"))
    assert f"4 images have several frames or pages, of which the first is taken: {first}, ..." in said


@pytest.mark.slow
def test_a_shard_that_unpacks_to_far_more_than_images_do_is_refused(shell: Shell) -> None:
    root = shell.folder / "shards"
    for part in ("train", "test"):
        tar(root / part / "s-000000.tar.gz", samples())
    assert shell.accuracy(root) == (1.0, "")
    (root / "test" / "s-000001.tar.gz").write_bytes(gzip.compress(bytes(2**26 + 1)))
    line = shell.refused("evaluate", "bright.py:make", "--eps", "0.1", "--attacks", "clean", "--data.path", root)
    assert "s-000001.tar.gz holds more than 67,108,864 bytes, over 100 times its own size" in line
    assert not list((shell.folder / "cache" / "shards").glob(".*"))


def test_images_whose_greys_were_lost_are_refused(shell: Shell) -> None:
    root = folder(shell.folder / "images", parts=())
    for part in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            (root / part / name).mkdir(parents=True)
            Image.fromarray(np.full((SIZE, SIZE), label, np.uint8)).save(root / part / name / "a.png")
    line = shell.refused("evaluate", "bright.py:make", "--eps", "0.1", "--attacks", "clean", "--data.path", root)
    assert f"image folder {root}: the values are 0 and 1 only" in line

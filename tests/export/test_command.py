"""``nuat export``: what it writes where, and what it refuses before any work."""

import errno
import os
from pathlib import Path

import pytest
import torch
from export.export_runs import evaluation, failing, left, make_run

import nuat
from nuat.commands.export import export
from nuat.errors import InputError


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return make_run(tmp_path / "runs" / "tiny").relative_to(tmp_path)


def refused(*arguments: object) -> str:
    """Return the one line with which a command is refused that leaves nothing behind."""
    before = left(Path.cwd())
    with pytest.raises(InputError) as error:
        export([str(argument) for argument in arguments])
    assert left(Path.cwd()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_file_is_named_after_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export([str(run), "--format", "safetensors"]) == 0
    assert torch.equal(*(nuat.load(path).state_dict()["net.fc1.weight"] for path in (run, "tiny.safetensors")))
    out, err = capsys.readouterr()
    assert out.endswith("written to tiny.safetensors\n")
    assert err == ""
    assert export([str(run / "best.safetensors"), "--format=safetensors", "--out", "a/b.safetensors"]) == 0
    assert Path("a/b.safetensors").read_bytes() == Path("tiny.safetensors").read_bytes()


def test_a_folder_for_robustbench(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation(torch.ones(100, dtype=torch.bool)).save(run / "evaluation.json")
    assert export([str(run), "--format", "robustbench", "--robustbench.dataset", "cifar10"]) == 0
    assert Path("tiny-robustbench/submission.md").is_file()
    assert "clean 100.00, AutoAttack 50.00" in capsys.readouterr().out


@pytest.mark.slow
def test_onnx_in_one_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="the export extra is not installed")
    assert export([str(run), "--format", "onnx"]) == 0
    assert Path("tiny.onnx").is_file()
    out, err = capsys.readouterr()
    assert "largest difference" in out
    assert err == ""


@pytest.mark.parametrize("form", ["safetensors", "onnx", "robustbench"])
def test_what_is_there_is_not_overwritten(form: str, run: Path) -> None:
    out = Path(f"there.{form}")
    out.write_text("mine")
    assert f"--out {out}: exists; remove it" in refused(run, "--format", form, "--out", out)
    assert out.read_text() == "mine"
    folder = Path(f"folder.{form}")
    (folder / "mine").mkdir(parents=True)
    why = "exists and is not empty" if form == "robustbench" else "is a folder"
    assert why in refused(run, "--format", form, "--out", folder)


def test_an_empty_folder_is_taken_for_robustbench(run: Path) -> None:
    evaluation(torch.ones(100, dtype=torch.bool)).save(run / "evaluation.json")
    Path("out").mkdir()
    assert export([str(run), "--format", "robustbench", "--robustbench.dataset", "cifar10", "--out", "out"]) == 0
    assert Path("out/submission.md").is_file()


def test_a_place_that_cannot_be_written_to_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    assert "file is a file, not a folder" in refused(run, "--format", "safetensors", "--out", "file/x.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert "nothing can be written in" in refused(run, "--format", "safetensors", "--out", "x.safetensors")
    monkeypatch.setattr("tempfile.TemporaryDirectory", failing(PermissionError(13, "Permission denied")))
    assert "(Permission denied)" in refused(run, "--format", "safetensors", "--out", "new/x.safetensors")


@pytest.mark.parametrize("form", ["safetensors", "onnx", "robustbench"])
def test_a_place_that_the_system_refuses_is_named(form: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ending = {"safetensors": ".safetensors", "onnx": ".onnx", "robustbench": ""}[form]
    long = refused(run, "--format", form, "--out", f"{'x' * 300}{ending}")
    assert "cannot be written (File name too long); choose another --out" in long
    # as /proc does, where everybody may write and nobody can
    monkeypatch.setattr("tempfile.mkdtemp", failing(FileNotFoundError(errno.ENOENT, "No such file", "/proc/x")))
    evaluation(torch.ones(100, dtype=torch.bool)).save(run / "evaluation.json")
    if form != "onnx":
        words = ["--robustbench.dataset", "cifar10"] if form == "robustbench" else []
        assert "(No such file: /proc/x)" in refused(run, "--format", form, "--out", f"a{ending}", *words)
        monkeypatch.setattr("tempfile.mkdtemp", failing(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):  # the command line says what to do then
            export([str(run), "--format", form, "--out", f"a{ending}", *words])


def test_mistakes_are_named(run: Path) -> None:
    assert "nowhere: no such run" in refused("nowhere", "--format", "onnx")
    assert "no best.safetensors" in refused("runs", "--format", "onnx")
    assert "invalid choice 'tflite'" in refused(run, "--format", "tflite")
    assert "give a format: --format safetensors" in refused(run)
    assert "name the model first" in refused("--format", "onnx", run)
    assert "no effect on --format onnx" in refused(run, "--format", "onnx", "--robustbench.key", "K")
    assert "Did you mean --out?" in refused(run, "--format", "onnx", "--ouf", "x")
    Path("cut.safetensors").write_bytes((run / "best.safetensors").read_bytes()[:-10])
    assert "cut off" in refused("cut.safetensors", "--format", "safetensors", "--out", "x.safetensors")


@pytest.mark.parametrize("words", [[], ["--help"], ["some-run", "-h"]])
def test_help_shows_the_formats(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        export(words)
    assert end.value.code == 0
    out = capsys.readouterr().out
    for word in ("--format", "safetensors", "onnx", "robustbench", "--out", "opset 18", "nuat[export]"):
        assert word in out

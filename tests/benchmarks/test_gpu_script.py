"""benchmarks/gpu.py: stages with deadlines, each recorded as it ends; weights in parts and together again."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import nuat
from nuat.records import checkpoints

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "gpu", raising=False)
    return importlib.import_module("gpu")


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "stages.jsonl").read_text().splitlines()]


def test_a_stage_is_recorded_as_it_ended(gpu: ModuleType, tmp_path: Path) -> None:
    assert gpu.take(gpu.Stage("a", python("print('hello')"), 1.0), tmp_path, 20.0) == "done"
    assert gpu.take(gpu.Stage("b", python("raise SystemExit(3)"), 1.0), tmp_path, 20.0) == "failed"
    assert (tmp_path / "a.log").read_text() == "hello\n"
    assert [(line["stage"], line["ended"], line["code"]) for line in lines(tmp_path)] == [
        ("a", "done", 0),
        ("b", "failed", 3),
    ]
    assert gpu.finished(tmp_path) == {"a"}


def test_a_stage_is_asked_to_end_at_its_deadline_and_then_made_to(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "PATIENCE", 0.5)
    saves = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(print('saved')))\ntime.sleep(60)"
    deaf = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)"
    assert gpu.take(gpu.Stage("saves", python(saves), 1.0), tmp_path, 0.7) == "deadline"
    assert gpu.take(gpu.Stage("deaf", python(deaf), 1.0), tmp_path, 0.7) == "deadline"
    assert (tmp_path / "saves.log").read_text() == "saved\n"
    assert [line["code"] for line in lines(tmp_path)] == [0, -9]
    assert gpu.finished(tmp_path) == set()


def test_the_same_command_leaves_out_what_is_done(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = [
        gpu.Stage("first", python("pass"), 0.5),
        gpu.Stage("second", python(f"open({str(tmp_path / 'n')!r}, 'a').write('x')"), 1.0),
        gpu.Stage("third", python("pass"), 1.0, tmp_path / "missing.safetensors"),
    ]
    monkeypatch.setattr(gpu, "stages", lambda *_, **__: planned)
    (tmp_path / "stages.jsonl").write_text(json.dumps({"stage": "first", "ended": "done"}) + "\n")
    gpu.main(["--data", "x.npz", "--out", str(tmp_path), "--rehearse"])
    gpu.main(["--data", "x.npz", "--out", str(tmp_path), "--rehearse"])
    assert (tmp_path / "n").read_text() == "x"
    told = capsys.readouterr().out
    assert "first: done before" in told
    assert "third: left out, there is no missing.safetensors" in told


def test_weights_go_into_parts_and_come_back(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoints.weights_file(FOLDER.parent / "results" / "quickstart")
    monkeypatch.setattr(gpu, "PART", gpu.HEADER + 40_000)
    parts = gpu.split(source, tmp_path / "weights")
    assert len(parts) > 1
    assert all(path.stat().st_size <= gpu.PART or len(checkpoints.read_tensors(path)) == 1 for path in parts)
    joined = gpu.join(tmp_path)
    before, after = (checkpoints.read_tensors(path) for path in (source, joined))
    assert set(before) == set(after)
    for name, tensor in before.items():
        expected = tensor.half().float() if tensor.ndim == 4 else tensor
        assert torch.equal(after[name], expected)
    x = torch.rand(3, 1, 28, 28)
    assert torch.allclose(nuat.load(joined)(x), nuat.load(source)(x), atol=2e-2)
    parts[0].unlink()
    with pytest.raises(SystemExit, match="parts are missing"):
        gpu.join(tmp_path)


def test_every_stage_is_a_command_that_nuat_takes(gpu: ModuleType, tmp_path: Path) -> None:
    for rehearse in (False, True):
        for stage in gpu.stages(tmp_path / "cifar10.npz", tmp_path, 12.0, rehearse=rehearse):
            assert 0 < stage.until <= 1
            if stage.command[1:3] == ("-m", "nuat"):
                command = stage.command[3]
                assert command in ("train", "evaluate", "campaign")


def test_without_a_gpu_it_says_so(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--data", "x.npz", "--out", "nowhere"])
    assert ended.value.code == 2
    assert "no CUDA GPU is available; --rehearse runs the stages on the CPU" in capsys.readouterr().err

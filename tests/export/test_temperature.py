"""A temperature for the probabilities: every format brings it, and no answer and no logit changes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from export.export_runs import CLASSES, left, make_run

import nuat
from nuat.commands.export import export
from nuat.data import load, to_float
from nuat.errors import InputError
from nuat.export.trained_model import converting, wrong_probabilities
from nuat.models.onnx_model import _temperature
from nuat.records.checkpoints import read_info
from nuat.records.settings import read_data_config


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose settings and split are recorded, as a training does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    folder = make_run(tmp_path / "runs" / "tiny").relative_to(tmp_path)
    dataset = load(read_data_config(folder / "config.json"))
    split = {"validation_indices": dataset.validation_indices.tolist(), "train_sha256": dataset.train.fingerprint()}
    (folder / "split.json").write_text(json.dumps(split))
    return folder


def refused(*arguments: object) -> str:
    before = left(Path.cwd())
    with pytest.raises(InputError) as error:
        export([str(argument) for argument in arguments])
    assert left(Path.cwd()) == before
    return str(error.value)


def test_a_file_for_nuat_changes_probabilities_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export([str(run), "--format", "safetensors", "--temperature", "2.5"]) == 0
    assert "temperature 2.5, as given" in capsys.readouterr().out
    before, after = nuat.load(run), nuat.load("tiny.safetensors")
    x = torch.rand(50, 1, 8, 8)
    with torch.no_grad():
        logits = before(x)
        assert torch.equal(after(x), logits)
    ours, theirs = before.predict(x), after.predict(x)
    assert [list(one.probabilities) for one in ours] == [list(one.probabilities) for one in theirs]
    expected = (logits / 2.5).softmax(dim=1).max(dim=1).values
    assert [one.probability for one in theirs] == pytest.approx(expected.tolist(), abs=1e-6)
    assert read_info(Path("tiny.safetensors")).temperature == after.calibration_temperature == 2.5
    # without one the file is as before, for versions that know none
    assert export([str(run), "--format", "safetensors", "--out", "plain.safetensors"]) == 0
    assert b"temperature" not in Path("plain.safetensors").read_bytes()


def test_close_logits_keep_their_order_where_probabilities_are_alike(run: Path) -> None:
    assert export([str(run), "--format", "safetensors", "--temperature", "100"]) == 0
    model = nuat.load("tiny.safetensors")
    logits = torch.tensor([[1.0, 1.0 + 2e-6, 0.0, 0.0, 0.0]])
    assert (logits / 100).softmax(dim=1)[0, 0] == (logits / 100).softmax(dim=1)[0, 1]
    assert model._predictions(logits)[0].label == CLASSES[1]


def test_fit_takes_the_images_that_were_held_out(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load(read_data_config(run / "config.json")).validation
    with torch.no_grad():
        logits = nuat.load(run)(to_float(images.images))

    def fit(found: torch.Tensor, labels: torch.Tensor) -> float:
        assert torch.equal(labels, images.labels)
        assert torch.allclose(found, logits, atol=1e-6)
        return 1.75

    monkeypatch.setattr("nuat.export.trained_model.fit_temperature", fit)
    assert export([str(run), "--format", "safetensors", "--temperature", "fit"]) == 0
    assert "temperature 1.75, fitted on 5 validation images: calibration error" in capsys.readouterr().out
    assert read_info(Path("tiny.safetensors")).temperature == 1.75


@pytest.mark.slow
def test_plain_torch_gets_logits_and_probabilities(run: Path) -> None:
    assert export([str(run), "--format", "torch", "--temperature", "2.5"]) == 0
    extra = {"nuat.json": ""}
    program = torch.export.load("tiny.pt2", extra_files=extra).module()
    x = torch.rand(9, 1, 8, 8)
    with torch.no_grad():
        ours = nuat.load(run)(x)
        logits, probabilities = program(x)
    assert torch.allclose(logits, ours, atol=1e-5)
    assert torch.equal(probabilities.argmax(dim=1), ours.argmax(dim=1))
    assert torch.allclose(probabilities, (ours / 2.5).softmax(dim=1), atol=1e-5)
    assert json.loads(extra["nuat.json"])["temperature"] == 2.5


@pytest.mark.slow
def test_onnx_has_both_outputs_and_is_evaluated_by_its_logits(run: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the export extra is not installed")
    pytest.importorskip("onnxscript", reason="the export extra is not installed")
    from nuat.models.onnx_model import OnnxModel

    assert export([str(run), "--format", "onnx", "--temperature", "2.5"]) == 0
    x = torch.rand(9, 1, 8, 8)
    session = runtime.InferenceSession("tiny.onnx", providers=["CPUExecutionProvider"])
    logits, probabilities = (torch.from_numpy(one) for one in session.run(None, {"images": x.numpy()}))
    with torch.no_grad():
        ours = nuat.load(run)(x)
    assert torch.allclose(logits, ours, atol=1e-5)
    assert torch.allclose(probabilities, (ours / 2.5).softmax(dim=1), atol=1e-5)
    model = OnnxModel(Path("tiny.onnx"))
    assert torch.equal(model(x), logits)
    assert model.calibration_temperature == 2.5


def test_what_cannot_be_is_refused(run: Path, tmp_path: Path) -> None:
    every = (run, "--format", "safetensors", "--temperature")
    assert "--temperature 0: expected a number from 0.01 to 100" in refused(*every, "0")
    assert "--temperature 101: expected" in refused(*every, "101")
    assert "--temperature 1 has no effect: it is that of the weights" in refused(*every, "1")
    assert "has no effect on --format robustbench" in refused(run, "--format", "robustbench", "--temperature", "2")
    split = run / "split.json"
    values = json.loads(split.read_text())
    for change in ({"validation_indices": [0, 1]}, {"train_sha256": "other"}):
        split.write_text(json.dumps(values | change))
        assert "is not what the run was trained on" in refused(*every, "fit")
    config = run / "config.json"
    before, settings = config.read_text(), json.loads(config.read_text())
    settings["config"]["data"]["validation"] = 0
    config.write_text(json.dumps(settings))
    whole = load(read_data_config(config)).train.fingerprint()
    split.write_text(json.dumps({"validation_indices": [], "train_sha256": whole}))
    assert "the run held out no validation images to fit it on; give a number" in refused(*every, "fit")
    config.write_text(before)
    split.unlink()
    assert "lies in no run" in refused(*every, "fit")


def test_probabilities_of_another_temperature_or_class_are_found() -> None:
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    assert wrong_probabilities((logits / 2).softmax(1), logits, 2.0) == ""
    assert wrong_probabilities(logits.softmax(1), logits, 2.0).startswith("its probabilities differ by ")
    told = "at temperature 2 the largest probability is of another class than the largest logit"
    assert wrong_probabilities((logits.flip(1) / 2).softmax(1), logits, 2.0) == told


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_a_file_with_wrong_probabilities_is_not_kept(run: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="the export extra is not installed")
        pytest.importorskip("onnxscript", reason="the export extra is not installed")
    module = "torch_file" if form == "torch" else "onnx_file"
    monkeypatch.setattr(f"nuat.export.{module}.wrong_probabilities", lambda *values: "they are wrong")
    assert "was not kept: they are wrong" in refused(run, "--format", form, "--temperature", "2.5")


def test_a_temperature_of_an_onnx_file_that_is_no_number_counts_as_none() -> None:
    assert _temperature({"nuat": "1", "temperature": "2.5"}) == 2.5
    assert _temperature({"nuat": "1", "temperature": "warm"}) == 1.0


def test_memory_that_runs_out_while_converting_is_no_fault_of_the_model() -> None:
    with pytest.raises(MemoryError), converting("a file"):
        raise MemoryError


def test_a_damaged_temperature_is_named(run: Path) -> None:
    with pytest.raises(InputError, match="temperature 0: expected a number from"):
        replace(read_info(run / "best.safetensors"), temperature=0.0)

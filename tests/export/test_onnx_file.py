"""ONNX: the same function in another runtime, or no file."""

import copy
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from export.export_runs import CLASSES, NETWORKS, failing, left, make_run
from safetensors import safe_open
from torch import Tensor, nn

import nuat
from nuat.errors import InputError
from nuat.export import find_model, onnx_file, to_onnx
from nuat.models.resnet import BLOCKS
from nuat.records.checkpoints import read_info, save_weights

_REASON = "the export extra is not installed"
onnx = pytest.importorskip("onnx", reason=_REASON)
runtime = pytest.importorskip("onnxruntime", reason=_REASON)
pytest.importorskip("onnxscript", reason=_REASON)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("onnx") / "run", NETWORKS["mnist-cnn"][0])


@pytest.fixture
def converted(run: Path, graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the exporter's seconds out of a test of what follows it."""
    monkeypatch.setattr(onnx_file, "_convert", lambda model, info: graph)


@pytest.fixture(scope="module")
def graph(run: Path) -> Any:
    source = find_model(run)
    return onnx_file._convert(nuat.load(run), source.info)


@pytest.mark.slow
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "torchvision"])  # made as timm's are, larger
def test_onnxruntime_gives_the_logits_of_the_model(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BLOCKS, "resnet18", (1, 1, 1, 1))  # each operator, sooner exported
    model, channels = NETWORKS[network]
    run = make_run(tmp_path / "run", model, channels=channels)
    said = to_onnx(find_model(run), tmp_path / "out" / "model.onnx")
    session = runtime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    for size in (1, 3, 20):
        x = torch.rand(size, channels, 8, 8)
        with torch.no_grad():
            ours = nuat.load(run)(x)
        (theirs,) = session.run(["logits"], {"images": x.numpy()})
        assert torch.allclose(torch.from_numpy(theirs), ours, rtol=0, atol=1e-5 * float(ours.abs().max()))
    assert left(tmp_path / "out") == {"model.onnx"}
    assert "35 test images" in said
    assert float(said.partition("difference ")[2].split()[0]) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("converted")
def test_the_file_says_what_goes_in_and_out(run: Path, tmp_path: Path) -> None:
    to_onnx(find_model(run), tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", onnx_file.OPSET)]
    (images,), (logits,) = proto.graph.input, proto.graph.output
    sizes = [[d.dim_param or d.dim_value for d in part.type.tensor_type.shape.dim] for part in (images, logits)]
    assert (images.name, logits.name) == ("images", "logits")
    assert sizes == [["batch", 1, 8, 8], ["batch", len(CLASSES)]]
    found, info = {prop.key: prop.value for prop in proto.metadata_props}, read_info(run / "best.safetensors")
    assert json.loads(found["classes"]) == list(CLASSES)
    assert float(found["eps"]) == 8 / 255
    assert (found["norm"], found["recipe"], found["nuat_version"]) == ("Linf", "nuat-tiny", nuat.__version__)
    assert json.loads(found["nuat"]) == json.loads(json.dumps(asdict(info)))


@pytest.mark.parametrize("resize", [None, 12])
def test_onnxruntime_reads_how_images_are_prepared_as_safetensors_say_it(
    resize: int | None, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: Any
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    info = replace(read_info(run / "best.safetensors"), resize=resize)
    save_weights(folder / "best.safetensors", nuat.load(run).state_dict(), info)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **settings: SimpleNamespace(model_proto=copy.deepcopy(graph)))
    to_onnx(find_model(folder), tmp_path / "model.onnx")
    found = runtime.InferenceSession(str(tmp_path / "model.onnx")).get_modelmeta().custom_metadata_map
    facts = json.loads(found["nuat"])
    assert (facts["image_size"], facts["resize"], facts["interpolation"]) == ([8, 8], resize, "bicubic")
    assert (facts["crop"], facts["pixel_range"], facts["channels"]) == ("centre", [0.0, 1.0], 1)
    assert facts["classes"] == json.loads(found["classes"]) == list(CLASSES)
    with safe_open(folder / "best.safetensors", "pt") as weights:
        theirs = {"temperature": 1.0} | json.loads(weights.metadata()["nuat"])
    assert {name: theirs[name] for name in facts} == facts
    assert theirs.keys() - facts.keys() == {"format", "checksums"}


@pytest.mark.usefixtures("converted")
def test_the_file_names_no_path_of_this_machine(run: Path, tmp_path: Path) -> None:
    """The exporter writes stack traces into the graph."""
    to_onnx(find_model(run), tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    for trace in (str(Path(nuat.__file__).parent), "stack_trace", "forward"):
        assert trace.encode() not in content


def _shifted(by: float) -> Callable[[nn.Module, Tensor], Tensor]:
    real = onnx_file.logits
    return lambda model, x: real(model, x) + by


def _other_classes(model: nn.Module, x: Tensor) -> Tensor:
    return -torch.ones(len(x), len(CLASSES)).cumsum(dim=1)


@pytest.mark.parametrize(
    ("part", "instead", "reason"),
    [
        ("logits", _shifted(0.001), "differs by"),
        ("logits", _other_classes, "predicts other classes in batches of 1"),
        ("logits", lambda model, x: torch.zeros(len(x), 2), "gives "),
        ("check", failing(onnx.checker.ValidationError("no such operator")), "no such operator"),
    ],
)
@pytest.mark.usefixtures("converted")
def test_a_file_that_fails_a_check_is_not_kept(
    part: str, instead: Any, reason: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = (onnx_file, "logits") if part == "logits" else (onnx.checker, "check_model")
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(InputError, match=f"was not kept: .*{reason}"):
        to_onnx(find_model(run), tmp_path / "new" / "model.onnx")
    assert left(tmp_path) == set()


@pytest.mark.usefixtures("converted")
def test_batches_of_seven_are_checked_too(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnx_file.logits
    monkeypatch.setattr(onnx_file, "logits", lambda model, x: real(model, x) + 0.01 * (len(x) == 7))
    with pytest.raises(InputError, match="differs by 1"):
        to_onnx(find_model(run), tmp_path / "model.onnx")
    assert left(tmp_path) == set()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.usefixtures("converted")
def test_coarse_weights_that_runtimes_round_otherwise_are_named(
    dtype: torch.dtype, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = nuat.load(run).to(dtype)

    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.inner(x.to(dtype))
            return answer

    monkeypatch.setattr(onnx_file.checkpoints, "load", lambda weights: Cast().eval())
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(InputError, match=rf"differs by .*\. Its weights are {name}; export them in float32\."):
        to_onnx(find_model(run), tmp_path / "model.onnx")
    assert left(tmp_path) == set()


@pytest.mark.usefixtures("converted")
def test_logits_that_are_not_finite_are_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self, *arguments: object, **keywords: object) -> None:
            pass

        def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
            return [torch.full((len(inputs["images"]), len(CLASSES)), torch.nan).numpy()]

    monkeypatch.setattr(runtime, "InferenceSession", Session)
    with pytest.raises(InputError, match="not finite"):
        to_onnx(find_model(run), tmp_path / "model.onnx")
    assert left(tmp_path) == set()


@pytest.mark.usefixtures("converted")
def test_a_full_disk_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        to_onnx(find_model(run), tmp_path / "new" / "model.onnx")
    assert left(tmp_path) == set()


def test_weights_past_one_file_are_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "_LARGEST", 1000)
    with pytest.raises(InputError, match="at most 1,000"):
        to_onnx(find_model(run), tmp_path / "model.onnx")
    assert left(tmp_path) == set()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(package: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}; install it with: pip install 'nuat\[export\]'"):
        to_onnx(find_model(run), tmp_path / "model.onnx")
    assert left(tmp_path) == set()

"""``nuat plan`` from the command line: what it prints, what it writes, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from nuat.cli import main
from nuat.recipes import RECIPES

TINY = ("nuat-wa-mnist-small-cnn", "--images", "600", "--model.width", "4", "--epochs", "2", "--steps", "1",
        "--data.validation", "10", "--precision", "fp32", "--device", "cpu")  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[int, Any], str]:
    """Return the figures of each number of devices, and what was printed."""
    code = main(["plan", *TINY, *arguments, "--json", "plan.json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    found = json.loads(Path("plan.json").read_text())
    assert (found["format"], found["recipe"]) == (1, TINY[0])
    return {plan["devices"]: {n: f["value"] for n, f in plan["figures"].items()} for plan in found["plans"]}, out


@pytest.mark.slow
def test_a_plan_is_printed_and_written_and_leaves_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    plans, out = planned(capsys, "--devices", "1,4")
    assert [path.name for path in Path().iterdir()] == ["plan.json"]  # no data set was read, no run was left
    one, four = plans[1], plans[4]
    batch = RECIPES[TINY[0]]().batch_size
    assert (one["batch"], four["batch"], four["held"]) == (batch, batch, batch / 4)
    assert four["device_hours"] == pytest.approx(4 * four["hours"])
    assert 0 < one["hours"] < 1
    assert one["sent_bytes"] == 0 < four["gradient_bytes"]
    # three forward passes of 10 classes in float32, of the three others' images
    assert four["logit_bytes"] == 3 * batch / 4 * 3 * 40
    assert one["drawn"] == four["drawn"] >= batch * 784  # a sign for each pixel of the whole batch
    assert four["noise_bytes"] == batch * 784
    assert one["operations"] == four["operations"] > 1e5
    assert 2 * one["average_bytes"] == one["weights_bytes"]  # the best and the last
    assert one["resident_bytes"] == 784 * (600 + 10 + 10_000)
    assert one["activation_bytes"] > four["activation_bytes"] > 0
    assert "1 device" in out
    assert "4 devices" in out
    assert "warning: 4 devices: batch norm takes" not in out  # the small network has none
    for word in ("hours", "device-hours", "memory a device", "measured", "counted", "assumed", "images needed"):
        assert word in out


@pytest.mark.slow
def test_the_batch_may_grow_with_the_devices(capsys: pytest.CaptureFixture[str]) -> None:
    plans, out = planned(capsys, "--devices", "1,64", "--per-device", "16")
    assert (plans[64]["batch"], plans[64]["held"]) == (1024, 16)
    assert plans[64]["steps"] == 1
    assert "warning: 64 devices: lambda is not scale-free" in out
    assert "warning: 1 device: lambda" in out  # a fourth of the recipe's batch
    assert "InfiniBand-class" in out
    quiet = planned(capsys, "--devices", "1", "--per-device", "16", "--defense.lam.peak", "3")[1]
    assert "lambda" not in quiet  # somebody has chosen it


@pytest.mark.slow
def test_a_rate_and_a_link_that_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    plans, out = planned(
        capsys, "--devices", "2", "--rate", "0.001", "--bandwidth", "0.001", "--latency", "1000", "--timed-batch", "4"
    )  # fmt: skip
    two = plans[2]
    assert two["compute_seconds"] == pytest.approx(two["operations"] * two["held"] / 1e9)
    assert two["communication_seconds"] > two["sent_bytes"] / 1e6
    assert "devices that achieve 0.001 TFLOP/s" in out
    assert "0.001 GB/s and 1000 us" in out
    assert "steps of 4 images" in out


@pytest.mark.slow
def test_images_that_are_read_as_they_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(
        capsys, "--data.path", "pictures", "--data.loading", "stream", "--data.image-size", "28", "--classes", "10"
    )[0][1]
    assert (found["resident_bytes"], found["cache_bytes"]) == (10 * 3 * 784, 0)
    assert found["workers"] >= 1
    assert found["data_bytes"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        # a library's weights, which would be downloaded; small images, for the sake of time
        (
            "finetune-folder",
            "--images",
            "5000",
            "--classes",
            "10",
            "--data.image-size",
            "32",
            "--data.validation",
            "10",
        ),
        # several averages, and an attack of the validation
        (
            *("robust-folder", "--images", "60", "--classes", "5", "--data.image-size", "8", "--model.width", "4"),
            *("--batch-size", "4", "--data.crop-padding", "1", "--data.validation", "2", "--validate-attack", "gama-2"),
        ),
        # momentum that cycles against the rate
        (
            *("nuat-wa-cifar10-resnet18", "--batch-size", "4", "--model.name", "small-cnn", "--model.variant", "plain"),
            *("--validate-every", "2"),
        ),
        ("finetune-vit-mnist", "--batch-size", "4"),  # those of a run that is not there
    ],
)
def test_no_weights_are_needed(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "vit" in arguments[0]:
        pytest.importorskip("timm")

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("nuat.models.backbones.download", asked)
    monkeypatch.setattr("nuat.training.initial_weights._read", asked)
    code = main(["plan", *arguments, "--steps", "1", "--timed-batch", "2", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert "device-hours" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give the recipe first: nuat plan RECIPE --devices N"),
        (("--devices", "8"), "give the recipe first"),
        (("nuat-wa-imagnet-resnet50",), "unknown recipe 'nuat-wa-imagnet-resnet50'. Did you mean"),
        ((*TINY, "--devices", "0"), "--devices 0: expected at least 1."),
        ((*TINY, "--devices", "1,-2"), "--devices -2: expected at least 1."),
        ((*TINY, "--devices", "2,2"), "names a number twice"),
        ((*TINY, "--devices", ""), "--devices: give at least one number"),
        ((*TINY, "--devices", "x"), "--devices"),
        ((*TINY, "--devices", "7"), "does not divide among 7 devices"),
        ((*TINY, "--devices", "64", "--model.name", "resnet18"), "batch norm per device needs 2"),
        ((*TINY, "--model.name", "resnet18", "--batch-size", "599"), "batch_size=599: the last batch of 600"),
        ((*TINY, "--steps", "0"), "--steps 0: expected at least 1."),
        ((*TINY, "--per-device", "1"), "--per-device 1: expected at least 2."),
        ((*TINY, "--per-device", "4", "--batch-size", "8"), "--per-device and --batch-size: give one or the other"),
        ((*TINY, "--timed-batch", "1"), "--timed-batch 1: expected at least 2."),
        ((*TINY, "--rate", "0"), "--rate 0: expected a number > 0."),
        ((*TINY, "--latency", "-1"), "--latency"),
        ((*TINY, "--bandwidth", "0"), "--bandwidth 0: expected a number > 0."),
        ((*TINY, "--network", "string"), "--network"),
        ((*TINY, "--classes", "1"), "--classes 1: expected at least 2."),
        ((*TINY, "--image-size", "0"), "--image-size 0: expected at least 1."),
        ((*TINY, "--json", "."), "--json .: is a folder"),
        ((*TINY, "--data.path", "nowhere"), "nowhere: its images are not known; give --classes, --image-size"),
        ((*TINY, "--divices", "8"), "--divices"),
    ],
)  # fmt: skip
def test_what_is_refused(arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plan", *arguments])
    out, err = capsys.readouterr()
    assert code == 2
    assert err.startswith("nuat: error: ")
    assert err.count("\n") == 1
    assert told in err
    assert "steps on" not in out  # before anything was timed


def test_the_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "plan RECIPE --devices N" in capsys.readouterr().out
    assert main(["plan", "--help"]) == 0
    assert "--per-device" in capsys.readouterr().out

"""``nuat train finetune-folder`` on a folder of images, and the recipes that fine-tune on digits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from cli.cli_runs import CommandLine
from PIL import Image

from nuat import load, models
from nuat.recipes import RECIPES

CLASSES = ("bar", "cross", "dot")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of three classes and several sizes."""
    draw = np.random.default_rng(0)
    for part, n in (("train", 14), ("test", 4)):
        for label, name in enumerate(CLASSES):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for i in range(n):
                pixels = draw.integers(0, 60, (30 + i, 34, 3))
                pixels[10 * label : 10 * label + 10] += 140
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / part / name / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_folder_is_fine_tuned_from_pretrained_weights(
    folder: Path, tmp_path: Path, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18().state_dict()

    def fetch(url: str, **keywords: Any) -> dict[str, torch.Tensor]:
        assert "resnet18" in url
        return theirs

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    ended = nuat(
        *("train", "finetune-folder", "--model", "torchvision:resnet18", "--data.path", folder, "--data.cache"),
        *(tmp_path / "cache", "--data.image-size", "32", "--data.validation", "6", "--batch-size", "12", "--epochs"),
        *("1", "--evaluation.attacks", "clean,pgd-2", "--out", tmp_path / "run", "--device", "cpu"),
    )
    assert ended.code == 0, ended.err
    assert "begins with the weights of torchvision:resnet18, with mean 0.485,0.456,0.406" in ended.out
    assert "the head is new (fc.weight, fc.bias)" in ended.out
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]["model"]
    assert (config["name"], config["weights"], config["options"]) == ("torchvision:resnet18", "pretrained", [])

    def fail(url: str, **keywords: Any) -> None:
        raise AssertionError("nothing is downloaded again")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    model = load(tmp_path / "run")
    assert model.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    ended = nuat("evaluate", tmp_path / "run", "--attacks", "clean,pgd-2", "--json", tmp_path / "again.json")
    assert ended.code == 0, ended.err
    files = (tmp_path / "run" / "evaluation.json", tmp_path / "again.json")
    first, again = (json.loads(path.read_text()) for path in files)
    assert [r["correct"] for r in again["results"]] == [r["correct"] for r in first["results"]]
    ended = nuat("report", tmp_path / "run", "--out", tmp_path / "report.html")
    assert ended.code == 0, ended.err
    assert "torchvision:resnet18" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("network", ["vit", "convnext"])
def test_the_plain_run_fits_its_fine_tuning(network: str) -> None:
    pytest.importorskip("timm", reason="the timm extra is not installed")
    plain, tuned = (RECIPES[f"{kind}-{network}-mnist"]() for kind in ("plain", "finetune"))
    assert plain.defense.judged_by == "clean"
    assert tuned.model.weights == f"plain-{network}-mnist"
    nets = [models.build(c.model, channels=1, classes=10, image_size=(28, 28)).net for c in (plain, tuned)]
    shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in nets]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in nets[0].parameters()) < 250_000  # small enough for a CPU
    assert not models.has_batch_norm(nets[0])

"""Anybody's weights in ``nuat predict`` and ``nuat export``: used like nuat's own, once the user says all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli.cli_runs import CommandLine
from PIL import Image
from torch import nn

import nuat as library
from nuat.models import adapt, resnet18

NETWORK = ("--model", "resnet18", "--image-size", "8", "--mean", "0.5", "--std", "0.25")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    draw = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(f"{i}.png")


@pytest.fixture
def nuat(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def net() -> nn.Module:
    """The model whose weights lie in theirs.pth."""
    torch.manual_seed(0)
    bare = resnet18(width=4, classes=3)
    torch.save({"state_dict": bare.state_dict()}, "theirs.pth")
    return adapt(bare, mean=(0.5,) * 3, std=(0.25,) * 3).eval()


def expected(net: nn.Module) -> list[int]:
    x = torch.stack([torch.from_numpy(np.array(Image.open(f"{i}.png"))).permute(2, 0, 1) / 255 for i in range(3)])
    with torch.no_grad():
        return net(x).argmax(1).tolist()


def labels(nuat: CommandLine, *words: object) -> list[str]:
    ended = nuat("predict", "theirs.pth", "0.png", "1.png", "2.png", *words, "--json", "-")
    assert ended.code == 0, ended.err
    assert "theirs.pth: taken as variant plain of resnet18" in ended.err
    answers: list[dict[str, Any]] = json.loads(ended.out)
    return [answer["label"] for answer in answers]


def test_predictions_with_names_of_the_classes(net: nn.Module, nuat: CommandLine) -> None:
    assert labels(nuat, *NETWORK) == [str(label) for label in expected(net)]
    Path("names.txt").write_text("ant\nbee\ncat\n")
    for names in ("ant,bee,cat", "names.txt"):
        assert labels(nuat, *NETWORK, "--classes", names) == [["ant", "bee", "cat"][i] for i in expected(net)]
    assert labels(nuat, *NETWORK, "--certainty", "attack", "--eps", "0.01", "--steps", "1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("theirs.pth", "0.png"), "does not say which network its weights are for. They look like resnet18"),
        (("theirs.pth", "0.png", "--model", "resnet18"), "which images its model takes; give --image-size"),
        (("theirs.pth", "0.png", *NETWORK, "--classes", "a,b"), "--classes: 2 names for 3 logits of theirs.pth"),
        (("theirs.pth", "0.png", *NETWORK, "--certainty", "attack"), "records no radius of its training; give --eps"),
        (("quickstart", "0.png", "--image-size", "8"), "quickstart says all of its model: leave out"),
        (("theirs.onnx", "0.png"), "theirs.onnx is an ONNX file, which nuat evaluates only"),
        (("theirs.py:make", "0.png"), "does not say which classes and images its model is for"),
    ],
)
def test_what_predict_must_be_told(words: tuple[str, ...], message: str, net: nn.Module, nuat: CommandLine) -> None:
    Path("theirs.onnx").touch()
    assert message in nuat.refused("predict", *words)


def test_an_export_is_a_model_of_ours_from_then_on(net: nn.Module, nuat: CommandLine) -> None:
    words = ("export", "theirs.pth", *NETWORK, "--format", "safetensors", "--out", "ours.safetensors")
    assert "give --eps 8/255" in nuat.refused(*words)
    assert "a usual radius in Linf, but in L2 it hardly" in nuat.refused(*words, "--norm", "L2", "--eps", "8/255")
    ended = nuat(*words, "--eps", "8/255", "--classes", "ant,bee,cat")
    assert ended.code == 0, ended.err
    assert "theirs.pth: taken as variant plain of resnet18, which the weights do not show" in ended.err
    model = library.load("ours.safetensors")
    x = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(x), net(x))
    assert model.classes == ("ant", "bee", "cat")
    assert model.info.threat.eps == 8 / 255
    assert model.transform("0.png").shape == (3, 8, 8)
    assert "says what it withstands; leave --eps and --norm out" in nuat.refused(
        "export", "ours.safetensors", "--format", "onnx", "--eps", "0.1"
    )
    assert "needs a run with its evaluation" in nuat.refused(
        "export", "theirs.pth", *NETWORK, "--eps", "0.1", "--format", "robustbench"
    )


def test_a_hugging_face_folder_says_all(nuat: CommandLine) -> None:
    timm = pytest.importorskip("timm", reason="the timm extra is not installed")
    arguments: dict[str, Any] = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    torch.manual_seed(0)
    bare = timm.create_model("vit_tiny_patch16_224", img_size=8, num_classes=3, **arguments)
    folder = Path("folder")
    folder.mkdir()
    torch.save(bare.state_dict(), folder / "pytorch_model.bin")
    images = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 8, 8]}
    values = {
        "architecture": "vit_tiny_patch16_224", "model_args": arguments, "pretrained_cfg": images,
        "label_names": ["ant", "bee", "cat"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(values))
    ended = nuat("predict", folder, "0.png", "1.png", "2.png", "--json", "-")
    assert ended.code == 0, ended.err
    net = adapt(bare, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
    assert [one["label"] for one in json.loads(ended.out)] == [values["label_names"][i] for i in expected(net)]


THEIRS = """import torch
from torch import nn


class Grey(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.last = nn.Linear(2 * 6 * 6, 3)

    def forward(self, x):
        return self.last(self.conv(x).flatten(1))


class Branching(Grey):
    def forward(self, x):
        return super().forward(x if float(x.mean()) > 0.5 else 0.5 * x)


class Noisy(Grey):
    def forward(self, x):
        return super().forward(x + torch.rand_like(x))


class Broken(Grey):
    def forward(self, x):
        return super().forward(x) * torch.where(x.sum() > 1.0, torch.nan, 1.0)


class Cast(Grey):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "onnx", "torch"])
@pytest.mark.parametrize(
    ("network", "refused"),
    [
        ("Grey", {}),
        ("Branching", {"onnx": "cannot make an ONNX file of the model (", "torch": "cannot make a program of the mod"}),
        ("Noisy", dict.fromkeys(["safetensors", "onnx", "torch"], "the model is random in evaluation mode (two pass")),
        ("Broken", dict.fromkeys(["safetensors", "onnx", "torch"], "returns logits that are infinite or NaN; it can")),
        ("Cast", {"onnx": "is wrong and was not kept: onnx "}),
    ],
)
def test_networks_of_the_users_own_are_exported_or_refused_in_a_line(
    network: str, refused: dict[str, str], kind: str, nuat: CommandLine
) -> None:
    """Images of one channel, as the first convolution says, and another number of classes than two."""
    if kind == "onnx":
        pytest.importorskip("onnxscript", reason="the export extra is not installed")
    Path("theirs.py").write_text(THEIRS)
    torch.manual_seed(0)
    made = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3), "last": nn.Linear(2 * 6 * 6, 3)})
    torch.save(made.state_dict(), "theirs.pth")
    out = f"out.{'pt2' if kind == 'torch' else kind}"
    words = ("--model", f"theirs.py:{network}", "--image-size", "8", "--classes", "ant,bee,cat", "--eps", "0.1")
    ended = nuat("export", "theirs.pth", *words, "--format", kind, "--out", out)
    assert (ended.code == 2) == (kind in refused), ended.err
    assert refused.get(kind, "") in ended.err
    assert len(ended.err.splitlines()) <= 1
    assert Path(out).exists() == (kind not in refused)
    assert sorted(path.name for path in Path().glob("*out*")) == [out] * (kind not in refused)

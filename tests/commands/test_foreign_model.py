"""Anybody's models on the command line: the right numbers, or one line with the way on."""

import argparse
import copy
import json
import pickle
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from cli.cli_runs import CommandLine, arrays, write_npz
from torch import Tensor, nn

from nuat.config import ModelConfig
from nuat.errors import InputError
from nuat.models import adapt, build, resnet18
from nuat.models.onnx_model import OnnxModel
from nuat.models.small_cnn import SmallCNN

ON_IMAGES = ("--eps", "0.1", "--data.path", "images.npz")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NORMALISED = ("--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own with colour images of three classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "400")
    write_npz(Path("images.npz"), **arrays(channels=3))
    torch.manual_seed(0)


@pytest.fixture
def nuat(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def pixels() -> tuple[Tensor, Tensor]:
    with np.load("images.npz") as file:
        return torch.from_numpy(file["x_test"]).permute(0, 3, 1, 2) / 255, torch.from_numpy(file["y_test"])


def right(model: nn.Module) -> str:
    """Return 1 for each test image that a model classifies correctly, 0 for the others."""
    x, y = pixels()
    with torch.no_grad():
        return "".join("01"[flag] for flag in (model.eval()(x).argmax(1) == y).int().tolist())


def verdicts(nuat: CommandLine, *words: object) -> tuple[str, str]:
    """Return the verdicts of an evaluation without attacks, and everything that it printed."""
    Path("out.json").unlink(missing_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ended = nuat("evaluate", *words, *ON_IMAGES, "--attacks", "clean", "--json", "out.json")
    assert ended.code == 0, ended.err
    (row,) = json.loads(Path("out.json").read_text())["results"]
    return row["correct"], " ".join([*ended.out.split(), *(str(warning.message) for warning in caught)])


def trained_a_little(model: nn.Module) -> nn.Module:
    """Return a model that is right on some images and wrong on others."""
    x, y = pixels()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("form", ["plain", "module", "lightning", "safetensors", "old"])
def test_a_state_dict_with_the_name_of_its_network(form: str, nuat: CommandLine) -> None:
    net = trained_a_little(resnet18(width=4, classes=3))
    state, file = net.state_dict(), Path("theirs.pth")
    if form == "safetensors":
        file = Path("theirs.safetensors")
        file.write_bytes(safetensors.torch.save(state))
    elif form == "lightning":
        wrapped = {f"model.{name}": value for name, value in state.items()} | {"loss.weight": torch.ones(3)}
        torch.save({"state_dict": wrapped, "hyper_parameters": argparse.Namespace(lr=0.1), "epoch": 3}, file)
    elif form == "module":
        torch.save({"net": {f"module.{name}": value for name, value in state.items()}, "acc": 0.5}, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form != "old")
    found, said = verdicts(nuat, file, "--model", "resnet18")
    assert found == right(net)
    taken = "; variant plain, which the weights do not show"
    assert f"{file}: resnet18 (cifar stem, width 4, 3 channels, 3 classes{taken}), with no normalisation" in said
    assert ("left out: loss.weight" in said) == (form == "lightning")


@pytest.mark.parametrize(
    ("options", "mean", "std"), [(NORMALISED, MEAN, STD), (("--mean", "0.5", "--std", "1/255"), (0.5,), (1 / 255,))]
)
def test_mean_and_std_become_the_first_layer(
    options: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...], nuat: CommandLine
) -> None:
    net = SmallCNN(3, 3, (8, 8), width=2)
    torch.save(net.state_dict(), "theirs.pth")
    several = 3 // len(mean)
    model = adapt(net, mean=mean * several, std=std * several)
    found, said = verdicts(nuat, "theirs.pth", "--model", "small-cnn", *options)
    assert found == right(model)
    assert "with mean" in said
    Path("theirs.py").write_text(
        "import torch, nuat\nfrom nuat.models.small_cnn import SmallCNN\n\n"
        "def make():\n    return nuat.load('theirs.pth', model=SmallCNN(3, 3, (8, 8), width=2))\n"
    )
    assert verdicts(nuat, "theirs.py:make", *options)[0] == found


def test_another_normalisation_than_the_files_own_is_refused(nuat: CommandLine) -> None:
    model = adapt(SmallCNN(3, 3, (8, 8), width=2), mean=MEAN, std=STD)
    torch.save(model.state_dict(), "theirs.pth")
    words = ("evaluate", "theirs.pth", "--model", "small-cnn", *ON_IMAGES)
    for options in (("--mean", "0.5", "--std", "0.5"), ("--mean", "0.4,0.5,0.6", "--std", "0.5")):
        line = nuat.refused(*words, *options)
        assert "theirs.pth has a normalisation of its own, mean 0.4,0.5,0.6, std 0.2,0.25,0.3; leave both out" in line
    for options in ((), NORMALISED):
        assert verdicts(nuat, "theirs.pth", "--model", "small-cnn", *options)[0] == right(model)
    assert "--mean: 2 values for images of 3 channels" in nuat.refused(*words, "--mean", "0,1", "--std", "1,1")
    assert "--mean and --std go together" in nuat.refused(*words, "--mean", "0.5")
    assert "every value must be > 0" in nuat.refused(*words, "--mean", "0.5", "--std", "0")


def test_madrys_file_with_its_doubles_and_its_normaliser(nuat: CommandLine) -> None:
    net = SmallCNN(3, 3, (8, 8), width=2)
    state = {
        f"module.{part}{name}": value
        for name, value in net.state_dict().items()
        for part in ("model.", "attacker.model.")
    }
    for part in ("normalizer.", "attacker.normalize."):
        state[f"module.{part}new_mean"], state[f"module.{part}new_std"] = (
            torch.tensor(values)[:, None, None] for values in (MEAN, STD)
        )
    torch.save({"model": state, "epoch": 1}, "madry.pt")
    assert verdicts(nuat, "madry.pt", "--model", "small-cnn")[0] == right(adapt(net, mean=MEAN, std=STD))
    line = nuat.refused("evaluate", "madry.pt", "--model", "small-cnn", "--mean", "0", "--std", "1", *ON_IMAGES)
    assert "has a normalisation of its own" in line


def test_weights_and_their_average_are_said(nuat: CommandLine) -> None:
    net, average = SmallCNN(3, 3, (8, 8), width=2), SmallCNN(3, 3, (8, 8), width=2)
    torch.save({"state_dict": net.state_dict(), "state_dict_ema": average.state_dict()}, "theirs.pth")
    found, said = verdicts(nuat, "theirs.pth", "--model", "small-cnn")
    assert found == right(net)
    assert said.count("'state_dict' are taken: the weights as trained") == 1


def test_weights_that_show_more_logits_than_there_are_classes(nuat: CommandLine) -> None:
    net = SmallCNN(3, 10, (8, 8), width=2)
    torch.save(net.state_dict(), "theirs.pth")
    assert verdicts(nuat, "theirs.pth", "--model", "small-cnn")[0] == right(net)


@pytest.mark.slow
def test_weights_do_not_show_their_activation(nuat: CommandLine) -> None:
    net = resnet18(width=4, classes=3, activation="silu").eval()
    torch.save(net.state_dict(), "theirs.pth")
    words = ("theirs.pth", "--model", "resnet18", "--model.activation")
    assert verdicts(nuat, *words, "silu")[0] == right(net) != verdicts(nuat, *words, "relu")[0]
    assert "no effect on timm:resnet18" in nuat.refused(
        "evaluate", "theirs.pth", *ON_IMAGES, "--model", "timm:resnet18", "--model.activation", "silu"
    )


def test_weights_without_a_network_name_the_likely_one(nuat: CommandLine) -> None:
    torch.save(resnet18(width=4, classes=3).state_dict(), "theirs.pth")
    line = nuat.refused("evaluate", "theirs.pth", *ON_IMAGES)
    assert "does not say which network its weights are for. They look like resnet18 (cifar stem, width 4" in line
    assert "Give --model resnet18 (timm:resnet18, " in line
    odd = build(ModelConfig(name="wrn-10-1", variant="nuat"), channels=3, classes=3, image_size=(8, 8)).net
    torch.save({f"model.{name}": value for name, value in odd.state_dict().items()}, "theirs.pth")
    assert "Give --model wrn-10-1 --model.variant nuat" in nuat.refused("diagnose", "theirs.pth", *ON_IMAGES)
    assert verdicts(nuat, "theirs.pth", "--model", "wrn-10-1", "--model.variant", "nuat")[0] == right(odd)
    torch.save({"w": torch.ones(2)}, "theirs.pth")
    assert "Give --model NAME" in nuat.refused("evaluate", "theirs.pth", *ON_IMAGES)


def test_a_surrogate_in_a_file_of_weights_is_converted_first(nuat: CommandLine) -> None:
    """The options of the network are those of the first model."""
    torch.save(resnet18(width=4, classes=3).state_dict(), "other.pth")
    torch.save(SmallCNN(3, 3, (8, 8), width=2).state_dict(), "theirs.pth")
    words = ("evaluate", "theirs.pth", "--model", "small-cnn", "--surrogate", "other.pth", "--attacks", "transfer")
    line = nuat.refused(*words, *ON_IMAGES)
    assert "other.pth: does not say which network its weights are for. They look like resnet18" in line
    assert "Convert it first: nuat export other.pth --model resnet18 --format safetensors" in line


@pytest.mark.slow
def test_a_file_of_torchvisions_network(nuat: CommandLine) -> None:
    net = torchvision.models.resnet18(num_classes=3)
    torch.save(net.state_dict(), "theirs.pth")
    assert verdicts(nuat, "theirs.pth", "--model", "torchvision:resnet18")[0] == right(net)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("resnet34", "theirs.pth as resnet34: the weights do not fit the model; missing: layer1.2.conv1.weight"),
        ("resnet81", "model.name='resnet81' is not a known network; did you mean resnet18?"),
        ("timm:resnet81", "timm 1.* has no such network. Did you mean 'resnet18'"),
        ("small-cnn", "The weights look like resnet18 .*, the model is small-cnn"),
    ],
)
def test_weights_for_another_network_are_one_line(network: str, message: str, nuat: CommandLine) -> None:
    torch.save(resnet18(width=4, classes=3).state_dict(), "theirs.pth")
    line = nuat.refused("evaluate", "theirs.pth", "--model", network, *ON_IMAGES)
    assert re.search(message, line), line


THEIR_CODE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten())
        self.answer = nn.Linear(36, classes)

    def forward(self, x):
        return self.answer(self.trunk(x))
"""


def test_weights_for_a_network_in_a_file_of_theirs(nuat: CommandLine) -> None:
    Path("their_code.py").write_text(THEIR_CODE)
    names: dict[str, Any] = {}
    exec(THEIR_CODE, names)
    net = trained_a_little(names["Net"]())
    torch.save({"state_dict": {f"model.{name}": value for name, value in net.state_dict().items()}}, "theirs.ckpt")
    assert "--model FILE.py:NAME, the class or function that builds it" in nuat.refused(
        "evaluate", "theirs.ckpt", *ON_IMAGES
    )
    words = ("theirs.ckpt", "--model", "their_code.py:Net")
    found, said = verdicts(nuat, *words)
    assert found == right(net)
    assert "theirs.ckpt: their_code.py:Net, with no normalisation" in said
    assert verdicts(nuat, *words, *NORMALISED)[0] == right(adapt(net, mean=MEAN, std=STD))
    line = nuat.refused("evaluate", "theirs.ckpt", "--model", "their_code.py:Nte", *ON_IMAGES)
    assert "their_code.py" in line
    torch.save(resnet18(width=2).state_dict(), "theirs.ckpt")
    line = nuat.refused("evaluate", *words, *ON_IMAGES)
    assert "theirs.ckpt as their_code.py:Net: the weights do not fit the model; missing: trunk.0.weight" in line


def test_weights_without_a_last_layer_are_refused(nuat: CommandLine) -> None:
    state = {name: value for name, value in resnet18(width=4).state_dict().items() if not name.startswith("fc.")}
    torch.save(state, "theirs.pth")
    line = nuat.refused("evaluate", "theirs.pth", "--model", "resnet18", *ON_IMAGES)
    assert "the weights lack the last layer (fc.weight, fc.bias), so they classify nothing" in line


class Runs:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("it-ran"),)


def test_whole_pickled_models_are_refused_by_name_with_the_safe_way(nuat: CommandLine) -> None:
    torch.save(SmallCNN(3, 3, (8, 8), width=2), "whole.pth")
    torch.save({"model": SmallCNN(3, 3, (8, 8)), "code": Runs()}, "hostile.pth")
    torch.save(SmallCNN(3, 3, (8, 8)), "old.pth", _use_new_zipfile_serialization=False)
    Path("plain.pkl").write_bytes(pickle.dumps(Runs()))
    for file, name in {
        "whole.pth": "nuat.models.small_cnn.SmallCNN",
        "hostile.pth": "nuat.models.small_cnn.SmallCNN",
        "old.pth": "nuat.models.small_cnn.SmallCNN",
        "plain.pkl": "a pickle",
    }.items():
        for words in ((), ("--model", "small-cnn")):
            line = nuat.refused("evaluate", file, *words, *ON_IMAGES)
            assert name in line
            assert "could run code; not loaded. Save the state dict alone, torch.save(model.state_dict(), FILE)" in line
    assert not Path("it-ran").exists()


def test_a_torchscript_file_runs_only_if_it_is_trusted(nuat: CommandLine) -> None:
    net = trained_a_little(SmallCNN(3, 3, (8, 8), width=2))
    torch.jit.trace(net, pixels()[0][:2]).save("script.pt")
    line = nuat.refused("evaluate", "script.pt", *ON_IMAGES)
    assert "is a TorchScript archive, which is a program; if you trust it, give --model torchscript to run it" in line
    assert verdicts(nuat, "script.pt", "--model", "torchscript")[0] == right(net)
    found, _ = verdicts(nuat, "script.pt", "--model", "torchscript", *NORMALISED)
    assert found == right(adapt(net, mean=MEAN, std=STD))
    attacked = nuat("evaluate", "script.pt", "--model", "torchscript", *ON_IMAGES, "--attacks", "clean,pgd-2")
    assert attacked.code == 0, attacked.err
    line = nuat.refused("evaluate", "script.pt", *ON_IMAGES, "--model", "torchscript", "--model.options", "depth=2")
    assert "script.pt brings its network along; leave --model torchscript and its options out" in line
    with zipfile.ZipFile("script.pt") as archive, zipfile.ZipFile("torn.pt", "w") as torn:
        for name in archive.namelist():
            if not name.endswith("data.pkl"):
                torn.writestr(name, archive.read(name))
    line = nuat.refused("evaluate", "torn.pt", "--model", "torchscript", *ON_IMAGES)
    assert "torn.pt: TorchScript cannot read it (" in line
    Path("script.pt").write_bytes(Path("script.pt").read_bytes()[:-50])
    assert nuat.refused("evaluate", "script.pt", "--model", "torchscript", *ON_IMAGES)


def linear(file: str, *, batch: int | str = "batch", kind: int = 1, **metadata: str) -> nn.Module:
    """Write a linear classifier as ONNX; return it."""
    onnx = pytest.importorskip("onnx", reason="the export extra is not installed")
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    trained_a_little(net)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    weight, bias = (p.detach().numpy().astype(dtype) for p in net[1].parameters())
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["x"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("x", kind, [batch, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", kind, [batch, 3])],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    Path(file).write_bytes(model.SerializeToString())
    return net


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("kind", [1, 11])  # float, double
def test_an_onnx_file_gives_the_logits_of_its_network(batch: int | str, kind: int, nuat: CommandLine) -> None:
    net = linear("net.onnx", batch=batch, kind=kind)
    assert verdicts(nuat, "net.onnx")[0] == right(net)
    assert verdicts(nuat, "net.onnx", *NORMALISED)[0] == right(adapt(net, mean=MEAN, std=STD))


def test_an_onnx_file_for_images_of_another_size_is_refused() -> None:
    linear("net.onnx")
    with pytest.raises(InputError, match=r"takes images of 3 x 8 x 8 \(channels, height, width\), not 3 x 9 x 8"):
        OnnxModel(Path("net.onnx"))(torch.zeros(2, 3, 9, 8))


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        ({"x": (1, [2, 3])}, {"y": (1, [2, 3])}, r"expected one input, images \[B, C, H, W\]"),
        ({"x": (7, [2, 3, 8, 8])}, {"y": (1, [2, 3])}, r"expected one input, images \[B, C, H, W\]"),
        ({"x": (1, [2, 3, 8, 8])}, {"y": (1, [2, 3, 1])}, r"expected one output, logits \[B, N\]"),
        ({"x": (1, [2, 3, 8, 8])}, {"y": (1, [2, 3]), "z": (1, [2, 3])}, "or one of several of the name logits"),
    ],
)
def test_an_onnx_file_of_another_kind_is_refused(inputs: dict[str, Any], outputs: dict[str, Any], told: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the export extra is not installed")
    pytest.importorskip("onnxruntime", reason="the export extra is not installed")
    given, gives = (
        [onnx.helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in sides.items()]
        for sides in (inputs, outputs)
    )
    nodes = [
        onnx.helper.make_node(
            "Constant", [], [name], value=onnx.numpy_helper.from_array(np.zeros(shape, dtype=np.float32))
        )
        for name, (_, shape) in outputs.items()
    ]
    graph = onnx.helper.make_graph(nodes, "other", given, gives)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    Path("net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=told):
        OnnxModel(Path("net.onnx"))


@pytest.mark.slow
def test_an_onnx_file_gets_black_box_attacks_alone_and_it_is_said(nuat: CommandLine) -> None:
    pytest.importorskip("pyautoattack", reason="the autoattack extra is not installed")
    linear("net.onnx")
    more = ("--n", "3", "--surrogate", "surrogate.py:make", "--json", "out.json")
    Path("surrogate.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))\n"
    )
    ended = nuat("evaluate", "net.onnx", *ON_IMAGES, *more)
    assert ended.code == 0, ended.err
    assert "net.onnx: run by onnxruntime, without gradients" in ended.out
    assert "black-box attacks alone (square, transfer): no gradient of the model was followed" in ended.out
    assert [row["name"] for row in json.loads(Path("out.json").read_text())["results"]] == [
        "clean",
        "square",
        "transfer",
    ]
    line = nuat.refused("evaluate", "net.onnx", *ON_IMAGES, "--attacks", "clean,pgd-2")
    assert "pgd-2: gradients are needed" in line
    Path("net.onnx").write_bytes(b"\x08\x07")
    assert "net.onnx: onnxruntime cannot read it" in nuat.refused("evaluate", "net.onnx", *ON_IMAGES)


def test_a_copy_of_an_onnx_file_has_a_mode_of_its_own() -> None:
    """The diagnosis compares a copy in training mode."""
    linear("net.onnx")
    model = OnnxModel(Path("net.onnx")).eval()
    other = copy.deepcopy(model).train()
    assert other.training
    assert not model.training
    assert torch.equal(other(pixels()[0]), model(pixels()[0]))


def test_figures_of_an_onnx_file_are_refused(nuat: CommandLine) -> None:
    linear("net.onnx")
    line = nuat.refused("analyse", "confusion", "net.onnx", *ON_IMAGES)
    assert "the figures follow gradients, and an ONNX file has none" in line


def test_an_onnx_file_brings_the_names_of_its_classes(nuat: CommandLine) -> None:
    linear("net.onnx", classes=json.dumps(["c", "a", "b"]))
    with np.load("images.npz") as file:
        np.savez("named.npz", **file, classes=np.array(["a", "b", "c"]))
    ended = nuat("evaluate", "net.onnx", "--eps", "0.1", "--data.path", "named.npz", "--attacks", "clean")
    assert ended.code == 0, ended.err
    assert "classes matched by name" in " ".join(ended.out.split())
    linear("net.onnx", classes="[3")
    assert verdicts(nuat, "net.onnx")[0]


def test_without_onnxruntime_it_is_said_how_to_install_it(nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    linear("net.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'nuat[export]'" in nuat.refused("evaluate", "net.onnx", *ON_IMAGES)


VIT = ("--model.options", "patch_size=4,embed_dim=16,depth=2,num_heads=2")
VIT_ARGUMENTS: dict[str, Any] = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}


def vit(classes: int = 3) -> nn.Module:
    timm = pytest.importorskip("timm", reason="the timm extra is not installed")
    net: nn.Module = timm.create_model("vit_tiny_patch16_224", img_size=8, num_classes=classes, **VIT_ARGUMENTS)
    return trained_a_little(net)


def test_a_file_of_timms_network(nuat: CommandLine) -> None:
    net = vit()
    torch.save({"state_dict": net.state_dict(), "args": argparse.Namespace(model="vit")}, "theirs.pth")
    words = ("theirs.pth", "--model", "timm:vit_tiny_patch16_224", *VIT)
    found, said = verdicts(nuat, *words)
    assert found == right(net)
    assert "theirs.pth: timm:vit_tiny_patch16_224, with no normalisation" in said
    assert verdicts(nuat, *words, *NORMALISED)[0] == right(adapt(net, mean=MEAN, std=STD))


def test_a_librarys_own_weights_by_name_alone(nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through timm's own download, answered from a file of this machine."""
    net = vit(1000)
    safetensors.torch.save_file(net.state_dict(), "vit.safetensors")
    monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *arguments, **keywords: "vit.safetensors")
    found, said = verdicts(nuat, "timm:vit_tiny_patch16_224", *VIT)
    assert found == right(adapt(net, mean=(0.5,) * 3, std=(0.5,) * 3))
    assert "timm:vit_tiny_patch16_224, with mean 0.5,0.5,0.5, std 0.5,0.5,0.5" in said
    words = ("evaluate", "timm:vit_tiny_patch16_224", *VIT, *ON_IMAGES)
    assert "has a normalisation of its own, mean 0.5,0.5,0.5" in nuat.refused(*words, *NORMALISED)
    assert "says which network it is for; leave --model" in nuat.refused(*words, "--model", "resnet18")

    def offline(*arguments: Any, **keywords: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", offline)
    line = nuat.refused(*words)
    assert "could not be downloaded (Name or service not known); try again, or copy model.safetensors of timm/" in line


def hugging_face(values: dict[str, Any], net: nn.Module, *, name: str = "model.safetensors", prefix: str = "") -> Path:
    folder = Path("folder")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    state = {prefix + key: value for key, value in net.state_dict().items()}
    if name.endswith(".safetensors"):
        (folder / name).write_bytes(safetensors.torch.save(state))
    else:
        torch.save(state, folder / name)
    return folder


@pytest.mark.parametrize(("name", "prefix"), [("model.safetensors", ""), ("pytorch_model.bin", "timm_model.")])
def test_a_hugging_face_folder(name: str, prefix: str, nuat: CommandLine) -> None:
    net = vit()
    values = {
        "architecture": "vit_tiny_patch16_224.augreg_in21k",
        "num_classes": 3,
        "model_args": {**VIT_ARGUMENTS, "img_size": [8, 8], "num_classes": 3},
        "pretrained_cfg": {"mean": MEAN, "std": STD, "input_size": [3, 8, 8]},
    }
    folder = hugging_face(values, net, name=name, prefix=prefix)
    found, said = verdicts(nuat, folder)
    assert found == right(adapt(net, mean=MEAN, std=STD))
    assert "folder: timm:vit_tiny_patch16_224, with mean 0.4,0.5,0.6, std 0.2,0.25,0.3" in said
    line = nuat.refused("evaluate", folder, *ON_IMAGES, "--mean", "0", "--std", "1")
    assert "folder has a normalisation of its own" in line


def test_a_folder_of_transformers_is_refused_with_the_reason(nuat: CommandLine) -> None:
    net = nn.Linear(2, 2)
    folder = hugging_face({"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}, net)
    line = nuat.refused("evaluate", folder, *ON_IMAGES)
    assert "a model of transformers (ResNetForImageClassification), whose networks nuat does not build" in line
    assert "file.py:function" in line
    hugging_face({"hidden": 3}, net)
    assert "names no architecture of timm" in nuat.refused("evaluate", folder, *ON_IMAGES)
    for values, message in (
        ({"architecture": 3}, "architecture: expected text"),
        ({"architecture": "resnet18", "pretrained_cfg": 3}, "pretrained_cfg: expected an object"),
        ({"architecture": "resnet18", "pretrained_cfg": {"mean": [0.5, "x", 1]}}, "mean[1]: expected a number"),
        ({"architecture": "resnet18", "mean": [0.5]}, "has one of mean and std"),
        ({"architecture": "resnet18", "model_args": {"layers": {"a": 1}}}, "layers is neither a number"),
        ({"architecture": "resnet81"}, "has no such network"),
    ):
        hugging_face(values, net)
        assert message in nuat.refused("evaluate", folder, *ON_IMAGES)


def test_models_of_ours_say_all_themselves(nuat: CommandLine) -> None:
    digits = ("--data.name", "mnist-sample", "--attacks", "clean", "--n", "10")
    assert "says which network it is for, small-cnn; leave --model" in nuat.refused(
        "evaluate", "quickstart", "--model", "small-cnn", *digits
    )
    line = nuat.refused("evaluate", "quickstart", "--mean", "0.5", "--std", "0.5", *digits)
    assert "quickstart has a normalisation of its own, mean 0, std 1" in line
    assert nuat("evaluate", "quickstart", "--mean", "0", "--std", "1", *digits, "--json", "o.json").code == 0


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_what_the_user_must_say(command: str, nuat: CommandLine) -> None:
    torch.save(resnet18(width=4, classes=3).state_dict(), "theirs.pth")
    words = (command, "theirs.pth", "--model=resnet18")
    assert "give --eps 8/255" in nuat.refused(*words, "--data.path", "images.npz")
    assert "--data.name or --data.path" in nuat.refused(*words, "--eps", "0.1")


@pytest.mark.slow
def test_an_analysis_of_anybodys_weights(nuat: CommandLine) -> None:
    net = trained_a_little(SmallCNN(3, 3, (8, 8), width=2))
    torch.save(net.state_dict(), "theirs.pth")
    ended = nuat(
        "analyse", "confusion", "theirs.pth", "--model", "small-cnn", *ON_IMAGES, "--batch-size", "5", "--out", "o"
    )
    assert ended.code == 0, ended.err
    assert list(Path("o").glob("analysis-confusion.json"))
    assert "leave --model" in nuat.refused(
        "analyse", "confusion", "quickstart", "--model", "small-cnn", "--data.name", "mnist-sample", "--out", "."
    )

"""The weights that a run begins with: taken whole or refused whole, and not needed again."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from nuat.config import ModelConfig, ThreatConfig
from nuat.errors import InputError
from nuat.models import Classifier, adapt, build
from nuat.records.checkpoints import WeightsInfo, load, read_info, save_checkpoint, save_weights
from nuat.training.initial_weights import initialise

timm = pytest.importorskip("timm", reason="the timm extra is not installed")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OF_IMAGENET = "with mean 0.485,0.456,0.406, std 0.229,0.224,0.225"
VIT, SMALL_VIT = "timm:vit_tiny_patch16_224", ("patch_size=4", "embed_dim=16", "depth=2", "num_heads=2")
VIT_ARGUMENTS: dict[str, Any] = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
CONVNEXT, SMALL_CONVNEXT = "timm:convnext_atto", ("depths=1:1:1:1", "dims=8:8:8:8", "patch_size=1")


def begin(
    weights: Path | str,
    name: str = "torchvision:resnet18",
    options: tuple[str, ...] = (),
    *,
    channels: int = 3,
    classes: int = 5,
    size: int = 16,
    **more: Any,
) -> tuple[Classifier, dict[str, Any], list[str]]:
    """Build a model and begin with these weights; return it, the record and what was said."""
    said: list[str] = []
    config = ModelConfig(name=name, options=options, weights=str(weights), **more)
    model = build(config, channels=channels, classes=classes, image_size=(size, size))
    record = initialise(model, config, channels=channels, image_size=(size, size), say=said.append)
    assert record is not None
    assert json.loads(json.dumps(record)) == record
    return model, record, said


@pytest.fixture
def resnet(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A file of torchvision's ResNet-18 for 1,000 classes."""
    torch.manual_seed(5)
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "resnet18.pt")
    return tmp_path / "resnet18.pt", state


@pytest.fixture
def vit(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A file of a small vision transformer for 1,000 classes and colour images of 16 x 16 pixels."""
    torch.manual_seed(5)
    state = timm.create_model("vit_tiny_patch16_224", img_size=16, **VIT_ARGUMENTS).state_dict()
    safetensors.torch.save_file(state, tmp_path / "vit.safetensors")
    return tmp_path / "vit.safetensors", state


def assert_backbone(net: nn.Module, state: dict[str, Tensor], new: tuple[str, ...]) -> None:
    for name, tensor in net.state_dict().items():
        if name not in new:
            assert torch.equal(tensor, state[name]), name


def normalisation(model: Classifier) -> tuple[list[float], list[float]]:
    return model.normalise.mean.flatten().tolist(), model.normalise.std.flatten().tolist()


def own_run(folder: Path, config: ModelConfig, *, channels: int = 3, classes: int = 5, size: int = 16) -> Classifier:
    """Write the weights that a run of ours would leave in its folder; return their model."""
    torch.manual_seed(7)
    model = build(config, channels=channels, classes=classes, image_size=(size, size))
    info = WeightsInfo(
        model=config, channels=channels, image_size=(size, size), classes=tuple(map(str, range(classes))),
        threat=ThreatConfig(), recipe="tiny", epoch=1, averaged=False, data="tiny",
    )  # fmt: skip
    folder.mkdir()
    save_weights(folder / "best.safetensors", model.state_dict(), info)
    return model


def test_random_weights_stay() -> None:
    model = build(ModelConfig(), channels=1, classes=3, image_size=(8, 8))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert initialise(model, ModelConfig(), channels=1, image_size=(8, 8)) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_torchvisions_own_weights(resnet: tuple[Path, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def fetch(url: str, **keywords: Any) -> dict[str, Tensor]:
        asked.append((url, keywords))
        return resnet[1]

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    torch.manual_seed(1)
    model, record, said = begin("pretrained")
    ((url, keywords),) = asked
    assert "resnet18" in url
    assert keywords["weights_only"] is True
    assert_backbone(model.net, resnet[1], ("fc.weight", "fc.bias"))
    assert model.net.fc.weight.shape == (5, 512)
    assert normalisation(model) == (pytest.approx(IMAGENET[0]), pytest.approx(IMAGENET[1]))
    assert said == [
        f"begins with the weights of torchvision:resnet18, {OF_IMAGENET}; the head is new (fc.weight, fc.bias)"
    ]
    assert record["kind"] == "weights"
    assert (record["source"], record["sha256"]) == ("pretrained", None)
    assert record["new"] == ["fc.weight", "fc.bias"]
    assert record["mean"] == pytest.approx(IMAGENET[0])
    torch.manual_seed(1)
    random = build(ModelConfig(name="torchvision:resnet18"), channels=3, classes=5, image_size=(16, 16))
    assert torch.equal(model.net.fc.weight, random.net.fc.weight)  # the seed's head, as without weights
    whole, record, said = begin("pretrained", classes=1000)
    assert_backbone(whole.net, resnet[1], ())
    assert record["new"] == []
    assert "head" not in said[0]
    grey, record, _ = begin("pretrained", channels=1)
    assert_backbone(grey.net.net, resnet[1], ("fc.weight", "fc.bias"))
    assert normalisation(grey) == (pytest.approx([0.449]), pytest.approx([0.226]))


@pytest.mark.parametrize("channels", [1, 3])
def test_timms_own_weights(channels: int, vit: tuple[Path, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Through timm's own reader: grey images add up the colours, another size gets other position embeddings."""
    asked: list[str] = []

    def fetch(repo_id: str, *arguments: Any, **keywords: Any) -> str:
        asked.append(repo_id)
        return str(vit[0])

    monkeypatch.setattr("timm.models._hub.hf_hub_download", fetch)
    generator = torch.get_rng_state()
    model, record, said = begin("pretrained", VIT, SMALL_VIT, channels=channels)
    assert asked == ["timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"]
    changed = ("head.weight", "head.bias") + (("patch_embed.proj.weight",) if channels == 1 else ())
    assert_backbone(model.net, vit[1], changed)
    if channels == 1:
        added = vit[1]["patch_embed.proj.weight"].sum(dim=1, keepdim=True)
        torch.testing.assert_close(model.net.patch_embed.proj.weight.detach(), added)
    assert normalisation(model) == ([0.5] * channels, [0.5] * channels)
    assert record["new"] == ["head.weight", "head.bias"]
    assert "the head is new" in said[0]
    larger, _, _ = begin("pretrained", VIT, SMALL_VIT, channels=channels, size=24)
    assert larger.net.pos_embed.shape == (1, 37, 16)
    assert torch.equal(larger.net.pos_embed[:, 0], vit[1]["pos_embed"][:, 0])
    whole, record, _ = begin("pretrained", VIT, SMALL_VIT, channels=channels, classes=1000)
    assert torch.equal(whole.net.head.weight, vit[1]["head.weight"])
    assert record["new"] == []
    torch.set_rng_state(generator)
    build(ModelConfig(name=VIT, options=SMALL_VIT), channels=channels, classes=5, image_size=(16, 16))
    plain = torch.rand(1)
    torch.set_rng_state(generator)
    begin("pretrained", VIT, SMALL_VIT, channels=channels)
    assert torch.equal(torch.rand(1), plain)  # what is drawn after it does not depend on the weights


def test_a_download_that_fails_says_what_to_do_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", fail)
    with pytest.raises(InputError, match=r"could not be downloaded \(.*not known\).*resnet18.*\.pth .*name that file"):
        begin("pretrained")
    with pytest.raises(
        InputError, match=r"could not be downloaded \(.*not known\).*model.safetensors of timm/vit_tiny"
    ):
        begin("pretrained", VIT, SMALL_VIT)


@pytest.mark.slow
def test_librarys_weights_that_there_are_not(
    vit: tuple[Path, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(timm, "get_pretrained_cfg", lambda name: timm.models.PretrainedCfg(num_classes=1000))
        with pytest.raises(InputError, match=r"timm has no weights of resnet50d.*give none"):
            begin("pretrained", "timm:resnet50d")
    monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *a, **k: str(vit[0]))
    with pytest.raises(InputError, match=r"do not fit model.options.*blocks\.2\.norm1\.weight"):
        begin("pretrained", VIT, (*SMALL_VIT[:2], "depth=3", "num_heads=2"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "wrapped", "from several devices"])
def test_a_file_of_torchvisions(form: str, resnet: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    state: dict[str, Any] = resnet[1]
    if form == "from several devices":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": state, "epoch": 3} if form == "wrapped" else state, tmp_path / "file.pth")
    model, record, said = begin(tmp_path / "file.pth")
    assert_backbone(model.net, resnet[1], ("fc.weight", "fc.bias"))
    assert normalisation(model) == (pytest.approx(IMAGENET[0]), pytest.approx(IMAGENET[1]))
    assert said == [
        f"begins with the weights {tmp_path / 'file.pth'}, {OF_IMAGENET}; the head is new (fc.weight, fc.bias)"
    ]
    assert re.fullmatch(r"[0-9a-f]{64}", record["sha256"])
    # torchvision's names are ours, too; there the settings alone say how images are normalised
    ours, _, _ = begin(tmp_path / "file.pth", "resnet18", stem="imagenet", mean=(0.5,) * 3, std=(0.5,) * 3)
    assert_backbone(ours.net, resnet[1], ("fc.weight", "fc.bias"))
    assert normalisation(ours) == ([0.5] * 3, [0.5] * 3)
    bare, _, said = begin(tmp_path / "file.pth", "resnet18", stem="imagenet")
    assert normalisation(bare) == ([0.0] * 3, [1.0] * 3)
    assert "as variant plain, which they do not show" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_that_normalises_keeps_its_own(prefix: str, tmp_path: Path) -> None:
    stranger = adapt(torchvision.models.resnet18(num_classes=5), mean=(0.5,) * 3, std=(0.25,) * 3)
    torch.save({prefix + name: tensor for name, tensor in stranger.state_dict().items()}, tmp_path / "file.pt")
    model, _, said = begin(tmp_path / "file.pt")
    assert normalisation(model) == ([0.5] * 3, [0.25] * 3)
    assert "with mean 0.5,0.5,0.5, std 0.25,0.25,0.25" in said[0]
    with pytest.raises(InputError, match=r"model.mean=0.1,0.1,0.1: .*was trained with 0.5,0.5,0.5"):
        begin(tmp_path / "file.pt", mean=(0.1,) * 3, std=(0.25,) * 3)


def test_a_checkpoint_of_ours_without_normalisation_gets_none(tmp_path: Path) -> None:
    config = ModelConfig(name=CONVNEXT, options=SMALL_CONVNEXT)
    trained = own_run(tmp_path / "run", config)
    state = {"model": trained.state_dict(), "optimizer": {}, "defense": {}, "metrics_bytes": 0}
    save_checkpoint(tmp_path / "run" / "checkpoint.pt", state)
    for weights in (tmp_path / "run" / "checkpoint.pt", tmp_path / "run"):
        model, _, said = begin(weights, CONVNEXT, SMALL_CONVNEXT)
        assert normalisation(model) == ([0.0] * 3, [1.0] * 3)
        assert said[0].endswith("with no normalisation")
        with pytest.raises(InputError, match=r"model.mean=0.5,0.5,0.5: .*was trained with 0,0,0; leave"):
            begin(weights, CONVNEXT, SMALL_CONVNEXT, mean=(0.5,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize(("channels", "size"), [(3, 16), (1, 24)])
def test_a_file_of_timms(channels: int, size: int, vit: tuple[Path, dict[str, Tensor]]) -> None:
    model, record, _ = begin(vit[0], VIT, SMALL_VIT, channels=channels, size=size)
    changed = ("head.weight", "head.bias") + (("patch_embed.proj.weight", "pos_embed") if channels == 1 else ())
    assert_backbone(model.net, vit[1], changed)
    assert normalisation(model) == ([0.5] * channels, [0.5] * channels)
    assert record["new"] == ["head.weight", "head.bias"]


def test_a_file_of_timms_whose_head_has_the_datasets_classes(tmp_path: Path) -> None:
    arguments = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8), "patch_size": 1}
    state = timm.create_model("convnext_atto", num_classes=5, **arguments).state_dict()
    torch.save(state, tmp_path / "convnext.pt")
    model, record, _ = begin(tmp_path / "convnext.pt", CONVNEXT, SMALL_CONVNEXT)
    assert_backbone(model.net, state, ())
    assert record["new"] == []
    assert normalisation(model)[0] == pytest.approx(IMAGENET[0])
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("head.fc")}
    torch.save(headless, tmp_path / "headless.pt")
    model, record, _ = begin(tmp_path / "headless.pt", CONVNEXT, SMALL_CONVNEXT)
    assert record["new"] == ["head.fc.weight", "head.fc.bias"]
    assert_backbone(model.net, state, ("head.fc.weight", "head.fc.bias"))


def test_settings_of_the_normalisation_come_first(vit: tuple[Path, dict[str, Tensor]]) -> None:
    model, _, _ = begin(vit[0], VIT, SMALL_VIT, mean=(0.1, 0.2, 0.3), std=(0.6, 0.7, 0.8))
    assert normalisation(model) == (pytest.approx([0.1, 0.2, 0.3]), pytest.approx([0.6, 0.7, 0.8]))


@pytest.mark.parametrize("classes", [5, 7])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(
    "config", [ModelConfig(name="wrn-10-1"), ModelConfig(name=CONVNEXT, options=SMALL_CONVNEXT)], ids=["wrn", "timm"]
)
def test_a_run_of_ours(config: ModelConfig, normalised: bool, classes: int, tmp_path: Path) -> None:
    """The same function comes back, normalisation included, for a dataset of the same classes or of others."""
    statistics: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (0.6, 0.7, 0.8)} if normalised else {}
    trained = own_run(tmp_path / "run", ModelConfig(name=config.name, options=config.options, **statistics)).eval()
    model, record, _ = begin(tmp_path / "run", config.name, config.options, classes=classes)
    x = torch.rand(4, 3, 16, 16)
    if classes == 5:
        assert torch.equal(model.eval()(x), trained(x))
        assert record["new"] == []
    else:
        assert len(record["new"]) == 2
        assert_backbone(model.net, trained.net.state_dict(), tuple(record["new"]))
    expected = (list(statistics["mean"]), list(statistics["std"])) if normalised else ([0.0] * 3, [1.0] * 3)
    assert normalisation(model) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    if normalised:
        kept, _, _ = begin(tmp_path / "run", config.name, config.options, **statistics)
        assert normalisation(kept) == normalisation(model)
        with pytest.raises(InputError, match=r"model.mean=0.5,0.5,0.5: .*was trained with 0.1,0.2,0.3; leave"):
            begin(tmp_path / "run", config.name, config.options, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.slow
def test_weights_that_do_not_fit_change_nothing(
    resnet: tuple[Path, dict[str, Tensor]], vit: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    own_run(tmp_path / "run", ModelConfig(name="wrn-10-1"))
    for weights, name, options, message in (
        (
            resnet[0],
            "torchvision:resnet34",
            (),
            r"missing: layer1\.2\.conv1\.weight.* more\..* look like resnet18 .*1000",
        ),
        (vit[0], VIT, (*SMALL_VIT[:2], "depth=3", "num_heads=2"), r"missing: blocks\.2\.norm1\.weight, .* and 9 more"),
        (
            vit[0],
            VIT,
            ("patch_size=4", "embed_dim=32", "depth=2", "num_heads=2"),
            r"of another shape: blocks\.0\..* and 27 more",
        ),
        (vit[0], CONVNEXT, SMALL_CONVNEXT, r"missing: .*unexpected: "),
        (tmp_path / "run", "torchvision:resnet18", (), r"missing: .*They are of wrn-10-1"),
    ):
        config = ModelConfig(name=name, options=options, weights=str(weights))
        model = build(config, channels=3, classes=5, image_size=(16, 16))
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        with pytest.raises(InputError, match=message) as caught:
            initialise(model, config, channels=3, image_size=(16, 16))
        assert str(caught.value).startswith(f"model.weights={weights} for model.name={name}: ")
        assert "\n" not in str(caught.value)
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision:resnet18", CONVNEXT, "resnet18"])
def test_files_that_are_no_weights_are_refused(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    torch.save({"fc.weight": Hostile(mark)}, tmp_path / "hostile.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "numbers.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0\0")
    (tmp_path / "empty").mkdir()
    options = SMALL_CONVNEXT if name == CONVNEXT else ()
    for file, message in (
        ("hostile.pt", "more than plain tensors"),
        ("list.pt", "holds a list"),
        ("numbers.pt", r"state_dict\['epoch'\] is a int"),
        ("cut.safetensors", "not a readable safetensors file"),
        ("empty", r"no best\.safetensors"),
        ("absent.pt", "no such run or weights file"),
    ):
        with pytest.raises(InputError, match=f"^model.weights: .*{message}"):
            begin(tmp_path / file, name, options)
    assert not mark.exists()


def test_shipped_weights_need_neither_file_nor_download(
    vit: tuple[Path, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *a, **k: str(vit[0]))
    config = ModelConfig(name=VIT, options=SMALL_VIT, weights="pretrained")
    model, _, _ = begin("pretrained", VIT, SMALL_VIT)
    info = WeightsInfo(
        model=config, channels=3, image_size=(16, 16), classes=tuple("abcde"), threat=ThreatConfig(), recipe="tiny",
        epoch=1, averaged=False, data="tiny",
    )  # fmt: skip
    save_weights(tmp_path / "best.safetensors", model.state_dict(), info)

    def fail(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("nothing is downloaded")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", fail)
    vit[0].unlink()
    assert read_info(tmp_path / "best.safetensors") == info
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(load(tmp_path)(x), model.eval()(x))


def test_files_from_before_there_were_such_weights(tmp_path: Path) -> None:
    model = own_run(tmp_path / "run", ModelConfig(width=2), channels=1, size=8).eval()
    file = tmp_path / "run" / "best.safetensors"
    with safetensors.safe_open(file, framework="pt") as opened:
        values = json.loads(opened.metadata()["nuat"])
    del values["checksums"]
    for name in ("weights", "options", "activation"):
        del values["model"][name]
    safetensors.torch.save_file(safetensors.torch.load_file(file), file, {"nuat": json.dumps(values)})
    assert read_info(file).model == ModelConfig(width=2)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(load(file)(x), model(x))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("resnet18", "variant", "nuat"), ("wrn-10-1", "variant", "nuat"), ("resnet18", "activation", "silu")],
)
def test_weights_of_another_network_with_the_same_shapes_are_refused(
    name: str, field: str, value: Any, tmp_path: Path
) -> None:
    plain = ModelConfig(name=name, width=4 if name == "resnet18" else None)
    own_run(tmp_path / "run", replace(plain, **{field: value}))
    plain = replace(plain, weights=str(tmp_path / "run"))
    told = rf"trained with model\.{field}={value}, not {getattr(plain, field)}; give --model\.{field} {value}"
    with pytest.raises(InputError, match=told):
        initialise(build(plain, channels=3, classes=5, image_size=(16, 16)), plain, channels=3, image_size=(16, 16))
    same = replace(plain, **{field: value})
    model = build(same, channels=3, classes=5, image_size=(16, 16))
    assert initialise(model, same, channels=3, image_size=(16, 16)) is not None

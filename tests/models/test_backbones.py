"""Networks of timm and torchvision by name: built for the images, or refused in one line."""

import sys

import pytest
import torch
from torch import nn

from nuat.config import ModelConfig
from nuat.errors import InputError
from nuat.models import Normalise, backbones, build
from nuat.models.folding import folded
from nuat.models.options import parse_options

timm = pytest.importorskip("timm", reason="the timm extra is not installed")

VIT = ("patch_size=4", "embed_dim=16", "depth=2", "num_heads=2")
CONVNEXT = ("depths=1:1:1:1", "dims=8:8:8:8", "patch_size=1")


def make(name: str, options: tuple[str, ...] = (), *, channels: int = 3, size: tuple[int, int] = (16, 16), **more):
    return build(ModelConfig(name=name, options=options, **more), channels=channels, classes=5, image_size=size)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("timm:vit_tiny_patch16_224", VIT, (16, 16)),
        ("timm:vit_tiny_patch16_224.augreg_in21k", VIT, (8, 24)),
        ("timm:convnext_atto", CONVNEXT, (16, 16)),
        ("timm:resnet18", (), (33, 40)),
        ("torchvision:resnet18", (), (33, 40)),
        ("torchvision:shufflenet_v2_x0_5", (), (64, 64)),
    ],
)
def test_logits_of_the_datasets_classes(
    name: str, options: tuple[str, ...], size: tuple[int, int], channels: int
) -> None:
    model = make(name, options, channels=channels, size=size)
    assert all(module.training for module in model.modules())
    assert isinstance(model.normalise, nn.Identity)
    statistics = {key: b for key, b in model.named_buffers() if key.endswith("running_mean")}
    assert all(not b.any() for b in statistics.values())  # looking at the output leaves none behind
    x = torch.rand(3, channels, *size, requires_grad=True)
    logits = model(x)
    assert logits.shape == (3, 5)
    assert bool(torch.autograd.grad(logits.square().sum(), x)[0].any())


@pytest.mark.slow
def test_options_and_image_size_reach_the_constructor() -> None:
    net = make("timm:vit_tiny_patch16_224", VIT, size=(8, 24)).net
    assert net.pos_embed.shape == (1, 1 + 2 * 6, 16)
    assert len(net.blocks) == 2
    net = make("timm:convnext_atto", CONVNEXT, channels=1).net
    assert [stage.blocks[0].conv_dw.in_channels for stage in net.stages] == [8, 8, 8, 8]
    assert net.stem[0].in_channels == 1
    with torch.device("meta"):
        net = make("torchvision:vit_b_16", size=(32, 32)).net
    assert net.encoder.pos_embedding.shape == (1, 1 + 2 * 2, 768)


@pytest.mark.slow
def test_torchvision_sees_a_grey_image_in_three_channels() -> None:
    torch.manual_seed(1)
    grey = make("torchvision:resnet18", channels=1, mean=(0.4,), std=(0.2,)).eval()
    torch.manual_seed(1)
    colour = make("torchvision:resnet18", mean=(0.4,) * 3, std=(0.2,) * 3).eval()
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(grey(x), colour(x.repeat(1, 3, 1, 1)))
    with pytest.raises(InputError, match=r"1 or 3 channels; these have 4"):
        make("torchvision:resnet18", channels=4)
    assert make("timm:resnet18", channels=4).net.conv1.in_channels == 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("timm:convnext_atto", CONVNEXT), ("torchvision:resnet18", ())])
def test_the_global_generator_alone_decides_the_weights(name: str, options: tuple[str, ...]) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in make(name, options).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.slow
def test_where_weights_are_to_come_a_normalisation_waits_for_theirs() -> None:
    torch.manual_seed(2)
    plain = make("torchvision:resnet18").eval()
    torch.manual_seed(2)
    model = make("torchvision:resnet18", weights="pretrained").eval()
    assert isinstance(model.normalise, Normalise)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(x), plain(x))  # nothing is read or downloaded here
    given = make("torchvision:resnet18", weights="some/run", mean=(0.4,) * 3, std=(0.2,) * 3)
    assert given.normalise.mean.flatten().tolist() == pytest.approx([0.4] * 3)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("timm:vit_tiny_patch16_224", (0.5,) * 3, (0.5,) * 3),
        ("timm:convnext_tiny.fb_in22k", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("torchvision:resnet50", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_statistics_are_the_weights_own(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert backbones.statistics(name, 3) == (pytest.approx(mean), pytest.approx(std))
    assert backbones.statistics(name, 1) == (pytest.approx([sum(mean) / 3]), pytest.approx([sum(std) / 3]))


@pytest.mark.parametrize(
    ("name", "options", "head"),
    [
        ("timm:vit_tiny_patch16_224", VIT, "head"),
        ("timm:convnext_atto", CONVNEXT, "head.fc"),
        ("timm:resnet18", (), "fc"),
        ("torchvision:resnet18", (), "fc"),
        ("torchvision:squeezenet1_0", (), "classifier.1"),
        ("torchvision:mobilenet_v3_small", (), "classifier.3"),
        ("small-cnn", (), "fc2"),
        ("wrn-10-1", (), "fc"),
    ],
)
def test_the_head_is_known(name: str, options: tuple[str, ...], head: str) -> None:
    net = make(name, options, size=(64, 64)).net
    assert backbones.head(net) == (f"{head}.weight", f"{head}.bias")
    assert net.get_submodule(head).weight.shape[0] == 5


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_a_librarys_network_is_attacked_as_it_is(name: str) -> None:
    model = make(name, size=(32, 32)).eval()
    assert folded(model, torch.rand(4, 3, 32, 32), torch.arange(4)) is model


def test_options_are_read_and_never_evaluated() -> None:
    given = ("a=4", "b=-0.5", "c=1e-6", "d=true", "e=False", "f=none", "g=1:1:3:1", "h=0.1:2", "i=gelu", " j = x=y ")
    assert parse_options(given) == {
        "a": 4,
        "b": -0.5,
        "c": 1e-6,
        "d": True,
        "e": False,
        "f": None,
        "g": (1, 1, 3, 1),
        "h": (0.1, 2.0),
        "i": "gelu",
        "j": "x=y",
    }
    assert isinstance(parse_options(("a=4",))["a"], int)
    assert parse_options(("a=__import__('os')",)) == {"a": "__import__('os')"}


@pytest.mark.parametrize(
    ("name", "options", "size", "message"),
    [
        ("timm:convnext_tinny", (), 32, "timm .* has no such network. Did you mean 'convnext_tiny'"),
        ("timm:hf_hub:some/model", (), 32, "has no such network"),
        ("timm:resnet18.a1_in1", (), 32, "no weights 'a1_in1' of resnet18. Did you mean 'a1_in1k'.*There are: a1_in1k"),
        ("torchvision:resnet51", (), 32, "no such classifier. Did you mean 'resnet"),
        ("torchvision:fcn_resnet50", (), 32, "no such classifier"),
        ("torchvision:googlenet", (), 32, "auxiliary heads"),
        (
            "timm:resnet18",
            ("foo=3",),
            32,
            "resnet18 with foo=3 for 32x32 pixels cannot be built: .*argument 'foo'",
        ),
        ("torchvision:resnet18", ("foo=3",), 32, "unexpected keyword argument 'foo'"),
        ("timm:vit_tiny_patch16_224", ("embed_dim=10", "patch_size=4"), 32, "cannot be built: dim should be divisible"),
        ("timm:vit_tiny_patch16_224", (), 28, "patches of 16x16 pixels, which do not tile 28x28.*patch_size=N"),
        ("torchvision:vit_b_16", (), 30, "30x30 pixels cannot be built: Input shape indivisible by patch size"),
        ("torchvision:alexnet", (), 28, "28x28 pixels cannot be built: .*[Oo]utput size is too small"),
        ("torchvision:vit_b_16", (), (32, 16), "takes square images; these have 32x16 pixels. Choose a timm: network"),
        ("timm:resnet18", ("num_classes=3",), 32, "model.options: num_classes follows from the other settings"),
        ("timm:resnet18", ("checkpoint_path=x.pth",), 32, "model.options: checkpoint_path follows"),
        ("timm:resnet18", ("block_args",), 32, "'block_args' is not NAME=VALUE"),
        ("timm:resnet18", ("a=1", "a=2"), 32, "gives a twice"),
        ("timm:resnet18", ("global_pool=",), 32, "not NAME=VALUE"),
    ],
)
def test_what_cannot_be_built_is_said(
    name: str, options: tuple[str, ...], size: int | tuple[int, int], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught, torch.device("meta"):
        make(name, options, size=size if isinstance(size, tuple) else (size, size))
    assert "\n" not in str(caught.value)


def test_images_that_a_librarys_networks_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"takes images of 1 or 3 channels; these have 2. Choose a timm: network"):
        make("torchvision:resnet18", channels=2)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: None)
    with pytest.raises(InputError, match=r"does not say how images for resnet18 are normalised; give model.mean"):
        backbones.statistics("timm:resnet18", 3)


def test_a_network_that_returns_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def pixels(*arguments: object, **keywords: object) -> nn.Module:
        return nn.Conv2d(3, 5, 1)

    monkeypatch.setattr(timm, "create_model", pixels)
    with pytest.raises(InputError, match=r"returns \[2, 5, 16, 16\] for 2 images, not logits of 5 classes"):
        make("timm:resnet18")


def test_settings_without_an_effect_are_refused() -> None:
    with pytest.raises(InputError, match=r"model.width=8 has no effect on timm:resnet18"):
        make("timm:resnet18", width=8)
    with pytest.raises(InputError, match=r"model.stem=cifar has no effect on torchvision:resnet18"):
        make("torchvision:resnet18", stem="cifar")
    with pytest.raises(InputError, match=r"model.options=patch_size=4 has no effect on small-cnn"):
        make("small-cnn", ("patch_size=4",))
    with pytest.raises(InputError, match=r"model.weights=pretrained: nuat has no weights of resnet18"):
        ModelConfig(name="resnet18", weights="pretrained")


def test_without_timm_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"not installed .*pip install 'nuat\[timm\]', or choose a torchvision"):
        make("timm:resnet18")
    assert make("torchvision:resnet18", size=(32, 32)) is not None

"""Runs as training leaves them, without training: random weights, settings, images and evaluations."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nuat.config import DataConfig, ModelConfig, ThreatConfig, TrainConfig
from nuat.defenses import Defense, NuAT
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.records.checkpoints import WeightsInfo, save_weights
from nuat.records.settings import write_config

CLASSES = ("zero", "one", "two", "three", "four")
STANDARD = ["apgd-ce", "apgd-t", "fab-t", "square"]
TEST = 40

RESNET = ModelConfig(name="resnet18", width=4, activation="silu", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
WIDE = ModelConfig(name="wrn-10-1", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
VIT = ModelConfig(
    name="timm:vit_tiny_patch16_224",
    options=("patch_size=2", "embed_dim=16", "depth=1", "num_heads=2"),
    weights="pretrained",  # so it has a normalisation, which a file fills
)
CONVNEXT = ModelConfig(
    name="timm:convnext_atto",
    options=("depths=1:1:1:1", "dims=8:8:8:8", "patch_size=1", "ls_init_value=1", "head_init_scale=10"),
)
NETWORKS = {
    "resnet18": (RESNET, 3),
    "wrn": (WIDE, 3),
    "small-cnn": (ModelConfig(width=2), 1),
    "mnist-cnn": (ModelConfig(name="mnist-cnn", width=2, activation="gelu", mean=(0.1,), std=(0.3,)), 1),
    "timm vit": (VIT, 3),
    "timm convnext": (CONVNEXT, 1),
    "torchvision": (ModelConfig(name="torchvision:resnet18", mean=(0.4,), std=(0.2,)), 1),
}
"""Settings and channels of one network of each kind, with and without normalisation and batch norm."""


def make_run(
    folder: Path,
    model: ModelConfig = NETWORKS["small-cnn"][0],
    *,
    channels: int = 1,
    size: int = 8,
    defense: Defense | None = None,
    data: DataConfig | None = None,
    recipe: str = "nuat-tiny",
    resize: int | None = None,
) -> Path:
    """Write a run whose weights are random, its images beside it, and return its folder."""
    folder.mkdir(parents=True)
    if data is None:
        draw = np.random.default_rng(0)
        images = draw.integers(0, 256, (TEST, size, size, channels), dtype=np.uint8)
        labels = np.arange(TEST) % len(CLASSES)
        path = folder.parent / f"{folder.name}-images.npz"
        np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
        data = DataConfig(path=path, validation=5)
    info = WeightsInfo(
        model=model,
        channels=channels,
        image_size=(size, size),
        classes=CLASSES,
        threat=ThreatConfig(eps=8 / 255),
        recipe=recipe,
        epoch=7,
        averaged=True,
        data="tiny",
        resize=resize,
    )
    config = TrainConfig(defense=NuAT() if defense is None else defense, data=data, model=model)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.json", config, recipe)
    network = trained(info.build()).eval()
    with torch.no_grad():
        assert network(torch.rand(8, channels, size, size)).std(dim=0).min() > 1e-4  # else equal logits say nothing
    save_weights(folder / "best.safetensors", network.state_dict(), info)
    return folder


def trained(model: nn.Module) -> nn.Module:
    """Give batch norms statistics other than 0 and 1, so that leaving them out shows."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)  # a mean far from 0 would leave nothing above the next ReLU
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model


def evaluation(
    correct: Tensor, *, robust: Tensor | None = None, name: str = "autoattack", eps: float = 8 / 255, clean: bool = True
) -> Evaluation:
    """Return an evaluation of the first images with these clean verdicts; by default every other one is broken."""
    n = len(correct)
    broken = correct & (torch.arange(n) % 2 == 0) if robust is None else robust
    settings = {"version": "standard", "line_up": STANDARD, "package": "pyautoattack"}
    results = (AttackResult("clean", {}, correct, 0.5, n, 0),) if clean else ()
    return Evaluation(
        results=(*results, AttackResult(name, settings, broken, 12.0, 100 * n, 50 * n)),
        indices=torch.arange(n),
        eps=eps,
        seed=3,
        batch_size=20,
        hardware="a test",
        versions={"nuat": "0.1.0", "pyautoattack": "0.2.0", "torchvision": None},
    )


def left(folder: Path) -> set[str]:
    """Return everything under a folder, hidden files too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def failing(error: BaseException) -> Callable[..., None]:
    """Return a function that raises."""

    def fail(*arguments: object, **keywords: object) -> None:
        raise error

    return fail

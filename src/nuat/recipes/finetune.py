"""Recipes that begin with trained weights: a user's own images, and two small networks without batch norm.

Not of the paper. What they share: eps grows from 0 while the weights leave the plain solution, the learning rate is
low, and the weights are averaged. The settings of ``finetune-folder`` are ours and not tuned; how those of the digits
were chosen, docs/results.md says.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nuat.config import (
    AveragingConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ThreatConfig,
    TrainConfig,
)
from nuat.core.schedules import OneCycle, Ramp
from nuat.defenses import Defense, NuAT, Standard

_VIT = ModelConfig(name="timm:vit_tiny_patch16_224", options=("patch_size=7", "embed_dim=64", "depth=4", "num_heads=4"))
_CONVNEXT = ModelConfig(
    name="timm:convnext_atto",
    options=("depths=1:1:1:1", "dims=16:32:64:64", "kernel_sizes=3", "patch_size=2", "output_stride=8"),
)


def folder() -> TrainConfig:
    """Your own image folder (--data.path): torchvision's ResNet-50 from ImageNet weights, NuAT-WA at 4/255.

    ``data.path`` is an image folder with train/ and test/ or val/, by default ``images`` in the current folder; its
    images are resized to 224 pixels. Every setting is ours and not tuned: SGD at 0.01 in one cycle, 10 epochs, eps from
    0 over the first half of them, random resized crops of at least a quarter of the area, flips, an average of decay
    0.999. lambda is NuAT-WA's of Table 1a, for batches of 64 and some ten classes; it is not scale-free, so lower it
    for a hundred (to 0.5). Transformers and ConvNeXts want Adam: --model timm:convnext_tiny --optimizer.name adam
    --optimizer.lr.peak 1e-4 --optimizer.weight-decay 0.
    """
    return TrainConfig(
        defense=NuAT(lam=Ramp(peak=4.0)),
        data=DataConfig(path=Path("images"), image_size=224, validation=200, crop_scale=0.25, flip=True),
        model=ModelConfig(name="torchvision:resnet50", weights="pretrained"),
        threat=ThreatConfig(eps=4 / 255, pgd_alpha=1 / 255),
        optimizer=OptimizerConfig(lr=OneCycle(peak=0.01), weight_decay=1e-4),
        averaging=AveragingConfig(tau=0.999, warmup=True),
        epochs=10,
        batch_size=64,
        eps_warmup=0.5,
        precision="bf16",
        evaluation=EvaluationConfig(attacks=("clean", "pgd-100", "gama-100"), n=1000),
    )


def _digits(
    defense: Defense,
    model: ModelConfig,
    *,
    peak: float,
    epochs: int,
    weights: str = "none",
    eps_warmup: float = 0.0,
    tau: float | None = None,
) -> TrainConfig:
    """Return what the runs on the bundled digits have in common; ``peak`` is the highest learning rate."""
    return TrainConfig(
        defense=defense,
        data=DataConfig(name="mnist-sample", validation=200),
        model=replace(model, weights=weights),
        threat=ThreatConfig(eps=0.3, pgd_alpha=0.01),
        optimizer=OptimizerConfig(name="adam", lr=OneCycle(peak=peak), weight_decay=0.0),
        averaging=AveragingConfig(tau=tau, warmup=tau is not None),
        epochs=epochs,
        batch_size=32,
        eps_warmup=eps_warmup,
        evaluation=EvaluationConfig(attacks=("clean", "pgd-100", "gama-100"), n=1000),
    )


def plain_vit_mnist() -> TrainConfig:
    """A small vision transformer (timm) on the bundled digits without a defense; finetune-vit-mnist begins with it.

    ``nuat train plain-vit-mnist --out plain-vit-mnist``. Scaled to [-1, 1], the empty parts of a digit are no longer
    near 0, where layer norm would enlarge any noise.
    """
    return _digits(Standard(), replace(_VIT, mean=(0.5,), std=(0.5,)), peak=2e-3, epochs=12)


def finetune_vit_mnist() -> TrainConfig:
    """The vision transformer of plain-vit-mnist made robust at eps 0.3 by fine-tuning with NuAT.

    ``model.weights`` is the folder of that run, by default ``plain-vit-mnist`` in the current folder; the normalisation
    comes with them. See results/ for what it reaches, which is far below the ConvNeXt's.
    """
    return _digits(
        NuAT(lam=Ramp(peak=3.0), alpha=0.3),
        _VIT,
        peak=2e-3,
        epochs=30,
        weights="plain-vit-mnist",
        eps_warmup=0.4,
        tau=0.995,
    )


def plain_convnext_mnist() -> TrainConfig:
    """A small ConvNeXt (timm) on the bundled digits without a defense; finetune-convnext-mnist begins with it.

    ``nuat train plain-convnext-mnist --out plain-convnext-mnist``
    """
    return _digits(Standard(), _CONVNEXT, peak=4e-3, epochs=10)


def finetune_convnext_mnist() -> TrainConfig:
    """The ConvNeXt of plain-convnext-mnist made robust at eps 0.3 by fine-tuning with NuAT.

    ``model.weights`` is the folder of that run, by default ``plain-convnext-mnist`` in the current folder.
    """
    return _digits(
        NuAT(lam=Ramp(peak=3.0), alpha=0.3),
        _CONVNEXT,
        peak=2e-3,
        epochs=25,
        weights="plain-convnext-mnist",
        eps_warmup=0.4,
        tau=0.995,
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "finetune-folder": folder,
    "plain-vit-mnist": plain_vit_mnist,
    "finetune-vit-mnist": finetune_vit_mnist,
    "plain-convnext-mnist": plain_convnext_mnist,
    "finetune-convnext-mnist": finetune_convnext_mnist,
}
"""Name on the command line to recipe."""

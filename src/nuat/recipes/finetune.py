"""Recipes that fine-tune trained weights: two small networks without batch norm, on the bundled digits.

They are not from the paper. eps grows from 0 while the weights leave the plain solution, the learning rate is low, and
the weights are averaged. docs/results.md says how the settings were chosen.
"""

from collections.abc import Callable
from dataclasses import replace

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
    """Return the settings that the runs on the bundled digits share; ``peak`` is the highest learning rate."""
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
    """Bundled digits, small vision transformer (timm): no defense; finetune-vit-mnist starts from it.

    Train it with ``nuat train plain-vit-mnist --out plain-vit-mnist``. Pixels are scaled to [-1, 1]: the empty parts of
    a digit are then not near 0, where layer norm would enlarge any noise.
    """
    return _digits(Standard(), replace(_VIT, mean=(0.5,), std=(0.5,)), peak=2e-3, epochs=12)


def finetune_vit_mnist() -> TrainConfig:
    """Bundled digits, small vision transformer (timm): plain-vit-mnist fine-tuned with NuAT at 0.3.

    ``model.weights`` is the folder of that run, by default ``plain-vit-mnist`` in the current folder; the normalisation
    comes with them. It reaches far less than the ConvNeXt (results/).
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
    """Bundled digits, small ConvNeXt (timm): no defense; finetune-convnext-mnist starts from it.

    Train it with ``nuat train plain-convnext-mnist --out plain-convnext-mnist``.
    """
    return _digits(Standard(), _CONVNEXT, peak=4e-3, epochs=10)


def finetune_convnext_mnist() -> TrainConfig:
    """Bundled digits, small ConvNeXt (timm): plain-convnext-mnist fine-tuned with NuAT at 0.3.

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


TITLE = "Fine-tuned networks without batch norm: bundled digits, eps 0.3"
"""Heading in ``nuat recipes``."""
RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "plain-vit-mnist": plain_vit_mnist,
    "finetune-vit-mnist": finetune_vit_mnist,
    "plain-convnext-mnist": plain_convnext_mnist,
    "finetune-convnext-mnist": finetune_convnext_mnist,
}
"""Name on the command line to recipe."""

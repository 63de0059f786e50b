"""Recipes for a user's own image folder. They are not from the paper; their settings are ours."""

from collections.abc import Callable
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
from nuat.defenses import NuAT
from nuat.recipes.robust import robust


def folder() -> TrainConfig:
    """Your own images (--data.path FOLDER): fine-tune torchvision's ResNet-50 with NuAT-WA at 4/255.

    ``data.path`` is a folder of classes, a CSV file, Parquet files, tar shards or an .npz file, by default ``images``
    in the current folder. The images are resized to 224 pixels; a tenth of those of training is held out for
    validation. Every setting is ours and not tuned: SGD at 0.01 in one cycle, 10 epochs, eps from 0 over the first half
    of them, random resized crops of at least a quarter of the area, flips, an average of decay 0.999. lambda is that of
    NuAT-WA in Table 1a, scaled to the batch and the number of classes (``NuAT.scale``). Transformers and ConvNeXts want
    Adam: --model timm:convnext_tiny --optimizer.name adam --optimizer.lr.peak 1e-4 --optimizer.weight-decay 0.
    """
    return TrainConfig(
        defense=NuAT(lam=Ramp(peak=4.0), scale="gaussian"),
        data=DataConfig(path=Path("images"), image_size=224, validation=0.1, crop_scale=0.25, flip=True),
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


def small() -> TrainConfig:
    """Your own images (--data.path FOLDER), at 64 pixels: ResNet-18 from random weights with NuAT at 8/255.

    ``data.path`` as for finetune-folder. The setting is that of robust-cifar10-resnet18, whose lambda is scaled to the
    number of classes; images of 64 pixels, random crops with 8 pixels of zeros and a tenth of the images for validation
    are ours and not tuned. A small folder does not reach the decays of the averages: give one, --averaging.tau 0.999.
    """
    return robust(DataConfig(path=Path("images"), image_size=64, validation=0.1, crop_padding=8, flip=True))


TITLE = "Your own images"
"""Heading in ``nuat recipes``."""
RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "finetune-folder": folder,
    "robust-folder": small,
}
"""Name on the command line to recipe."""

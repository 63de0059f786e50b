"""Model to export: shipped weights, and images on which every copy must give the same logits."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nuat import data
from nuat.attacks import eval_mode
from nuat.data import Dataset, Images, to_float
from nuat.errors import InputError
from nuat.evaluation.guarded_model import guarded
from nuat.hardware import full_precision
from nuat.records import checkpoints
from nuat.records.checkpoints import WeightsInfo
from nuat.records.folder import RunFolder
from nuat.records.settings import read_data_config

_SEED = 0


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """Shipped weights and the images that copies are checked on."""

    weights: Path
    """Their .safetensors file."""
    info: WeightsInfo
    """Their metadata."""
    test: Images | None
    """Test images of the run. None: they are not on this machine, or fit another model."""

    @property
    def checked_on(self) -> str:
        """Description of what ``probe`` returns."""
        return "random images (the run's own are not on this machine)" if self.test is None else "test images"

    def probe(self, n: int) -> Tensor:
        """Return at most ``n`` >= 1 test images, or ``n`` random ones: float32 [B, C, H, W] in [0, 1]."""
        if self.test is not None:
            return to_float(self.test.select(torch.arange(min(n, len(self.test)))).images)
        draw = torch.Generator().manual_seed(_SEED)
        return torch.rand((n, self.info.channels, *self.info.image_size), generator=draw)


def find_model(path: Path) -> TrainedModel:
    """Return the model of a run's folder (its best weights) or of a .safetensors file. Nothing is downloaded.

    Raises:
        InputError: there is no such file, or nuat did not write it.
    """
    weights = checkpoints.weights_file(path)
    info = checkpoints.read_info(weights)
    return TrainedModel(weights, info, _test_images(weights, info))


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits [B, N] of ``model`` in evaluation mode, in fp32."""
    with torch.no_grad(), eval_mode(model), full_precision():
        found: Tensor = guarded(model)(x)
    return found


def _test_images(weights: Path, info: WeightsInfo) -> Images | None:
    config = RunFolder(weights.parent).config
    if not config.is_file():
        return None
    try:
        dataset: Dataset = data.load(replace(read_data_config(config), download=False), needs_train=False)
    except InputError:  # not on this machine: the check uses random images and says so
        return None
    fits = (dataset.channels, dataset.image_size) == (info.channels, info.image_size)
    return dataset.test if fits and len(dataset.test) > 0 else None

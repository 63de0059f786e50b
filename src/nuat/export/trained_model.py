"""Model to export: shipped weights, and images on which every copy must give the same logits."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nuat import data
from nuat.attacks import eval_mode
from nuat.data import Dataset, Images, ImageSet, to_float
from nuat.errors import InputError
from nuat.evaluation.answers import Answers
from nuat.evaluation.calibration import calibration_error, fit_temperature
from nuat.evaluation.guarded_model import guarded
from nuat.hardware import full_precision
from nuat.records import checkpoints
from nuat.records.checkpoints import WeightsInfo
from nuat.records.folder import RunFolder
from nuat.records.json_values import read_object
from nuat.records.settings import read_data_config

_SEED = 0
_BATCH = 250
_TOLERANCE = 1e-4
"""Largest difference of probabilities that other runtimes may have."""


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


class CalibratedModel(nn.Module):
    """A model that returns its logits [B, N] as they are, and the probabilities [B, N] at a temperature beside them.

    The logits are what decides and what attacks follow; a temperature in them would scale, and could hide, gradients.
    """

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.training = model.training

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities of images [B, C, H, W] in [0, 1]."""
        logits: Tensor = self.model(x)
        return logits, (logits / self.temperature).softmax(dim=1)


def wrong_probabilities(probabilities: Tensor, logits: Tensor, temperature: float) -> str:
    """Return why probabilities [B, N] are not those of ``logits / temperature`` [B, N]; empty: they are."""
    if not torch.equal(probabilities.argmax(dim=1), logits.argmax(dim=1)):
        return f"at temperature {temperature:g} the largest probability is of another class than the largest logit"
    difference = float((probabilities - (logits / temperature).softmax(dim=1)).abs().max())
    return "" if difference <= _TOLERANCE else f"its probabilities differ by {difference:.1e}"


def at_temperature(trained: TrainedModel, asked: float | None) -> tuple[TrainedModel, str]:
    """Return the model with a temperature for its probabilities, and a line on it.

    Args:
        trained: the model.
        asked: the temperature. None: it is fitted on the run's validation images, without an attack.

    Raises:
        InputError: it has no effect or is out of range, or the validation images of the training are not there.
    """
    if asked is not None:
        if asked == trained.info.temperature:
            raise InputError(f"--temperature {asked:g} has no effect: it is that of the weights; leave it out.")
        return replace(trained, info=replace(trained.info, temperature=asked)), f"temperature {asked:g}, as given"
    images = _validation_images(trained)
    parts = torch.split(torch.arange(len(images)), _BATCH)
    model = checkpoints.load(trained.weights)
    found = torch.cat([logits(model, to_float(images.images[part])) for part in parts])
    fitted = fit_temperature(found, images.labels)
    answers = [Answers.of(found, temperature) for temperature in (1.0, fitted)]
    errors = [100 * calibration_error(one.confidence, one.predicted == images.labels) for one in answers]
    told = (
        f"temperature {fitted:.4g}, fitted on {len(images):,} validation images: calibration error {errors[0]:.1f} % "
        f"before, {errors[1]:.1f} % after, on these images; the logits and the answers stay"
    )
    return replace(trained, info=replace(trained.info, temperature=fitted)), told


def _validation_images(trained: TrainedModel) -> ImageSet:
    """Return the images that the run held out of its training; refuse others, and none."""
    home = RunFolder(trained.weights.parent)
    if not (home.config.is_file() and home.split.is_file()):
        raise InputError(
            f"--temperature fit: {trained.weights} lies in no run, which would name its validation images; give a "
            "number, or the folder of the run."
        )
    dataset = data.load(replace(read_data_config(home.config), download=False))
    recorded = read_object(home.split)
    held_out = dataset.validation_indices.tolist()
    if recorded.get("validation_indices") != held_out or recorded.get("train_sha256") != dataset.train.fingerprint():
        raise InputError(
            f"--temperature fit: {dataset.source} is not what the run was trained on, so it is not known which images "
            "were held out; restore the images, or give a number."
        )
    if not held_out:
        raise InputError("--temperature fit: the run held out no validation images to fit it on; give a number.")
    return dataset.validation


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits [B, N] of ``model`` in evaluation mode, in fp32."""
    with torch.no_grad(), eval_mode(model), full_precision():
        found: Tensor = guarded(model)(x)
    return found


def settled_logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits [B, N] on ``x`` [B, C, H, W] that every copy of ``model`` must give.

    Raises:
        InputError: they are not finite, or differ from one pass to the next, so that no copy can be checked.
    """
    found = logits(model, x)
    if not bool(torch.isfinite(found).all()):
        raise InputError("the model returns logits that are infinite or NaN; it cannot be exported.")
    if not torch.equal(found, logits(model, x)):
        raise InputError(
            "the model is random in evaluation mode (two passes differ), so no copy can be checked; switch it off."
        )
    return found


@contextlib.contextmanager
def converting(made: str) -> Iterator[None]:
    """Turn an error of torch's exporter, which makes ``made``, into one line.

    Raises:
        InputError: the model cannot be converted, such as one that branches on its images.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where the exporter prints the graph of a failure
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the exporter fails in many ways, and adds pages of advice
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise InputError(
            f"torch {torch.__version__} cannot make {made} of the model ({first.strip()[:200]}). Let its forward pass "
            "not branch on its images, or export --format safetensors."
        ) from error


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

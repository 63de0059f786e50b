"""Weights that nuat did not write, as a classifier with classes and preprocessing, for ``predict`` and ``export``."""

from pathlib import Path

import torch
from rich.markup import escape

from nuat.attacks import eval_mode
from nuat.commands.foreign_model import check_network, load_foreign
from nuat.commands.subject import class_names
from nuat.config import ForeignClassifier, ModelConfig, ThreatConfig
from nuat.errors import InputError
from nuat.models import Classifier, backbones, hides_variant
from nuat.models.usual_names import likely_network_of
from nuat.progress import terminal
from nuat.records.checkpoints import WeightsInfo
from nuat.records.hugging_face import read_hugging_face
from nuat.records.model_kinds import Kind, kind_of
from nuat.records.trained_classifier import TrainedClassifier
from nuat.training.initial_weights import read_source


def adopt(named: str, asked: ForeignClassifier, device: torch.device, threat: ThreatConfig) -> TrainedClassifier | None:
    """Return the model that a user names, with its classes and preprocessing. None: nuat trained it.

    Args:
        named: file of weights, Hugging Face folder, or name in a library.
        asked: network, images and classes that the user gives.
        device: device of the model.
        threat: perturbations that it is to withstand.

    Raises:
        InputError: a fact is missing, or contradicts the file; or the model has no network that nuat can build.
    """
    kind = kind_of(named)
    if kind is Kind.OURS:
        if asked != ForeignClassifier():
            raise InputError(
                f"{named} says all of its model: leave out --model, --mean, --std, --image-size and --classes."
            )
        return None
    if kind is Kind.ONNX:
        raise InputError(
            f"{named} is an ONNX file, which nuat evaluates only. Give the run or the weights that it was exported "
            "from, or use onnxruntime."
        )
    if kind not in (Kind.WEIGHTS, Kind.HUGGING_FACE, Kind.LIBRARY):
        raise InputError(
            f"{named} does not say which classes and images its model is for; call it from Python, or give a run, or "
            "weights with --model NAME."
        )
    check_network(named, kind, asked)
    size, names, channels = _facts(named, kind)
    if asked.image_size is not None:
        size = (asked.image_size, asked.image_size)
    if size is None:
        raise InputError(f"{named} does not say which images its model takes; give --image-size, their side in pixels.")
    names = class_names(asked.classes, "--classes") or names
    found = load_foreign(named, kind, asked, device, channels=channels, image_size=size, classes=len(names) or 2)
    assert isinstance(found.model, Classifier)
    assert found.config is not None
    with torch.no_grad(), eval_mode(found.model):
        logits = found.model(torch.zeros(1, channels, *size, device=device)).shape[1]
    names = names or tuple(map(str, range(logits)))
    if len(names) != logits:
        raise InputError(f"--classes: {len(names)} names for {logits} logits of {named}; give one for each.")
    return TrainedClassifier(
        found.model,
        WeightsInfo(
            model=found.config,
            channels=channels,
            image_size=size,
            classes=names,
            threat=threat,
            recipe="",
            epoch=0,
            averaged=False,
            data="elsewhere",
        ),
    )


def say_variant(named: str, model: TrainedClassifier) -> None:
    """Say which variant of its network an adopted model was taken as, if its weights do not show it."""
    network = model.info.model
    if hides_variant(network.name):
        taken = f"{named}: taken as variant {network.variant} of {network.name}, which the weights do not show"
        terminal(stderr=True).print(escape(taken))


def _facts(named: str, kind: Kind) -> tuple[tuple[int, int] | None, tuple[str, ...], int]:
    """Return image size [pixels] and class names, where the model states them, and the number of channels."""
    if kind is Kind.LIBRARY:
        return backbones.image_size(named), (), 3
    if kind is Kind.HUGGING_FACE:
        folder = read_hugging_face(Path(named))
        return folder.image_size, folder.classes, 3
    tensors = read_source(ModelConfig(weights=named), channels=3, image_size=(1, 1)).tensors
    likely = likely_network_of(tensors)
    if likely is not None:
        return None, (), likely.channels
    # a network of the user's own: its first convolution takes the image
    return None, (), next((tensor.shape[1] for tensor in tensors.values() if tensor.ndim == 4), 3)

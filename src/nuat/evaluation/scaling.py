"""Advice on the scaling of the images: a model that is far more accurate with another than it gets."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.core.losses import cross_entropy_sum
from nuat.errors import InputError
from nuat.evaluation.guarded_model import GuardedModel
from nuat.models import Classifier, Normalise

_GAIN = 0.15
"""Accuracy that another scaling of the images must win before the model is believed to expect it."""


@dataclass(frozen=True)
class _Scaling:
    """A usual normalisation of images."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


_SCALINGS = (
    _Scaling("pixels from -1 to 1", (0.5,), (0.5,)),
    _Scaling("pixels from 0 to 255", (0.0,), (1 / 255,)),
    _Scaling("ImageNet's normalisation", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    _Scaling("CIFAR-10's normalisation", (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    _Scaling("CIFAR-100's normalisation", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    _Scaling("MNIST's normalisation", (0.1307,), (0.3081,)),
)
_NONE = _Scaling("no normalisation", (0.0,), (1.0,))


def scaling_warning(model: GuardedModel, x: Tensor, y: Tensor, logits: Tensor) -> list[str]:
    """Warn if the model is far more accurate with another usual scaling than with its own, or on pixels in [0, 1].

    Of several such scalings the one with the least loss is named: one that is too wide is often as accurate.
    """
    plain = float((logits.argmax(dim=1) == y).double().mean())
    enough = plain + max(_GAIN, 1 / math.sqrt(len(x)))  # twice the deviation of an accuracy
    if enough >= 1.0:
        return []
    best, least, found = plain, math.inf, None
    layer = model.model.normalise if isinstance(model.model, Classifier) else None
    own = layer if isinstance(layer, Normalise) else None
    for scaling in _SCALINGS if own is None else (*_SCALINGS, _NONE):
        if len(scaling.mean) not in (1, x.shape[1]):
            continue
        centre, spread = (x.new_tensor(values).view(1, -1, 1, 1) for values in (scaling.mean, scaling.std))
        scaled = (x - centre) / spread
        try:
            with torch.no_grad():
                # the model's own normalisation undoes this
                given = scaled if own is None else scaled * own.std + own.mean
                answers = model(given)
        except InputError:
            continue  # the model refuses pixels outside [0, 1], so it does not expect them
        accuracy = float((answers.argmax(dim=1) == y).double().mean())
        loss = float(cross_entropy_sum(answers, y))
        if accuracy > enough and loss < least:
            best, least, found = accuracy, loss, scaling
    if found is None:
        return []
    mean, std = (["1/255" if value == 1 / 255 else f"{value:g}" for value in both] for both in (found.mean, found.std))
    told = f"as they come, in [0, 1], but {best:.0%} after {found.name}"
    if own is not None:
        told = f"with its normalisation, but {best:.0%} with {found.name} instead"
    return [
        f"the model classifies {plain:.0%} of the images correctly {told}. It seems to expect that: give --mean "
        f"{','.join(mean)} --std {','.join(std)} (in Python, nuat.models.adapt(module, mean=({', '.join(mean)},), "
        f"std=({', '.join(std)},)))."
    ]

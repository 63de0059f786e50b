"""Arguments of ``nuat.evaluate``: the perturbations, the attacks and the model that the caller gives."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from nuat.attacks.catalogue import CATALOGUE, SUITES, across, defined, look_up
from nuat.attacks.given_attacks import GivenAttack
from nuat.config import ThreatConfig
from nuat.core.eps import check_usual
from nuat.core.threat import Norm, check_radius, largest_radius
from nuat.data import Images, ImageSet
from nuat.data.images import check_scale
from nuat.errors import InputError, did_you_mean
from nuat.evaluation.calibration import check_temperature
from nuat.models import Classifier

Attacks: TypeAlias = str | Sequence[str | GivenAttack]
"""A suite or an attack by its name, or several attacks."""


def settled_threat(threat: ThreatConfig | None, eps: float | None, norm: Norm) -> ThreatConfig:
    """Return the perturbations that the caller of ``nuat.evaluate`` asks for.

    Raises:
        InputError: a radius that is missing, given twice, out of range, or a usual one of another norm.
    """
    if threat is not None:
        if eps is not None or norm != "Linf":
            raise InputError("threat has a norm and a radius; leave eps and norm out, or give them without threat.")
        return threat
    if eps is None and norm != "Linf":
        raise InputError(f"eps: an {norm} evaluation needs its radius, such as eps={0.5 if norm == 'L2' else 12}.")
    eps = 8 / 255 if eps is None else eps
    check_radius("eps", eps, norm)
    check_usual("eps", eps, norm)
    return ThreatConfig(norm=norm, eps=eps, pgd_alpha=eps / (4 if norm == "Linf" else 10))


def line_up(attacks: Attacks | None, norms: Sequence[Norm]) -> tuple[tuple[str | GivenAttack, ...], tuple[str, ...]]:
    """Return the attacks, and the names of those of a suite that are left out, as they are not defined for a norm.

    In a union, with several ``norms``, attacks come once for each ball.

    Raises:
        InputError: no such suite or attack, or attacks other than names in a union.
    """
    if attacks is not None and not isinstance(attacks, str):
        if len(norms) == 1:
            return tuple(attacks), ()
        names = tuple(name for name in attacks if isinstance(name, str))
        if len(names) < len(attacks):
            raise InputError("attacks: one that is no name has one ball; give names, or a threat without also.")
        return across(names, norms), ()
    if attacks is not None and attacks not in SUITES:
        try:
            look_up(attacks)
        except InputError:
            raise InputError(
                f"attacks={attacks!r}: no such suite or attack.{did_you_mean(attacks, [*SUITES, *CATALOGUE])} Suites: "
                f"{', '.join(SUITES)}; or give a list of attacks."
            ) from None
        return across((attacks,), norms), ()
    suite = SUITES[attacks or "quick"]
    there = defined(suite, norms)
    return there, tuple(name for name in across(suite, norms) if name not in there)


def classes_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the classes that a model, or the one that ``adapt`` was given, brings. Empty: none."""
    named = getattr(model.net if type(model) is Classifier else model, "classes", ())
    return tuple(named) if isinstance(named, list | tuple) and all(isinstance(name, str) for name in named) else ()


def class_names(labels: Tensor, given: Sequence[str], of_model: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each class: those given, else those of the model, else numbers.

    Args:
        labels: int64 [n], n >= 1.
        given: names that the caller or the images give; empty: none.
        of_model: names that the model brings in the order of the labels; empty: none.

    Raises:
        InputError: fewer names are given than the labels need.
    """
    needed = 1 + int(labels.max())
    if given and len(given) < needed:
        raise InputError(f"classes: {len(given)} names, but the labels go up to {needed - 1}; name every class.")
    if given or len(of_model) >= needed:
        return tuple(given or of_model)
    return tuple(map(str, range(needed)))


def temperature_of(model: nn.Module) -> float:
    """Return the temperature that a model brings for its probabilities, see ``nuat export --temperature``; else 1.

    It never touches the logits, which are what is attacked and what decides.

    Raises:
        InputError: it is out of range.
    """
    value = getattr(model, "calibration_temperature", 1.0)
    if not isinstance(value, float):
        raise InputError(f"model.calibration_temperature: expected a float; got a {type(value).__name__}.")
    check_temperature(value, "model.calibration_temperature")
    return value


def check_model(model: object) -> None:
    """Refuse what is no module, and a module whose weights cannot be read.

    Raises:
        InputError: with what was expected.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch.nn.Module; got a {type(model).__name__}.")
    try:
        list(model.modules())
        weights = [*model.parameters(), *model.buffers()]
        model.state_dict()
        classes_of(model)
    except Exception as error:  # a stranger's methods may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        raise InputError(
            f"model: one of parameters(), buffers(), modules(), state_dict() and classes of a {type(model).__name__} "
            f"fails ({why}); mend it, as weights and classes are read there."
        ) from error
    if any(tensor.is_meta for tensor in weights):
        raise InputError("model: its weights are on the device meta, without values; load them first.")


def check_arguments(model: object, images: object) -> None:
    """Refuse a model that is no module, and images that are no set of images.

    Raises:
        InputError: with what was expected.
    """
    check_model(model)
    if not isinstance(images, Images):
        raise InputError(
            f"images: expected a set of images with labels; got a {type(images).__name__}. Give "
            "nuat.data.ImageSet(images, labels) with uint8 images [N, C, H, W]; of floats in [0, 1], "
            "(255 * x).round().byte()."
        )


def check_number(n: int | None, there: int) -> None:
    """Refuse a number of images that is below 1 or above that of the test images.

    Raises:
        InputError: it is, or there are no images.
    """
    if there == 0:
        raise InputError("there are no images to evaluate on.")
    if n is not None and not 1 <= n <= there:
        raise InputError(f"n={n}: expected 1 to {there}, the number of test images, or None for all.")


def check_greys(images: object) -> None:
    """Refuse a set of uint8 images whose pixels are all 0 or 1.

    Raises:
        InputError: they are.
    """
    if isinstance(images, ImageSet) and images.images.dtype == torch.uint8 and len(images) > 0:
        check_scale(int(images.images.max()), "images")


def check_radius_of(threat: ThreatConfig, images: Images) -> None:
    """Refuse a radius that is larger than any image, and name its likely meaning.

    Raises:
        InputError: it is.
    """
    for one in threat.parts:
        largest = largest_radius(one.norm, images.channels * math.prod(images.image_size))
        if one.eps > largest * (1 + 1e-9):
            raise InputError(
                f"eps={one.eps:g}: images of this size with pixels in [0, 1] are at most {largest:.4g} apart in "
                f"{one.norm}. Did you mean {one.eps:g}/255?"
            )

"""Attacks given as objects or functions instead of names, as rows that an evaluation runs."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nuat.attacks.base import Attack
from nuat.attacks.catalogue import CATALOGUE
from nuat.attacks.jobs import AttackThreat, Job, JobRequest, NamedAttack
from nuat.core.threat import threat as ball
from nuat.errors import InputError

GivenAttack: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Images [B, C, H, W] in [0, 1] and labels [B] to attacked images; attacks of nuat and most of other packages are."""
_ROUNDING = 1e-5
"""Distance from the ball and the box that is taken for a rounding."""


def given_rows(attacks: Sequence[str | GivenAttack], model: nn.Module, threat: AttackThreat) -> dict[str, NamedAttack]:
    """Return a row for each attack that is no name, by the name that its result gets: its class or function.

    An attack of nuat is run on the guarded model and its passes are counted. Any other calls the model that it was made
    with, so its passes are not known. Both draw from torch's global generator, seeded for each batch, unless they have
    a generator of their own.

    Raises:
        InputError: an attack that is a class, is on another model, or has another norm or radius than ``threat``.
    """
    rows: dict[str, NamedAttack] = {}
    for attack in attacks:
        if isinstance(attack, str):
            continue
        name = _name(attack, {*CATALOGUE, *rows, *(known for known in attacks if isinstance(known, str))})
        _check(attack, name, model, threat)
        rows[name] = NamedAttack(
            name=name,
            label=name,
            kind=None,
            job=partial(_job, attack),
            passes=1,
            gradients=False,
            stops_early=True,  # it may, so that only the model itself decides
        )
    return rows


def _name(attack: GivenAttack, taken: set[str]) -> str:
    """Return the name of an attack, with a number if another one has it."""
    named = getattr(attack, "__name__", type(attack).__name__).strip("<>")
    count = 1
    name = named
    while name in taken:
        count += 1
        name = f"{named} ({count})"
    return name


def _check(attack: GivenAttack, name: str, model: nn.Module, threat: AttackThreat) -> None:
    if isinstance(attack, type) or not callable(attack):
        hint = f"; give {name}(model, ...)" if isinstance(attack, type) else ""
        raise InputError(f"attacks: {name} maps no images and labels to attacked images{hint}.")
    if not isinstance(attack, Attack):
        try:
            inspect.signature(attack).bind(..., ...)
        except TypeError:
            raise InputError(
                f"attacks: {name} takes other arguments than images and labels; wrap it, such as "
                f"lambda x, y: {name}(model, x, y)."
            ) from None
        except ValueError:  # a function without a signature, such as one that is built in
            pass
        return
    if attack.model is not model:
        raise InputError(
            f"attacks: {name} attacks another model than the one that is evaluated; to transfer its examples, give "
            "nuat.attacks.Transfer(model, surrogate=other, make=...)."
        )
    if (attack.norm, attack.eps) != (threat.norm, threat.eps):
        raise InputError(
            f"attacks: {name} has {attack.norm} eps={attack.eps:g}, the evaluation {threat.norm} eps={threat.eps:g}; "
            "give both the same."
        )


def _job(attack: GivenAttack, request: JobRequest) -> Job:
    counted = isinstance(attack, Attack)
    made: GivenAttack = attack.on(request.model) if isinstance(attack, Attack) else attack

    def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.enable_grad():
            torch.manual_seed(seed)
            found = made(x.clone(), y.clone())
        return {request.name: _inside(found, x, request)}

    return Job((request.name,), _settings(attack), run, counted=counted)


def _inside(found: Any, x: Tensor, request: JobRequest) -> Tensor:
    """Return what an attack made of ``x``, moved inside the ball and the box if a rounding lies between.

    Raises:
        InputError: it is no such tensor, or lies outside.
    """
    if not isinstance(found, Tensor) or found.shape != x.shape:
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{request.name} returned {got}; expected attacked images as one tensor {list(x.shape)}.")
    found = found.detach().to(x)
    inside = ball(request.threat.norm, request.threat.eps).bounds(x).project(found)
    asked = request.threat
    if not bool(((inside - found).abs() <= _ROUNDING).all()):  # NaN fails
        raise InputError(
            f"{request.name} returned an example outside the {asked.norm} ball of eps={asked.eps:g} or outside [0, 1]; "
            "give it the radius of the evaluation, and let it clamp its result."
        )
    return inside


def _settings(attack: GivenAttack) -> dict[str, Any]:
    """Return what is recorded about an attack, as JSON values."""
    kind = attack if hasattr(attack, "__qualname__") else type(attack)
    settings: dict[str, Any] = {"own": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(attack, Attack):
        known = {name: getattr(attack, name) for name in (field.name for field in fields(attack))}
        settings |= {name: value for name, value in known.items() if isinstance(value, bool | int | float | str | None)}
    return settings

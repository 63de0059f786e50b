"""From the attacks' names on the command line to what is run: the one place that knows both.

A new attack is one file, its name in ``nuat.attacks`` and one line in ``_TABLE``; two tests then ask for its place in
the attacks' contract and for its cost.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import (
    FGSM,
    GAMAFW,
    GAMAMT,
    GAMAPGD,
    MIFGSM,
    PGD,
    RFGSM,
    AdaptivePGD,
    Attack,
    AutoAttack,
    MultiTargetedPGD,
    NuclearNormAttack,
    RandomNoise,
    TargetedPGD,
)
from nuat.attacks.base import NormError
from nuat.config import ThreatConfig
from nuat.core.losses import margin_sum
from nuat.core.threat import Norm
from nuat.errors import InputError, did_you_mean


class Takes(Enum):
    """Which images a job attacks; those that it does not take count as broken."""

    ALL = auto()
    CORRECT = auto()  # those that are classified correctly as they are: the others are broken already
    STANDING = auto()  # those that withstood every attack before this one


@dataclass(frozen=True)
class Job:
    """Attacks that one run produces: several step counts of PGD are read off one trajectory."""

    names: tuple[str, ...]
    """The last is the one that pays: the longest."""
    settings: dict[str, Any]
    """What is run, as JSON values."""
    run: Callable[[Tensor, Tensor, int], dict[str, Tensor]]
    """(x [B, C, H, W], y [B], seed) to the adversarial images [B, C, H, W] by name."""
    takes: Takes = Takes.CORRECT
    """The images that it attacks."""
    leaves_unbroken: bool = False
    """Whether it stops at an image's first success, and returns an image that it did not break as it was."""
    stops_early: bool = False
    """Whether it stops at an image's first success, but returns the worst that it found of the others."""

    @property
    def key(self) -> str:
        """What finished batches are kept under: the attacks, with their settings and what is attacked before them."""
        return f"{','.join(self.names)} {json.dumps(self.settings, sort_keys=True)}"


@dataclass(frozen=True)
class _Request:
    """One name, and all that an attack of that name is made from."""

    name: str
    number: int
    """The number in the name; 0 where it has none."""
    trajectory: list[int]
    """Every step count of PGD asked for, ascending."""
    model: nn.Module
    threat: ThreatConfig
    classes: int
    """Logits of the model."""

    @property
    def ball(self) -> dict[str, Any]:
        """Norm and radius, as arguments of an attack."""
        return {"norm": self.threat.norm, "eps": self.threat.eps}

    @property
    def alpha(self) -> float:
        """Step of PGD and of what is built on it."""
        return self.threat.pgd_alpha

    @property
    def targets(self) -> int:
        """Wrong classes that a multi-targeted attack goes through: AutoAttack's nine, or all where there are fewer."""
        return min(9, self.classes - 1)

    def attack(self, kind: type[Attack], **settings: Any) -> Job:
        """Return the job of an attack of ours with these settings, which are also what is recorded."""
        settings = {**self.ball, **settings}
        kind(self.model, **settings)  # what it refuses is said before anything runs

        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            generator = torch.Generator(x.device).manual_seed(seed)
            return {self.name: kind(self.model, generator=generator, **settings)(x, y)}

        recorded = {key: getattr(v, "__name__", v) for key, v in settings.items() if key not in self.ball}
        return Job((self.name,), recorded, run, stops_early=issubclass(kind, (GAMAMT, MultiTargetedPGD, RandomNoise)))

    def adaptive(self, objective: str, **settings: Any) -> Job:
        """Return the job of an attack that knows NuAT, with PGD's steps."""
        return self.attack(AdaptivePGD, alpha=self.alpha, steps=self.number, objective=objective, **settings)

    def official(self, **settings: Any) -> Job:
        """Return the job of attacks of the AutoAttack package, which takes a seed and makes its own batches."""
        first = AutoAttack(self.model, **self.ball, **settings)  # a missing extra is said before anything runs

        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            attack = AutoAttack(self.model, **self.ball, seed=seed, batch_size=len(x), **settings)
            return {self.name: attack(x, y)}

        named = {key: value for key, value in settings.items() if key != "attacks"}  # these are the line-up
        recorded = {**named, "line_up": list(first.line_up(self.classes)), "package": "pyautoattack"}
        return Job((self.name,), recorded, run, leaves_unbroken=True)

    def pgd(self) -> Job:
        """Return the one job of all step counts of PGD."""
        steps = self.trajectory

        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            generator = torch.Generator(x.device).manual_seed(seed)
            attack = PGD(self.model, **self.ball, alpha=self.alpha, steps=steps[-1], generator=generator)
            return {f"pgd-{count}": x_adv for count, x_adv in attack.trajectory(x, y, steps).items()}

        settings = {"alpha": self.alpha, "steps": steps[-1], "random_start": True, "restarts": 1}
        return Job(tuple(f"pgd-{count}" for count in steps), settings, run)


_GROUP = 64
"""Images of a group of the adaptive attacks: the batch of the paper's training."""
_REGROUPINGS = 4
"""Compositions of the batch that a step of adaptive-eot averages over."""

_TABLE: dict[str, Callable[[_Request], Job]] = {
    "clean": lambda r: Job((r.name,), {}, lambda x, y, seed: {r.name: x}, Takes.ALL),
    "fgsm": lambda r: r.attack(FGSM),
    "rfgsm": lambda r: r.attack(RFGSM),
    "pgd-<steps>": lambda r: r.pgd(),
    "margin-pgd-<steps>": lambda r: r.attack(PGD, alpha=r.alpha, steps=r.number, objective=margin_sum),
    "targeted-<steps>": lambda r: r.attack(TargetedPGD, alpha=r.alpha, steps=r.number, target="least-likely"),
    "targeted-random-<steps>": lambda r: r.attack(TargetedPGD, alpha=r.alpha, steps=r.number, target="random"),
    "multi-targeted-<steps>": lambda r: r.attack(MultiTargetedPGD, alpha=r.alpha, steps=r.number, targets=r.targets),
    "mi-fgsm-<steps>": lambda r: r.attack(MIFGSM, steps=r.number, mu=1.0),
    "gama-<steps>": lambda r: r.attack(GAMAPGD, steps=r.number),
    "gama-fw-<steps>": lambda r: r.attack(GAMAFW, steps=r.number),
    "gama-mt-<steps>": lambda r: r.attack(GAMAMT, steps=r.number, targets=r.targets),
    "noise-<draws>": lambda r: r.attack(RandomNoise, draws=r.number),
    "nuclear": lambda r: r.attack(NuclearNormAttack, lam=1.0, steps=1),
    "nuclear-2": lambda r: r.attack(NuclearNormAttack, lam=1.0, steps=2),
    "adaptive-<steps>": lambda r: r.adaptive("ce+nuclear", lam=4.5, group_size=_GROUP),
    "adaptive-same-class-<steps>": lambda r: r.adaptive("ce+nuclear", lam=4.5, group_size=_GROUP, same_class=True),
    "adaptive-eot-<steps>": lambda r: r.adaptive("ce+nuclear", lam=4.5, group_size=_GROUP, regroupings=_REGROUPINGS),
    "adaptive-nuclear-<steps>": lambda r: r.adaptive("nuclear", group_size=_GROUP),
    "adaptive-logit-<steps>": lambda r: r.adaptive("logit"),
    "autoattack": lambda r: replace(r.official(version="standard"), takes=Takes.STANDING),
    "autoattack-alone": lambda r: r.official(version="standard"),
    "autoattack-fast": lambda r: replace(r.official(version="fast"), takes=Takes.STANDING),
    "autoattack-v1": lambda r: r.official(version="v1"),
    "apgd-ce": lambda r: r.official(attacks=("apgd-ce",)),
    "apgd-dlr": lambda r: r.official(attacks=("apgd-dlr",)),
    "apgd-t": lambda r: r.official(attacks=("apgd-t",)),
    "fab": lambda r: r.official(attacks=("fab",)),
    "fab-t": lambda r: r.official(attacks=("fab-t",)),
    "square": lambda r: r.official(attacks=("square",)),
    "square-<queries>": lambda r: r.official(attacks=("square",), queries=r.number),
}
"""From a name to the job that it stands for; <...> is a whole number from 1."""

ATTACK_NAMES = tuple(_TABLE)
"""What an attack may be called; nuclear-2 is the two-step attack, noise has a number of draws.

autoattack is v2 on the images that the attacks before it left standing, autoattack-alone is v2 on all that are
classified correctly, and autoattack-fast stops after v2's first two attacks: its number is above that of v2.
"""


def jobs(names: Sequence[str], model: nn.Module, threat: ThreatConfig, classes: int = 10) -> list[Job]:
    """Return what to run for ``names``, in their order but for PGD's, which are one job.

    A job that takes what stands records the attacks before it, whose breaks are also its own.

    ``classes``, the number of logits, decides AutoAttack's line-up and the classes of multi-targeted attacks.

    Raises:
        InputError: no name, a name twice, an unknown name, a missing extra, an attack that so few classes do not have.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(f"attacks={','.join(names)!r}: give at least one attack, and each once.")
    known = [_look_up(name) for name in names]
    trajectory = sorted(number for pattern, number in known if pattern == "pgd-<steps>")
    planned: list[Job] = []
    for name, (pattern, number) in zip(names, known, strict=True):
        if not any(name in job.names for job in planned):  # the first of PGD's brings all of them
            job = _TABLE[pattern](_Request(name, number, trajectory, model, threat, classes))
            before = [other for earlier in planned for other in earlier.names]
            if job.takes is Takes.STANDING and before:
                job = replace(job, settings={**job.settings, "after": before})
            planned.append(job)
    return planned


def defined(names: Sequence[str], norm: Norm) -> tuple[str, ...]:
    """Return those of the known ``names`` whose attacks are defined for a norm."""

    def fits(name: str) -> bool:
        try:
            jobs([name], nn.Identity(), ThreatConfig(norm=norm))
        except NormError:
            return False
        return True

    return tuple(name for name in names if fits(name))


def _look_up(name: str) -> tuple[str, int]:
    """Return the row of ``_TABLE`` that ``name`` belongs to, and the number in it, 0 where it has none."""
    for pattern in _TABLE:
        fixed, numbered, _ = pattern.partition("<")
        if match := re.fullmatch(re.escape(fixed) + (r"([1-9]\d*)" if numbered else ""), name, re.ASCII):
            return pattern, int(match[1]) if numbered else 0
    hint = did_you_mean(name, [*ATTACK_NAMES, "pgd-20", "pgd-100", "gama-100"])
    raise InputError(f"unknown attack {name!r}.{hint} Attacks: {', '.join(ATTACK_NAMES)}.")

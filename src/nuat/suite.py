"""From the attacks' names on the command line to what is run: the one place that knows both."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nuat.attacks import FGSM, GAMAPGD, PGD, RFGSM, Attack, AutoAttack, NuclearNormAttack
from nuat.attacks.autoattack import line_up
from nuat.config import ThreatConfig
from nuat.errors import InputError, did_you_mean

ATTACK_NAMES = (
    "clean",
    "fgsm",
    "rfgsm",
    "pgd-<steps>",
    "gama-<steps>",
    "nuclear",
    "nuclear-2",
    "autoattack",
    "autoattack-v1",
)
"""What an attack may be called; nuclear-2 is the two-step attack, autoattack is v2."""


@dataclass(frozen=True)
class Job:
    """Attacks that one run produces: several step counts of PGD are read off one trajectory."""

    names: tuple[str, ...]
    """The last is the one that pays: the longest."""
    settings: dict[str, Any]
    """What is run, as JSON values."""
    run: Callable[[Tensor, Tensor, int], dict[str, Tensor]]
    """(x [B, C, H, W], y [B], seed) to the adversarial images [B, C, H, W] by name."""


def jobs(names: Sequence[str], model: nn.Module, threat: ThreatConfig, classes: int = 10) -> list[Job]:
    """Return what to run for ``names``, in their order but for PGD's, which are one job.

    ``classes``, the number of logits, decides AutoAttack's line-up.

    Raises:
        InputError: no name, a name twice, an unknown name, a missing extra.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(f"attacks={','.join(names)!r}: give at least one attack, and each once.")
    steps = sorted(int(name[4:]) for name in names if re.fullmatch(r"pgd-[1-9]\d*", name))
    planned: list[Job] = []
    for name in names:
        if name not in {f"pgd-{count}" for count in steps}:
            planned.append(_single(name, model, threat, classes))
        elif not any(job.names[-1] == f"pgd-{steps[-1]}" for job in planned):
            planned.append(_trajectory(steps, model, threat))
    return planned


def _trajectory(steps: list[int], model: nn.Module, threat: ThreatConfig) -> Job:
    def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator(x.device).manual_seed(seed)
        attack = PGD(model, eps=threat.eps, alpha=threat.pgd_alpha, steps=steps[-1], generator=generator)
        return {f"pgd-{count}": x_adv for count, x_adv in attack.trajectory(x, y, steps).items()}

    settings = {"alpha": threat.pgd_alpha, "steps": steps[-1], "random_start": True, "restarts": 1}
    return Job(tuple(f"pgd-{count}" for count in steps), settings, run)


def _single(name: str, model: nn.Module, threat: ThreatConfig, classes: int) -> Job:
    """Return the job of one name that is not PGD's."""
    eps = threat.eps
    settings: dict[str, Any] = {}
    make: Callable[[torch.Generator, int, int], Attack]  # (generator, seed, images)
    if name == "clean":
        return Job((name,), settings, lambda x, y, seed: {name: x})
    if name == "fgsm":
        make = lambda g, s, b: FGSM(model, eps=eps)  # noqa: E731
    elif name == "rfgsm":
        make = lambda g, s, b: RFGSM(model, eps=eps, generator=g)  # noqa: E731
    elif match := re.fullmatch(r"gama-([1-9]\d*)", name):
        steps = int(match[1])
        settings = {"steps": steps}
        make = lambda g, s, b: GAMAPGD(model, eps=eps, steps=steps, generator=g)  # noqa: E731
    elif name in ("nuclear", "nuclear-2"):
        settings = {"lam": 1.0, "steps": 2 if name == "nuclear-2" else 1}
        make = lambda g, s, b: NuclearNormAttack(model, eps=eps, generator=g, **settings)  # noqa: E731
    elif name in ("autoattack", "autoattack-v1"):
        version: Literal["standard", "v1"] = "standard" if name == "autoattack" else "v1"
        settings = {"version": version, "line_up": list(line_up(version, classes)), "package": "pyautoattack"}
        AutoAttack(model, eps=eps, version=version)  # a missing extra is said before anything runs
        make = lambda g, s, b: AutoAttack(model, eps=eps, version=version, seed=s, batch_size=b)  # noqa: E731
    else:
        hint = did_you_mean(name, [*ATTACK_NAMES, "pgd-20", "pgd-100", "gama-100"])
        raise InputError(f"unknown attack {name!r}.{hint} Attacks: {', '.join(ATTACK_NAMES)}.")
    return Job(
        (name,),
        settings,
        lambda x, y, seed: {name: make(torch.Generator(x.device).manual_seed(seed), seed, len(x))(x, y)},
    )

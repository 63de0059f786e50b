"""Jobs: what an evaluation runs for the names of attacks, built from the settings of the evaluation."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nuat.attacks.adaptive import AdaptivePGD
from nuat.attacks.autoattack import AutoAttack
from nuat.attacks.base import Attack
from nuat.attacks.cr import CR
from nuat.attacks.pgd import PGD
from nuat.attacks.transfer import usual_transfer
from nuat.core import digest
from nuat.core.threat import L1, L2, NORMS, Linf, Norm
from nuat.errors import InputError


class Takes(Enum):
    """Images that a job attacks; the others count as broken."""

    ALL = auto()
    CORRECT = auto()  # classified correctly without an attack; the others are broken already
    STANDING = auto()  # withstood every attack before this one


class AttackThreat(Protocol):
    """Settings that the attacks of an evaluation share (``nuat.config.ThreatConfig``)."""

    @property
    def norm(self) -> Norm:
        """Norm of the ball."""
        ...

    @property
    def eps(self) -> float:
        """Radius of the ball."""
        ...

    @property
    def pgd_alpha(self) -> float:
        """Step size of PGD and of the attacks built on it."""
        ...

    @property
    def parts(self) -> "tuple[AttackThreat, ...]":
        """The settings of each ball of a union, this one first."""
        ...


AFTER_CR = "cr, first half of autoattack-quick"
"""Name of the examples that CR alone found in the job of autoattack-quick."""


@dataclass(frozen=True)
class Job:
    """Attacks that one run produces: several step counts of PGD are read off one trajectory."""

    names: tuple[str, ...]
    """Names of the attacks; the last one, the longest, carries the cost."""
    settings: dict[str, Any]
    """Settings of the run, as JSON values."""
    run: Callable[[Tensor, Tensor, int], dict[str, Tensor]]
    """Function of (x [B, C, H, W], y [B], seed) that returns the adversarial images [B, C, H, W] by name."""
    ball: Linf | L2 | L1 | None = None
    """Ball that its examples lie in; ``jobs`` sets it."""
    takes: Takes = Takes.CORRECT
    """Images that it attacks; of a union, those that stand in its own ball."""
    leaves_unbroken: bool = False
    """Whether it stops at an image's first success and returns an image that it did not break unchanged."""
    stops_early: bool = False
    """Whether it stops at an image's first success and returns the worst example found otherwise."""
    passes: int = 1
    """Forward and backward passes per image of the longest attack, at most; 1: only the verdict, or not known."""
    steps: int = 1
    """Number in the name of the longest attack, or the passes where it has none."""
    counted: bool = True
    """Whether its passes go through the model that counts them."""

    @property
    def key(self) -> str:
        """Key of its finished batches: the attacks, their settings, and the attacks before them where these matter."""
        return f"{','.join(self.names)} {json.dumps(self.settings, sort_keys=True)}"


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One name of an attack, and everything that its job is built from."""

    name: str
    """Name of the attack."""
    prefix: str
    """Beginning of the name in another ball than the first one, such as L2:."""
    number: int
    """Number in the name; 0: the name has none."""
    trajectory: tuple[int, ...]
    """All step counts of PGD in the evaluation, ascending."""
    model: nn.Module
    """Model to attack."""
    threat: AttackThreat
    """Norm, radius and step size."""
    classes: int
    """Logits of the model."""
    surrogate: nn.Module | None = None
    """Model that transfer follows the gradients of."""

    @property
    def ball(self) -> dict[str, Any]:
        """Norm and radius, as arguments of an attack."""
        return {"norm": self.threat.norm, "eps": self.threat.eps}

    @property
    def alpha(self) -> float:
        """Step size of PGD and of the attacks built on it."""
        return self.threat.pgd_alpha

    @property
    def targets(self) -> int:
        """Wrong classes that a multi-targeted attack tries: nine, as in AutoAttack, or all if there are fewer."""
        return min(9, self.classes - 1)

    def attack(self, kind: type[Attack], **settings: Any) -> Job:
        """Return the job of one of our attacks; ``settings`` are its arguments and what is recorded."""
        settings = {**self.ball, **settings}
        kind(self.model, **settings)  # raise before anything runs

        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            generator = torch.Generator(x.device).manual_seed(seed)
            return {self.name: kind(self.model, generator=generator, **settings)(x, y)}

        recorded = {key: getattr(v, "__name__", v) for key, v in settings.items() if key not in self.ball}
        return Job((self.name,), recorded, run)

    def adaptive(self, objective: str, **settings: Any) -> Job:
        """Return the job of an attack that knows NuAT, with the step size of PGD."""
        return self.attack(AdaptivePGD, alpha=self.alpha, steps=self.number, objective=objective, **settings)

    def official(self, **settings: Any) -> Job:
        """Return the job of attacks of the AutoAttack package, which takes a seed and makes its own batches."""
        first = AutoAttack(self.model, **self.ball, **settings)  # report a missing extra before anything runs

        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            attack = AutoAttack(self.model, **self.ball, seed=seed, batch_size=len(x), **settings)
            return {self.name: attack(x, y)}

        named = {key: value for key, value in settings.items() if key != "attacks"}  # recorded as the line-up
        recorded = {**named, "line_up": list(first.line_up(self.classes)), "package": "pyautoattack"}
        return Job((self.name,), recorded, run)

    def quick(self, queries: int) -> Job:
        """Return the job of CR, and then Square with ``queries`` on each image that CR did not break."""
        square: dict[str, Any] = {"attacks": ("square",), "queries": queries}
        CR(self.model, **self.ball), AutoAttack(self.model, **self.ball, **square)  # raise before anything runs

        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            generator = torch.Generator(x.device).manual_seed(seed)
            broken = CR(self.model, **self.ball, generator=generator)(x, y)
            x_adv, left = broken.clone(), (broken == x).flatten(1).all(dim=1)
            if bool(left.any()):
                attack = AutoAttack(self.model, **self.ball, seed=seed, batch_size=len(x), **square)
                x_adv[left] = attack(x[left], y[left])
            return {AFTER_CR: broken, self.name: x_adv}

        settings = {"line_up": ["cr", "square"], "queries": queries, "package": "pyautoattack"}
        return Job((AFTER_CR, self.name), settings, run)

    def transfer(self) -> Job:
        """Return the job of examples made on the surrogate."""
        if self.surrogate is None:
            raise InputError("transfer: needs a surrogate; give --surrogate MODEL (surrogate=model).")
        surrogate = self.surrogate

        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            generator = torch.Generator(next(surrogate.parameters(), x).device).manual_seed(seed)
            return {self.name: usual_transfer(self.model, surrogate, **self.ball, generator=generator)(x, y)}

        weights = digest.of_tensors(*surrogate.state_dict().values())
        return Job((self.name,), {"surrogate_sha256": weights}, run)

    def pgd(self) -> Job:
        """Return the one job of all step counts of PGD."""
        steps = self.trajectory

        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            generator = torch.Generator(x.device).manual_seed(seed)
            attack = PGD(self.model, **self.ball, alpha=self.alpha, steps=steps[-1], generator=generator)
            return {f"{self.prefix}pgd-{count}": x_adv for count, x_adv in attack.trajectory(x, y, steps).items()}

        settings = {"alpha": self.alpha, "steps": steps[-1], "random_start": True, "restarts": 1}
        return Job(tuple(f"{self.prefix}pgd-{count}" for count in steps), settings, run)


@dataclass(frozen=True)
class NamedAttack:
    """One row of the catalogue."""

    name: str
    """Name on the command line; <...> stands for a whole number from 1."""
    label: str
    """Name for people, in texts, tables and figures; {} stands for the number."""
    kind: type[Attack] | None
    """Class of the attack; None: no attack."""
    job: Callable[[JobRequest], Job]
    """Factory of the job that an evaluation runs."""
    passes: int = 1
    """Forward and backward passes per image, at most, without those of the steps; the verdict is one."""
    passes_per_step: int = 1
    """Forward and backward passes per image for each of the number in the name."""
    rank: int = 4
    """Place in the order of strength, weakest first."""
    takes: Takes = Takes.CORRECT
    """Images that it attacks."""
    gradients: bool = True
    """Whether it needs the gradient of the model."""
    leaves_unbroken: bool = False
    """Whether it stops at an image's first success and returns an image that it did not break unchanged."""
    stops_early: bool = False
    """Whether it stops at an image's first success and returns the worst example found otherwise."""

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Norms that the attack is defined for."""
        return NORMS if self.kind is None else self.kind.norms

    def cost(self, number: int) -> int:
        """Return the passes per image, at most, with this number in the name."""
        return self.passes + self.passes_per_step * number

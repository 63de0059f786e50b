"""An attack of the user's own, a class or a function, as a job of an evaluation."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar

from torch import Tensor

from nuat import own_code
from nuat.attacks.base import Attack
from nuat.attacks.jobs import Job, JobRequest
from nuat.core.threat import NORMS, Norm, threat
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FunctionAttack(Attack):
    """A function of ``(model, x, y)`` that returns the attacked images, with the checks of every attack.

    It gets those of ``eps``, ``norm`` and ``generator`` that it names.
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    function: Callable[..., Any]
    """The function."""

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the attacked images [B, C, H, W]."""
        offered = {"eps": self.eps, "norm": self.norm, "generator": self.generator}
        x_adv: Tensor = own_code.call_function(self.function, self.model, x, y, **offered)
        return x_adv


def own_job(request: JobRequest) -> Job:
    """Return the job of an attack whose pinned name is ``request.name``.

    Raises:
        InputError: its code may not run, or is neither a class derived from ``Attack`` nor a function.
    """
    name = request.name
    found = own_code.find(name)
    if isinstance(found, type) and issubclass(found, Attack):
        lacking = [f.name for f in fields(found) if f.name not in _GIVEN and f.default is f.default_factory is MISSING]
        if lacking:
            raise InputError(f"{name}: its setting {lacking[0]!r} has no default; give it one.")
        job = replace(request.attack(found), settings=_settings(request, found))
    elif callable(found) and not isinstance(found, type):
        job = replace(request.attack(FunctionAttack, function=found), settings={})
    else:
        raise InputError(f"{name}: expected a class that is derived from nuat.attacks.Attack, or a function.")
    ball = threat(request.threat.norm, request.threat.eps)

    def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
        x_adv = job.run(x, y, seed)[name]
        if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape:
            raise InputError(f"{name}: expected images of the shape {list(x.shape)}; it returned another thing.")
        if not bool(ball.holds(x, x_adv.detach()).all()):
            raise InputError(
                f"{name}: an example lies outside the ball or outside [0, 1]; return "
                "nuat.core.threat.threat(norm, eps).bounds(x).project(x_adv)."
            )
        return {name: x_adv.detach()}

    return replace(job, run=run)


_GIVEN = {field.name for field in fields(Attack)}
"""Arguments that an evaluation gives to every attack."""


def _settings(request: JobRequest, kind: type[Attack]) -> dict[str, Any]:
    """Return the settings of a class for the record: numbers and texts as they are, else the name of their type."""
    attack = kind(request.model, **request.ball)
    values = {field.name: getattr(attack, field.name) for field in fields(attack) if field.name not in _GIVEN}
    plain = (bool, int, float, str, type(None))
    return {name: value if isinstance(value, plain) else type(value).__name__ for name, value in values.items()}

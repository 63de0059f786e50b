"""Numbers that change from update to update, and their copies on the device for updates that are recorded.

A recorded update (``nuat.training.graph``) repeats its operations with the same arguments. What changes must therefore
be in tensors, which the loop fills before each repetition.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from nuat.defenses.base import EpochSchedule

Held = Callable[[EpochSchedule], float]
"""Function that returns the scalar on the device that holds a schedule's value."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Numbers of one update; in a recorded one, scalars on the device."""

    rate: float
    """Learning rate."""
    momentum: float
    """Momentum of the optimizer."""
    warmup: float
    """Fraction of the full eps."""
    decays: tuple[float, ...]
    """Decay of each weight average."""


_WIDE = ("warmup",)
"""Numbers in float64, in which the bounds of the ball are taken, as are the decays; the others have the type of the
weights."""


class DeviceNumbers:
    """The numbers of an update, and the values of the defense's schedules, as scalars on the device."""

    def __init__(self, device: torch.device, dtype: torch.dtype, averages: int) -> None:
        """Make the scalars.

        Args:
            device: where updates run.
            dtype: floating-point type of the weights.
            averages: number of weight averages.
        """
        self._device, self._dtype = device, dtype
        names = [field.name for field in dataclasses.fields(Numbers) if field.name != "decays"]
        self._scalars = {
            name: torch.zeros((), dtype=torch.float64 if name in _WIDE else dtype, device=device) for name in names
        }
        self._decays = tuple(torch.zeros((), dtype=torch.float64, device=device) for _ in range(averages))
        self._schedules: dict[EpochSchedule, Tensor] = {}
        self._epoch, self._epochs = 0, 1
        # attacks and defenses declare floats: a scalar takes part in the same arithmetic, and nothing else is asked
        self.numbers = Numbers(**cast(dict[str, float], self._scalars), decays=cast(tuple[float, ...], self._decays))
        """The scalars, each where a float would be."""
        self.complete = False
        """Whether all schedules are known, so that none may be added."""

    def fill(self, numbers: Numbers, epoch: int, epochs: int) -> None:
        """Set the scalars to those of an update in ``epoch`` (from 0) of ``epochs``."""
        self._epoch, self._epochs = epoch, epochs
        for name, scalar in self._scalars.items():
            scalar.fill_(getattr(numbers, name))
        for decay, value in zip(self._decays, numbers.decays, strict=True):
            decay.fill_(value)
        for schedule, scalar in self._schedules.items():
            scalar.fill_(schedule(epoch, epochs))

    def held(self, schedule: EpochSchedule) -> float:
        """Return the scalar of a schedule's value.

        Raises:
            RuntimeError: the schedule is new, but all should be known by now.
        """
        if schedule not in self._schedules:
            if self.complete:
                raise RuntimeError("the defense asked for a schedule that it did not ask for in the step before")
            value = schedule(self._epoch, self._epochs)
            self._schedules[schedule] = torch.full((), value, dtype=self._dtype, device=self._device)
        return cast(float, self._schedules[schedule])

    def value_of(self, scalar: object) -> float | None:
        """Return the present value of a schedule's scalar. None: it is another object."""
        for schedule, tensor in self._schedules.items():
            if scalar is tensor:
                return schedule(self._epoch, self._epochs)
        return None

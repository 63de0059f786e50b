"""Schedules: pure functions from the progress of a run to a value.

A learning-rate schedule maps the finished fraction of the run, ``t = step / total steps`` in [0, 1), to a learning
rate, so a run of any length keeps the shape of the paper's schedule. ``Ramp`` maps an epoch to lambda.

Source: section 5.2 of the paper names the cyclic-step schedule and the linear ramp of lambda; their knots come
from the authors' public scripts.
"""

import math
from dataclasses import dataclass

from nuat.errors import InputError


def _check_fractions(owner: str, **fractions: float) -> None:
    """Refuse fractions of the run outside [0, 1] or out of order."""
    last = 0.0
    for name, value in fractions.items():
        if not 0.0 <= value <= 1.0:
            raise InputError(f"{owner}.{name}={value:g}: expected a fraction of the run in [0, 1].")
        if value < last:
            raise InputError(f"{owner}.{name}={value:g} comes before the knot ahead of it ({last:g}); order the knots.")
        last = value


def _check_rate(owner: str, **rates: float) -> None:
    for name, value in rates.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{owner}.{name}={value:g}: expected a finite learning rate >= 0.")


class Schedule:
    """Base of the learning-rate schedules; a subclass is a frozen dataclass that defines ``__call__``."""

    def __call__(self, t: float) -> float:
        """Return the learning rate at fraction ``t`` of the run, in [0, 1)."""
        raise AssertionError("Schedule is abstract")


class CyclicSchedule(Schedule):
    """Base of the schedules that rise to a peak and fall again; momentum may cycle with them."""

    def cycle(self, t: float) -> float:
        """Return how near the peak the cycle is at fraction ``t`` of the run, in [0, 1]; 1 at the peak."""
        raise AssertionError("CyclicSchedule is abstract")


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same learning rate throughout."""

    peak: float = 0.1
    """Learning rate, >= 0."""

    def __post_init__(self) -> None:
        _check_rate("lr", peak=self.peak)

    def __call__(self, t: float) -> float:
        """Return the rate at fraction ``t`` of the run."""
        return self.peak


@dataclass(frozen=True, kw_only=True)
class Cyclic(CyclicSchedule):
    """A triangle: linear from 0 up to ``peak``, then linear down to 0 at the end of the run."""

    peak: float = 0.1
    """Highest learning rate, >= 0."""
    rise: float = 0.25
    """Fraction of the run at which the peak is reached, in [0, 1]."""

    def __post_init__(self) -> None:
        _check_rate("lr", peak=self.peak)
        _check_fractions("lr", rise=self.rise)

    def __call__(self, t: float) -> float:
        """Return the rate at fraction ``t`` of the run."""
        if t < self.rise:
            return self.peak * t / self.rise
        return self.peak * (1.0 - t) / (1.0 - self.rise) if self.rise < 1.0 else self.peak

    def cycle(self, t: float) -> float:
        """Return how near the peak the triangle is at fraction ``t`` of the run, in [0, 1]."""
        if t < self.rise:
            return t / self.rise
        return (1.0 - t) / (1.0 - self.rise) if self.rise < 1.0 else 1.0


@dataclass(frozen=True, kw_only=True)
class CyclicStep(CyclicSchedule):
    """The paper's cyclic-step: up to ``peak``, linearly down to ``floor``, constant, then steps down.

    Section 5.2: "incorporates the cyclic schedule in early epochs of training, and transitions to the use of a
    step schedule towards the end".
    """

    peak: float = 0.1
    """Highest learning rate, >= 0."""
    rise: float = 0.4
    """Fraction of the run at which the peak is reached, in [0, 1]."""
    fall: float = 0.8
    """Fraction of the run at which ``floor`` is reached, in [rise, 1]."""
    floor: float = 0.02
    """Learning rate of the constant part, >= 0."""
    drops: tuple[float, ...] = (0.86, 0.91)
    """Fractions of the run from which the rate is multiplied by ``factor``, ascending, in [fall, 1]."""
    factor: float = 0.1
    """Factor of each drop."""

    def __post_init__(self) -> None:
        _check_rate("lr", peak=self.peak, floor=self.floor, factor=self.factor)
        _check_fractions("lr", rise=self.rise, fall=self.fall, **{f"drops[{i}]": d for i, d in enumerate(self.drops)})

    def __call__(self, t: float) -> float:
        """Return the rate at fraction ``t`` of the run."""
        if t < self.rise:
            return self.peak * t / self.rise
        if t < self.fall:
            return self.peak + (self.floor - self.peak) * (t - self.rise) / (self.fall - self.rise)
        return self.floor * self.factor ** sum(t >= drop for drop in self.drops)

    def cycle(self, t: float) -> float:
        """Return how near the peak the cycle is at fraction ``t`` of the run, in [0, 1]; from ``fall`` on it stays."""
        end = self.floor / self.peak if self.peak > 0 else 0.0
        if t < self.rise:
            return t / self.rise
        if t < self.fall:
            return 1.0 + (end - 1.0) * (t - self.rise) / (self.fall - self.rise)
        return end


@dataclass(frozen=True, kw_only=True)
class MultiStep(Schedule):
    """A constant rate with steps down at milestones."""

    peak: float = 0.1
    """Learning rate before the first milestone, >= 0."""
    drops: tuple[float, ...] = (0.5, 0.75)
    """Fractions of the run from which the rate is multiplied by ``factor``, ascending, in [0, 1]."""
    factor: float = 0.1
    """Factor of each drop."""

    def __post_init__(self) -> None:
        _check_rate("lr", peak=self.peak, factor=self.factor)
        _check_fractions("lr", **{f"drops[{i}]": d for i, d in enumerate(self.drops)})

    def __call__(self, t: float) -> float:
        """Return the rate at fraction ``t`` of the run."""
        return self.peak * self.factor ** sum(t >= drop for drop in self.drops)


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Cosine from ``peak / initial_divisor`` up to ``peak`` and down to ``peak / final_divisor``.

    The shape of torch's OneCycleLR (cosine annealing), for short runs.
    """

    peak: float = 0.1
    """Highest learning rate, >= 0."""
    rise: float = 0.3
    """Fraction of the run at which the peak is reached, in [0, 1]."""
    initial_divisor: float = 25.0
    """The run starts at ``peak / initial_divisor``, > 0."""
    final_divisor: float = 1e4
    """The run ends at ``peak / final_divisor``, > 0."""

    def __post_init__(self) -> None:
        _check_rate("lr", peak=self.peak)
        _check_fractions("lr", rise=self.rise)
        if not (self.initial_divisor > 0 and self.final_divisor > 0):
            raise InputError("lr.initial_divisor and lr.final_divisor must be > 0.")

    def __call__(self, t: float) -> float:
        """Return the rate at fraction ``t`` of the run."""
        if t < self.rise:
            return self._cosine(self.peak / self.initial_divisor, self.peak, t / self.rise)
        fall = (t - self.rise) / (1.0 - self.rise) if self.rise < 1.0 else 0.0
        return self._cosine(self.peak, self.peak / self.final_divisor, fall)

    @staticmethod
    def _cosine(start: float, end: float, fraction: float) -> float:
        return end + (start - end) * (1.0 + math.cos(math.pi * fraction)) / 2.0


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Lambda: linear from 0 in the first epoch, constant within an epoch (section 5.2; the authors' scripts).

    In epoch ``e`` (from 0) of ``E`` the value is ``peak * min(e / (until * E), 1)``.
    """

    peak: float = 4.0
    """Value at the end of the ramp, >= 0. NuAT's depends on the batch size and the number of classes, unless
    defense.scale is gaussian."""
    until: float = 1.0
    """Fraction of the run at which the peak is reached, in (0, 1]."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.peak) and self.peak >= 0):
            raise InputError(f"lam.peak={self.peak:g}: expected a finite weight >= 0.")
        if not 0.0 < self.until <= 1.0:
            raise InputError(f"lam.until={self.until:g}: expected a fraction of the run in (0, 1].")

    def __call__(self, epoch: int, epochs: int) -> float:
        """Return lambda in epoch ``epoch`` (from 0) of ``epochs``."""
        return self.peak * min(epoch / (self.until * epochs), 1.0)


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """A weight that is multiplied by ``factor`` at given fractions of the run, constant within an epoch.

    Source: the authors' GAT scripts, which raise the weight of the guided term late in the run.
    """

    start: float = 10.0
    """Value before the first jump, >= 0."""
    at: tuple[float, ...] = (0.85,)
    """Fractions of the run from which the value is multiplied by ``factor``, ascending, in [0, 1]."""
    factor: float = 4.0
    """Factor of each jump, >= 0."""

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("factor", self.factor)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"weight.{name}={value:g}: expected a finite value >= 0.")
        _check_fractions("weight", **{f"at[{i}]": fraction for i, fraction in enumerate(self.at)})

    def __call__(self, epoch: int, epochs: int) -> float:
        """Return the weight in epoch ``epoch`` (from 0) of ``epochs``."""
        return self.start * self.factor ** sum(epoch / epochs >= fraction for fraction in self.at)


def warm_up(step: int, steps: float) -> float:
    """Return the fraction, in (0, 1], of a value that is warmed up over ``steps`` steps, at step ``step`` (from 0)."""
    return min(1.0, (step + 1) / steps) if steps > 0 else 1.0

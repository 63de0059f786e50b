"""Settings of a run; those of its images and its network are in files of their own."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from nuat.config.data import DataConfig
from nuat.config.model import ModelConfig
from nuat.core.eps import check_usual, parse_number
from nuat.core.ranges import at_least, check_fraction, check_seed, check_tau
from nuat.core.schedules import CyclicSchedule, OneCycle, Schedule
from nuat.core.threat import L1, L2, Linf, Norm, check_radius, threat
from nuat.defenses.base import Defense
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ThreatConfig:
    """The perturbations that the model must withstand: a ball in pixels of [0, 1]."""

    norm: Norm = "Linf"
    """Linf bounds the change of each pixel; L2 the length, and L1 the sum, of the changes of all of them."""
    eps: float = 8 / 255
    """Radius of the ball. Linf: in (0, 1], written 8/255 or 0.031. L2: > 0, such as 0.5. L1: > 0, such as 12."""
    also: str | None = None
    """Further balls that the model must withstand as well, one a norm, such as L2:0.5,L1:12: a union. None: only this
    one. In a union PGD's steps are the same share of each radius."""
    pgd_alpha: float = cast(float, None)
    """Step size of PGD in evaluations, in the units of eps. None: 2/255 in Linf, a tenth of eps in L2 and L1."""

    def __post_init__(self) -> None:
        check_radius("threat.eps", self.eps, self.norm)
        if cast("float | None", self.pgd_alpha) is None:
            object.__setattr__(self, "pgd_alpha", 2 / 255 if self.norm == "Linf" else self.eps / 10)
        check_radius("threat.pgd_alpha", self.pgd_alpha, self.norm)
        if self.also is not None:  # records compare it as text
            object.__setattr__(self, "also", "".join(self.also.split()))
        norms = [one.norm for one in self.parts]
        if len(set(norms)) < len(norms):
            raise InputError(f"threat.also={self.also}: one ball a norm; there are {', '.join(norms)}.")

    @property
    def parts(self) -> "tuple[ThreatConfig, ...]":
        """The settings of each ball, this one first."""
        if self.also is None:
            return (self,)
        own = replace(self, also=None)
        share, found = self.pgd_alpha / self.eps, [own]
        for word in self.also.split(","):
            norm, _, radius = word.partition(":")
            try:
                eps = parse_number(radius)
            except ValueError:
                raise InputError(f"threat.also={self.also}: expected balls such as L2:0.5,L1:12.") from None
            check_radius("threat.also", eps, cast(Norm, norm))
            found.append(ThreatConfig(norm=cast(Norm, norm), eps=eps, pgd_alpha=share * eps))
        return tuple(found)

    @property
    def balls(self) -> tuple[Linf | L2 | L1, ...]:
        """The balls, the one of ``norm`` and ``eps`` first."""
        return tuple(threat(one.norm, one.eps) for one in self.parts)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Stochastic gradient descent with momentum, or Adam."""

    name: Literal["sgd", "adam"] = "sgd"
    """sgd, or adam as FBF takes on MNIST."""
    lr: Schedule = field(default_factory=OneCycle)
    """Learning rate over the run."""
    momentum: float = 0.9
    """Momentum in [0, 1). Adam: decay of the first moment; that of the second is 0.999."""
    momentum_at_peak: float | None = None
    """Momentum where a cyclic learning rate peaks, in [0, 1); elsewhere it moves with the rate, from ``momentum`` at a
    rate of 0, and stays where the cycle ends, as in torch's CyclicLR. None: ``momentum`` throughout."""
    weight_decay: float = 5e-4
    """L2 weight on every parameter, >= 0."""
    nesterov: bool = False
    """Nesterov's momentum."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise InputError(f"optimizer.momentum={self.momentum:g}: expected a value in [0, 1).")
        if self.momentum_at_peak is not None:
            if not 0.0 <= self.momentum_at_peak < 1.0:
                raise InputError(f"optimizer.momentum_at_peak={self.momentum_at_peak:g}: expected a value in [0, 1).")
            if self.name == "adam" or not isinstance(self.lr, CyclicSchedule):
                raise InputError(
                    "optimizer.momentum_at_peak has no effect without SGD and a cyclic learning rate (Cyclic, "
                    "CyclicStep); leave it out."
                )
        at_least("optimizer.weight_decay", self.weight_decay, 0.0)
        if self.nesterov and self.name == "adam":
            raise InputError("optimizer.nesterov has no effect on Adam; leave it out or set optimizer.name=sgd.")
        if self.nesterov and self.momentum == 0.0:
            raise InputError("optimizer.nesterov has no effect without momentum; set optimizer.momentum > 0.")

    def momentum_at(self, t: float) -> float:
        """Return the momentum at fraction ``t`` of the run, in [0, 1)."""
        if self.momentum_at_peak is None or not isinstance(self.lr, CyclicSchedule):
            return self.momentum
        return self.momentum + (self.momentum_at_peak - self.momentum) * self.lr.cycle(t)


@dataclass(frozen=True, kw_only=True)
class AveragingConfig:
    """Exponential average of the weights over the steps (-WA, section 5.4)."""

    tau: float | tuple[float, ...] | None = None
    """Decay per step, in [0, 1). None: no average. The paper's runs use 0.9998. Several, such as 0.999,0.9995: an
    average of each; all are validated, and the best is shipped."""
    warmup: bool = False
    """Use min(tau, (1 + step) / (10 + step)), which keeps a short run from staying near its first weights."""

    def __post_init__(self) -> None:
        for tau in self.taus:
            check_tau("averaging.tau", tau)
        if isinstance(self.tau, tuple) and (len(self.tau) < 2 or len(set(self.tau)) < len(self.tau)):
            told = ",".join(f"{tau:g}" for tau in self.tau)
            raise InputError(f"averaging.tau={told}: expected one decay, or several different ones.")
        if self.tau is None and self.warmup:
            raise InputError(
                "averaging.warmup has no effect without averaging.tau; give a tau such as 0.9998, or warmup false."
            )

    @property
    def taus(self) -> tuple[float, ...]:
        """The decay of each average; empty: there is none."""
        return self.tau if isinstance(self.tau, tuple) else () if self.tau is None else (self.tau,)


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Alarms during the run, and what follows them."""

    overfitting_gap: float = 0.25
    """Catastrophic overfitting: raise an alarm when validation accuracy under FGSM exceeds that under PGD by more."""
    on_overfitting: Literal["warn", "stop", "brake"] = "warn"
    """warn; stop: end the run; brake: go back to the last good epoch and halve the learning rate from there on, at most
    3 times, then stop; warn while accuracy under PGD is no lower than in that epoch. The lost epoch counts as spent.
    brake keeps one more copy of all that is trained, in memory and in each checkpoint."""
    collapse_margin: float = 0.02
    """Collapse to a constant: an epoch counts when its mean clean loss is above (1 - margin) * log(classes). Smoothed
    labels have a least loss above 0; the margin is then a share of the rest."""
    collapse_patience: int = 3
    """Such epochs in a row before the alarm, >= 1; a slow first epoch is no collapse."""
    on_collapse: Literal["warn", "stop", "brake"] = "warn"
    """warn, stop or brake, as for overfitting."""
    on_nonfinite: Literal["skip", "stop"] = "stop"
    """Infinite or NaN loss or logits: skip that update, or end the run and keep the last good checkpoint."""

    def __post_init__(self) -> None:
        if not 0.0 < self.overfitting_gap <= 1.0:
            raise InputError(f"monitors.overfitting_gap={self.overfitting_gap:g}: expected an accuracy gap in (0, 1].")
        if not 0.0 <= self.collapse_margin < 1.0:
            raise InputError(f"monitors.collapse_margin={self.collapse_margin:g}: expected a value in [0, 1).")
        at_least("monitors.collapse_patience", self.collapse_patience, 1)

    @property
    def brakes(self) -> bool:
        """Whether an alarm may take the run back to its last good epoch."""
        return "brake" in (self.on_overfitting, self.on_collapse)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The evaluation on test images after training."""

    attacks: tuple[str, ...] = ("clean", "pgd-100", "gama-100")
    """Attacks in order, such as clean, pgd-<steps>, gama-<steps>, autoattack; 'nuat evaluate --help' lists all.
    FILE.py:NAME is one of your own."""
    n: int | None = 1000
    """Test images, class-balanced. None: all images."""
    batch_size: int = 250
    """Images per batch, >= 1. It changes the memory needed and the random draws, nothing else."""

    def __post_init__(self) -> None:
        if self.n is not None:
            at_least("evaluation.n", self.n, 1)
        at_least("evaluation.batch_size", self.batch_size, 1)


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How several devices share a batch. With one device these settings have no effect."""

    statistics: Literal["global", "device"] = "global"
    """global: the loss of the whole batch, as on one device; the nuclear norm is taken of all devices' logits together.
    device: each device takes the loss of its own images, so lambda means what it does at that smaller batch."""
    batch_norm: Literal["device", "sync"] = "device"
    """device: each device normalises by the statistics of its own images; running statistics are averaged after each
    update. sync: by the statistics of all devices' images."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a run."""

    defense: Defense
    """Defense: how a batch becomes a loss."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images, split and augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Network."""
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    """Perturbation set."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer and learning rate."""
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    """Weight averaging."""
    monitors: MonitorConfig = field(default_factory=MonitorConfig)
    """Alarms."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Evaluation after training."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """Training on several devices."""
    epochs: int = 30
    """Passes over the training images, >= 1."""
    batch_size: int = 64
    """Images per batch, all devices together, >= 2."""
    accumulate: int = 1
    """Batches whose gradients are averaged in one update, >= 1. Batch norm and the nuclear norm still see one batch
    at a time, so lambda keeps its meaning."""
    eps_warmup: float = 0.0
    """Fraction of the run, in [0, 1), over which the eps of training grows linearly from 0, step by step. Validation
    and evaluation always take threat.eps. Without it, training from scratch against attacks of many steps at a large
    eps (0.3 on MNIST) may never leave the constant model."""
    worst_ball: bool = False
    """With threat.also: attack each batch in the ball in which one step raises its loss the most, which takes a forward
    pass a ball and a backward pass. false: in a ball that is drawn for each batch."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, the augmentation and the noise."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: train under autocast. The weights, the nuclear norm and every evaluation stay fp32."""
    channels_last: bool = True
    """Store images and convolution weights with the channels innermost: the same function, faster."""
    compile: bool = False
    """Compile the network's passes with torch.compile, on one device. Compilation takes tens of seconds to minutes
    (recorded as compile_seconds), which a short run does not earn back. On a CPU it was slower (benchmarks/)."""
    graph: Literal["auto", "on", "off"] = "auto"
    """Repeat whole updates as CUDA graphs, on one GPU: the same updates up to rounding, several times as fast where the
    host sets the pace. Some are also taken eagerly; if they differ, or the defense declares no kinds of steps, updates
    are eager and the run says why. auto: on a GPU. on: refused where it cannot be. off: eager."""
    checkpoint_every: int = 1
    """Epochs between checkpoints of the full state, >= 1."""
    checkpoint_batches: int | None = None
    """Batches between checkpoints within an epoch, >= 1. None: checkpoints at the ends of epochs alone."""
    checkpoint_seconds: float | None = None
    """Least time between checkpoints [s], > 0: those that ``checkpoint_every`` and ``checkpoint_batches`` would bring
    earlier are left out. The end of a run and a request to stop always save. None: none is left out."""
    validate_every: int | None = None
    """Epochs between validations, >= 1; the first and the last epoch are always validated. The best epoch is chosen
    from those that are validated. None: on a CPU every epoch; on a GPU as often as it takes less than 5 % of the time,
    so that the choice depends on the clock, too."""
    validate_attack: str = "pgd-7"
    """Attack on the validation images, which chooses the best epoch and shows catastrophic overfitting. pgd-7: that of
    the authors' scripts, 7 steps of eps / 7 from the image itself (I-FGSM), too mild at a large eps. Others are those
    of an evaluation, such as pgd-40 or gama-20."""

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)
        if self.batch_size < 2:
            raise InputError(
                f"batch_size={self.batch_size}: batch norm in training and the joint statistics of the nuclear norm "
                "need at least 2 images a batch."
            )
        at_least("accumulate", self.accumulate, 1)
        if self.accumulate > 1 and self.defense.updates_per_batch > 1:
            raise InputError(
                f"accumulate={self.accumulate}: {type(self.defense).__name__} updates the weights "
                f"{self.defense.updates_per_batch} times with each batch; set accumulate to 1."
            )
        at_least("checkpoint_every", self.checkpoint_every, 1)
        if self.checkpoint_batches is not None:
            at_least("checkpoint_batches", self.checkpoint_batches, 1)
        if self.checkpoint_seconds is not None and not 0.0 < self.checkpoint_seconds < math.inf:
            raise InputError(f"checkpoint_seconds={self.checkpoint_seconds:g}: expected a time > 0 [s].")
        if self.validate_every is not None:
            at_least("validate_every", self.validate_every, 1)
            if self.data.validation == 0:
                raise InputError("validate_every has no effect without validation images: set data.validation.")
        if len(self.averaging.taus) > 1 and self.data.validation == 0:
            raise InputError(
                "averaging.tau: validation chooses between several decays; set data.validation, or give one decay."
            )
        if self.validate_attack != "pgd-7" and self.data.validation == 0:
            raise InputError("validate_attack has no effect without validation images: set data.validation.")
        for one in self.threat.parts:
            check_usual("threat.eps" if one.norm == self.threat.norm else "threat.also", one.eps, one.norm)
        for name in self.defense.sizes:
            if (size := getattr(self.defense, name)) is not None:
                check_radius(f"defense.{name}", size, self.threat.norm)
        if self.worst_ball and self.threat.also is None:
            raise InputError("worst_ball has no effect on a single ball; give threat.also, or worst_ball false.")
        if self.worst_ball and self.defense.judged_by == "clean":
            raise InputError("worst_ball has no effect on a defense that does not attack; leave it out.")
        if not 0.0 <= self.defense.smoothing < 1.0:
            raise InputError(f"defense.smoothing={self.defense.smoothing:g}: expected a share of the label in [0, 1).")
        check_fraction("eps_warmup", self.eps_warmup)
        if self.eps_warmup > 0 and self.defense.judged_by == "clean":
            raise InputError("eps_warmup has no effect on a defense that does not attack; leave it out.")
        if self.data.validation == 0 and self.monitors.on_overfitting != "warn":
            raise InputError(
                f"monitors.on_overfitting={self.monitors.on_overfitting} has no effect without validation images: set "
                "data.validation."
            )
        check_seed("seed", self.seed)

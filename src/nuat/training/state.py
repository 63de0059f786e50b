"""State of a run: all that it needs to go on bit for bit after an interruption."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nuat.config import OptimizerConfig, TrainConfig
from nuat.core import averaging
from nuat.defenses import State
from nuat.distributed.world import ALONE, World
from nuat.errors import InputError
from nuat.training.writer import copied

_COUNTERS = (
    "epoch",
    "batch",
    "step",
    "images",
    "best_accuracy",
    "best_epoch",
    "best_average",
    "collapsed_epochs",
    "brakes",
    "braked_at",
    "seconds",
    "forwards",
    "backwards",
    "metrics_bytes",
)


@dataclass(kw_only=True)
class TrainingState:
    """Mutable state of a run; ``epoch``, ``batch`` and ``step`` are the next ones, from 0."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    """Generator of the augmentation and the noise, on the run's device."""
    averages: tuple[averaging.Average, ...]
    """Weight averages, one for each decay of the settings."""
    defense: State
    """State of the defense."""
    per_image: tuple[str, ...] = ()
    """Names in the defense's state of what is kept per image: this process's images alone."""
    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Sums of the metrics over the images of this epoch so far, float64 scalars on the device."""
    images: int = 0
    """Images of this epoch so far."""
    best_accuracy: float = -1.0
    """Highest validation accuracy so far, clean or under PGD as the defense is judged."""
    best_epoch: int = -1
    """Epoch of that accuracy, from 0."""
    best_average: int = 0
    """Place of the average that had it; it is shipped."""
    collapsed_epochs: int = 0
    """Epochs in a row whose clean loss was that of a constant model."""
    brakes: int = 0
    """Times that the run went back to its last good epoch, each of which halves the learning rate."""
    braked_at: int = 0
    """Epochs done when it last did."""
    good: dict[str, Any] | None = None
    """Copy of ``trained``, ``epoch`` and ``pgd`` at the end of the last good epoch. None: the settings do not brake."""
    seconds: float = 0.0
    """Seconds of training, without validation and checkpoints."""
    forwards: int = 0
    backwards: int = 0
    metrics_bytes: int = 0
    """Size of the metrics file [bytes]."""

    @classmethod
    def start(cls, config: TrainConfig, model: nn.Module, device: torch.device) -> "TrainingState":
        """Return the state before the first step of ``model``, which is on ``device``."""
        state = cls(
            model=model,
            optimizer=_optimizer(config.optimizer, model),
            generator=torch.Generator(device).manual_seed(config.seed),
            averages=tuple(averaging.start(model) for _ in config.averaging.taus),
            defense=config.defense.init_state(model),
            per_image=config.defense.per_image,
        )
        if config.monitors.brakes:
            state.keep()
        return state

    def trained(self) -> dict[str, Any]:
        """Return what training moves, but for counters and generators: the tensors themselves, not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "average": self.averages,
            "defense": self.defense,
        }

    def keep(self, pgd: float = 0.0) -> None:
        """Remember the present state as that of the last good epoch, with its validation accuracy under PGD."""
        self.good = {"epoch": self.epoch, "pgd": pgd, **copied(self.trained())}

    def add(self, metrics: dict[str, Tensor | float], images: int, *, skip: Tensor | None = None) -> None:
        """Add a batch's metrics to the epoch's sums, without waiting for the device.

        Where ``skip``, a bool scalar on the device, is true, they are left out; the caller later takes ``images`` back.
        """
        device = self.generator.device
        for name, value in metrics.items():
            total = self.sums.get(name)
            if isinstance(value, Tensor):
                value = value.to(device, torch.float64) * images
            else:  # filled in on the device: a copy from the host would wait for it
                value = torch.full((), float(value) * images, dtype=torch.float64, device=device)
            if skip is not None:
                value = value.masked_fill(skip, 0.0)
            self.sums[name] = value if total is None else total + value
        self.images += images

    def means(self) -> dict[str, float]:
        """Return the means of the metrics over this epoch's images so far."""
        totals = torch.stack(list(self.sums.values())).tolist()  # waits for the device once
        return {name: total / self.images for name, total in zip(self.sums, totals, strict=True)}

    def to_dict(self, world: World = ALONE) -> dict[str, Any]:
        """Return the state as plain data for a checkpoint, the same on every process and for any number of them."""
        device = self.generator.device
        good = self.good
        if good is not None:
            good = {**good, "defense": self._gathered(good["defense"], world)}
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            # one per process: dropout and the like draw from them
            "torch_rng": world.objects(torch.get_rng_state()),
            "cuda_rng": world.objects(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
            "average": list(self.averages) if len(self.averages) > 1 else next(iter(self.averages), None),
            "defense": self._gathered(self.defense, world),
            "sums": self.sums,
            **({} if good is None else {"good": good}),
            **{name: getattr(self, name) for name in _COUNTERS},
        }

    def _gathered(self, defense: State, world: World) -> State:
        """Return a state of the defense with what is kept per image of all processes."""
        values = {name: defense[name] for name in self.per_image if defense[name] is not None}
        return defense | {name: world.gather(v, sum(world.objects(len(v)))) for name, v in values.items()}

    def _own(self, defense: State, world: World) -> State:
        """Return a state of the defense with what is kept per image of this process, on its device."""
        found: State = _to(defense, self.generator.device)
        values = {name: found[name] for name in self.per_image if found[name] is not None}
        return found | {name: world.rows(value).clone() for name, value in values.items()}

    def load(self, values: dict[str, Any], where: str, world: World = ALONE) -> None:
        """Take a state from ``to_dict``, perhaps of another number of processes.

        Raises:
            InputError: the state is of another architecture, defense or kind of device (nothing is changed then), or
                damaged.
        """
        try:
            self._load(values, where, world)
        except InputError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise InputError(f"{where}: damaged; not the state of a run ({type(error).__name__}).") from error

    def _load(self, values: dict[str, Any], where: str, world: World) -> None:
        self._check(values, where)
        device = self.generator.device
        self.model.load_state_dict(values["model"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.generator.set_state(values["generator"])
        host, gpu = _each(values["torch_rng"]), _each(values["cuda_rng"])
        if world.rank < len(host):  # further processes keep their own
            torch.set_rng_state(host[world.rank])
            if device.type == "cuda":
                torch.cuda.set_rng_state(gpu[world.rank], device)
        for average, kept in zip(self.averages, _averages(values["average"]), strict=True):
            for name, tensor in average.items():
                tensor.copy_(kept[name])
        self.defense = self._own(values["defense"], world)
        if self.good is not None:
            good = values["good"]
            self.good = {**_to(good, device), "defense": self._own(good["defense"], world)}
        self.sums = _to(values["sums"], device)
        for name in _COUNTERS:
            setattr(self, name, values.get(name, 0))

    def _check(self, values: dict[str, Any], where: str) -> None:
        missing = (
            self.to_dict().keys() - values.keys() - {"best_average", "brakes", "braked_at"}
        )  # older ones have none
        if missing:
            raise InputError(f"{where}: not a checkpoint of a run; it lacks {', '.join(sorted(missing))}.")
        ours = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        theirs = {name: getattr(tensor, "shape", None) for name, tensor in values["model"].items()}
        if ours != theirs:
            odd = next(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
            raise InputError(
                f"{where}: of another architecture; {odd!r} is {theirs.get(odd)} there, {ours.get(odd)} in the model."
            )
        averages = len(_averages(values["average"]))
        if len(self.averages) != averages or self.defense.keys() != values["defense"].keys():
            raise InputError(f"{where}: of another defense or averaging than config.json says.")
        if (self.generator.device.type == "cuda") != (values["cuda_rng"] is not None):
            raise InputError(
                f"{where}: written on another kind of device; a run continues bit for bit only on the kind it began on."
            )


def _optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of the settings; the loop sets its learning rate before each step."""
    rate, decay = config.lr(0.0), config.weight_decay
    if config.name == "adam":
        betas = (config.momentum, 0.999)
        return torch.optim.Adam(model.parameters(), lr=rate, betas=betas, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        model.parameters(),
        lr=rate,
        momentum=config.momentum,
        weight_decay=decay,
        nesterov=config.nesterov,
        fused=True,
    )


def _averages(kept: Any) -> list[Any]:
    """Return the averages of a checkpoint, which holds one average as it is."""
    return [] if kept is None else kept if isinstance(kept, list) else [kept]


def _each(states: Any) -> list[Tensor]:
    """Return the generator states of the processes; older checkpoints hold that of the first one alone."""
    return [states] if isinstance(states, Tensor) else states or []


def _to(values: Any, device: torch.device) -> Any:
    """Return nested dictionaries and sequences with their tensors on ``device``."""
    if isinstance(values, dict):
        return {name: _to(value, device) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(_to(value, device) for value in values)
    return values.to(device) if isinstance(values, Tensor) else values


def tensors_of(values: Any) -> list[Tensor]:
    """Return the tensors in nested dictionaries and sequences, in order."""
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [tensor for value in values for tensor in tensors_of(value)]
    return [values] if isinstance(values, Tensor) else []

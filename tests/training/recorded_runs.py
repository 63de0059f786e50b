"""Runs in which everything moves from update to update, and defenses that cannot be recorded."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from cases import DEFENSES
from torch import Tensor, nn
from training.small_runs import SMALL_CNN, small_config

from nuat.config import AveragingConfig, DataConfig, OptimizerConfig, TrainConfig
from nuat.core.losses import cross_entropy
from nuat.core.schedules import Cyclic
from nuat.defenses import BatchLoss, Defense, State, Step
from nuat.distributed.world import ALONE
from nuat.training.graph import unsuited

EPOCHS, BATCHES = 3, 6
SUITED = [name for name, case in DEFENSES.items() if unsuited(TrainConfig(defense=case.defense), ALONE) is None]
"""Defenses whose updates can be recorded."""


def moving(images: Path, defense: Defense, **changes: Any) -> TrainConfig:
    """Return settings in which everything moves: rate, momentum, eps, decay, and the defense's own schedules."""
    config = small_config(
        images,
        defense=defense,
        data=DataConfig(path=images, validation=20, train_limit=BATCHES * 4 + 2, crop_padding=1, flip=True),
        model=SMALL_CNN,
        optimizer=OptimizerConfig(lr=Cyclic(peak=0.05, rise=0.5), momentum_at_peak=0.8),
        averaging=AveragingConfig(tau=0.9, warmup=True),
        eps_warmup=0.0 if defense.judged_by == "clean" else 0.9,
        epochs=EPOCHS,
        batch_size=4,
    )
    return replace(config, **changes)


@dataclass(frozen=True, kw_only=True)
class Curriculum(Defense):
    """Weighs the loss by the epoch in a number of its own, which a recording does not see move."""

    def step_kind(self, step: Step) -> str:
        return "every"

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        return BatchLoss((1.0 + step.epoch) * cross_entropy(model(x), y))


@dataclass(frozen=True, kw_only=True)
class Replacing(Curriculum):
    """Replaces a tensor of its state, so that a recording would read the first one for ever."""

    def step_kind(self, step: Step) -> str:
        return "every"

    def init_state(self, model: nn.Module) -> State:
        return {"steps": torch.zeros(())}

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        state["steps"] = state["steps"] + 1
        return BatchLoss(state["steps"] * cross_entropy(model(x), y))


@dataclass(frozen=True, kw_only=True)
class Asking(Curriculum):
    """Asks the device for a value, which a GPU refuses while it records."""

    def step_kind(self, step: Step) -> str:
        return "every"

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        loss = cross_entropy(model(x), y)
        return BatchLoss(loss if float(loss) > 0 else 2 * loss)


@dataclass(frozen=True, kw_only=True)
class Undeclared(Curriculum):
    """Inherits its kinds of steps from a class whose loss it has changed."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        return BatchLoss(cross_entropy(model(x), y))

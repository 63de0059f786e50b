"""Five updates of a defense on one process or several, in float64: what each leaves behind."""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from oracles import TinyConv, images, labels
from torch import Tensor, nn

from nuat import models
from nuat.config import AveragingConfig, DistributedConfig, ModelConfig, OptimizerConfig, ThreatConfig, TrainConfig
from nuat.core.schedules import MultiStep, Ramp
from nuat.data import Batch
from nuat.defenses import (
    AWP,
    FBF,
    FGSMAT,
    FGSMPGI,
    GAT,
    LIET,
    NFGSM,
    PGDAT,
    RFGSMAT,
    RMGM,
    TRADES,
    TRADESAWP,
    Defense,
    FreeAT,
    NuAT,
    NuAT2,
    NuATHybrid,
    Standard,
)
from nuat.distributed.world import ALONE, World
from nuat.training.state import TrainingState
from nuat.training.update import Updater

EPS = 0.1
CLASSES = 4
SIZES = (8, 8, 6)
"""Images in the batches of an epoch; the last is short, and does not divide by four."""
UPDATES = 5
LAM = Ramp(peak=6.0, until=0.5)

DEFENSES: dict[str, tuple[Defense, float | None]] = {
    "nuat": (NuAT(lam=LAM), None),
    "nuat-authors": (NuAT(lam=LAM, passes="authors", scale="gaussian"), None),
    "nuat2-wa": (NuAT2(lam=LAM, attack_tau=0.7), 0.9),
    "nuat-h": (NuATHybrid(lam=LAM, drop=0.01), None),
    "trades": (TRADES(steps=3), None),
    "awp": (AWP(steps=2), None),
    "trades-awp": (TRADESAWP(steps=2), None),
    "free-at": (FreeAT(replays=2), None),
    "fgsm-pgi": (FGSMPGI(), None),
    "liet": (LIET(every=2), None),
    "gat": (GAT(), None),
    "pgd-at": (PGDAT(steps=2), None),
    "r-mgm": (RMGM(), None),
    "fbf": (FBF(), None),
    "n-fgsm": (NFGSM(), None),
    "rfgsm-at": (RFGSMAT(), None),
    "fgsm-at": (FGSMAT(), None),
    "standard": (Standard(), None),
}
"""Name to a defense and the decay of the run's weight average."""


def config_of(name: str, *, batch_norm: bool, accumulate: int = 1, statistics: str = "global") -> TrainConfig:
    defense, tau = DEFENSES[name]
    return TrainConfig(
        defense=defense,
        model=ModelConfig(name="small-cnn"),
        threat=ThreatConfig(eps=EPS),
        optimizer=OptimizerConfig(lr=MultiStep(peak=0.0003, drops=(0.9,))),
        averaging=AveragingConfig(tau=tau),
        distributed=DistributedConfig(batch_norm="sync" if batch_norm else "device", statistics=statistics),
        epochs=3,
        batch_size=8,
        accumulate=accumulate,
    )


@dataclasses.dataclass
class Left:
    """Results of a run on the whole batch."""

    losses: list[float]
    attacks: list[Tensor]
    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None
    defense: dict[str, Any]
    events: list[Any]
    forwards: int


def train(config: TrainConfig, world: World = ALONE, *, batch_norm: bool) -> Left:
    """Do five updates; the perturbed images are gathered from all processes."""
    model: nn.Module = TinyConv(classes=CLASSES, batch_norm=batch_norm, dropout=0.0).double()
    with torch.no_grad():
        model.linear.weight.mul_(0.1)  # a saturated image's gradient is rounding, and its sign a coin
    if config.distributed.batch_norm == "sync":
        model = models.synchronise_batch_norm(model, world)
    state = TrainingState.start(config, model.train(), torch.device("cpu"))
    updater = Updater(config, state, world, steps=2 * UPDATES, batches=len(SIZES))
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    left = Left([], [], {}, None, {}, [], 0)
    for epoch in range(2):
        for first in range(0, len(SIZES), config.accumulate):
            if state.step == UPDATES:
                break
            state.epoch, state.batch = epoch, first
            batches = [batch_of(epoch, b, world) for b in range(first, min(first + config.accumulate, len(SIZES)))]
            for _ in range(config.defense.updates_per_batch):
                terms = updater.update(batches)
                state.step += 1
                left.losses.append(float(terms[-1].loss.detach()))
                left.events += [event for of_batch in terms for event in of_batch.events]
                left.attacks.append(world.gather(seen[-1], len(batches[-1].y)))  # the last pass is on attacked images
    left.forwards = len(seen)
    left.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    values = state.to_dict(world)
    left.average, left.defense = values["average"], values["defense"]
    return left


def batch_of(epoch: int, number: int, world: World) -> Batch:
    m = SIZES[number]
    x, y = images(m, 3, 6, torch.float64, EPS, 10 * epoch + number), labels(m, CLASSES, 10 * epoch + number)
    return Batch(x=world.rows(x).contiguous(), y=y, index=torch.arange(m))


def run_processes(size: int, task: Any, *arguments: Any, folder: Path, timeout: float = 120.0) -> list[Any]:
    """Call ``task(world, *arguments)`` in ``size`` processes joined by Gloo; return what each returned, by rank."""
    context = torch.multiprocessing.get_context("forkserver")
    # a process is forked with what takes seconds to import
    context.set_forkserver_preload(["pytest", "torch._dynamo", "nuat.training", "nuat.evaluation"])
    torch.multiprocessing.start_processes(
        _process, (size, task, arguments, str(folder), timeout), nprocs=size, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _process(rank: int, size: int, task: Any, arguments: Any, folder: str, timeout: float) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=timeout),
    )
    try:
        torch.save(task(World(rank, size, rank), *arguments), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()

"""Exchanges of real processes in an update against those that ``nuat plan`` predicts."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from distributed.engine import CLASSES, SIZES, batch_of, config_of, run_processes
from oracles import TinyConv
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from nuat.distributed.world import World
from nuat.plan.communication import traffic
from nuat.training.state import TrainingState
from nuat.training.update import Updater

CASES: dict[str, dict[str, Any]] = {
    "nuat": {},
    "nuat with batch norm": {"batch_norm": True},
    "nuat with statistics of a device": {"statistics": "device"},
    "nuat, two batches an update": {"accumulate": 2, "batch_norm": True},
    "nuat-h": {"defense_calls": 2},
    "awp": {"defense_calls": 1},
    "free-at": {"updates": 2, "batch_norm": True},
}
"""Name of a case, which begins with its defense, to its settings; a plan is told the same."""
WIDE = 1 << 10


def exchanged(world: World, case: str) -> tuple[int, int, int]:
    """Return the calls that a process made in the updates of one batch or, accumulated, of several.

    With them the forward passes and the parameters of the network.
    """
    told = CASES[case]
    accumulate, batch_norm = told.get("accumulate", 1), told.get("batch_norm", False)
    # batch norm, where there is any, per device
    config = config_of(
        case.split(" ")[0].rstrip(","),
        batch_norm=False,
        accumulate=accumulate,
        statistics=told.get("statistics", "global"),
    )
    model = TinyConv(classes=CLASSES, batch_norm=batch_norm, dropout=0.0).double()
    state = TrainingState.start(config, model.train(), torch.device("cpu"))
    updater = Updater(config, state, world, steps=10, batches=len(SIZES))
    passes: list[None] = []
    model.register_forward_hook(lambda *_: passes.append(None))
    with (
        mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as summed,
        mock.patch.object(dist, "all_gather", wraps=dist.all_gather) as gathered,
        # an object goes as two tensors
        mock.patch.object(dist.distributed_c10d, "broadcast", wraps=dist.distributed_c10d.broadcast) as sent,
    ):
        for _ in range(config.defense.updates_per_batch):
            updater.update([batch_of(0, number, world) for number in range(accumulate)])
    calls = summed.call_count + gathered.call_count + sent.call_count
    return calls, len(passes), sum(p.numel() for p in model.parameters())


def buckets(world: World) -> tuple[int, int]:
    """Return the calls in which DistributedDataParallel averages gradients of 41 MiB, and their numbers."""
    seen: list[int] = []

    def counted(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        seen.append(bucket.index())
        return allreduce_hook(state, bucket)  # type: ignore[arg-type]

    model = nn.Sequential(nn.Linear(256, WIDE, bias=False), *(nn.Linear(WIDE, WIDE, bias=False) for _ in range(10)))
    parallel = DistributedDataParallel(model)
    parallel.register_comm_hook(None, counted)
    for _ in range(2):  # torch settles on its buckets after the first
        seen.clear()
        torch.autograd.backward(parallel(torch.ones(1, 256)).sum())
    return len(seen), sum(p.numel() for p in model.parameters())


def everything(world: World) -> dict[str, tuple[int, ...]]:
    return {**{case: exchanged(world, case) for case in CASES}, "buckets": buckets(world)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[int, ...]]]:
    return run_processes(2, everything, folder=Path(tmp_path_factory.mktemp("processes")))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_calls_of_an_update_are_those_of_a_plan(found: list[dict[str, tuple[int, ...]]], case: str) -> None:
    told = {**CASES[case]}
    norms = {"norm_layers": 2, "norm_channels": 10} if told.pop("batch_norm", False) else {}
    accumulate, updates = told.get("accumulate", 1), told.get("updates", 1)
    for of_process in found:
        calls, forwards, parameters = of_process[case]
        planned = traffic(
            devices=2, parameters=parameters, batch=8, classes=CLASSES, forwards=forwards / accumulate, **told, **norms
        )
        # torch averages the gradients of an update, here a single bucket, out of Python's sight; and the loop, not the
        # update, asks whether to stop
        assert calls + updates + 1 == accumulate * planned.calls


@pytest.mark.slow
def test_the_calls_of_large_gradients_are_those_of_a_plan(found: list[dict[str, tuple[int, ...]]]) -> None:
    for of_process in found:
        calls, parameters = of_process["buckets"]
        planned = traffic(devices=2, parameters=parameters, batch=8, classes=CLASSES, forwards=0, statistics="device")
        assert calls == 3
        assert calls + 2 == planned.calls  # whether it was bad, whether to stop

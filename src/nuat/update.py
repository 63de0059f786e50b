"""One update of the weights: batches become a loss, its gradient moves the weights, the average follows."""

import contextlib
import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nuat import averaging
from nuat.config import TrainConfig
from nuat.data import Batch
from nuat.defenses import BatchLoss, Defense, State, Step
from nuat.nuclear import NonFiniteError
from nuat.schedules import warm_up
from nuat.state import TrainingState
from nuat.threat import Linf
from nuat.world import World


class Objective(nn.Module):
    """A defense's loss as a module, so that DistributedDataParallel can follow its backward pass.

    What attacks differentiate on the way is the images alone, which reaches no weight and exchanges no gradient.
    """

    def __init__(self, model: nn.Module, defense: Defense, world: World, *, joint: bool) -> None:
        super().__init__()
        self.model = model
        self._defense, self._world, self._joint = defense, world, joint

    def forward(self, batch: Batch, step: Step, state: State) -> BatchLoss:
        """Return the loss of the global batch, or with statistics per device that of this process's images."""
        world = self._world
        if not self._joint:
            return self._defense.loss(self.model, batch.x, world.rows(batch.y), step, state)
        with world.joint(self.model, len(batch.y)):
            return self._defense.loss(self.model, batch.x, batch.y, step, state)


class Updater:
    """Moves the weights of a run, update by update."""

    def __init__(self, config: TrainConfig, state: TrainingState, world: World, *, steps: int, batches: int) -> None:
        """Take the settings, the state that is moved, and the updates of the run and the batches of an epoch."""
        self._config, self._state, self._world = config, state, world
        self._steps, self._batches = steps, batches
        self._joint = config.distributed.statistics == "global"
        self._average_buffers = world.size > 1 and config.distributed.batch_norm == "device"
        objective = Objective(state.model, config.defense, world, joint=self._joint)
        self._objective: nn.Module = objective
        if world.size > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # its new name is not in every version that we run on
                # buffers are ours to keep equal: a broadcast would throw away what the other processes' images say
                self._objective = DistributedDataParallel(
                    objective, broadcast_buffers=False, gradient_as_bucket_view=True
                )

    def update(self, batches: Sequence[Batch]) -> list[BatchLoss]:
        """Do one update on the mean of the batches' gradients; return the terms of each.

        Raises:
            NonFiniteError: the loss or its gradient is infinite or NaN; weights and buffers are as before.
        """
        config, state = self._config, self._state
        rate = config.optimizer.lr(state.step / self._steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        # a forward pass on bad weights spoils batch norm's running statistics, too
        buffers = [b.clone() for b in state.model.buffers()] if config.monitors.on_nonfinite == "skip" else []
        state.optimizer.zero_grad(set_to_none=True)
        done: list[tuple[BatchLoss, int]] = []
        try:
            for position, batch in enumerate(batches):
                step = self._step(batch, position)
                done.append((self._backward(batch, step, batches), len(batch.y) if self._joint else len(batch.x)))
        except NonFiniteError:
            for buffer, before in zip(state.model.buffers(), buffers, strict=bool(buffers)):
                buffer.copy_(before)
            raise
        state.optimizer.step()
        config.defense.after_step(state.model, step, state.defense)
        if self._average_buffers:
            self._world.average_buffers(state.model)
        if state.average is not None and config.averaging.tau is not None:
            tau = averaging.decay(config.averaging.tau, state.step, warmup=config.averaging.warmup)
            averaging.update(state.average, state.model, tau)
        for terms, images in done:
            state.add({"loss": terms.loss.detach(), **terms.metrics}, images)
        return [terms for terms, _ in done]

    def _step(self, batch: Batch, position: int) -> Step:
        """Return where in the run a batch stands, the ``position``-th of its update."""
        config, state = self._config, self._state
        warmup = warm_up(state.step, config.eps_warmup * self._steps)
        return Step(
            threat=Linf(config.threat.eps * warmup),
            epoch=state.epoch,
            epochs=config.epochs,
            batch=state.batch + position,
            batches=self._batches,
            warmup=warmup,
            generator=self._world.source(state.generator, len(batch.y)),
            index=batch.index,
            world=self._world,
        )

    def _backward(self, batch: Batch, step: Step, batches: Sequence[Batch]) -> BatchLoss:
        """Add a batch's gradient to that of the update; the last batch's pass exchanges it between the processes."""
        state, world = self._state, self._world
        wait = batch is not batches[-1] and isinstance(self._objective, DistributedDataParallel)
        with self._objective.no_sync() if wait else contextlib.nullcontext():  # type: ignore[operator]
            with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
                terms: BatchLoss = self._objective(batch, step, state.defense)
            # images of this batch among those of the update; and DistributedDataParallel takes a mean, where the global
            # loss wants a sum of its parts, and a loss of this process's images a mean over all images
            share = len(batch.y) / sum(len(b.y) for b in batches)
            share *= world.size if self._joint else world.size * len(batch.x) / len(batch.y)
            torch.autograd.backward(terms.loss if share == 1.0 else share * terms.loss)
        if not wait:
            self._check_finite(terms)
        return terms

    def _check_finite(self, terms: BatchLoss) -> None:
        """Refuse a loss or gradients that are infinite or NaN, before they reach the weights."""
        gradients = [p.grad for p in self._state.model.parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients)) if gradients else terms.loss.detach()
        if not bool(torch.isfinite(norms).all() & torch.isfinite(terms.loss.detach())):
            raise NonFiniteError("the loss or its gradient is infinite or NaN")

"""One update of the weights: batches to a loss, its gradient to the weights, the weights to the average."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nuat.config import TrainConfig
from nuat.core import averaging
from nuat.core.nonfinite import Watch, check_finite
from nuat.core.pass_counter import PassCounter
from nuat.core.schedules import warm_up
from nuat.data import Batch
from nuat.defenses import BatchLoss, Defense, State, Step
from nuat.distributed.world import World
from nuat.errors import NonFiniteError
from nuat.training import brake
from nuat.training.device_numbers import Held, Numbers
from nuat.training.state import TrainingState, tensors_of
from nuat.training.union import BallChoice

NONFINITE = "the loss or its gradient is infinite or NaN"


class Objective(nn.Module):
    """Loss of a defense as a module, so that DistributedDataParallel can follow its backward pass on several devices.

    Attacks on the way differentiate the images alone, which reaches no weight and exchanges no gradient.
    """

    def __init__(self, model: nn.Module, defense: Defense, world: World, *, joint: bool) -> None:
        super().__init__()
        self.model = model
        self._defense, self._world, self._joint = defense, world, joint

    def forward(self, batch: Batch, step: Step, state: State) -> BatchLoss:
        """Return the loss of the global batch; with statistics per device, the loss of this process's images."""
        world = self._world
        if not self._joint:
            return self._defense.loss(self.model, batch.x, world.rows(batch.y), step, state)
        with world.joint(self.model, len(batch.y)):
            return self._defense.loss(self.model, batch.x, batch.y, step, state)


@dataclass(frozen=True)
class Taken:
    """An update that was taken."""

    terms: tuple[BatchLoss, ...]
    """Terms of each batch; the loss is detached."""
    bad: Tensor | None
    """Bool scalar on the device: whether the update was left out there. None: it was checked at once."""


@dataclass(frozen=True)
class Skipped:
    """An update that the device skipped, because the loss or a gradient was infinite or NaN."""

    epoch: int
    batch: int
    """First batch of the update within the epoch; both from 0."""


class Updater:
    """Move the weights of a run, update by update.

    On a GPU it does not wait for the device: a bad update is skipped there, and ``skipped`` reports it later. The same
    holds with several processes, none of which may leave an update that the others are in.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainingState,
        world: World,
        *,
        steps: int,
        batches: int,
        defers: bool | None = None,
    ) -> None:
        """Take the settings and the state to move.

        Args:
            config: settings of the run.
            state: state that is moved.
            world: processes that train together.
            steps: updates of the whole run.
            batches: batches per epoch.
            defers: whether bad updates are left to the device. None: on a GPU and with several processes.
        """
        self._config, self._state, self._world = config, state, world
        self._steps, self._batches = steps, batches
        needed = state.generator.device.type == "cuda" or world.size > 1
        self._defers = needed if defers is None else defers
        self._pending: list[tuple[Skipped, int, Tensor]] = []
        self._joint = config.distributed.statistics == "global"
        self._momentum_cycles = config.optimizer.momentum_at_peak is not None
        self._average_buffers = world.size > 1 and config.distributed.batch_norm == "device"
        self._balls = BallChoice(config, state.model, world)
        self._objective: DistributedDataParallel | None = None
        if world.size > 1:
            objective = Objective(state.model, config.defense, world, joint=self._joint)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # its new name is not in every supported version
                # average_buffers keeps buffers equal; a broadcast would drop the statistics of other processes' images
                self._objective = DistributedDataParallel(
                    objective, broadcast_buffers=False, gradient_as_bucket_view=True
                )

    def update(self, batches: Sequence[Batch]) -> tuple[BatchLoss, ...]:
        """Do one update on the mean of the batches' gradients; return the terms of each.

        Raises:
            NonFiniteError: the loss or its gradient is infinite or NaN; on a GPU and with several processes,
                ``skipped`` reports it instead. Either way the weights and averages stay, and so do the buffers if the
                settings go on after it. The state of the defense, such as a count, has moved.
        """
        numbers = self.numbers()
        passes = PassCounter(self._state.model)
        try:
            with passes:
                taken = self.take(batches, numbers)
        finally:  # an update that is refused has had its passes, too
            self.count(passes, batches)
        self.note(taken, batches)
        return taken.terms

    def numbers(self) -> Numbers:
        """Return the numbers of the next update, which the optimizer is given, too."""
        config, state = self._config, self._state
        done_share = state.step / self._steps
        warmup = warm_up(state.step, config.eps_warmup * self._steps)
        averages = config.averaging
        numbers = Numbers(
            rate=config.optimizer.lr(done_share) * brake.rate_factor(state),
            momentum=config.optimizer.momentum_at(done_share),
            warmup=warmup,
            decays=tuple(averaging.decay(tau, state.step, warmup=averages.warmup) for tau in averages.taus),
        )
        for group in state.optimizer.param_groups:
            group["lr"] = numbers.rate
            if self._momentum_cycles:
                group["momentum"] = numbers.momentum
        return numbers

    def take(self, batches: Sequence[Batch], numbers: Numbers, held: Held | None = None) -> Taken:
        """Do one update without counting it.

        Args:
            batches: batches that share the update.
            numbers: numbers of the update.
            held: if ``numbers`` are scalars on the device, so that the operations can be recorded: what returns those
                of schedules. None: they are floats.

        Raises:
            NonFiniteError: see ``update``.
        """
        config, state = self._config, self._state
        # a forward pass on bad weights also spoils batch norm's running statistics
        buffers = [b.clone() for b in state.model.buffers()] if config.monitors.on_nonfinite == "skip" else []
        state.optimizer.zero_grad(set_to_none=True)
        done: list[BatchLoss] = []
        watch = Watch()
        try:
            with watch.entered() if self._defers else contextlib.nullcontext():
                for position, batch in enumerate(batches):
                    step = self.step(batch, position, numbers, held)
                    with self._exchange(last=batch is batches[-1]):
                        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                            if self._objective is None:
                                terms = config.defense.loss(state.model, batch.x, batch.y, step, state.defense)
                            else:
                                terms = self._objective(batch, step, state.defense)
                        share = self._share(batch, batches)
                        torch.autograd.backward(terms.loss if share == 1.0 else share * terms.loss)
                    # detached: the graph of a step that is over would tie the next one's gradients to its stream
                    done.append(replace(terms, loss=terms.loss.detach()))
                self._check_finite(terms)
        except NonFiniteError:
            for buffer, before in zip(state.model.buffers(), buffers, strict=bool(buffers)):
                buffer.copy_(before)
            raise
        bad = None if watch.bad is None else self._world.sum([watch.bad.float()])[0] > 0
        self._follow(bad, step, buffers, numbers, on_device=held is not None)
        return Taken(tuple(done), bad)

    def note(self, taken: Taken, batches: Sequence[Batch]) -> None:
        """Add an update to the sums of the epoch, and remember to ask whether it was skipped."""
        state, bad = self._state, taken.bad
        images = [len(batch.y) if self._joint else len(batch.x) for batch in batches]
        for terms, n in zip(taken.terms, images, strict=True):
            state.add({"loss": terms.loss, **terms.metrics}, n, skip=bad)
        if bad is not None:
            self._pending.append((Skipped(state.epoch, state.batch), sum(images), bad.clone()))

    def count(self, passes: PassCounter, batches: Sequence[Batch]) -> None:
        """Add passes to the run's; they are counted on this process's images, and every process does the same."""
        share = sum(len(b.y) for b in batches) / sum(len(b.x) for b in batches)
        self._state.forwards += round(share * passes.forwards)
        self._state.backwards += round(share * passes.backwards)

    def _follow(
        self,
        bad: Tensor | None,
        step: Step,
        buffers: Sequence[Tensor],
        numbers: Numbers,
        *,
        on_device: bool,
    ) -> None:
        """Move the weights and their followers, unless ``bad`` is given and true on the device.

        Args:
            bad: bool scalar on the device. None: the update is good.
            step: position of the update's last batch.
            buffers: buffers of the model before the update, to set back if it is bad; empty: leave them.
            numbers: numbers of the update.
            on_device: whether they are scalars on the device.
        """
        config, state = self._config, self._state
        if bad is not None:
            self._fill_momentum()
            state.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # the fused optimizers obey it
        with self._read_from_device(numbers, bad) if on_device else contextlib.nullcontext():
            state.optimizer.step()
        if self._average_buffers:  # first, because a defense may average them over the steps
            self._world.average_buffers(state.model)
        with _undone_where(bad, tensors_of(state.defense) if _follows(config.defense) else ()):
            config.defense.after_step(state.model, step, state.defense)
        if bad is not None:
            for buffer, before in zip(state.model.buffers(), buffers, strict=bool(buffers)):
                buffer.copy_(torch.where(bad, before, buffer))
        for average, decay in zip(state.averages, numbers.decays, strict=True):
            averaging.update(average, state.model, decay, skip=bad)

    @contextlib.contextmanager
    def _read_from_device(self, numbers: Numbers, bad: Tensor | None) -> Iterator[None]:
        """Let the optimizer read its rate and momentum from scalars on the device during the block.

        Torch's fused SGD takes the rate as a tensor, but not the momentum. So where that moves, the buffers are
        multiplied by it first, and the optimizer by 1. (Nesterov's momentum, which enters twice, is refused before.)
        """
        groups, on_gpu = self._state.optimizer.param_groups, self._state.generator.device.type == "cuda"
        before = [dict(group) for group in groups]
        if self._momentum_cycles:
            momentum = torch.as_tensor(numbers.momentum)
            factor = momentum if bad is None else torch.where(bad, torch.ones_like(momentum), momentum)
            held = [self._state.optimizer.state[p].get("momentum_buffer") for group in groups for p in group["params"]]
            torch._foreach_mul_([buffer for buffer in held if buffer is not None], factor)
        for group in groups:
            group["lr"] = numbers.rate
            if self._momentum_cycles:
                group["momentum"] = 1.0
            if "capturable" in group:
                group["capturable"] = on_gpu and torch.cuda.is_current_stream_capturing()
        try:
            yield
        finally:
            for group, old in zip(groups, before, strict=True):
                group.update(old)

    def skipped(self) -> list[Skipped]:
        """Return the updates that the device skipped since the last call; this waits for the device."""
        pending, self._pending = self._pending, []
        if not pending:
            return []
        flags = torch.stack([bad for _, _, bad in pending]).tolist()
        found = [(where, images) for (where, images, _), bad in zip(pending, flags, strict=True) if bad]
        self._state.images -= sum(images for _, images in found)
        return [where for where, _ in found]

    def _fill_momentum(self) -> None:
        """Set momentum to 0 before the first update; if that is skipped, momentum would be uninitialised memory."""
        optimizer = self._state.optimizer
        if isinstance(optimizer, torch.optim.SGD) and not optimizer.state and self._config.optimizer.momentum > 0:
            for parameter in self._state.model.parameters():
                if parameter.grad is not None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def step(self, batch: Batch, position: int, numbers: Numbers, held: Held | None = None) -> Step:
        """Return the step of a batch, the ``position``-th of its update; the rest is as in ``take``."""
        config, state = self._config, self._state
        ball = self._balls.of(batch, (state.epoch, state.batch + position))
        return Step(
            threat=ball.scaled(numbers.warmup),
            epoch=state.epoch,
            epochs=config.epochs,
            batch=state.batch + position,
            batches=self._batches,
            size_factor=numbers.warmup * (ball.eps / config.threat.eps),
            two_steps=brake.attacks_twice(state),
            held=held,
            generator=self._world.source(state.generator, len(batch.y)),
            index=batch.index,
            world=self._world,
        )

    def _exchange(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of a backward pass; that of an update's last batch exchanges the gradients."""
        if not last and self._objective is not None:
            return self._objective.no_sync()
        return contextlib.nullcontext()

    def _share(self, batch: Batch, batches: Sequence[Batch]) -> float:
        """Return the weight of a batch's loss in the gradient of its update.

        It is the batch's fraction of the update's images. DistributedDataParallel takes the mean over the processes,
        while the gradient of the global loss is their sum, and a loss of each process's images has its images' weight.
        """
        share = len(batch.y) / sum(len(b.y) for b in batches)
        return share * (self._world.size if self._joint else self._world.size * len(batch.x) / len(batch.y))

    def _check_finite(self, terms: BatchLoss) -> None:
        """Refuse a loss or gradients that are infinite or NaN, before they reach the weights."""
        gradients = [p.grad for p in self._state.model.parameters() if p.grad is not None]
        norms = torch._foreach_norm(gradients) if gradients else ()
        check_finite(torch.stack([terms.loss.detach().to(torch.float32), *(norm.float() for norm in norms)]), NONFINITE)


def _follows(defense: Defense) -> bool:
    """Return whether a defense defines ``after_step``."""
    return type(defense).after_step is not Defense.after_step


@contextlib.contextmanager
def _undone_where(bad: Tensor | None, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Undo changes of ``tensors`` in the block if ``bad``, a bool scalar on the device, is true."""
    if bad is None:
        yield
        return
    before = [tensor.clone() for tensor in tensors]
    yield
    for tensor, old in zip(tensors, before, strict=True):
        tensor.copy_(torch.where(bad, old, tensor))

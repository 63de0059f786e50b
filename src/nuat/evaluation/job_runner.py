"""Runs the jobs of an evaluation batch by batch, and judges what they find on the model itself."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks.jobs import Job
from nuat.core.pass_counter import PassCounter
from nuat.core.random import seed_from
from nuat.core.threat import Threat
from nuat.data import ImageSet, to_float
from nuat.distributed.world import World
from nuat.errors import InputError
from nuat.evaluation.partial_results import PartialResults
from nuat.evaluation.results import AttackResult
from nuat.evaluation.search_precision import searching
from nuat.progress import Progress

_SECONDS_BETWEEN_STEPS = 0.2


@dataclass(frozen=True)
class _Batch:
    """Outcome of a job on a batch."""

    flags: dict[str, Tensor]
    """Whether each image withstood each attack of the job, bool [B] on the host."""
    cost: dict[str, Any]
    """Seconds, and images forward and backward."""


@dataclass(frozen=True, kw_only=True)
class JobRunner:
    """Everything that the jobs of an evaluation share."""

    model: nn.Module
    """Model whose predictions are the verdicts."""
    search: nn.Module
    """Model that attacks search on, the same function."""
    precision: str = "fp32"
    """Arithmetic of a search on ``search``, as ``search_precision`` names it."""
    images: ImageSet
    threat: Threat
    seed: int
    batch_size: int
    partial: PartialResults
    progress: Progress | None
    world: World

    def attack(self, job: Job, exact: Job, takes: Tensor) -> tuple[AttackResult, ...]:
        """Run a job on the images ``takes``, bool [n], batch by batch, and return the result of each of its attacks.

        ``job`` searches on the copy, ``exact`` is the same job on the model itself. Several processes take batches in
        turn. Each batch has its own seed, so the result does not depend on the process that takes it.
        """
        positions = takes.nonzero().squeeze(1)
        longest = job.names[-1]
        starts = range(0, len(positions), self.batch_size)
        for first in range(0, len(starts), self.world.size):
            together = starts[first : first + self.world.size]
            left = [start for start in together if not self.partial.has(job.key, start)]
            if left:
                end = min(together[-1] + self.batch_size, len(positions))
                with self._telling(job, range(together[0], end), len(positions)):
                    self._round(job, exact, positions, left)
            if self.progress is not None:
                self.progress(longest, min(together[-1] + self.batch_size, len(positions)), len(positions))
        return tuple(self._result(job, name, positions) for name in job.names)

    @contextlib.contextmanager
    def _telling(self, job: Job, images: range, total: int) -> Iterator[None]:
        """Tell the step of the longest attack of ``job`` while it runs on ``images``, of ``total`` in all.

        The passes of the attacked model are counted, so an attack knows nothing of it. They are compared with the most
        that the attack takes; one that stops early jumps ahead at its end.
        """
        if self.progress is None or job.passes == 1:
            yield
            return
        tell = self.progress
        seen, told = 0, time.monotonic()

        def passed(*_: object) -> None:
            nonlocal seen, told
            seen += 1
            now = time.monotonic()
            if now - told >= _SECONDS_BETWEEN_STEPS:
                told, share = now, min(1.0, seen / job.passes)
                done = images.start + share * len(images)
                tell(job.names[-1], done, total, f"step {int(share * job.steps):,}/{job.steps:,}")

        with contextlib.ExitStack() as hooks:
            for model in {id(m): m for m in (self.model, self.search)}.values():
                hooks.callback(model.register_forward_hook(passed).remove)
            yield

    def _round(self, job: Job, exact: Job, positions: Tensor, starts: list[int]) -> None:
        """Let every process attack one of the batches that begin at ``starts``, and keep the results of all.

        Raises:
            InputError: on every process, if one of them refuses the model.
        """
        mine = starts[self.world.rank] if self.world.rank < len(starts) else None
        batch, refusal = None, ""
        if mine is not None:
            chosen = positions[mine : mine + self.batch_size].to(self.images.images.device)
            try:
                batch = self._batch(job, exact, mine, chosen)
            except InputError as error:
                if self.world.size == 1:
                    raise
                refusal = str(error)
        if mine is not None and batch is not None:  # keep it even if no other process answers any more
            self.partial.put(job.key, mine, batch.flags, **batch.cost)
        answers = self.world.objects((mine, batch, refusal), patient=True)
        for _, _, why in answers:
            if why:
                raise InputError(why)
        for start, found, _ in answers:
            if start is not None and start != mine and found is not None:
                self.partial.put(job.key, start, found.flags, **found.cost)

    def _batch(self, job: Job, exact: Job, start: int, positions: Tensor) -> "_Batch":
        x, y = to_float(self.images.images[positions]), self.images.labels[positions]
        began = time.perf_counter()
        with contextlib.ExitStack() as stack, torch.no_grad():
            counters = [
                stack.enter_context(PassCounter(m)) for m in {id(m): m for m in (self.model, self.search)}.values()
            ]
            seed = batch_seed(self.seed, job.names[-1], start)
            with searching("fp32" if job is exact else self.precision):
                x_adv = job.run(x, y, seed)
            flags = {name: self._withstood(x, x_adv[name], y, name) for name in job.names}
            if job.leaves_unbroken and self.search is not self.model:
                # the attack stopped at a success of the copy, or took the image for lost from the start
                with searching(self.precision):
                    lost = self.search(x).argmax(dim=1) != y
                for name in job.names:
                    given_up = (x_adv[name] != x).flatten(1).any(dim=1) | lost
                    self._again(exact, name, x, y, seed, flags[name], given_up.cpu())
        cost = {
            "seconds": time.perf_counter() - began,  # the flags are on the host, so the device has finished
            "forwards": sum(counter.forwards for counter in counters),
            "backwards": sum(counter.backwards for counter in counters),
        }
        return _Batch(flags, cost)

    def _again(self, exact: Job, name: str, x: Tensor, y: Tensor, seed: int, flags: Tensor, given_up: Tensor) -> None:
        """Attack the images again that the copy gave up but the model withstands, and set their ``flags``, bool [B].

        A rounding may be all that broke the copy.
        """
        denied = flags & given_up
        if bool(denied.any()):
            part = denied.to(x.device)
            x_adv = exact.run(x[part], y[part], seed)[name]
            flags[denied] = self._withstood(x[part], x_adv, y[part], name)

    def _withstood(self, x: Tensor, x_adv: Tensor, y: Tensor, attack: str) -> Tensor:
        """Return, per image, bool [B] on the host, whether the model predicts ``y`` [B] on ``x_adv`` [B, C, H, W].

        Raises:
            InputError: the logits are not finite.
            RuntimeError: an example lies outside the ball or the box, which is a fault of the attack.
        """
        if not bool(self.threat.holds(x, x_adv).all()):
            raise RuntimeError(f"{attack} returned an example outside the ball or the box; this is a bug in nuat.")
        logits = self.model(x_adv)
        if not bool(torch.isfinite(logits).all()):  # NaN counts as a prediction of class 0 in argmax
            raise InputError(
                f"the model returns logits that are infinite or NaN under {attack}; it cannot be evaluated."
            )
        withstood: Tensor = logits.argmax(dim=1) == y
        return withstood.cpu()

    def _result(self, job: Job, name: str, positions: Tensor) -> AttackResult:
        """Return the result of an attack of a finished job; the images that it did not take count as broken."""
        correct = torch.zeros(len(self.images), dtype=torch.bool)
        taken, seconds, forwards, backwards = self.partial.collect(job.key, name)
        correct[positions] = taken
        if name == job.names[-1]:
            passes = (forwards, backwards) if job.counted else (None, None)
            return AttackResult(name, job.settings, correct, seconds, *passes)
        return AttackResult(name, job.settings, correct, None, None, None, shared_with=job.names[-1])


def batch_seed(seed: int, attack: str, start: int) -> int:
    """Return the seed of a batch, which no other batch, kind of attack or seed shares.

    The kind of an attack is the part of its name before the first dash: pgd-20 has the start of pgd-100.
    """
    return seed_from(seed, attack.partition("-")[0], start)

"""Runs the jobs of an evaluation batch by batch, and judges what they find on the model itself."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from nuat.attacks.catalogue import split
from nuat.attacks.jobs import Job
from nuat.core.losses import logit_margin
from nuat.core.random import seed_from
from nuat.data import ImageSet, to_float
from nuat.distributed.world import World
from nuat.errors import InputError
from nuat.evaluation.answers import Answers
from nuat.evaluation.guarded_model import ClimbableModel
from nuat.evaluation.partial_results import PartialResults
from nuat.evaluation.results import AttackResult
from nuat.hardware import computing_in
from nuat.progress import Progress

_SECONDS_BETWEEN_STEPS = 0.2
_NEAR = 0.2
"""Share of the margin of an image that a search in bf16 must leave, or the image is attacked again in fp32."""


@dataclass(frozen=True)
class _Batch:
    """Outcome of a job on a batch."""

    answers: dict[str, Answers]
    """Answers on the images of the batch under each attack of the job."""
    cost: dict[str, Any]
    """Seconds, and images forward and backward."""


@dataclass(kw_only=True)
class JobRunner:
    """Everything that the jobs of an evaluation share."""

    model: ClimbableModel
    """Model whose predictions are the verdicts."""
    search: ClimbableModel
    """Model that attacks search on, the same function."""
    precision: str = "fp32"
    """Arithmetic of a search on ``search``, as ``search_precision`` names it."""
    images: ImageSet
    seed: int
    batch_size: int
    partial: PartialResults
    progress: Progress | None
    world: World
    temperature: float = 1.0
    """Temperature of the probabilities."""
    _held: Answers | None = field(default=None, init=False)
    """Answers on the example that broke each image first, or on the image itself while it stands. None: nothing ran."""

    @property
    def _models(self) -> tuple[ClimbableModel, ...]:
        return (self.model,) if self.search is self.model else (self.model, self.search)

    def attack(self, job: Job, exact: Job, takes: Tensor) -> tuple[AttackResult, ...]:
        """Run a job on the images ``takes``, bool [n], batch by batch, and return the result of each of its attacks.

        ``job`` searches on the copy, ``exact`` is the same job on the model itself. The first job takes all images;
        later ones leave out images that are broken already. Several processes take batches in turn. Each batch has its
        own seed, so the result does not depend on the process that takes it.
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
        results = tuple(self._result(job, name, positions) for name in job.names)
        for result in results:
            self._hold(result)
        return results

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

        def passed() -> None:
            nonlocal seen, told
            seen += 1
            now = time.monotonic()
            if now - told >= _SECONDS_BETWEEN_STEPS:
                told, share = now, min(1.0, seen / job.passes)
                done = images.start + share * len(images)
                tell(job.names[-1], done, total, f"step {int(share * job.steps):,}/{job.steps:,}")

        for model in self._models:
            model.passed = passed
        try:
            yield
        finally:
            for model in self._models:
                model.passed = None

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
            self.partial.put(job.key, mine, batch.answers, **batch.cost)
        answers = self.world.objects((mine, batch, refusal), patient=True)
        for _, _, why in answers:
            if why:
                raise InputError(why)
        for start, found, _ in answers:
            if start is not None and start != mine and found is not None:
                self.partial.put(job.key, start, found.answers, **found.cost)

    def _batch(self, job: Job, exact: Job, start: int, positions: Tensor) -> "_Batch":
        counts = [model.counts for model in self._models]
        forwards, backwards = sum(c.forwards for c in counts), sum(c.backwards for c in counts)
        began = time.perf_counter()
        with torch.no_grad():
            answers = self._attacked(job, exact, start, positions)
        cost = {
            "seconds": time.perf_counter() - began,  # the answers are on the host, so the device has finished
            "forwards": sum(c.forwards for c in counts) - forwards,
            "backwards": sum(c.backwards for c in counts) - backwards,
        }
        return _Batch(answers, cost)

    def _attacked(self, job: Job, exact: Job, start: int, positions: Tensor) -> dict[str, Answers]:
        """Return the answers on the images at ``positions``, int64 [B], under each attack of the job."""
        x, y = to_float(self.images.images[positions]), self.images.labels[positions]
        seed = batch_seed(self.seed, job.names[-1], start)
        with computing_in("fp32" if job is exact else self.precision):
            x_adv = job.run(x, y, seed)
        logits = {name: self._logits(x, x_adv[name], job, name) for name in job.names}
        answers = {name: Answers.of(found, self.temperature) for name, found in logits.items()}
        if job.leaves_unbroken and self.search is not self.model:
            # the attack stopped at a success of the copy, or took the image for lost from the start
            with computing_in(self.precision):
                lost = self.search(x).argmax(dim=1) != y
            for name in job.names:
                given_up = (x_adv[name] != x).flatten(1).any(dim=1) | lost
                answers[name] = self._again(exact, name, x, y, seed, answers[name], given_up.cpu())
        elif self.precision == "bf16" and job is not exact:
            least = _NEAR * logit_margin(self.model(x), y)
            for name in job.names:
                near = logit_margin(logits[name], y) > least
                answers[name] = self._again(exact, name, x, y, seed, answers[name], near.cpu())
        return answers

    def _again(
        self, exact: Job, name: str, x: Tensor, y: Tensor, seed: int, found: Answers, given_up: Tensor
    ) -> Answers:
        """Attack the images ``given_up`` that the model withstands once more; return ``found`` with the answers.

        A rounding may be all that broke the copy, or that kept the search from a success.
        """
        denied = (found.predicted == y.cpu()) & given_up
        if not bool(denied.any()):
            return found
        part = denied.to(x.device)
        logits = self._logits(x[part], exact.run(x[part], y[part], seed)[name], exact, name)
        return found.replaced(denied, Answers.of(logits, self.temperature))

    def _logits(self, x: Tensor, x_adv: Tensor, job: Job, attack: str) -> Tensor:
        """Return the model's logits [B, N] on ``x_adv`` [B, C, H, W], found from ``x`` [B, C, H, W].

        Raises:
            InputError: the logits are not finite.
            RuntimeError: an example lies outside the ball or the box, which is a fault of the attack.
        """
        if job.ball is None or not bool(job.ball.holds(x, x_adv).all()):
            raise RuntimeError(f"{attack} returned an example outside the ball or the box; this is a bug in nuat.")
        logits: Tensor = self.model(x_adv)
        if not bool(torch.isfinite(logits).all()):  # NaN counts as a prediction of class 0 in argmax
            raise InputError(
                f"the model returns logits that are infinite or NaN under {attack}; it cannot be evaluated."
            )
        return logits

    def _result(self, job: Job, name: str, positions: Tensor) -> AttackResult:
        """Return the result of an attack of a finished job; the images that it did not take count as broken."""
        correct, takes = torch.zeros(2, len(self.images), dtype=torch.bool)
        found, seconds, forwards, backwards = self.partial.collect(job.key, name)
        correct[positions] = found.predicted == self.images.labels.cpu()[positions]
        takes[positions] = True
        answers = found if self._held is None else self._held.replaced(takes, found)
        result = AttackResult(name, job.settings, correct, None, None, None, answers=answers)
        if name != job.names[-1]:
            return replace(result, shared_with=job.names[-1])
        passes = replace(result, forwards=forwards, backwards=backwards) if job.counted else result
        return replace(passes, seconds=seconds)

    def _hold(self, result: AttackResult) -> None:
        """Keep the answers on the examples that broke an image for the first time."""
        assert result.answers is not None  # of _result
        if self._held is None:
            self._held = result.answers
        fell = (self._held.predicted == self.images.labels.cpu()) & ~result.correct
        self._held = self._held.replaced(fell, result.answers.at(fell))


def batch_seed(seed: int, attack: str, start: int) -> int:
    """Return the seed of a batch, which no other batch, kind of attack or seed shares.

    The kind of an attack is the part of its name before the first dash: pgd-20 has the start of pgd-100. In a union an
    attack draws what it draws in its ball alone.
    """
    return seed_from(seed, split(attack)[1].partition("-")[0], start)

"""Evaluation: model x attacks -> accuracy of each, per example and in the worst case. It knows nothing of defenses.

Every attack runs in full precision with the model in evaluation mode, batch by batch, each batch with random draws
seeded by (seed, kind of attack, position): finished batches can be kept, an evaluation that was cut off goes on to
the same numbers, and PGD-20 read off PGD-100's trajectory is PGD-20 run alone.

No time goes into images that are lost already. An image that is misclassified as it is counts as broken by every
attack; AutoAttack takes only what the attacks before it left standing. Attacks search on a copy of the model whose
batch norms are folded into its convolutions (``nuat.models.folding``). What they find counts only if a fresh forward
pass of the model itself denies the label, and if it lies within the ball and the box.
"""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.catalogue import jobs
from nuat.attacks.jobs import Job, Takes
from nuat.config import ThreatConfig
from nuat.core import digest
from nuat.core.pass_counter import PassCounter
from nuat.core.random import seed_from
from nuat.core.threat import Threat
from nuat.core.threat import threat as ball
from nuat.data import Images, ImageSet, class_balanced, to_float
from nuat.distributed.world import ALONE, World
from nuat.errors import InputError
from nuat.evaluation.inspection import check_logits
from nuat.evaluation.partial_results import PartialResults
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.hardware import describe, full_precision, versions
from nuat.models.folding import folded

Progress = Callable[[str, int, int], None]
"""Called with the attack's name, the images finished, and the images in all."""


def evaluate(
    model: nn.Module,
    images: Images,
    attacks: Sequence[str] = ("clean", "pgd-100", "gama-100"),
    *,
    threat: ThreatConfig,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 250,
    state_path: Path | None = None,
    progress: Progress | None = None,
    world: World = ALONE,
) -> Evaluation:
    """Attack a class-balanced part of ``images`` and return what the model withstands.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N]; every module's mode is restored.
        images: with their labels; of a ``StreamedSet`` only those that are attacked are decoded.
        attacks: names as in ``nuat.attacks.catalogue.CATALOGUE``.
        threat: norm and radius of the ball, and step of PGD.
        n: images, class-balanced and the same for every call; none: all.
        seed: of the random starts.
        batch_size: images attacked at once.
        state_path: file that keeps finished batches; a call with the same model, images and settings goes on from
            it, and it is removed at the end. None: nothing is kept.
        progress: called after each batch.
        world: processes that each call this and share the batches; all get the same result, that of one process.

    Raises:
        InputError: an unknown or repeated attack, more images asked for than there are, logits that are not finite
            or do not fit the labels, a missing extra.
    """
    jobs(attacks, model, threat)  # what cannot be run is said before anything is
    if len(images) == 0:
        raise InputError("there are no images to evaluate on.")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: expected at least 1.")
    if n is not None and not 1 <= n <= len(images):
        raise InputError(f"n={n}: expected 1 to {len(images)}, the number of test images; none takes all.")
    device = next((p.device for p in model.parameters()), images.device)
    indices = torch.arange(len(images)) if n is None else class_balanced(images.labels.cpu(), n, seed=0)
    chosen = images.select(indices).to(device)
    found: dict[str, AttackResult] = {}
    with eval_mode(model), full_precision():
        logits = _first_logits(model, chosen, batch_size)
        run = _Evaluating(
            model=model,
            search=folded(model, to_float(chosen.images[:batch_size]), chosen.labels[:batch_size]),
            images=chosen,
            threat=ball(threat.norm, threat.eps),
            seed=seed,
            batch_size=batch_size,
            partial=PartialResults(
                state_path if world.leads else None, _key(model, chosen, logits, threat, seed, batch_size)
            ),
            progress=progress,
            world=world,
        )
        run.partial.share(world)
        with run.partial.kept():
            first = jobs(["clean"], model, threat)[0]
            (clean,) = run.attack(first, first, torch.ones(len(chosen), dtype=torch.bool))
            found["clean"], standing = clean, clean.correct
            planned = (jobs(attacks, target, threat, logits.shape[1]) for target in (run.search, model))
            for job, exact in zip(*planned, strict=True):
                if job.takes is not Takes.ALL:
                    # what stops at a success of the copy might stop too early for the model
                    searched = exact if job.stops_early else job
                    results = run.attack(searched, exact, standing if job.takes is Takes.STANDING else clean.correct)
                    found.update((result.name, result) for result in results)
                    standing = torch.stack([standing, *(result.correct for result in results)]).all(dim=0)
    return Evaluation(
        results=tuple(found[name] for name in attacks),
        indices=indices,
        norm=threat.norm,
        eps=threat.eps,
        seed=seed,
        batch_size=batch_size,
        images=digest.of_tensors(chosen.images, chosen.labels),
        hardware=describe(device),
        versions=versions(),
    )


@dataclass(frozen=True)
class _Batch:
    """What an attack found on a batch."""

    flags: dict[str, Tensor]
    """By attack of the job, bool [B] on the host: what withstood it."""
    cost: dict[str, Any]
    """Seconds, and images forward and backward."""


@dataclass(frozen=True, kw_only=True)
class _Evaluating:
    """An evaluation on its way: what every job of it shares."""

    model: nn.Module
    """What is judged."""
    search: nn.Module
    """What attacks search on: the same function."""
    images: ImageSet
    threat: Threat
    seed: int
    batch_size: int
    partial: PartialResults
    progress: Progress | None
    world: World

    def attack(self, job: Job, exact: Job, takes: Tensor) -> tuple[AttackResult, ...]:
        """Run a job on the images ``takes``, bool [n], batch by batch, and return the result of each of its attacks.

        ``job`` searches on the copy, ``exact`` is the same on the model itself. Several processes take batches in turn;
        a batch draws from a seed of its own, so that it does not matter which process takes it.
        """
        positions = takes.nonzero().squeeze(1)
        longest = job.names[-1]
        starts = range(0, len(positions), self.batch_size)
        for first in range(0, len(starts), self.world.size):
            together = starts[first : first + self.world.size]
            left = [start for start in together if not self.partial.has(job.key, start)]
            if left:
                self._round(job, exact, positions, left)
            if self.progress is not None:
                self.progress(longest, min(together[-1] + self.batch_size, len(positions)), len(positions))
        return tuple(self._result(job, name, positions) for name in job.names)

    def _round(self, job: Job, exact: Job, positions: Tensor, starts: list[int]) -> None:
        """Let every process attack one of the batches that begin at ``starts``, and keep what all have found.

        Raises:
            InputError: on every process, where one of them refuses the model.
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
        if mine is not None and batch is not None:  # kept even if no other process answers any more
            self.partial.put(job.key, mine, batch.flags, **batch.cost)
        told = self.world.objects((mine, batch, refusal), patient=True)
        for _, _, why in told:
            if why:
                raise InputError(why)
        for start, found, _ in told:
            if start is not None and start != mine and found is not None:
                self.partial.put(job.key, start, found.flags, **found.cost)

    def _batch(self, job: Job, exact: Job, start: int, positions: Tensor) -> "_Batch":
        x, y = to_float(self.images.images[positions]), self.images.labels[positions]
        began = time.perf_counter()
        with contextlib.ExitStack() as stack, torch.no_grad():
            counters = [
                stack.enter_context(PassCounter(m)) for m in {id(m): m for m in (self.model, self.search)}.values()
            ]
            seed = _batch_seed(self.seed, job.names[-1], start)
            x_adv = job.run(x, y, seed)
            flags = {name: self._withstood(x, x_adv[name], y, name) for name in job.names}
            if job.leaves_unbroken and self.search is not self.model:
                (name,) = job.names
                self._again(exact, x, y, seed, flags[name], (x_adv[name] != x).flatten(1).any(dim=1).cpu())
        cost = {
            "seconds": time.perf_counter() - began,  # the flags are on the host, so the device has finished
            "forwards": sum(counter.forwards for counter in counters),
            "backwards": sum(counter.backwards for counter in counters),
        }
        return _Batch(flags, cost)

    def _again(self, exact: Job, x: Tensor, y: Tensor, seed: int, flags: Tensor, moved: Tensor) -> None:
        """Attack again what the copy takes for broken and the model withstands, and set its ``flags``, bool [B].

        The attack went no further with it, though a rounding may be all that broke the copy.
        """
        denied = flags & moved
        if bool(denied.any()):
            part = denied.to(x.device)
            (name,) = exact.names
            x_adv = exact.run(x[part], y[part], seed)[name]
            flags[denied] = self._withstood(x[part], x_adv, y[part], name)

    def _withstood(self, x: Tensor, x_adv: Tensor, y: Tensor, attack: str) -> Tensor:
        """Return, per image, bool [B] on the host, whether the model predicts ``y`` [B] on ``x_adv`` [B, C, H, W].

        An image outside the ball or the box says nothing against the model.
        """
        logits = self.model(x_adv)
        if not bool(torch.isfinite(logits).all()):  # NaN counts as a prediction of class 0 in argmax
            raise InputError(
                f"the model returns logits that are infinite or NaN under {attack}; it cannot be evaluated."
            )
        withstood: Tensor = (logits.argmax(dim=1) == y) | ~self.threat.holds(x, x_adv)
        return withstood.cpu()

    def _result(self, job: Job, name: str, positions: Tensor) -> AttackResult:
        """Return what an attack of a finished job found; the images that it did not take are broken."""
        correct = torch.zeros(len(self.images), dtype=torch.bool)
        taken, seconds, forwards, backwards = self.partial.collect(job.key, name)
        correct[positions] = taken
        if name == job.names[-1]:
            return AttackResult(name, job.settings, correct, seconds, forwards, backwards)
        return AttackResult(name, job.settings, correct, None, None, None, shared_with=job.names[-1])


def _first_logits(model: nn.Module, images: ImageSet, batch_size: int) -> Tensor:
    """Return the logits [B, N] of the first batch; refuse a model whose logits are not finite or too few."""
    return check_logits(model, to_float(images.images[:batch_size]), int(images.labels.max()) + 1)


def _batch_seed(seed: int, attack: str, start: int) -> int:
    """Return a seed for one batch that no other batch, kind of attack or seed shares.

    A kind is what stands before the first dash: pgd-20 starts where pgd-100 does.
    """
    return seed_from(seed, attack.partition("-")[0], start)


def _key(model: nn.Module, images: ImageSet, logits: Tensor, threat: ThreatConfig, seed: int, batch_size: int) -> str:
    """Return a digest of everything that the result of an attack depends on.

    Of the model these are its tensors and, as a stranger's code may change beside them, what it predicts from the first
    ``logits`` [B, N]: not their bits, which another number of threads changes.
    """
    settings = [threat.norm, threat.eps, threat.pgd_alpha, seed, batch_size, versions()]
    return digest.of_tensors(
        *model.state_dict().values(), images.images, images.labels, logits.argmax(dim=1), settings=json.dumps(settings)
    )

"""Evaluation under common corruptions: no attack, no ball; a model and corrupted images to a verdict on each image.

The guards, the passes, the batches that are kept for a restart and the processes that share them are those of
``nuat.evaluation.evaluate``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.jobs import Job
from nuat.core import digest
from nuat.core.threat import threat as ball
from nuat.data import class_balanced, to_float
from nuat.data.corrupted_files import read_corrupted
from nuat.data.corruptions import SEVERITIES, CorruptedImages, corrupted
from nuat.data.given_images import Array, ImageSource, given_images
from nuat.distributed.world import ALONE, World
from nuat.evaluation.answers import Answers
from nuat.evaluation.arguments import check_number, classes_of
from nuat.evaluation.class_order import order_by_name
from nuat.evaluation.corruption_results import CorruptionResults
from nuat.evaluation.evaluate import evaluate
from nuat.evaluation.guarded_model import ClimbableModel, guarded
from nuat.evaluation.job_runner import JobRunner
from nuat.evaluation.partial_results import PartialResults
from nuat.evaluation.warning_log import Warn
from nuat.hardware import full_precision, versions
from nuat.progress import Progress


@dataclass(kw_only=True)
class _CorruptionRunner(JobRunner):
    """A runner whose jobs take corrupted images instead of attacking."""

    corrupted: CorruptedImages

    def _attacked(self, job: Job, exact: Job, start: int, positions: Tensor) -> dict[str, Answers]:
        """Return the answers on the corrupted images, by the name of the job."""
        pixels = self.corrupted.take(job.settings["corruption"], job.settings["severity"], positions.cpu())
        x = to_float(pixels.to(positions.device))
        return {name: Answers.of(self._logits(x, x, job, name), self.temperature) for name in job.names}


def evaluate_corruptions(
    model: nn.Module,
    x: ImageSource,
    y: Array | Sequence[int] | None = None,
    *,
    corruptions: Path | str | None = None,
    path: Path | str | None = None,
    n: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    class_map: Sequence[int] | None = None,
    inspected: bool = False,
    warn: Warn | None = None,
    state_path: Path | None = None,
    progress: Progress | None = None,
    world: World = ALONE,
) -> CorruptionResults:
    """Return what a model makes of the 15 common corruptions at 5 severities.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N], anybody's, as for ``nuat.evaluate``.
        x: images, as for ``nuat.evaluate``; with ``corruptions``, the whole test set that was corrupted.
        y: labels of a tensor or array.
        corruptions: folder of corrupted images, see ``nuat.data.corrupted_files.read_corrupted``. None: they are made
            of the images, see ``nuat.data.corruptions.corrupted``.
        path: .npz file or folder of the images of a named data set.
        n: images, class-balanced, the same as in ``nuat.evaluate``. None: all.
        seed: seed of the corruptions' draws.
        batch_size: images passed at once. None: as in ``nuat.evaluate``.
        class_map: the logit of the model for each class of the images. None: as in ``nuat.evaluate``.
        inspected: whether the caller vouches for the model, so that it is not inspected.
        warn: function called with each warning. None: ``warnings.warn``.
        state_path: file that keeps finished batches, removed at the end. None: nothing is kept.
        progress: function called as it goes on, see ``nuat.progress.Progress``.
        world: processes that each make this call and share the batches.

    Returns:
        The verdict on each image without and under each corruption. It prints as a table.

    Raises:
        InputError: images, labels or a model that ``nuat.evaluate`` refuses, or corrupted images that do not fit.

    Example:
        >>> import numpy as np, tempfile
        >>> import torch
        >>> from pathlib import Path
        >>> from nuat.evaluation.corruption_runner import evaluate_corruptions
        >>> x, y = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8), torch.arange(20) % 2
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "labels.npy", np.tile(y.numpy(), 5))
        >>> np.save(folder / "fog.npy", np.tile(x.permute(0, 2, 3, 1).numpy(), (5, 1, 1, 1)))
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
        >>> found = evaluate_corruptions(model, x, y, corruptions=folder, inspected=True)
        >>> found.accuracy("fog", severity=5) == found.accuracy("clean")
        True
        >>> len(found.missing)
        14
    """
    given = given_images(x, y, path=path)
    check_number(n, len(given.images))
    if class_map is None and given.classes:
        class_map = order_by_name(classes_of(model), given.classes, owner="the model", source=given.source)
    images = given.images
    positions = torch.arange(len(images)) if n is None else class_balanced(images.labels.cpu(), n, seed=0)
    chosen = images.select(positions)
    if corruptions is None:
        source = corrupted(chosen, positions, seed=seed)
    else:
        source = read_corrupted(Path(corruptions), images, given.classes, positions)
    clean = evaluate(
        model,
        chosen,
        ["clean"],
        batch_size=batch_size,
        class_map=class_map,
        inspected=inspected,
        warn=warn,
        world=world,
    )
    flags, first, batch_size = clean.results[0].correct, clean.results[0], clean.batch_size
    guard = guarded(model, class_map)
    target = ClimbableModel(guard)
    device = next((p.device for p in target.parameters()), images.device)
    settings = [source.source, source.seed, batch_size, versions(), guard.order]
    tensors = (*target.state_dict().values(), chosen.images, chosen.labels, positions, flags)
    run = _CorruptionRunner(
        model=target,
        search=target,
        corrupted=source,
        images=chosen.to(device),
        seed=seed,
        batch_size=batch_size,
        partial=PartialResults(
            state_path if world.leads else None, digest.of_tensors(*tensors, settings=json.dumps(settings))
        ),
        progress=progress,
        world=world,
    )
    run.partial.share(world)
    every = torch.ones(len(chosen), dtype=torch.bool)
    correct, forwards, seconds = {}, first.forwards or 0, first.seconds or 0.0
    with eval_mode(target), full_precision(), run.partial.kept():
        for name in source.names:
            at = []
            for severity in SEVERITIES:
                job = Job(
                    (f"{name}-{severity}",),
                    {"corruption": name, "severity": severity},
                    lambda x, y, seed: {},
                    ball=ball("Linf", 1.0),
                )
                (found,) = replace(run, progress=_of_corruption(progress, name, severity)).attack(job, job, every)
                at.append(found.correct)
                forwards, seconds = forwards + (found.forwards or 0), seconds + (found.seconds or 0.0)
            correct[name] = torch.stack(at)
    return CorruptionResults(
        clean=flags,
        correct=correct,
        indices=positions,
        source=source.source,
        seed=source.seed,
        batch_size=batch_size,
        hardware=clean.hardware,
        images=clean.images or "",
        seconds=seconds,
        forwards=forwards,
        versions=clean.versions,
        warnings=(*given.notes, *source.notes, *clean.warnings),
    )


def _of_corruption(progress: Progress | None, name: str, severity: int) -> Progress | None:
    """Return a progress of all severities of a corruption together, for one of them."""
    if progress is None:
        return None
    hear = progress

    def tell(_: str, done: float, total: int, step: str = "", /) -> None:
        hear(name, (severity - 1) * total + done, len(SEVERITIES) * total, step)

    return tell

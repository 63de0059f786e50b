"""Validation during training, which chooses the best epoch and feeds the monitors."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nuat.attacks import FGSM, PGD, eval_mode
from nuat.attacks.catalogue import look_up
from nuat.attacks.planned_jobs import jobs
from nuat.config import ThreatConfig, TrainConfig
from nuat.data import ImageSet, batches, class_balanced, to_float
from nuat.distributed.world import ALONE, World
from nuat.errors import InputError, NonFiniteError
from nuat.evaluation.search_precision import settled
from nuat.hardware import computing_in, full_precision

IFGSM = "pgd-7"
"""Name of the authors' attack: 7 steps of eps / 7 from the image itself."""
LARGEST_SHARE = 0.05
"""Largest share of validation in the time of training on a GPU, unless the settings say how often it comes."""


def check_attack(name: str, threat: ThreatConfig) -> None:
    """Refuse an attack that cannot validate: it must take a number of steps along gradients, and fit every ball.

    Raises:
        InputError: the setting is named.
    """
    try:
        row, steps = look_up(name)
        if not (row.gradients and steps):
            raise InputError(f"{name} takes no number of steps along gradients; take pgd-40, gama-20 or another.")
        for ball in threat.parts:
            jobs((name,), nn.Identity(), ball)
    except InputError as error:
        raise InputError(f"validate_attack={name}: {error}") from None


def is_validated(epoch: int, epochs: int, every: int) -> bool:
    """Return whether an epoch (from 1) is validated: every ``every``-th one, and the first and the last."""
    return epoch in (1, epochs) or epoch % every == 0


class Validator:
    """Validate the epochs of a run, as often as its settings ask for.

    By default a GPU validates once it has trained so long that the last validation took ``LARGEST_SHARE`` of it.
    """

    def __init__(self, config: TrainConfig, images: ImageSet, device: torch.device, world: World) -> None:
        check_attack(config.validate_attack, config.threat)
        self._config, self._images, self._world = config, images, world
        self._on_gpu = device.type == "cuda"
        self._took, self._trained = 0.0, 0.0

    def is_due(self, epoch: int, trained: float) -> bool:
        """Return whether an epoch (from 1) is validated, at whose end the run has trained ``trained`` seconds."""
        every = self._config.validate_every or (self._config.epochs if self._on_gpu else 1)
        if len(self._images) == 0 or is_validated(epoch, self._config.epochs, every):
            return True
        by_time = self._config.validate_every is None
        return by_time and self._world.agree(self._took < LARGEST_SHARE * (trained - self._trained))

    def validate(self, models: Sequence[nn.Module], epoch: int, trained: float) -> dict[str, dict[str, float]] | None:
        """Return the validation of the live model and of each average; the one to be shipped is the last.

        Several averages are called by their decays; the best comes again as the last, with its decay. Empty: there are
        no images. None: the epoch is not validated.

        Args:
            models: the live model, and one for each average.
            epoch: epoch, from 1.
            trained: seconds of training at its end.

        Raises:
            NonFiniteError: a model is infinite or NaN.
        """
        if not self.is_due(epoch, trained):
            return None
        if len(self._images) == 0:
            return {}
        clock = time.monotonic()
        how: dict[str, Any] = {"threat": self._config.threat, "attack": self._config.validate_attack}
        how |= {"batch_size": self._config.evaluation.batch_size, "world": self._world}
        taus = self._config.averaging.taus
        names = ["averaged"] if len(taus) == 1 else [f"averaged-{tau}" for tau in taus]
        named = zip(["live", *names], models, strict=True)
        found = {name: validate(model, self._images, **how) for name, model in named}
        if len(taus) > 1:
            best, tau = max(
                zip(names, taus, strict=True), key=lambda one: found[one[0]][self._config.defense.judged_by]
            )
            found["averaged"] = {**found[best], "tau": tau}
        self._took, self._trained = time.monotonic() - clock, trained
        return found


def validate(
    model: nn.Module,
    images: ImageSet,
    *,
    threat: ThreatConfig,
    batch_size: int,
    attack: str = IFGSM,
    world: World = ALONE,
) -> dict[str, float]:
    """Return the clean loss and the accuracies, in [0, 1], on ``images`` (at least one) in evaluation mode and fp32.

    ``clean_loss`` is the mean cross-entropy; ``clean``, ``fgsm`` and ``pgd`` are accuracies. ``pgd`` is the accuracy
    under ``attack``, whichever that is: by default the I-FGSM of the authors' scripts; in L2 and L1 the steps of that
    norm. Of several balls an image must withstand all. An attack that draws noise draws the same in every epoch. On a
    GPU the attacks search in TF32; the verdicts are fp32's.

    Several processes share the images, and each returns the result of all; each draws noise for its own images.

    Raises:
        NonFiniteError: on every process, if the model is infinite or NaN on any.
    """
    own = images.select(torch.arange(world.rank, len(images), world.size)) if world.size > 1 else images
    failure: NonFiniteError | None = None
    totals = torch.zeros(4, dtype=torch.float64, device=images.images.device)
    try:
        totals = _totals(model, own, threat, attack, batch_size)
    except NonFiniteError as error:
        failure = error
    if world.any(failure is not None):
        raise failure or NonFiniteError("the model is infinite or NaN on another process's validation images.")
    mean = (world.sum([totals])[0] / len(images)).tolist()
    return dict(zip(("clean_loss", "clean", "fgsm", "pgd"), mean, strict=True))


def _totals(model: nn.Module, images: ImageSet, threat: ThreatConfig, attack: str, batch_size: int) -> Tensor:
    """Return the sum of the clean losses and the numbers of correct predictions, float64 [4]."""
    fgsm = [FGSM(model, eps=ball.eps, norm=ball.norm) for ball in threat.balls]
    strong = [_attack(model, attack, one, images) for one in threat.parts]
    totals = torch.zeros(4, dtype=torch.float64, device=images.images.device)
    precision = settled("auto", images.images.device)
    with eval_mode(model), full_precision(), torch.no_grad():
        for seed, (x, y) in enumerate(batches(images, batch_size)):
            with computing_in(precision):
                attacked = [[one(x, y) for one in fgsm], [one(x, y, seed) for one in strong]]
            logits = model(x)
            correct = [logits.argmax(dim=1) == y]
            for found in attacked:
                correct.append(torch.stack([model(x_adv).argmax(dim=1) == y for x_adv in found]).all(dim=0))
            loss = F.cross_entropy(logits, y, reduction="sum")
            totals += torch.stack([loss, *(flags.sum() for flags in correct)])
    return totals


def clean_and_attacked(
    model: nn.Module, images: ImageSet, *, threat: ThreatConfig, attack: str = IFGSM, count: int = 8
) -> NDArray[np.uint8]:
    """Return ``count`` images, class-balanced, in a row, and below them the same under the attack of the validation.

    Returns:
        uint8 [2 H, count W, 3]; grey where the images have one channel. ``images`` have one or three, and are at least
        one.

    Raises:
        NonFiniteError: the gradients of the model are infinite or NaN.
    """
    shown = images.select(class_balanced(images.labels.cpu(), min(count, len(images)), seed=0))
    x = to_float(shown.images)
    with eval_mode(model), full_precision():
        attacked = _attack(model, attack, threat.parts[0], shown)(x, shown.labels, 0)
        rows = [torch.cat(list(part), dim=2) for part in (x, attacked)]
    grid = (255 * torch.cat(rows, dim=1)).round().to(torch.uint8).expand(3, -1, -1)
    pixels: NDArray[np.uint8] = grid.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def _attack(
    model: nn.Module, name: str, ball: ThreatConfig, images: ImageSet
) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Return the attack of a name on a model in one ball, a function of images, labels and a seed."""
    if name == IFGSM:
        ifgsm = PGD(model, eps=ball.eps, norm=ball.norm, alpha=ball.eps / 7, steps=7, random_start=False)
        return lambda x, y, seed: ifgsm(x, y)
    with eval_mode(model), torch.no_grad():
        classes = model(to_float(images.images[:1])).shape[1]  # how many targets there are
    (job,) = jobs((name,), model, ball, classes)
    return lambda x, y, seed: job.run(x, y, seed)[name]

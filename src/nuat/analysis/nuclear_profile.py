"""The nuclear norm of logit differences on robust and on non-robust images (Figure 3a).

The paper shows that lower norms go with robust samples, and says neither which attack nor which batches. Here an image
is robust if the model still predicts its label under PGD (section 2: an image that is misclassified as it comes is not
robust). The robust images and the others are each dealt at random into batches of equal size, so that no image is in
two and what is left over is in none; each batch is attacked as in training (Eq. 1, one step from a Bernoulli start of
eps / 2, lambda 1), and the norm of f(X~) - f(X) is divided by its size. A group that is smaller than a batch gives no
norms: it was not measured.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nuat.analysis.models import NamedModel, Progress, check_all, generator, measured, numbers
from nuat.analysis.record import Measured, Subject
from nuat.attacks import PGD, NuclearNormAttack, eval_mode
from nuat.core.nuclear import nuclear_term
from nuat.data import ImageSet, to_float
from nuat.errors import InputError
from nuat.hardware import full_precision


@dataclass(frozen=True, kw_only=True)
class ModelProfile:
    """One model's norms."""

    subject: Subject
    """The model."""
    robust_images: int
    """Images that withstand PGD."""
    robust: tuple[float, ...]
    """[batches] ||f(X~) - f(X)||_* / M of batches of robust images; empty: fewer images than a batch."""
    non_robust: tuple[float, ...]
    """The same of the other images."""


@dataclass(frozen=True, kw_only=True)
class NuclearProfile(Measured):
    """The norms of several models on the same images."""

    kind: ClassVar[str] = "nuclear-profile"

    steps: int
    """Of the PGD that tells robust images from others."""
    pgd_alpha: float
    """Its step."""
    batch_size: int
    """M, images of a batch whose norm is taken."""
    alpha: float
    """Magnitude of the Bernoulli start."""
    models: tuple[ModelProfile, ...]
    """In the order asked for."""


def nuclear_profile(
    models: list[NamedModel],
    images: ImageSet,
    *,
    eps: float,
    pgd_alpha: float,
    steps: int = 50,
    batch_size: int = 16,
    batches: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> NuclearProfile:
    """Return the norms of ``models`` on ``images``; at most ``batches`` of each group.

    Raises:
        InputError: a setting that cannot be, or fewer images than a batch.
    """
    if batch_size < 1 or batches < 1:
        raise InputError(f"batch_size={batch_size}, batches={batches}: expected at least 1 of each.")
    if len(images) < batch_size:
        raise InputError(f"{len(images)} images are fewer than a batch of {batch_size}; give more, or --batch-size.")
    device = models[0].device
    images = images.to(device)
    check_all(models, images)
    found = []
    for named in models:
        with eval_mode(named.model), full_precision(), torch.inference_mode(False):
            robust = _robust(named, images, eps, pgd_alpha, steps, seed, progress)
            norms = []
            for group, members in enumerate((robust.nonzero().squeeze(1), (~robust).nonzero().squeeze(1))):
                order = members[torch.randperm(len(members), generator=generator(seed, group))]
                of_group = []
                for k in range(min(batches, len(members) // batch_size)):
                    batch = images.select(order[k * batch_size : (k + 1) * batch_size])
                    of_group.append(_norm(named, batch, eps, generator(seed, k, group, device=device)))
                norms.append(of_group)
        found.append(
            ModelProfile(
                subject=named.subject,
                robust_images=int(robust.sum()),
                robust=numbers(torch.tensor(norms[0])),
                non_robust=numbers(torch.tensor(norms[1])),
            )
        )
    return NuclearProfile(
        **measured(images, device, seed=seed, eps=eps),
        steps=steps,
        pgd_alpha=pgd_alpha,
        batch_size=batch_size,
        alpha=eps / 2,
        models=tuple(found),
    )


def _robust(
    named: NamedModel,
    images: ImageSet,
    eps: float,
    pgd_alpha: float,
    steps: int,
    seed: int,
    progress: Progress | None,
    at_once: int = 250,
) -> Tensor:
    """Return, per image, bool [n] on the CPU, whether the model predicts its label under PGD."""
    flags = []
    for start in range(0, len(images), at_once):
        x, y = to_float(images.images[start : start + at_once]), images.labels[start : start + at_once]
        draws = generator(seed, start, device=named.device)
        x_adv = PGD(named.model, eps=eps, alpha=pgd_alpha, steps=steps, generator=draws)(x, y)
        with torch.no_grad():
            flags.append((named.model(x_adv).argmax(dim=1) == y).cpu())
        if progress is not None:
            progress(named.subject.name, min(start + at_once, len(images)), len(images))
    return torch.cat(flags)


def _norm(named: NamedModel, batch: ImageSet, eps: float, draws: torch.Generator) -> float:
    """Return ||f(X~) - f(X)||_* / M of a batch under the attack of training."""
    x = to_float(batch.images)
    x_adv = NuclearNormAttack(named.model, eps=eps, generator=draws)(x, batch.labels)
    with torch.no_grad():
        return float(nuclear_term(named.model(x_adv), named.model(x)))

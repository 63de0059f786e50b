"""Where single-step attacks send each class (Figure 2, section 5.1): confusion matrices and entropies.

| paper | here |
|---|---|
| same-class images in one batch of 100 | ``batch_size`` images of one class; what is left over is not used |
| Delta, Bernoulli noise of magnitude alpha | ``bernoulli(x, alpha)`` |
| maximise ||f(X + Delta) - f(X)|| | ``norm_attack``, the nuclear or the Frobenius norm, without a cross-entropy |
| entropy of the average softmax vector of a class | ``entropy``, natural logarithm: 0 to log N |

The paper states neither eps, alpha nor the base of the logarithm for this experiment. A norm alone is maximised, as
the caption of Figure 2 says; with Eq. 1's cross-entropy beside it both attacks would be drawn to the same classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nuat.analysis.models import NamedModel, Progress, generator, measured, numbers
from nuat.analysis.record import Measured, Subject
from nuat.attacks import eval_mode
from nuat.attacks.base import Forward, input_gradient
from nuat.core.nuclear import nuclear_norm
from nuat.core.threat import Linf, bernoulli, check_eps
from nuat.data import Images, to_float
from nuat.errors import InputError
from nuat.evaluation.inspection import check_logits
from nuat.hardware import full_precision

NormName = Literal["nuclear", "frobenius"]
NORMS: dict[NormName, Callable[[Tensor], Tensor]] = {
    "nuclear": nuclear_norm,
    "frobenius": lambda a: torch.linalg.matrix_norm(a, "fro"),
}
"""Of a matrix [M, N], by name."""


@dataclass(frozen=True, kw_only=True)
class AttackConfusion:
    """What one attack does to every class."""

    norm: str
    """nuclear or frobenius."""
    matrix: tuple[tuple[int, ...], ...]
    """[N][N] images: row the label, column the prediction on the attacked image."""
    entropy: tuple[float, ...]
    """[N] nats: of the average softmax vector over a class's attacked images."""
    mean_entropy: float
    """nats: mean over the classes."""
    accuracy: float
    """Fraction of the attacked images that keep their label, in [0, 1]: the diagonal."""


@dataclass(frozen=True, kw_only=True)
class Confusion(Measured):
    """A model's predictions under both attacks."""

    kind: ClassVar[str] = "confusion"

    subject: Subject
    """The model."""
    classes: tuple[str, ...]
    """Name of each class, in the order of the labels."""
    clean_accuracy: float
    """On the same images before the attack, in [0, 1]."""
    batch_size: int
    """Images of one class that are attacked together."""
    alpha: float
    """Magnitude of the Bernoulli start."""
    attacks: tuple[AttackConfusion, ...]
    """Nuclear, then Frobenius."""


def norm_attack(
    forward: Forward,
    x: Tensor,
    reference: Tensor,
    *,
    norm: NormName,
    eps: float,
    alpha: float,
    generator: torch.Generator,
) -> Tensor:
    """Return ``x`` [M, C, H, W] after one step of size eps that raises the norm of the logit differences.

    Args:
        forward: images to logits.
        x: images in [0, 1].
        reference: f(x), logits [M, N].
        norm: which norm.
        eps: radius of the Linf ball and size of the step.
        alpha: magnitude of the Bernoulli start.
        generator: of the start.
    """
    bounds = Linf(eps).bounds(x)
    start = bounds.project(x + bernoulli(x, alpha, generator))
    gradient = input_gradient(lambda z: NORMS[norm](forward(z).float() - reference), start)
    return bounds.project(start + eps * gradient.sign())


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy [...] in nats of probabilities [..., N]."""
    found: Tensor = torch.special.entr(probabilities).sum(dim=-1)
    return found


def confusion(
    named: NamedModel,
    images: Images,
    classes: tuple[str, ...],
    *,
    eps: float,
    alpha: float | None = None,
    batch_size: int = 100,
    batches: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Confusion:
    """Attack same-class batches of ``images`` with both norms and count the predictions.

    Args:
        named: the model.
        images: where the batches are taken from, in order.
        classes: name of each class.
        eps: radius of the Linf ball.
        alpha: magnitude of the Bernoulli start; none: eps / 2.
        batch_size: images of one class attacked together.
        batches: of each class at most; none: all whole ones.
        seed: of the starts; both attacks of a batch share one.
        progress: called after each batch.

    Raises:
        InputError: a setting that cannot be, or a class that has images but no whole batch.
    """
    alpha = eps / 2 if alpha is None else alpha
    check_eps("alpha", alpha)
    if alpha > eps:
        raise InputError(f"alpha={alpha:g} is more than eps={eps:g}: the start would lie outside the ball; give less.")
    planned = same_class_batches(images.labels.cpu(), classes, batch_size, batches)
    device, model = named.device, named.model
    used = images.select(torch.cat([chosen for _, chosen in planned]))
    n_classes, total = len(classes), len(planned)
    matrices = {name: torch.zeros(n_classes, n_classes, dtype=torch.int64) for name in NORMS}
    softmax = {name: torch.zeros(n_classes, n_classes, dtype=torch.float64) for name in NORMS}
    correct = 0
    with eval_mode(model), full_precision(), torch.inference_mode(False):
        for done, (label, _) in enumerate(planned):
            x = to_float(used.images[done * batch_size : (done + 1) * batch_size].to(device))
            reference = check_logits(model, x, n_classes).float()
            if reference.shape[1] != n_classes:
                raise InputError(f"the model returns {reference.shape[1]} logits, but there are {n_classes} classes.")
            correct += int((reference.argmax(dim=1) == label).sum())
            for norm in NORMS:
                draws = generator(seed, done, device=device)
                x_adv = norm_attack(model, x, reference, norm=norm, eps=eps, alpha=alpha, generator=draws)
                with torch.no_grad():
                    logits = model(x_adv).float()
                matrices[norm][label] += torch.bincount(logits.argmax(dim=1).cpu(), minlength=n_classes)
                softmax[norm][label] += logits.softmax(dim=1).double().sum(dim=0).cpu()
            if progress is not None:
                progress("batches", done + 1, total)
    return Confusion(
        **measured(used, device, seed=seed, eps=eps),
        subject=named.subject,
        classes=classes,
        clean_accuracy=correct / len(used),
        batch_size=batch_size,
        alpha=alpha,
        attacks=tuple(_counted(norm, matrices[norm], softmax[norm]) for norm in NORMS),
    )


def _counted(norm: str, matrix: Tensor, softmax: Tensor) -> AttackConfusion:
    """Return the result of an attack from counts [N, N] and sums of softmax vectors [N, N], a row a class."""
    images = matrix.sum(dim=1)
    entropies = entropy(softmax / images[:, None])
    return AttackConfusion(
        norm=norm,
        matrix=tuple(tuple(row) for row in matrix.tolist()),
        entropy=numbers(entropies),
        mean_entropy=float(entropies.mean()),
        accuracy=int(matrix.diagonal().sum()) / int(images.sum()),
    )


def same_class_batches(
    labels: Tensor, classes: tuple[str, ...], batch_size: int, batches: int | None
) -> list[tuple[int, Tensor]]:
    """Return (class, positions int64 [batch_size]) for each whole batch of one class, in the order of ``labels``."""
    if batch_size < 2:
        raise InputError(f"batch_size={batch_size}: expected at least 2; of one image both norms are the same.")
    if batches is not None and batches < 1:
        raise InputError(f"batches={batches}: expected at least 1 batch of each class.")
    found: list[tuple[int, Tensor]] = []
    for label, name in enumerate(classes):
        of_class = (labels == label).nonzero().squeeze(1)
        if len(of_class) < batch_size:
            raise InputError(
                f"class {name!r} has {len(of_class)} test images, too few for a same-class batch of {batch_size}; give "
                "a smaller --batch-size, or images with more of each class."
            )
        whole = len(of_class) // batch_size if batches is None else min(batches, len(of_class) // batch_size)
        found += [(label, of_class[k * batch_size : (k + 1) * batch_size]) for k in range(whole)]
    return found

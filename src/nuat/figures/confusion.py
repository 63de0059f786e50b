"""Predictions under norm attacks on each class (Figure 2, section 5.1): confusion matrices and entropies.

| paper | here |
|---|---|
| same-class images in one batch of 100 | ``batch_size`` images of one class; a remainder is not used |
| Delta, Bernoulli noise of magnitude alpha | ``bernoulli(x, alpha)`` |
| maximise ||f(X + Delta) - f(X)|| | ``norm_attack``, the nuclear or the Frobenius norm, without a cross-entropy |
| entropy of the average softmax vector of a class | ``entropy``: 0 to log N, in base 10 or in nats |

The paper states neither eps, alpha, the steps nor the base of the logarithm for this experiment. 7 steps of eps / 4 and
base 10 give its order and nearly its values; one step of eps gives neither. The norm alone is maximised, as the caption
of Figure 2 says: with the cross-entropy of Eq. 1 added, both attacks would be drawn to the same classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from nuat import paper
from nuat.attacks import eval_mode
from nuat.attacks.nuclear import norm_attack
from nuat.core.eps import eps_text
from nuat.core.nuclear import NORM_TERMS
from nuat.core.threat import check_eps
from nuat.data import Dataset, Images, to_float
from nuat.errors import InputError
from nuat.evaluation.inspection import check_logits
from nuat.figures import style
from nuat.figures.common_options import ModelOptions
from nuat.figures.figure_record import ModelIdentity, ModelRecord, require
from nuat.figures.kind import ModelFigure
from nuat.figures.measuring import NamedModel, generator, provenance, rounded
from nuat.hardware import full_precision
from nuat.progress import Progress, TerminalReporter, progress_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Base = Literal["10", "e"]
"""Base of the logarithm in an entropy."""
_BASES: dict[str, tuple[str, float]] = {"10": ("base 10", math.log(10)), "e": ("nats", 1.0)}
"""Bases by name: how they are written, and their natural logarithm."""
_LABELS = {"nuclear": "nuclear norm", "frobenius": "Frobenius norm"}
_MOST_NUMBERS = 12
"""Classes up to which the cells show numbers and each class its name."""


@dataclass(frozen=True, kw_only=True)
class ConfusionOptions(ModelOptions):
    """Figure 2: predictions under attacks that maximise the nuclear and the Frobenius norm."""

    batch_size: int = 100
    """Images of one class that are attacked together; 100 in the paper."""
    batches: int | None = None
    """Batches of each class. None: all whole ones."""
    alpha: float | None = None
    """Magnitude of the Bernoulli start. None: eps / 2, as in training."""
    steps: int = 7
    """Steps of each attack."""
    step_size: float | None = None
    """Size of a step. None: eps for a single step, else eps / 4."""
    base: Base = "10"
    """Base of the logarithm in the entropies: 10, or e for nats."""


@dataclass(frozen=True, kw_only=True)
class AttackConfusion:
    """Predictions on every class under one attack."""

    norm: str
    """nuclear or frobenius."""
    matrix: tuple[tuple[int, ...], ...]
    """[N][N] images: row the label, column the prediction on the attacked image."""
    entropy: tuple[float, ...]
    """[N] entropy of the average softmax vector over the attacked images of each class, in the record's base."""
    mean_entropy: float
    """Mean entropy over the classes."""
    accuracy: float
    """Fraction of the attacked images that are predicted as their label, in [0, 1]: the diagonal."""


@dataclass(frozen=True, kw_only=True)
class Confusion(ModelRecord):
    """Predictions of a model under both attacks."""

    kind: ClassVar[str] = "confusion"

    subject: ModelIdentity
    """The model."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    clean_accuracy: float
    """Accuracy on the same images before the attack, in [0, 1]."""
    batch_size: int
    """Images of one class that are attacked together."""
    alpha: float
    """Magnitude of the Bernoulli start."""
    attacks: tuple[AttackConfusion, ...]
    """Nuclear, then Frobenius."""
    steps: int = 1
    """Steps of each attack."""
    step_size: float | None = None
    """Size of a step. None: eps."""
    base: str = "e"
    """Base of the logarithm in the entropies: 10 or e."""

    def __post_init__(self) -> None:
        super().__post_init__()
        classes = len(self.classes)
        require(self.base in _BASES, f"a base of {' or '.join(_BASES)}")
        require(
            classes >= 2 and len(self.attacks) == len(NORM_TERMS), f"at least 2 classes, and {len(NORM_TERMS)} attacks"
        )
        for attack in self.attacks:
            require(attack.norm in NORM_TERMS and len(attack.entropy) == classes, f"the entropy of {classes} classes")
            require([len(row) for row in attack.matrix] == [classes] * classes, f"{classes} x {classes} counts")
            require(all(min(row) >= 0 and sum(row) > 0 for row in attack.matrix), "images of each class")


def entropy(probabilities: Tensor, base: Base = "10") -> Tensor:
    """Return the entropy [...] of probabilities [..., N], 0 to log N in the given base."""
    found: Tensor = torch.special.entr(probabilities).sum(dim=-1) / _BASES[base][1]
    return found


def confusion(
    named: NamedModel,
    images: Images,
    classes: tuple[str, ...],
    *,
    eps: float,
    alpha: float | None = None,
    steps: int = 7,
    step_size: float | None = None,
    base: Base = "10",
    batch_size: int = 100,
    batches: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Confusion:
    """Attack same-class batches of ``images`` with both norms and count the predictions.

    Args:
        named: the model.
        images: images that the batches are taken from, in order.
        classes: names of the classes.
        eps: radius of the Linf ball.
        alpha: magnitude of the Bernoulli start. None: eps / 2.
        steps: steps of each attack.
        step_size: size of a step. None: eps for a single step, else eps / 4.
        base: base of the logarithm in the entropies.
        batch_size: images of one class attacked together.
        batches: most batches of each class. None: all whole ones.
        seed: seed of the starts, which both attacks on a batch share.
        progress: called after each batch.

    Raises:
        InputError: a setting out of range, or a class that has images but no whole batch.
    """
    alpha = eps / 2 if alpha is None else alpha
    check_eps("alpha", alpha)
    if alpha > eps:
        raise InputError(f"alpha={alpha:g} is more than eps={eps:g}: the start would lie outside the ball; give less.")
    if steps < 1:
        raise InputError(f"steps={steps}: expected at least 1.")
    step_size = (eps if steps == 1 else eps / 4) if step_size is None else step_size
    check_eps("step_size", step_size)
    planned = same_class_batches(images.labels.cpu(), classes, batch_size, batches)
    device, model = named.device, named.model
    used = images.select(torch.cat([chosen for _, chosen in planned]))
    n_classes, total = len(classes), len(planned)
    matrices = {name: torch.zeros(n_classes, n_classes, dtype=torch.int64) for name in NORM_TERMS}
    softmax = {name: torch.zeros(n_classes, n_classes, dtype=torch.float64) for name in NORM_TERMS}
    correct = 0
    with eval_mode(model), full_precision(), torch.inference_mode(False):
        for done, (label, _) in enumerate(planned):
            x = to_float(used.images[done * batch_size : (done + 1) * batch_size].to(device))
            reference = check_logits(model, x, n_classes).float()
            if reference.shape[1] != n_classes:
                raise InputError(f"the model returns {reference.shape[1]} logits, but there are {n_classes} classes.")
            correct += int((reference.argmax(dim=1) == label).sum())
            for norm in NORM_TERMS:
                draws = generator(seed, done, device=device)
                x_adv = norm_attack(
                    model, x, reference, norm=norm, eps=eps, alpha=alpha, steps=steps, step_size=step_size,
                    generator=draws,
                )  # fmt: skip
                with torch.no_grad():
                    logits = model(x_adv).float()
                matrices[norm][label] += torch.bincount(logits.argmax(dim=1).cpu(), minlength=n_classes)
                softmax[norm][label] += logits.softmax(dim=1).double().sum(dim=0).cpu()
            if progress is not None:
                progress("batches", done + 1, total)
    return Confusion(
        **provenance(used, device, seed=seed, eps=eps),
        subject=named.identity,
        classes=classes,
        clean_accuracy=correct / len(used),
        batch_size=batch_size,
        alpha=alpha,
        steps=steps,
        step_size=step_size,
        base=base,
        attacks=tuple(_counted(norm, matrices[norm], softmax[norm], base) for norm in NORM_TERMS),
    )


def _counted(norm: str, matrix: Tensor, softmax: Tensor, base: Base) -> AttackConfusion:
    """Return the result of an attack from counts [N, N] and sums of softmax vectors [N, N], one row per class."""
    images = matrix.sum(dim=1)
    entropies = entropy(softmax / images[:, None], base)
    return AttackConfusion(
        norm=norm,
        matrix=tuple(tuple(row) for row in matrix.tolist()),
        entropy=rounded(entropies),
        mean_entropy=float(entropies.mean()),
        accuracy=int(matrix.diagonal().sum()) / int(images.sum()),
    )


def same_class_batches(
    labels: Tensor, classes: tuple[str, ...], batch_size: int, batches: int | None
) -> list[tuple[int, Tensor]]:
    """Return (class, positions int64 [batch_size]) of each whole batch of one class, in the order of ``labels``."""
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


def _measure(
    asked: ConfusionOptions, models: list[NamedModel], dataset: Dataset, reporter: TerminalReporter
) -> Confusion:
    (model,) = models
    with progress_bars(reporter) as progress:
        return confusion(
            model, dataset.test, dataset.classes, eps=asked.threat.eps, alpha=asked.alpha, steps=asked.steps,
            step_size=asked.step_size, base=asked.base, batch_size=asked.batch_size, batches=asked.batches,
            seed=asked.seed, progress=progress,
        )  # fmt: skip


def _table(record: Confusion) -> Table:
    """Return the entropies next to those of the paper, which used a plain ResNet-18 on CIFAR-10."""
    theirs = {n.method.split()[0].lower(): n.value for n in paper.numbers() if n.quantity == "entropy"}
    table = Table(title=f"{record.n:,} test images, clean accuracy {record.clean_accuracy:.1%}", title_justify="left")
    table.add_column("attack")
    for name in (f"mean entropy ({_BASES[record.base][0]})", "paper, ResNet-18, CIFAR-10", "accuracy %"):
        table.add_column(name, justify="right")
    for attack in record.attacks:
        cells = f"{attack.mean_entropy:.3f}", f"{theirs[attack.norm]:.2f}", f"{100 * attack.accuracy:.2f}"
        table.add_row(f"{attack.norm} norm", *cells)
    return table


def draw(records: Sequence[Confusion]) -> "Figure":
    """Draw a row for each record: two matrices in % of the class, and the entropy of each class."""
    figure = style.new_figure(style.WIDTH, 2.95 * len(records) + 0.2)
    axes = figure.subplots(len(records), 3, squeeze=False, width_ratios=(1.25, 1.25, 0.8))
    for row, record in zip(axes, records, strict=True):
        for axis, attack in zip(row, record.attacks, strict=False):
            shown = _matrix(axis, record, attack, first=axis is row[0])
        bar = figure.colorbar(shown, ax=list(row[:2]), label="% of the class", fraction=0.035, pad=0.02)
        bar.outline.set_visible(False)
        _entropies(row[2], record)
    style.note(figure, [_small_print(record) for record in records])
    return figure


def _matrix(axis: Any, record: Confusion, attack: AttackConfusion, *, first: bool) -> Any:
    counts = np.asarray(attack.matrix)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    shown = axis.imshow(shares, cmap=style.COLOUR_MAP, vmin=0, vmax=100, interpolation="nearest", aspect="auto")
    n = len(record.classes)
    axis.grid(visible=False)
    names = [style.class_name(name) for name in record.classes]
    few = n <= _MOST_NUMBERS
    places = range(n) if few else range(0, n, -(-n // 10))
    axis.set_xticks(places, [names[i] for i in places], rotation=90 if max(map(len, names)) > 2 else 0)
    axis.set_yticks(places, [names[i] for i in places] if first else [])
    axis.set_xlabel("prediction under attack")
    if first:
        axis.set_ylabel("label")
    told = f"accuracy {100 * attack.accuracy:.1f} %\nmean entropy {attack.mean_entropy:.2f} ({_BASES[record.base][0]})"
    axis.set_title(f"{_LABELS.get(attack.norm, attack.norm)}\n{told}", fontsize=8)
    for i, j in np.argwhere(shares >= 0.5) if few else ():
        ink = "black" if shares[i, j] > 60 else "white"
        axis.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=5.5, color=ink)
    return shown


def _entropies(axis: Any, record: Confusion) -> None:
    places = np.arange(len(record.classes))
    height = 0.8 / len(record.attacks)
    for i, (attack, shade) in enumerate(zip(record.attacks, (style.BLUE, style.VERMILION), strict=False)):
        label = _LABELS[attack.norm].split()[0]
        axis.barh(places + (i - 0.5) * height, attack.entropy, height, color=shade, label=label)
        axis.axvline(attack.mean_entropy, color=shade, linewidth=1, linestyle="--")
    axis.set_ylim(len(places) - 0.5, -0.5)
    axis.set_yticks([])
    most = math.log(len(places)) / _BASES[record.base][1]
    axis.set_xlim(0, most * 1.02)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"entropy ({_BASES[record.base][0]})")
    axis.set_title(f"entropy by class\n(at most {most:.2f})", fontsize=7)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))


def _small_print(record: Confusion) -> str:
    steps = f"{record.steps} step{'s' * (record.steps > 1)} of {eps_text(record.step_size or record.eps)}"
    return (
        f"{record.subject.name}: {record.n:,} test images in same-class batches of {record.batch_size}, clean accuracy "
        f"{100 * record.clean_accuracy:.1f} %; {steps} on the norm alone, Linf eps {eps_text(record.eps)}, from "
        f"Bernoulli noise of {eps_text(record.alpha)}. Dashed: mean over the classes."
    )


FIGURE = ModelFigure(
    record=Confusion,
    options=ConfusionOptions,
    summary="Figure 2: predictions on each class under nuclear-norm and Frobenius-norm attacks",
    title="Confusion under norm attacks",
    caption=(
        "Share of the images of each class (row) that are predicted as each class (column) under attacks that maximise "
        "two norms. A full diagonal is good for the model; the attack that empties it more is the stronger one."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
    single=True,
    has_colour_map=True,
)

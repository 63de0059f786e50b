"""A small record of each figure."""

import re
from typing import Any

from corrupted_files import results
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nuat.figures import style
from nuat.figures.accuracy_curve import AccuracyCurve
from nuat.figures.calibration import Calibration, ModelCalibration, Reliability
from nuat.figures.catalogue import draw
from nuat.figures.class_accuracy import ClassAccuracy, ModelClasses
from nuat.figures.confusion import AttackConfusion, Confusion
from nuat.figures.corruption_curves import corruption_curves
from nuat.figures.cost import Cost, CostPoint
from nuat.figures.eps_curve import EpsCurve
from nuat.figures.figure_record import FigureRecord, ModelIdentity
from nuat.figures.lambda_sweep import LambdaPoint, LambdaSweep
from nuat.figures.loss_surface import LossSurface, ModelSurface
from nuat.figures.nuclear_profile import ModelProfile, NuclearProfile
from nuat.figures.steps_curve import StepsCurve
from nuat.figures.training_curves import AlarmMark, RunCurves, TrainingCurves

ABOUT: dict[str, Any] = {
    "n": 8, "seed": 0, "eps": 8 / 255, "images_sha256": "a" * 64, "hardware": "a machine",
    "versions": {"torch": "2", "pyautoattack": None},
}  # fmt: skip
ONE, TWO = (ModelIdentity(name=name, weights_sha256="0" * 64) for name in ("<one> & only", "two"))
GRID = tuple(tuple(1.0 + a * a + b for b in (-0.1, 0.0, 0.1)) for a in (-0.1, 0.0, 0.1))
CURVES = (
    AccuracyCurve(subject=ONE, correct=("11111111", "11110000")),
    AccuracyCurve(subject=TWO, correct=("11111110", "10000000")),
)


def point(name: str, accuracy: float | None, seconds: float | None, passes: int | None) -> CostPoint:
    n = None if accuracy is None else 100
    return CostPoint(method=name, seed=0, accuracy=accuracy, n=n, seconds=seconds, passes=passes, hardware="a machine")


def attack(norm: str) -> AttackConfusion:
    return AttackConfusion(norm=norm, matrix=((3, 1), (0, 4)), entropy=(0.5, 0.25), mean_entropy=0.375, accuracy=0.875)


def diagram(attack: str, full: int) -> Reliability:
    """A diagram with images in one bin alone, and in the last."""
    bins = [b in (full, 14) for b in range(15)]
    return Reliability(
        attack=attack, n=tuple(4 * one for one in bins), confidence=tuple((b + 0.5) / 15 for b in range(15)),
        accuracy=tuple(0.5 * one for one in bins),
    )  # fmt: skip


RECORDS: dict[str, FigureRecord] = {
    record.kind: record
    for record in (
        ClassAccuracy(
            attack="worst-case", ball="Linf eps 8/255",
            models=(
                ModelClasses(
                    name="<one> & only", classes=("cat", "a very long name " * 5), n=(4, 5), clean=(4, 4),
                    correct=(2, 0), matrix=((2, 2, 0), (4, 0, 1)),
                ),
                ModelClasses(
                    name="many", classes=tuple(map(str, range(30))), n=(10,) * 30, clean=None,
                    correct=tuple(k % 10 for k in range(30)), matrix=(),
                ),
            ),
        ),
        Calibration(
            ball="Linf eps 8/255",
            models=tuple(
                ModelCalibration(
                    name=name, temperature=temperature, diagrams=(diagram("clean", 6), diagram("worst-case", 9))
                )
                for name, temperature in (("<one> & only", 1.0), ("two", 1.3))
            ),
        ),
        LossSurface(
            **ABOUT | {"n": 2}, positions=(1, 2), distances=(-0.1, 0.0, 0.1), clip=False, within=0.01,
            models=tuple(
                ModelSurface(subject=s, loss=GRID, roughness=(0.5, 1.5)) for s in (ONE, TWO)
            ),
        ),
        Confusion(
            **ABOUT, subject=ONE, classes=("cat", "dog"), clean_accuracy=1.0, batch_size=4, alpha=4 / 255, steps=7,
            step_size=2 / 255, base="10", attacks=(attack("nuclear"), attack("frobenius")),
        ),
        NuclearProfile(
            **ABOUT, steps=5, pgd_alpha=2 / 255, batch_size=4, alpha=4 / 255,
            models=(
                ModelProfile(subject=ONE, robust_images=5, robust=(0.1, 0.2, 0.3), non_robust=()),
                ModelProfile(subject=TWO, robust_images=4, robust=(0.1, 0.2), non_robust=(0.4, 0.5)),
            ),
        ),
        Cost(
            attack="pgd-100", images="test", eps=0.3,
            points=(
                point("A", 0.2, 10.0, 10**6), point("B", 0.5, 20.0, 3 * 10**6), point("C", 0.4, 40.0, None),
                point("D", None, 30.0, 10**6),
            ),
        ),
        LambdaSweep(
            attack="pgd-100", images="test", eps=0.3,
            points=(
                LambdaPoint(series="", seed=0, lam=1.0, clean=0.9, robust=0.5, n_clean=100, n_robust=100),
                LambdaPoint(series="", seed=1, lam=1.0, clean=0.9, robust=0.7, n_clean=100, n_robust=100),
                LambdaPoint(series="", seed=0, lam=2.0, clean=0.8, robust=None, n_clean=100, n_robust=None),
            ),
        ),
        EpsCurve(**ABOUT, radii=(0.0, 8 / 255), steps=5, models=CURVES),
        corruption_curves([("<one> & only", results(share=0.8)), ("two", results(seed=50))]),
        StepsCurve(**ABOUT, steps=(0, 10), pgd_alpha=2 / 255, models=CURVES),
        TrainingCurves(
            runs=(
                RunCurves(
                    name="ours", seed=0, epochs=(1, 2, 3), best_epoch=2, switches=(0, 2, 0),
                    series={
                        "lr": (0.1, 0.2, 0.1), "train.loss": (2.0, None, 1.0), "train.lam": (0.0, 1.0, 2.0),
                        "train.rank": (1.0, None, 4.5), "train.two_step": (0.0, 0.5, 0.0),
                        "validation.live.pgd": (0.1, None, 0.3), "validation.averaged.pgd": (0.1, 0.4, 0.3),
                        "validation.averaged.tau": (0.9, 0.995, 0.9),
                    },
                    attack="gama-20",
                    alarms=(AlarmMark(epoch=2, monitor="overfitting", message="beware"),),
                ),
            )
        ),
    )
}  # fmt: skip


def texts(figure: Figure) -> str:
    return "\n".join(re.findall(r">([^<>]+)</text>", style.to_bytes(figure, "svg").decode()))


def drawn(kind: str) -> tuple[Figure, list[Axes]]:
    figure = draw([RECORDS[kind]])
    return figure, figure.axes

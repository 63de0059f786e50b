"""CIFAR-10 with a ResNet-18 of width 8, for a CPU: the campaigns ``cifar10-small``, ``cifar100-small`` and one in L2.

They are not from the paper, whose networks are 8 times as wide or more. All share the data, the network, batches of
128, 5 epochs, one cycle of SGD up to 0.1 with weight decay 5e-4, plain labels, and bf16: NuAT takes 6 minutes of one
core for 50,000 images. ``nuat-cifar10-small`` is the paper's setting: lambda 4 of the norm divided by the batch, one
average. ``robust-cifar10-small`` has what ``nuat.recipes.robust`` adds: lambda 6 of the scaled norm, and the best of
three averages, which remember about the same shares of the run as there. Its rivals have these averages, too. The
campaigns make the variants: other options, 100 classes, 16/255, L2 and a union. docs/results.md says how lambda was
chosen; nothing else was tuned.
"""

from collections.abc import Callable

from nuat.config import (
    AveragingConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ThreatConfig,
    TrainConfig,
)
from nuat.core.schedules import Jumps, OneCycle, Ramp
from nuat.defenses import FBF, GAT, LIET, NFGSM, PGDAT, TRADES, Defense, NuAT, NuAT2
from nuat.recipes.robust import LAM

_TAUS = (0.98, 0.99, 0.995)


def _row(defense: Defense, tau: float | tuple[float, ...] = _TAUS) -> TrainConfig:
    return TrainConfig(
        defense=defense,
        data=DataConfig(name="cifar10", validation=500, crop_padding=4, flip=True),
        model=ModelConfig(name="resnet18", width=8),
        threat=ThreatConfig(eps=8 / 255, pgd_alpha=2 / 255),
        optimizer=OptimizerConfig(lr=OneCycle(peak=0.1)),
        averaging=AveragingConfig(tau=tau, warmup=True),
        epochs=5,
        batch_size=128,
        precision="bf16",
        evaluation=EvaluationConfig(attacks=("clean", "pgd-100", "gama-100"), n=1000),
    )


def nuat() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: NuAT in the paper's setting, with one average."""
    return _row(NuAT(lam=Ramp(peak=4.0)), tau=0.99)


def robust() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: the setting of robust-cifar10-resnet18."""
    return _row(NuAT(lam=LAM, scale="gaussian"))


def nuat2() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: that setting with NuAT2, the two-step attack."""
    return _row(NuAT2(lam=LAM, scale="gaussian"))


def liet() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: LIET, with its authors' weight for 10 classes."""
    return _row(LIET(lam=Ramp(peak=100.0), every=10))


def n_fgsm() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: N-FGSM, noise of 2 eps."""
    return _row(NFGSM())


def gat() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: GAT, whose weight is 10, and 40 in the last epoch."""
    return _row(GAT(weight=Jumps(start=10.0, at=(4 / 5,), factor=4.0)))


def fbf() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: FBF, step 1.25 eps."""
    return _row(FBF())


def pgd_at() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: PGD-AT, 10 steps of eps / 4."""
    return _row(PGDAT())


def trades() -> TrainConfig:
    """CIFAR-10, narrow ResNet-18: TRADES with beta 6, 10 steps of eps / 4."""
    return _row(TRADES())


TITLE = "Options and rivals for a CPU: CIFAR-10, ResNet-18 of width 8, eps 8/255"
"""Heading in ``nuat recipes``."""
RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "nuat-cifar10-small": nuat,
    "robust-cifar10-small": robust,
    "nuat2-cifar10-small": nuat2,
    "liet-cifar10-small": liet,
    "n-fgsm-cifar10-small": n_fgsm,
    "gat-cifar10-small": gat,
    "fbf-cifar10-small": fbf,
    "pgd-at-cifar10-small": pgd_at,
    "trades-cifar10-small": trades,
}
"""Name on the command line to recipe."""

"""Defenses in L2, in L1 and in the union of three norms: MNIST, small CNN, the campaign ``mnist-threats``.

Not from the paper. They share the settings of ``nuat.recipes.mnist_small`` but for the ball. There NuAT starts at eps,
which here is the eps of each ball. The radii are those of Maini et al. 2020 in Linf (0.3) and L1 (10); in L2 it is 1.5.
In a union each batch is attacked in one ball, drawn at random, so it costs as much as a single norm. Nothing was tuned.
"""

from collections.abc import Callable

from nuat.config import ThreatConfig, TrainConfig
from nuat.core.schedules import Ramp
from nuat.defenses import NFGSM, PGDAT, TRADES, NuAT, NuAT2
from nuat.recipes.mnist_small import row

_LAM = Ramp(peak=2.0)
_L2 = ThreatConfig(norm="L2", eps=1.5, pgd_alpha=0.05)
_L1 = ThreatConfig(norm="L1", eps=10.0, pgd_alpha=0.5)
_UNION = ThreatConfig(eps=0.3, also="L2:1.5,L1:10", pgd_alpha=0.01)


def nuat_l2() -> TrainConfig:
    """MNIST, small CNN, L2 1.5: NuAT."""
    return row(NuAT(lam=_LAM, alpha=1.5), peak=0.1, threat=_L2)


def nuat2_l2() -> TrainConfig:
    """MNIST, small CNN, L2 1.5: NuAT2."""
    return row(NuAT2(lam=_LAM, alpha=1.5), peak=0.1, threat=_L2)


def n_fgsm_l2() -> TrainConfig:
    """MNIST, small CNN, L2 1.5: N-FGSM, noise of eps."""
    return row(NFGSM(noise=1.0), peak=0.1, threat=_L2)


def pgd_at_l2() -> TrainConfig:
    """MNIST, small CNN, L2 1.5: PGD-AT, 10 steps of eps / 4."""
    return row(PGDAT(), peak=0.1, threat=_L2)


def trades_l2() -> TrainConfig:
    """MNIST, small CNN, L2 1.5: TRADES, 10 steps of eps / 4."""
    return row(TRADES(beta=3.0), peak=0.05, threat=_L2)


def nuat_l1() -> TrainConfig:
    """MNIST, small CNN, L1 10: NuAT."""
    return row(NuAT(lam=_LAM, alpha=10.0), peak=0.1, threat=_L1)


def nuat2_l1() -> TrainConfig:
    """MNIST, small CNN, L1 10: NuAT2."""
    return row(NuAT2(lam=_LAM, alpha=10.0), peak=0.1, threat=_L1)


def n_fgsm_l1() -> TrainConfig:
    """MNIST, small CNN, L1 10: N-FGSM, noise of eps."""
    return row(NFGSM(noise=1.0), peak=0.1, threat=_L1)


def pgd_at_l1() -> TrainConfig:
    """MNIST, small CNN, L1 10: PGD-AT, 10 steps of eps / 4."""
    return row(PGDAT(), peak=0.1, threat=_L1)


def trades_l1() -> TrainConfig:
    """MNIST, small CNN, L1 10: TRADES, 10 steps of eps / 4."""
    return row(TRADES(beta=3.0), peak=0.05, threat=_L1)


def nuat_union() -> TrainConfig:
    """MNIST, small CNN, the union of Linf 0.3, L2 1.5 and L1 10: NuAT."""
    return row(NuAT(lam=_LAM, alpha=0.3), peak=0.1, threat=_UNION)


def nuat2_union() -> TrainConfig:
    """MNIST, small CNN, the union of Linf 0.3, L2 1.5 and L1 10: NuAT2."""
    return row(NuAT2(lam=_LAM, alpha=0.3), peak=0.1, threat=_UNION)


def n_fgsm_union() -> TrainConfig:
    """MNIST, small CNN, the union of Linf 0.3, L2 1.5 and L1 10: N-FGSM, noise of eps."""
    return row(NFGSM(noise=1.0), peak=0.1, threat=_UNION)


def pgd_at_union() -> TrainConfig:
    """MNIST, small CNN, the union of Linf 0.3, L2 1.5 and L1 10: PGD-AT, 10 steps of eps / 4.

    At the rate of the other rows, 0.1, it collapsed to a constant in its second epoch (seed 0).
    """
    return row(PGDAT(), peak=0.1, threat=_UNION)


def trades_union() -> TrainConfig:
    """MNIST, small CNN, the union of Linf 0.3, L2 1.5 and L1 10: TRADES, 10 steps of eps / 4."""
    return row(TRADES(beta=3.0), peak=0.05, threat=_UNION)


TITLE = "Other norms: MNIST, small CNN, in L2, in L1 and in the union of three"
"""Heading in ``nuat recipes``."""
RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "nuat-mnist-small-cnn-l2": nuat_l2,
    "nuat2-mnist-small-cnn-l2": nuat2_l2,
    "n-fgsm-mnist-small-cnn-l2": n_fgsm_l2,
    "pgd-at-mnist-small-cnn-l2": pgd_at_l2,
    "trades-mnist-small-cnn-l2": trades_l2,
    "nuat-mnist-small-cnn-l1": nuat_l1,
    "nuat2-mnist-small-cnn-l1": nuat2_l1,
    "n-fgsm-mnist-small-cnn-l1": n_fgsm_l1,
    "pgd-at-mnist-small-cnn-l1": pgd_at_l1,
    "trades-mnist-small-cnn-l1": trades_l1,
    "nuat-mnist-small-cnn-union": nuat_union,
    "nuat2-mnist-small-cnn-union": nuat2_union,
    "n-fgsm-mnist-small-cnn-union": n_fgsm_union,
    "pgd-at-mnist-small-cnn-union": pgd_at_union,
    "trades-mnist-small-cnn-union": trades_union,
}
"""Name on the command line to recipe."""

"""All defenses but LIET on MNIST, small CNN, eps = 0.3 (Linf), under equal conditions: the campaign ``mnist-small``.

They are not from the paper, whose MNIST network is larger (``nuat.recipes.mnist_cnn``). All share the data, the
network, batches of 64, 6 epochs, SGD with momentum and weight decay 5e-4, bf16, and the choice of the best epoch by
validation PGD-7. eps grows from 0 over the first 40 % of the run: without that, this network never leaves the constant
under PGD-AT and FGSM-AT. Each method's learning rate and own weight were chosen among six trials on validation digits
(campaign ``mnist-small-tuning``). alpha = eps follows the authors' GAT script for MNIST.
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
from nuat.defenses import (
    AWP,
    FBF,
    FGSMAT,
    FGSMPGI,
    GAT,
    NFGSM,
    PGDAT,
    RFGSMAT,
    RMGM,
    TRADES,
    TRADESAWP,
    Defense,
    FreeAT,
    NuAT,
    NuAT2,
    NuATHybrid,
    Standard,
)

_EPS = 0.3
LINF = ThreatConfig(eps=_EPS, pgd_alpha=0.01)
_EPOCHS = 6


def row(
    defense: Defense,
    *,
    peak: float = 0.05,
    tau: float | None = None,
    epochs: int = _EPOCHS,
    threat: ThreatConfig = LINF,
) -> TrainConfig:
    """Return the settings that the rows share; ``peak`` is the highest learning rate."""
    return TrainConfig(
        defense=defense,
        data=DataConfig(name="mnist", validation=1000),
        model=ModelConfig(name="small-cnn"),
        threat=threat,
        optimizer=OptimizerConfig(lr=OneCycle(peak=peak)),
        averaging=AveragingConfig(tau=tau, warmup=tau is not None),
        epochs=epochs,
        batch_size=64,
        eps_warmup=0.0 if isinstance(defense, Standard) else 0.4,
        precision="bf16",
        evaluation=EvaluationConfig(attacks=("clean", "pgd-100", "gama-100"), n=1000),
    )


def normal() -> TrainConfig:
    """MNIST, small CNN: no defense."""
    return row(Standard())


def fgsm_at() -> TrainConfig:
    """MNIST, small CNN: FGSM-AT."""
    return row(FGSMAT())


def rfgsm_at() -> TrainConfig:
    """MNIST, small CNN: R-FGSM-AT."""
    return row(RFGSMAT(), peak=0.1)


def free_at() -> TrainConfig:
    """MNIST, small CNN: Free-AT with 2 epochs of m = 3 replays a batch."""
    return row(FreeAT(replays=3), epochs=_EPOCHS // 3)


def fbf() -> TrainConfig:
    """MNIST, small CNN: FBF, step 1.25 eps."""
    return row(FBF(), peak=0.2)


def n_fgsm() -> TrainConfig:
    """MNIST, small CNN: N-FGSM with noise of eps (its authors: 2 eps, at 8/255)."""
    return row(NFGSM(noise=1.0), peak=0.1)


def fgsm_pgi() -> TrainConfig:
    """MNIST, small CNN: FGSM-PGI with the previous batch's perturbation as the prior."""
    return row(FGSMPGI(weight=30.0))


def r_mgm() -> TrainConfig:
    """MNIST, small CNN: R-MGM."""
    return row(RMGM(weight=0.3))


def gat() -> TrainConfig:
    """MNIST, small CNN: GAT, whose weight triples in the last epoch, as late in the authors' script."""
    return row(GAT(weight=Jumps(start=10.0, at=(5 / 6,), factor=3.0), alpha=_EPS))


def nuat() -> TrainConfig:
    """MNIST, small CNN: NuAT."""
    return row(NuAT(lam=Ramp(peak=2.0), alpha=_EPS), peak=0.1)


def nuat_frobenius() -> TrainConfig:
    """MNIST, small CNN: NuAT with the Frobenius instead of the nuclear norm, in the attack and in the loss."""
    return row(NuAT(lam=Ramp(peak=2.0), alpha=_EPS, norm="frobenius"), peak=0.1)


def nuat_wa() -> TrainConfig:
    """MNIST, small CNN: NuAT-WA, an average of decay 0.999 with warm-up."""
    return row(NuAT(lam=Ramp(peak=2.0), alpha=_EPS), peak=0.1, tau=0.999)


def nuat_h() -> TrainConfig:
    """MNIST, small CNN: NuAT-H, with the default threshold of the switch."""
    return row(NuATHybrid(lam=Ramp(peak=2.0), alpha=_EPS), peak=0.1)


def nuat2() -> TrainConfig:
    """MNIST, small CNN: NuAT2, the two-step attack."""
    return row(NuAT2(lam=Ramp(peak=2.0), alpha=_EPS), peak=0.1)


def nuat2_wa() -> TrainConfig:
    """MNIST, small CNN: NuAT2-WA, the first attack step on an average of decay 0.99."""
    return row(NuAT2(lam=Ramp(peak=2.0), alpha=_EPS, attack_tau=0.99), peak=0.1, tau=0.999)


def pgd_at() -> TrainConfig:
    """MNIST, small CNN: PGD-AT, 10 steps of eps / 4."""
    return row(PGDAT(), peak=0.1)


def trades() -> TrainConfig:
    """MNIST, small CNN: TRADES, 10 steps of eps / 4."""
    return row(TRADES(beta=3.0))


def awp() -> TrainConfig:
    """MNIST, small CNN: AWP on PGD-AT."""
    return row(AWP(gamma=0.002), peak=0.1)


def trades_awp() -> TrainConfig:
    """MNIST, small CNN: AWP on TRADES, with beta 6."""
    return row(TRADESAWP(gamma=0.008), peak=0.1)


TITLE = "Every defense but LIET under equal conditions: MNIST, small CNN, eps 0.3"
"""Heading in ``nuat recipes``."""
RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "normal-mnist-small-cnn": normal,
    "fgsm-at-mnist-small-cnn": fgsm_at,
    "rfgsm-at-mnist-small-cnn": rfgsm_at,
    "free-at-mnist-small-cnn": free_at,
    "fbf-mnist-small-cnn": fbf,
    "n-fgsm-mnist-small-cnn": n_fgsm,
    "fgsm-pgi-mnist-small-cnn": fgsm_pgi,
    "r-mgm-mnist-small-cnn": r_mgm,
    "gat-mnist-small-cnn": gat,
    "nuat-mnist-small-cnn": nuat,
    "nuat-frobenius-mnist-small-cnn": nuat_frobenius,
    "nuat-wa-mnist-small-cnn": nuat_wa,
    "nuat-h-mnist-small-cnn": nuat_h,
    "nuat2-mnist-small-cnn": nuat2,
    "nuat2-wa-mnist-small-cnn": nuat2_wa,
    "pgd-at-mnist-small-cnn": pgd_at,
    "trades-mnist-small-cnn": trades,
    "awp-mnist-small-cnn": awp,
    "trades-awp-mnist-small-cnn": trades_awp,
}
"""Name on the command line to recipe."""

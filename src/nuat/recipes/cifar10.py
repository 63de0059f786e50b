"""Settings that the recipes of the paper's CIFAR-10 tables share: all but the defense, the schedules and the network.

They follow the authors' public scripts: the authors' own network (``model.variant=nuat``; not AWP's WideResNet), SGD
with momentum 0.9 and weight decay 5e-4, random crops with 4 pixels of zeros, flips, no input normalisation, and 49,000
/ 1,000 images for training and validation. As in each method's own code, batches hold 64 images in the rows of NuAT and
GAT and 128 in those of the other published methods. The scripts take a cyclic learning rate from torch's CyclicLR,
which by default cycles momentum against it: 0.8 at the peak.

If a method's authors write "after epoch index k of E", the schedule drops at the fraction (k + 1) / E of the run; if
they write "at epoch k", at k / E.
"""

from nuat.config import (
    AveragingConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ThreatConfig,
    TrainConfig,
)
from nuat.core.schedules import Cyclic, CyclicSchedule, Jumps, MultiStep, Schedule
from nuat.defenses import Defense

TAU = 0.9998
"""Decay of the evaluated average in every -WA row (the authors' script of NuAT-WA)."""

FBF_TRIANGLE = Cyclic(peak=0.2, rise=1 / 2)
"""FBF's code: from 0 up to 0.2 in half of the run, then down to 0."""
GAT_STEPS = MultiStep(peak=0.1, drops=(71 / 100, 86 / 100))
"""GAT's script: 0.1, / 10 after the epochs of index 70 and 85 of 100."""
GAT_WEIGHT = Jumps(start=10.0, at=(86 / 100,), factor=4.0)
"""GAT's script: 10, x 4 after the epoch of index 85 of 100."""
PGD_STEPS = MultiStep(peak=0.1, drops=(100 / 200, 150 / 200))
"""Rice et al. and AWP's code: 0.1, / 10 at epochs 100 and 150 of 200."""
AWP_STEPS = MultiStep(peak=0.1, drops=(99 / 200, 149 / 200))
"""TRADES-AWP's code: 0.1, / 10 at epochs 100 and 150 of 200, counted from 1."""
AWP_WARMUP = 9 / 200
"""TRADES-AWP's code: no perturbation before epoch 10, counted from 1."""
TRADES_STEPS = MultiStep(peak=0.1, drops=(100 / 110, 105 / 110))
"""Pang et al.: 0.1, / 10 at epochs 100 and 105 of 110."""


def cifar10(
    defense: Defense, lr: Schedule, *, model: str, epochs: int, batch_size: int, tau: float | None = None
) -> TrainConfig:
    """Return the settings of a row of Table 1."""
    return TrainConfig(
        defense=defense,
        data=DataConfig(name="cifar10", validation=1000, crop_padding=4, flip=True),
        model=ModelConfig(name=model, variant="nuat"),
        threat=ThreatConfig(eps=8 / 255, pgd_alpha=2 / 255),
        optimizer=OptimizerConfig(
            lr=lr,
            momentum=0.9,
            momentum_at_peak=0.8 if isinstance(lr, CyclicSchedule) else None,
            weight_decay=5e-4,
        ),
        averaging=AveragingConfig(tau=tau),
        epochs=epochs,
        batch_size=batch_size,
        precision="bf16",
        evaluation=EvaluationConfig(attacks=("clean", "pgd-20", "pgd-100", "pgd-500", "gama-100"), n=1000),
    )

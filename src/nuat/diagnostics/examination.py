"""The examination: run the attacks that the checks need, once, then let every check judge."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.climbable import Climbable
from nuat.config import ThreatConfig
from nuat.data import ImageSet, to_float
from nuat.diagnostics import curve, gradients, modes, strength
from nuat.diagnostics.verdict import Status, Verdict
from nuat.evaluation import Progress, evaluate
from nuat.hardware import full_precision
from nuat.results import Evaluation
from nuat.suite import jobs

_STARTS = 3
_STEPS = 100


@dataclass(frozen=True)
class Examination:
    """What was found about a model."""

    verdicts: tuple[Verdict, ...]
    evaluation: Evaluation
    """The attacks that the verdicts rest on."""

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return any(verdict.status is Status.FAIL for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        counts = {status.value: sum(v.status is status for v in self.verdicts) for status in Status}
        return {
            "counts": counts,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "evaluation": self.evaluation.to_json(),
        }


def examine(
    model: nn.Module,
    images: ImageSet,
    *,
    threat: ThreatConfig,
    n: int | None = 200,
    seed: int = 0,
    batch_size: int = 250,
    state_folder: Path | None = None,
    progress: Progress | None = None,
) -> Examination:
    """Return verdicts on whether the robustness of ``model`` under attack is to be believed.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N].
        images: test images.
        threat: radius of the ball and step of PGD.
        n: images, class-balanced; none: all. Fewer than some 300 leave checks INCONCLUSIVE.
        seed: of the random starts.
        batch_size: images attacked at once.
        state_folder: where finished batches are kept, so that a call that was cut off goes on.
        progress: called after each batch.

    Raises:
        InputError: as ``nuat.evaluation.evaluate``.
    """

    climbable = Climbable(model)  # a model without a gradient is a finding, not an error

    def attack(names: tuple[str, ...], radius: float, start: int) -> Evaluation:
        # PGD must be able to cross the ball several times, whatever its radius
        step = threat.pgd_alpha if radius == threat.eps else min(1.0, 2.5 * radius / _STEPS)
        state = None if state_folder is None else state_folder / f"diagnose-{radius:.6g}-{start}.partial.json"
        return evaluate(
            climbable,
            images,
            names,
            threat=replace(threat, eps=radius, pgd_alpha=step),
            n=n,
            seed=start,
            batch_size=batch_size,
            state_path=state,
            progress=progress,
        )

    pgd = (f"pgd-{_STEPS}",)
    unbounded = attack(pgd, 1.0, seed)
    part = images.select(unbounded.indices)
    x, y = to_float(part.images), part.labels
    device = next((p.device for p in model.parameters()), x.device)
    x, y = x.to(device), y.to(device)
    with full_precision():
        local = _local(model, x, y, threat.eps, seed)
        with eval_mode(model), torch.no_grad():
            substitutes = strength.substitutes(model(x[:1]).shape[1])
    names = tuple(dict.fromkeys(substitutes.get(name, name) for name in strength.ATTACKS))
    jobs(names, model, threat)  # a missing extra is said before hours pass
    radii = {
        factor * threat.eps: attack(pgd, factor * threat.eps, seed).worst_case
        for factor in curve.FACTORS
        if factor != 1.0 and factor * threat.eps < 1.0
    }
    starts = [attack(pgd, threat.eps, seed + 1 + i).worst_case for i in range(_STARTS - 1)]
    # last, as by far the longest: cut off, it goes on from what it has finished
    found = attack(names, threat.eps, seed)
    flags = {result.name: result.correct for result in found.results}
    radii[threat.eps] = flags[pgd[0]]
    flags[f"{pgd[0]} from {_STARTS} starts"] = torch.stack([flags[pgd[0]], *starts]).all(dim=0)
    verdicts = (
        *local,
        *(comparison.judge(lambda name: flags[substitutes.get(name, name)]) for comparison in strength.COMPARISONS),
        curve.judge_curve(radii),
        curve.judge_unbounded(unbounded.worst_case),
    )
    return Examination(verdicts, found)


def _local(model: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int) -> tuple[Verdict, ...]:
    """Return the verdicts that need no attack."""
    generator = torch.Generator(x.device).manual_seed(seed)
    return (
        modes.judge_randomness(model, x),
        modes.judge_modes(model, x, y),
        gradients.judge_gradients(model, x, y),
        gradients.judge_linearity(model, x, y, eps=eps, generator=generator),
    )

"""Examination of a model: run the attacks that the checks need, once, and let every check judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.config import ThreatConfig
from nuat.core.threat import threat as ball_of
from nuat.data import Images, to_float
from nuat.diagnostics import accuracy_by_eps, gradients, modes, strength, substitute
from nuat.diagnostics.applicable_checks import applicable_checks
from nuat.diagnostics.ranking import Comparison
from nuat.diagnostics.surrogate import Surrogate, Transferred, check_surrogate, transferred
from nuat.diagnostics.verdict import Status, Verdict
from nuat.evaluation.arguments import check_arguments
from nuat.evaluation.evaluate import evaluate
from nuat.evaluation.guarded_model import ClimbableModel, GuardedModel, guarded
from nuat.evaluation.job_runner import Progress
from nuat.evaluation.results import Evaluation
from nuat.hardware import full_precision

_STARTS = 3
_STEPS = 100


@dataclass(frozen=True)
class Examination:
    """Verdicts on a model, and the attacks that they rest on."""

    verdicts: tuple[Verdict, ...]
    evaluation: Evaluation
    """Attacks that the verdicts rest on."""
    left_out: tuple[str, ...] = ()
    """Attacks and checks that are missing, each with the reason."""

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
            "left_out": list(self.left_out),
            "evaluation": self.evaluation.to_json(),
        }


def examine(
    model: nn.Module,
    images: Images,
    *,
    threat: ThreatConfig,
    n: int | None = 200,
    seed: int = 0,
    batch_size: int = 250,
    class_map: Sequence[int] | None = None,
    training: Images | None = None,
    surrogate: Surrogate | None = None,
    state_folder: Path | None = None,
    progress: Progress | None = None,
) -> Examination:
    """Return verdicts on whether the robustness of ``model`` under attack is to be believed.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N]. It may be anybody's, see ``nuat.evaluate``; one without a
            gradient is a finding, not an error.
        images: test images.
        threat: norm and radius of the ball, and step size of PGD.
        n: images, class-balanced. None: all images. With fewer than about 300, checks stay INCONCLUSIVE.
        seed: seed of the random starts and of the substitute.
        batch_size: images attacked at once.
        class_map: the logit of the model for each class of the images. None: logit i is class i.
        training: images on which a substitute learns the answers of the model, if there is no ``surrogate``. Without
            either, the checks on transfer are INCONCLUSIVE.
        surrogate: model whose adversarial examples are tried on this one.
        state_folder: folder that keeps finished batches, so that an interrupted call can be resumed.
        progress: function called after each batch.

    Raises:
        InputError: as ``nuat.evaluate``; or a surrogate for other images or fewer classes.
    """
    check_arguments(model, images)
    guard = guarded(model, class_map)
    largest = accuracy_by_eps.unbounded(threat.norm, torch.Size((images.channels, *images.image_size)))

    def attack(names: tuple[str, ...], radius: float, start: int) -> Evaluation:
        # PGD must be able to cross the ball several times, whatever its radius
        step = threat.pgd_alpha if radius == threat.eps else min(largest, 2.5 * radius / _STEPS)
        state = None if state_folder is None else state_folder / f"diagnose-{radius:.6g}-{start}.partial.json"
        return evaluate(
            guard,
            images,
            names,
            threat=replace(threat, eps=radius, pgd_alpha=step),
            n=n,
            seed=start,
            batch_size=batch_size,
            inspected=True,  # the checks look closer
            warn=lambda _: None,
            state_path=state,
            progress=progress,
        )

    pgd = (f"pgd-{_STEPS}",)
    unbounded = attack(pgd, largest, seed)
    part = images.select(unbounded.indices)
    x, y = to_float(part.images), part.labels
    device = next((p.device for p in model.parameters()), x.device)
    x, y = x.to(device), y.to(device).long()
    with full_precision():
        with eval_mode(guard), torch.no_grad():
            classes = guard(x[:2]).shape[1]
        if surrogate is not None:
            check_surrogate(surrogate, x[:2], classes)
        # a missing extra is reported before hours pass
        asked = applicable_checks(guard, threat, classes=classes, image_size=(x.shape[2], x.shape[3]))
        local, changes = _local(guard, x, y, threat, seed)
        if surrogate is None:
            surrogate = substitute.learn(guard, training, threat=threat, classes=classes, seed=seed, progress=progress)
        carried = None
        if surrogate is not None:
            carried = transferred(
                guard, surrogate, x, y, threat=threat, seed=seed, batch_size=batch_size, progress=progress
            )
    radii = {
        factor * threat.eps: attack(pgd, factor * threat.eps, seed).worst_case
        for factor in accuracy_by_eps.FACTORS
        if factor != 1.0 and factor * threat.eps < largest
    }
    starts = [attack(pgd, threat.eps, seed + 1 + i).worst_case for i in range(_STARTS - 1)]
    # last, as by far the longest: cut off, it goes on from what it has finished
    found = attack(asked.attacks, threat.eps, seed)
    flags = {result.name: result.correct for result in found.results}
    radii[threat.eps] = flags[pgd[0]]
    flags[f"{pgd[0]} from {_STARTS} starts"] = torch.stack([flags[pgd[0]], *starts]).all(dim=0)
    if carried is not None:
        flags[strength.TRANSFER] = carried.withstood & flags["clean"]
    verdicts = (
        *local,
        *(_judge(comparison, flags, carried, changes) for comparison in asked.comparisons),
        accuracy_by_eps.judge_curve(radii),
        accuracy_by_eps.judge_unbounded(unbounded.worst_case, largest),
    )
    return Examination(verdicts, found, asked.left_out)


def _judge(comparison: Comparison, flags: Mapping[str, Tensor], carried: Transferred | None, changes: float) -> Verdict:
    """Return the verdict of a comparison; one on transfer needs a surrogate, and says how good it is."""
    if strength.TRANSFER not in comparison.weaker:
        return comparison.judge(flags.__getitem__, changes=changes)
    if carried is None:
        return comparison.undecided("there is no surrogate, and no images of at least 4 x 4 pixels to train one on.")
    return carried.qualify(comparison.judge(flags.__getitem__, changes=changes))


def _local(
    model: GuardedModel, x: Tensor, y: Tensor, threat: ThreatConfig, seed: int
) -> tuple[tuple[Verdict, ...], float]:
    """Return the verdicts that need no attack, and the share of images that the draw of a random model decides."""
    generator = torch.Generator(x.device).manual_seed(seed)
    ball = ball_of(threat.norm, threat.eps)
    one_function = modes.judge_randomness(model, x)
    verdicts = (
        one_function,
        modes.judge_modes(model, x, y),
        gradients.judge_gradients(model, x, y),
        gradients.judge_linearity(model, x, y, ball=ball, generator=generator),
    )
    if one_function.status is Status.PASS:
        return verdicts, 0.0
    return verdicts, modes.changed_by_draws(ClimbableModel(model), x, y, threat=threat, generator=generator)

"""Examination of a model: run the attacks that the checks need, once, and let every check judge."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.catalogue import attack_passes, look_up
from nuat.config import ThreatConfig
from nuat.core.eps import eps_text
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
from nuat.evaluation.results import Evaluation
from nuat.hardware import full_precision
from nuat.progress import Progress

_STARTS = 3
_STEPS = 100
_TIMED = 32
"""Images of the timed pass on a CPU; a GPU takes a whole batch."""


@dataclass(frozen=True)
class Examination:
    """Verdicts on a model, and the attacks that they rest on."""

    verdicts: tuple[Verdict, ...]
    evaluation: Evaluation
    """Attacks that the verdicts rest on."""
    left_out: tuple[str, ...] = ()
    """Attacks and checks that are missing, each with the reason."""
    skipped: tuple[str, ...] = ()
    """Checks that a quick examination left out."""

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
            "left_out": [*self.left_out, *(f"{check}: left out of a quick examination" for check in self.skipped)],
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
    quick: bool = False,
    state_folder: Path | None = None,
    progress: Progress | None = None,
) -> Examination:
    """Return verdicts on whether the robustness of ``model`` under attack is to be believed.

    A union is examined ball by ball; the norm begins the names of the checks.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N]. It may be anybody's, see ``nuat.evaluate``; one without a
            gradient is a finding, not an error.
        images: test images.
        threat: norm and radius of the ball, step size of PGD, and further balls.
        n: images, class-balanced. None: all images. With fewer than about 300, checks stay INCONCLUSIVE.
        seed: seed of the random starts and of the substitute.
        batch_size: images attacked at once.
        class_map: the logit of the model for each class of the images. None: logit i is class i.
        training: images on which a substitute learns the answers of the model, if there is no ``surrogate``. Without
            either, the checks on transfer are INCONCLUSIVE.
        surrogate: model whose adversarial examples are tried on this one.
        quick: whether to leave out the checks that need AutoAttack or thousands of passes; ``skipped`` names them.
        state_folder: folder that keeps every finished part, so that an interrupted call can be resumed; the files are
            removed at the end.
        progress: function called as the parts go on, see ``nuat.progress.Progress``.

    Raises:
        InputError: as ``nuat.evaluate``; or a surrogate for other images or fewer classes.
    """
    check_arguments(model, images)
    guard = guarded(model, class_map)
    several = threat.also is not None
    found = []
    for ball in threat.parts:
        stem = _stem(quick) + (f"-{ball.norm}" if several else "")
        found.append(
            _examine_ball(
                guard, images, threat=ball, n=n, seed=seed, batch_size=batch_size, training=training,
                surrogate=surrogate, quick=quick, stem=None if state_folder is None else state_folder / stem,
                progress=_in_ball(ball.norm, progress) if several else progress,
            )
        )  # fmt: skip
    if state_folder is not None:
        for path in finished_parts(state_folder, quick=quick):
            path.unlink(missing_ok=True)
    return _union(found, threat) if several else found[0]


def _examine_ball(
    guard: GuardedModel,
    images: Images,
    *,
    threat: ThreatConfig,
    n: int | None,
    seed: int,
    batch_size: int,
    training: Images | None,
    surrogate: Surrogate | None,
    quick: bool,
    stem: Path | None,
    progress: Progress | None,
) -> Examination:
    """Return the verdicts in one ball; ``stem`` begins the names of the files that keep its finished parts."""
    largest = accuracy_by_eps.unbounded(threat.norm, torch.Size((images.channels, *images.image_size)))

    def kept(part: str) -> Path | None:
        return None if stem is None else stem.with_name(f"{stem.name}-{part}")

    def attack(names: tuple[str, ...], radius: float, start: int, where: str = "") -> Evaluation:
        # PGD must be able to cross the ball several times, whatever its radius
        step = threat.pgd_alpha if radius == threat.eps else min(largest, 2.5 * radius / _STEPS)
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
            state_path=kept(f"{radius:.6g}-{start}.partial.json"),
            keep_state=True,
            progress=_at(where, progress),
        )

    pgd = (f"pgd-{_STEPS}",)
    unbounded = attack(pgd, largest, seed, "without a bound")
    part = images.select(unbounded.indices)
    x, y = to_float(part.images), part.labels
    device = next((p.device for p in guard.parameters()), x.device)
    x, y = x.to(device), y.to(device).long()
    with full_precision():
        classes = _classes(guard, x)
        if surrogate is not None:
            check_surrogate(surrogate, x[:2], classes)
        # a missing extra is reported before hours pass
        asked = applicable_checks(guard, threat, classes=classes, image_size=images.image_size, quick=quick)
        local, changes = _local(guard, x, y, threat, seed)
        if surrogate is None:
            surrogate = substitute.learn(
                guard,
                training,
                threat=threat,
                classes=classes,
                seed=seed,
                state_path=kept("substitute.partial.safetensors"),
                progress=progress,
            )
        carried = None
        if surrogate is not None:
            carried = transferred(
                guard, surrogate, x, y, threat=threat, seed=seed, batch_size=batch_size, progress=progress
            )
    radii = {
        radius: attack(pgd, radius, seed, f"at eps {eps_text(radius, threat.norm)}").worst_case
        for radius in _radii(threat, largest)
    }
    starts = [attack(pgd, threat.eps, seed + i, f"from start {i + 1}").worst_case for i in range(1, _STARTS)]
    # last, as by far the longest
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
    return Examination(verdicts, found, asked.left_out, asked.skipped)


def _union(found: Sequence[Examination], threat: ThreatConfig) -> Examination:
    """Return the examinations in each ball of a union as one."""
    by_norm = [(one, one.evaluation.norm) for one in found]
    further = [
        replace(result, name=f"{norm}:{result.name}", shared_with=result.shared_with and f"{norm}:{result.shared_with}")
        for one, norm in by_norm[1:]
        for result in one.evaluation.results
        if result.name != "clean"
    ]
    first = found[0].evaluation
    return Examination(
        verdicts=tuple(
            replace(verdict, check=f"{norm}: {verdict.check}") for one, norm in by_norm for verdict in one.verdicts
        ),
        evaluation=replace(first, also=threat.also, results=(*first.results, *further)),
        left_out=tuple(f"{norm}: {line}" for one, norm in by_norm for line in one.left_out),
        skipped=tuple(f"{norm}: {check}" for one, norm in by_norm for check in one.skipped),
    )


def _in_ball(norm: str, progress: Progress | None) -> Progress | None:
    """Return a function that tells in which ball an attack runs."""
    if progress is None:
        return None

    def told(name: str, done: float, total: int, step: str = "", /) -> None:
        progress(f"{norm}: {name}", done, total, step)

    return told


def finished_parts(folder: Path, *, quick: bool) -> list[Path]:
    """Return the files in ``folder`` that an interrupted examination left there."""
    return sorted(folder.glob(f"{_stem(quick)}-*.partial.*"))


def seconds_needed(
    model: nn.Module,
    images: Images,
    *,
    threat: ThreatConfig,
    n: int | None,
    batch_size: int,
    class_map: Sequence[int] | None = None,
    learns: bool,
    quick: bool,
) -> float:
    """Return about how long an examination takes at most [s], from the time of a pass on a few images.

    It is an upper bound as far as attacks drop images that are broken. A pass without a gradient counts a third.

    Args:
        model: as for ``examine``.
        images: as for ``examine``.
        threat: as for ``examine``.
        n: as for ``examine``.
        batch_size: as for ``examine``.
        class_map: as for ``examine``.
        learns: whether a substitute is trained.
        quick: as for ``examine``.

    Raises:
        InputError: the model fails, or an extra is missing.
    """
    guard = guarded(model, class_map)
    device = next((p.device for p in model.parameters()), images.device)
    part = images.select(torch.arange(min(len(images), batch_size if device.type == "cuda" else _TIMED)))
    x, y = to_float(part.images).to(device), part.labels.to(device).long()
    with full_precision():
        classes = _classes(guard, x)
        size = images.image_size
        asked = [applicable_checks(guard, one, classes=classes, image_size=size, quick=quick) for one in threat.parts]
        for _ in range(2):  # the first pass also allocates
            began = time.perf_counter()
            gradients.loss_gradient(guard, x, y).sum().item()
            seconds = (time.perf_counter() - began) / len(x)
    passes = 0.0
    for ball, checks in zip(threat.parts, asked, strict=True):
        by_gradient = [name for name in checks.attacks if look_up(name)[0].gradients]
        others = [name for name in checks.attacks if name not in by_gradient]
        largest = accuracy_by_eps.unbounded(ball.norm, torch.Size((images.channels, *size)))
        plain = 1 + len(_radii(ball, largest)) + _STARTS - 1
        passes += attack_passes(by_gradient) + attack_passes(others) / 3 + plain * attack_passes((f"pgd-{_STEPS}",))
    queries = len(asked) * learns * substitute.QUERIES / 3
    return seconds * (passes * (len(images) if n is None else n) + queries)


def _stem(quick: bool) -> str:
    return "diagnose_quick" if quick else "diagnose"


def _radii(threat: ThreatConfig, largest: float) -> list[float]:
    """Return the radii other than eps at which PGD is run."""
    radii = (factor * threat.eps for factor in accuracy_by_eps.FACTORS if factor != 1.0)
    return [radius for radius in radii if radius < largest]


def _classes(model: nn.Module, x: Tensor) -> int:
    with eval_mode(model), torch.no_grad():
        return int(model(x[:2]).shape[1])


def _at(where: str, progress: Progress | None) -> Progress | None:
    """Return a function that tells where an attack runs, without the pass before it."""
    if progress is None or not where:
        return progress

    def told(name: str, done: float, total: int, step: str = "", /) -> None:
        if name != "clean":
            progress(f"{name} {where}", done, total, step)

    return told


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

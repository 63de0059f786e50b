"""Checks that the model is one function: the same in two passes, and nearly the same in training mode."""

import copy

import torch
from torch import Tensor, nn

from nuat.attacks import PGD, eval_mode
from nuat.config import ThreatConfig
from nuat.diagnostics.verdict import Gap, Status, Verdict, excluding, in_parts, worst
from nuat.evaluation.inspection import beyond_rounding

_MODES_GAP, _MODES_MATTERS = 0.10, 0.05
_PASSES, _STEPS = 10, 20


def judge_randomness(model: nn.Module, x: Tensor) -> Verdict:
    """Return whether repeated forward passes in evaluation mode agree, on ``x`` [n, C, H, W]."""
    with eval_mode(model), torch.no_grad():
        first, *more = (_logits(model, x) for _ in range(4))
    others = torch.stack(more)
    spread = float((others - first).abs().max())
    changed = float((others.argmax(2) != first.argmax(1)).double().mean(dim=1).max())
    random = bool(beyond_rounding(first, others).any())
    return Verdict(
        check="repeated forward passes agree",
        status=Status.FAIL if random else Status.PASS,
        measured={"largest_difference": spread, "predictions_changed": changed, "n": len(x)},
        threshold="logits differ by rounding alone, and predictions only where two classes tie within it",
        meaning=(
            "the model is random: the other verdicts are those of single draws, whose gradients mislead. Attack the "
            "expectation over its draws (AutoAttack's 'rand' version)."
            if random
            else "the model is one function."
        ),
        shown=f"difference {spread:.2g}",
    )


def changed_by_draws(
    model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatConfig, generator: torch.Generator
) -> float:
    """Return the share of images that a random model gets right in some forward passes and wrong in others.

    It is the larger of two shares over ten passes: on ``x`` [n, C, H, W], and on its PGD examples. A verdict that
    another draw alone changes is no success of another attack.
    """
    alpha = 2.5 * threat.eps / _STEPS
    attack = PGD(model, eps=threat.eps, norm=threat.norm, alpha=alpha, steps=_STEPS, generator=generator)
    moved = torch.cat([attack(part, labels) for part, labels in in_parts(x, y)])
    with eval_mode(model), torch.no_grad():
        shares = []
        for images in (x, moved):
            right = torch.stack([_logits(model, images).argmax(1) == y for _ in range(_PASSES)])
            shares.append(float((right.any(dim=0) & ~right.all(dim=0)).double().mean()))
    return max(shares)


def judge_modes(model: nn.Module, x: Tensor, y: Tensor) -> Verdict:
    """Return whether clean accuracy in training mode is near that in evaluation mode; ``x`` [n, C, H, W], ``y`` [n]."""
    check = "training and evaluation mode agree"
    threshold = excluding(f"clean accuracies within {100 * _MODES_GAP:g} points (ours)", _MODES_GAP + _MODES_MATTERS)

    def undecided(meaning: str) -> Verdict:
        measured = {"n": len(x)}
        return Verdict(check=check, status=Status.INCONCLUSIVE, measured=measured, threshold=threshold, meaning=meaning)

    if len(x) < 2:  # batch norm in training mode refuses a single image
        return undecided("one image cannot tell: batch norm in training mode needs several.")
    with torch.no_grad():
        try:
            trained = copy.deepcopy(model).train()  # a copy: batch norm's running statistics would move
            in_training = _logits(trained, x).argmax(1) == y
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a stranger's model may refuse copies, or return something else in training mode
            reason = " ".join(str(error).split()) or type(error).__name__
            return undecided(f"a copy of the model does not run in training mode ({reason.rstrip('.')}).")
        with eval_mode(model):
            in_evaluation = _logits(model, x).argmax(1) == y
    gap = Gap.of(in_training, in_evaluation)
    either_way = (gap, Gap(gap.stronger_only, gap.weaker_only, gap.n))
    status = worst(*(one.judge(allowed=_MODES_GAP, matters=_MODES_MATTERS) for one in either_way))
    if status is Status.FAIL:
        meaning = (
            "the mode changes the predictions: the model is attacked in evaluation mode, so use it in evaluation mode."
        )
    elif status is Status.PASS:
        meaning = "the mode does not matter much."
    else:
        needed = max(one.images_needed(allowed=_MODES_GAP, matters=_MODES_MATTERS) for one in either_way)
        meaning = f"{gap.n} images cannot tell; about {needed:,} would, at the same shares."
    return Verdict(
        check=check,
        status=status,
        measured={
            "accuracy_in_training_mode": float(in_training.double().mean()),
            "accuracy_in_evaluation_mode": float(in_evaluation.double().mean()),
            "interval_points": [round(100 * end, 3) for end in gap.interval],
            "n": gap.n,
        },
        threshold=threshold,
        meaning=meaning,
        shown=" and ".join(f"{float(right.double().mean()):.1%}" for right in (in_training, in_evaluation)),
    )


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(part) for (part,) in in_parts(x)])

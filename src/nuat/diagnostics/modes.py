"""Is the model one function: the same when asked twice, and nearly the same in training mode?"""

import copy

import torch
from torch import Tensor, nn

from nuat.attacks import PGD, eval_mode
from nuat.config import ThreatConfig
from nuat.diagnostics.verdict import Status, Verdict, in_parts

_MODES_GAP = 0.10
_PASSES, _STEPS = 10, 20


def judge_randomness(model: nn.Module, x: Tensor) -> Verdict:
    """Return whether repeated forward passes in evaluation mode agree, on ``x`` [n, C, H, W]."""
    with eval_mode(model), torch.no_grad():
        first, *others = (_logits(model, x) for _ in range(4))
    spread = max(float((other - first).abs().max()) for other in others)
    changed = max(float((other.argmax(1) != first.argmax(1)).double().mean()) for other in others)
    # kernels that sum in another order each time differ in the last bits
    random = spread > 1e-3 * max(1.0, float(first.abs().max()))
    return Verdict(
        check="repeated forward passes agree",
        status=Status.FAIL if random else Status.PASS,
        measured={"largest_difference": spread, "predictions_changed": changed, "n": len(x)},
        threshold="logits differ by rounding alone",
        meaning=(
            "the model is random: the other verdicts are of single draws, whose gradients mislead. Attack the "
            "expectation over its draws (AutoAttack's 'rand' version)."
            if random
            else "the model is one function."
        ),
    )


def changed_by_draws(
    model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatConfig, generator: torch.Generator
) -> float:
    """Return the share of images that a random model gets right in some forward passes and wrong in others.

    Of ten passes, on ``x`` [n, C, H, W] and on its PGD examples; the larger share. What another draw alone changes is
    no success of another attack.
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
    """Return whether clean accuracy in training mode is near that in evaluation mode."""
    trained = copy.deepcopy(model).train()  # a copy: batch norm's running statistics would move
    with torch.no_grad():
        in_training = float((_logits(trained, x).argmax(1) == y).double().mean())
        with eval_mode(model):
            in_evaluation = float((_logits(model, x).argmax(1) == y).double().mean())
    gap = abs(in_training - in_evaluation)
    apart = gap > _MODES_GAP + 2 * (0.25 / len(x)) ** 0.5
    return Verdict(
        check="training and evaluation mode agree",
        status=Status.FAIL if apart else Status.PASS,
        measured={"accuracy_in_training_mode": in_training, "accuracy_in_evaluation_mode": in_evaluation, "n": len(x)},
        threshold=f"clean accuracies within {_MODES_GAP:.0%}, beyond chance (ours)",
        meaning=(
            "the mode changes what the model says: it is attacked in evaluation mode, so make sure it is used in it."
            if apart
            else "the mode does not matter much."
        ),
    )


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(part) for (part,) in in_parts(x)])

"""Check that another model's gradients are no better guide than the model's own (Papernot et al. 2017)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.transfer import usual_transfer
from nuat.config import ThreatConfig
from nuat.diagnostics.verdict import Status, Verdict, doubted, in_parts
from nuat.errors import InputError
from nuat.evaluation.guarded_model import guarded
from nuat.evaluation.inspection import check_logits
from nuat.progress import Progress

_AGREES = 0.6
"""Agreement below which a surrogate says nothing about the model; our choice."""


@dataclass(frozen=True)
class Surrogate:
    """Model whose gradients are followed instead of those of the examined model."""

    model: nn.Module
    """Images [B, C, H, W] in [0, 1] to logits [B, N]."""
    source: str
    """Origin of the model, for people."""


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """Outcome of examples that were made on a surrogate."""

    withstood: Tensor
    """Whether the examined model withstood each, bool [n], on the host."""
    agreement: float
    """Share of the clean images that both models take for the same class."""
    needed: float
    """Least agreement at which the surrogate says something about the model."""
    source: str
    """Origin of the surrogate."""

    def qualify(self, verdict: Verdict) -> Verdict:
        """Return a verdict on these examples with its grounds: a FAIL stands, but a poor surrogate allows no PASS."""
        grounds: dict[str, Any] = {
            "surrogate": self.source,
            "agreement": self.agreement,
            "agreement_needed": self.needed,
        }
        if self.agreement >= self.needed or verdict.status is Status.FAIL:
            return doubted(verdict, None, grounds)
        return doubted(
            verdict,
            f"the surrogate ({self.source}) agrees with the model on {self.agreement:.0%} of the images; at least "
            f"{self.needed:.0%} are needed. Give a better one with --surrogate, such as a model trained on the same "
            "images.",
            grounds,
        )


def check_surrogate(surrogate: Surrogate, x: Tensor, classes: int) -> None:
    """Check that a surrogate takes the images ``x`` [B, C, H, W] and has a logit for each of ``classes``.

    Raises:
        InputError: it does not.
    """
    like = next(surrogate.model.parameters(), x)
    try:
        with eval_mode(surrogate.model):
            check_logits(surrogate.model, x.to(like.device, like.dtype), classes)
    except InputError as error:
        raise InputError(f"the surrogate {surrogate.source} cannot stand in for the model: {error}") from None


def transferred(
    model: nn.Module,
    surrogate: Surrogate,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatConfig,
    seed: int,
    batch_size: int,
    progress: Progress | None = None,
) -> Transferred:
    """Attack ``surrogate`` and judge its examples for ``x`` [n, C, H, W], ``y`` [n] by ``model``.

    Raises:
        InputError: the model's logits are not finite.
    """
    followed = guarded(surrogate.model)
    generator = torch.Generator(next(surrogate.model.parameters(), x).device).manual_seed(seed)
    attack = usual_transfer(model, followed, norm=threat.norm, eps=threat.eps, generator=generator)
    withstood: list[Tensor] = []
    for start in range(0, len(x), batch_size):
        part, labels = x[start : start + batch_size], y[start : start + batch_size]
        moved = attack(part, labels)
        with eval_mode(model), torch.no_grad():
            logits = model(moved)
        if not bool(torch.isfinite(logits).all()):
            raise InputError("the model returns logits that are infinite or NaN under transfer; it cannot be examined.")
        withstood.append((logits.argmax(dim=1) == labels).cpu())
        if progress is not None:
            progress("transfer", min(start + batch_size, len(x)), len(x))
    agreement, needed = _agreement(model, followed, x)
    return Transferred(withstood=torch.cat(withstood), agreement=agreement, needed=needed, source=surrogate.source)


def _agreement(model: nn.Module, surrogate: nn.Module, x: Tensor) -> tuple[float, float]:
    """Return the share of ``x`` [n, C, H, W] on which both models agree, and the share that is needed."""
    with torch.no_grad(), eval_mode(model), eval_mode(surrogate):
        pairs = [(model(part).argmax(1).cpu(), _predictions(surrogate, part)) for (part,) in in_parts(x)]
    mine, other = (torch.cat(answers) for answers in zip(*pairs, strict=True))
    # a constant agrees as often as the commonest answer occurs; a surrogate must be wrong at most half as often
    commonest = float(torch.bincount(mine).max()) / len(mine)
    return float((mine == other).double().mean()), max(_AGREES, (1.0 + commonest) / 2)


def _predictions(surrogate: nn.Module, x: Tensor) -> Tensor:
    like = next(surrogate.parameters(), x)
    predictions: Tensor = surrogate(x.to(like.device, like.dtype)).argmax(1).cpu()
    return predictions

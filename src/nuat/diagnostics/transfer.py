"""Check that another model's gradients are no better guide than the model's own (Papernot et al. 2017)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import MIFGSM, PGD, Attack, Transfer, eval_mode
from nuat.config import ThreatConfig
from nuat.diagnostics.verdict import Status, Verdict, doubted, in_parts
from nuat.errors import InputError
from nuat.evaluation.evaluate import Progress
from nuat.evaluation.inspection import check_logits

_AGREES = 0.6
"""Agreement below which a surrogate says nothing of the model; ours."""


@dataclass(frozen=True)
class Surrogate:
    """A model whose gradients are followed in place of the examined one's."""

    model: nn.Module
    """Images [B, C, H, W] in [0, 1] to logits [B, N]."""
    source: str
    """Where it comes from, for people."""


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """What became of examples that were made on a surrogate."""

    withstood: Tensor
    """Whether the examined model withstood each, bool [n], on the host."""
    agreement: float
    """Share of the clean images that both models take for the same class."""
    needed: float
    """Agreement from which the surrogate says something of the model."""
    source: str
    """Where the surrogate comes from."""

    def qualify(self, verdict: Verdict) -> Verdict:
        """Return a verdict on these examples with its grounds; a FAIL stands, but a poor surrogate allows no PASS."""
        grounds: dict[str, Any] = {
            "surrogate": self.source,
            "agreement": self.agreement,
            "agreement_needed": self.needed,
        }
        if self.agreement >= self.needed or verdict.status is Status.FAIL:
            return doubted(verdict, None, grounds)
        return doubted(
            verdict,
            f"the surrogate ({self.source}) answers as the model does on {self.agreement:.0%} of the images, and at "
            f"least {self.needed:.0%} are needed: it can tell nothing. Give a better one, a model trained on the same "
            "images, with --surrogate.",
            grounds,
        )


def check_surrogate(surrogate: Surrogate, x: Tensor, classes: int) -> None:
    """Refuse a surrogate that does not take the images ``x`` [B, C, H, W], or has fewer logits than ``classes``.

    Raises:
        InputError: so.
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

    Linf: MI-FGSM of 10 steps with mu 1, the settings that Dong et al. 2018 found to transfer, better than PGD does. L2,
    which it is not defined for here: 40 steps of PGD, which cross the ball two and a half times.

    Raises:
        InputError: the model's logits are not finite.
    """
    generator = torch.Generator(next(surrogate.model.parameters(), x).device).manual_seed(seed)

    def make(other: nn.Module) -> Attack:
        if threat.norm == "Linf":
            return MIFGSM(other, eps=threat.eps, steps=10, mu=1.0)
        return PGD(other, eps=threat.eps, norm="L2", alpha=threat.eps / 16, steps=40, generator=generator)

    attack = Transfer(model, surrogate=surrogate.model, make=make)
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
    agreement, needed = _agreement(model, surrogate.model, x)
    return Transferred(withstood=torch.cat(withstood), agreement=agreement, needed=needed, source=surrogate.source)


def _agreement(model: nn.Module, surrogate: nn.Module, x: Tensor) -> tuple[float, float]:
    """Return the share of ``x`` [n, C, H, W] on which both give one answer, and the share from which that counts."""
    with torch.no_grad(), eval_mode(model), eval_mode(surrogate):
        pairs = [(model(part).argmax(1).cpu(), _predictions(surrogate, part)) for (part,) in in_parts(x)]
    mine, other = (torch.cat(answers) for answers in zip(*pairs, strict=True))
    # a constant agrees as often as the commonest answer comes; a surrogate must be wrong at most half as often
    commonest = float(torch.bincount(mine).max()) / len(mine)
    return float((mine == other).double().mean()), max(_AGREES, (1.0 + commonest) / 2)


def _predictions(surrogate: nn.Module, x: Tensor) -> Tensor:
    like = next(surrogate.parameters(), x)
    predictions: Tensor = surrogate(x.to(like.device, like.dtype)).argmax(1).cpu()
    return predictions

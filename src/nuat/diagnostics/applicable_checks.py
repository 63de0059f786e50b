"""Attacks and checks of an examination that are defined for a norm and a number of classes."""

from dataclasses import dataclass

from torch import nn

from nuat.attacks import lineups
from nuat.attacks.base import NormError
from nuat.attacks.catalogue import attack_passes
from nuat.attacks.planned_jobs import jobs
from nuat.config import ThreatConfig
from nuat.diagnostics import strength
from nuat.diagnostics.ranking import Comparison
from nuat.errors import InputError


@dataclass(frozen=True)
class ApplicableChecks:
    """Attacks to run, and checks to judge."""

    attacks: tuple[str, ...]
    """Names as in ``nuat.attacks.catalogue``, each once."""
    comparisons: tuple[Comparison, ...]
    """Checks that these attacks decide."""
    left_out: tuple[str, ...]
    """One sentence for each attack and check that is missing, with the reason."""
    skipped: tuple[str, ...] = ()
    """Checks that a quick examination leaves out."""


def applicable_checks(
    model: nn.Module, threat: ThreatConfig, *, classes: int, image_size: tuple[int, int], quick: bool = False
) -> ApplicableChecks:
    """Return the attacks and checks that are defined for a model of ``classes`` logits within ``threat``.

    Args:
        model: model to attack.
        threat: norm and radius of the ball.
        classes: logits of the model.
        image_size: height and width of the images [pixels].
        quick: whether to take only the quick checks, with attacks of at most ``strength.QUICK_PASSES`` passes.

    Raises:
        InputError: a missing extra.
    """
    stood_in = stand_ins(classes)
    chosen = [comparison for comparison in strength.COMPARISONS if comparison.quick or not quick]
    wanted = tuple(dict.fromkeys(stood_in.get(name, name) for name in strength.ATTACKS))
    if quick:
        sides = {stood_in.get(name, name) for c in chosen for name in (*c.weaker, *c.stronger)}
        used = [name for name in wanted if name == "clean" or name in sides]
        wanted = tuple(name for name in used if attack_passes((name,)) <= strength.QUICK_PASSES)
    attacks = tuple(name for name in wanted if _defined(name, model, threat, classes, image_size))
    missing = [name for name in wanted if name not in attacks]
    left_out = [f"without {name}, which is not defined for {threat.norm} on these images" for name in missing]
    comparisons = []
    for comparison in chosen:
        added = [name for name in (*comparison.weaker, *comparison.stronger) if " " in name]
        found = comparison.among((*attacks, *added), stood_in)
        if found is None:
            left_out.append(f"{comparison.check}: not judged, as one side has no attack left")
        else:
            comparisons.append(found)
    skipped = tuple(comparison.check for comparison in strength.COMPARISONS if comparison not in chosen)
    return ApplicableChecks(attacks, tuple(comparisons), tuple(left_out), skipped)


def stand_ins(classes: int) -> dict[str, str]:
    """Return the replacement of each attack that needs more classes, as in AutoAttack."""
    return {} if classes >= 4 else {"apgd-t": "apgd-dlr" if classes == 3 else "apgd-ce"}


def _defined(name: str, model: nn.Module, threat: ThreatConfig, classes: int, image_size: tuple[int, int]) -> bool:
    try:
        jobs((name,), model, threat, classes)
    except NormError:
        return False
    if name.startswith("square"):
        try:
            lineups.check_square(threat.norm, *image_size)
        except InputError:
            return False
    return True

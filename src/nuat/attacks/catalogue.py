"""Catalogue of attacks: one row per attack, with everything that the package knows about it by name.

A new attack is its own file and one row of ``CATALOGUE``.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from nuat import own_code
from nuat.attacks.adaptive import AdaptivePGD
from nuat.attacks.autoattack import AutoAttack
from nuat.attacks.cr import CR
from nuat.attacks.fgsm import FGSM
from nuat.attacks.gama import GAMAPGD
from nuat.attacks.gama_fw import GAMAFW
from nuat.attacks.gama_mt import GAMAMT
from nuat.attacks.jobs import Job, JobRequest, NamedAttack, Takes
from nuat.attacks.mi_fgsm import MIFGSM
from nuat.attacks.multi_targeted import MultiTargetedPGD
from nuat.attacks.noise import RandomNoise
from nuat.attacks.nuclear import NuclearNormAttack
from nuat.attacks.own_attack import own_job
from nuat.attacks.pgd import PGD
from nuat.attacks.rfgsm import RFGSM
from nuat.attacks.targeted import TargetedPGD
from nuat.attacks.transfer import Transfer
from nuat.core.losses import margin_sum
from nuat.core.threat import NORMS, Norm
from nuat.errors import InputError, did_you_mean

WORST_CASE = "worst-case"
"""Name of the worst case over all attacks of an evaluation."""
QUICK = "autoattack-quick"
"""Name of CR followed by Square, which an evaluation follows with AutoAttack where gradients seem to mislead."""
_WORST_CASE_RANK = 7
"""Below every attack but AutoAttack v2, which is what a table is to be ranked by."""


def _official(name: str, label: str, job: Callable[[JobRequest], Job], passes: int, **more: Any) -> NamedAttack:
    """Return the row of attacks of the AutoAttack package."""
    return NamedAttack(name, label, AutoAttack, job, passes, leaves_unbroken=True, **more)


_GROUP = 64
"""Images of a group of the adaptive attacks: the batch size of the paper's training."""
_REGROUPINGS = 4
"""Compositions of the batch that a step of adaptive-eot averages over."""

_UNKNOWN_PASSES = 1000
"""Passes of an attack of the user's own for a forecast, as many as a long attack takes."""

_ROWS: tuple[NamedAttack, ...] = (
    NamedAttack(
        *("clean", "Clean", None, lambda r: Job((r.name,), {}, lambda x, y, seed: {r.name: x})),
        rank=0,
        takes=Takes.ALL,
        gradients=False,
    ),
    # few steps
    NamedAttack("fgsm", "FGSM", FGSM, lambda r: r.attack(FGSM), passes=2, rank=1),
    NamedAttack("rfgsm", "R-FGSM", RFGSM, lambda r: r.attack(RFGSM), passes=2, rank=2),
    # many steps along gradients
    NamedAttack("pgd-<steps>", "PGD-{}", PGD, lambda r: r.pgd(), rank=3),
    NamedAttack(
        "margin-pgd-<steps>",
        "Margin PGD-{}",
        PGD,
        lambda r: r.attack(PGD, alpha=r.alpha, steps=r.number, objective=margin_sum),
    ),
    NamedAttack(
        "targeted-<steps>",
        "Targeted PGD-{}",
        TargetedPGD,
        lambda r: r.attack(TargetedPGD, alpha=r.alpha, steps=r.number, target="least-likely"),
    ),
    NamedAttack(
        "targeted-random-<steps>",
        "Targeted PGD-{} (random class)",
        TargetedPGD,
        lambda r: r.attack(TargetedPGD, alpha=r.alpha, steps=r.number, target="random"),
    ),
    NamedAttack(
        "multi-targeted-<steps>",
        "MultiTargeted PGD-{}",
        MultiTargetedPGD,
        lambda r: r.attack(MultiTargetedPGD, alpha=r.alpha, steps=r.number, targets=r.targets),
        passes=10,
        passes_per_step=10,
        stops_early=True,
    ),
    NamedAttack("mi-fgsm-<steps>", "MI-FGSM-{}", MIFGSM, lambda r: r.attack(MIFGSM, steps=r.number, mu=1.0)),
    NamedAttack("gama-<steps>", "GAMA-PGD-{}", GAMAPGD, lambda r: r.attack(GAMAPGD, steps=r.number), rank=5),
    NamedAttack("gama-fw-<steps>", "GAMA-FW-{}", GAMAFW, lambda r: r.attack(GAMAFW, steps=r.number)),
    NamedAttack(
        "gama-mt-<steps>",
        "GAMA-MT-{}",
        GAMAMT,
        lambda r: r.attack(GAMAMT, steps=r.number, targets=r.targets),
        passes=10,
        passes_per_step=10,
        stops_early=True,
    ),
    # three targets, 206 forward and 150 backward passes each, and up to five restarts
    NamedAttack("cr", "CR", CR, lambda r: r.attack(CR), passes=3200, rank=6, leaves_unbroken=True),
    NamedAttack(
        *(QUICK, "AutoAttack quick", CR, lambda r: r.quick(queries=1000), 4201),
        rank=6,
        takes=Takes.STANDING,
        leaves_unbroken=True,
    ),
    # no gradients
    NamedAttack(
        "noise-<draws>",
        "Random noise ({} draws)",
        RandomNoise,
        lambda r: r.attack(RandomNoise, draws=r.number),
        gradients=False,
        stops_early=True,
    ),
    NamedAttack(
        "transfer", "Transfer", Transfer, lambda r: r.transfer(), passes=42, passes_per_step=0, gradients=False
    ),
    # attacks that know NuAT
    NamedAttack(
        "nuclear", "Nuclear norm", NuclearNormAttack, lambda r: r.attack(NuclearNormAttack, lam=1.0, steps=1), passes=3
    ),
    NamedAttack(
        "nuclear-2",
        "Nuclear norm (two steps)",
        NuclearNormAttack,
        lambda r: r.attack(NuclearNormAttack, lam=1.0, steps=2),
        passes=4,
    ),
    NamedAttack(
        "adaptive-<steps>",
        "Adaptive PGD-{}",
        AdaptivePGD,
        lambda r: r.adaptive("ce+nuclear", lam=4.5, group_size=_GROUP),
        passes=2,
    ),
    NamedAttack(
        "adaptive-same-class-<steps>",
        "Adaptive PGD-{} (groups of one class)",
        AdaptivePGD,
        lambda r: r.adaptive("ce+nuclear", lam=4.5, group_size=_GROUP, same_class=True),
        passes=2,
    ),
    NamedAttack(
        "adaptive-eot-<steps>",
        "Adaptive PGD-{} (random groups)",
        AdaptivePGD,
        lambda r: r.adaptive("ce+nuclear", lam=4.5, group_size=_GROUP, regroupings=_REGROUPINGS),
        passes=2,
    ),
    NamedAttack(
        "adaptive-nuclear-<steps>",
        "Adaptive PGD-{} (nuclear norm)",
        AdaptivePGD,
        lambda r: r.adaptive("nuclear", group_size=_GROUP),
        passes=2,
    ),
    NamedAttack(
        "adaptive-logit-<steps>",
        "Adaptive PGD-{} (logits)",
        AdaptivePGD,
        lambda r: r.adaptive("logit"),
        passes=2,
    ),
    # the AutoAttack package: APGD takes 100 steps, its targeted form and FAB-T 9 x 100, Square 5,000 queries
    _official("autoattack", "AutoAttack", lambda r: r.official(version="standard"), 5400, rank=8, takes=Takes.STANDING),
    _official("autoattack-alone", "AutoAttack (alone)", lambda r: r.official(version="standard"), 5400, rank=8),
    _official(
        "autoattack-fast", "AutoAttack fast", lambda r: r.official(version="fast"), 1100, rank=6, takes=Takes.STANDING
    ),
    _official("autoattack-v1", "AutoAttack v1", lambda r: r.official(version="v1"), 4600, rank=6),
    _official("apgd-ce", "APGD-CE", lambda r: r.official(attacks=("apgd-ce",)), 550),
    _official("apgd-dlr", "APGD-DLR", lambda r: r.official(attacks=("apgd-dlr",)), 550),
    _official("apgd-t", "APGD-T", lambda r: r.official(attacks=("apgd-t",)), 1000),
    _official("fab", "FAB", lambda r: r.official(attacks=("fab",)), 5400),
    _official("fab-t", "FAB-T", lambda r: r.official(attacks=("fab-t",)), 2000),
    _official("square", "Square", lambda r: r.official(attacks=("square",)), 5001, gradients=False),
    _official(
        "square-<queries>",
        "Square ({} queries)",
        lambda r: r.official(attacks=("square",), queries=r.number),
        1,
        gradients=False,
    ),
)
CATALOGUE: dict[str, NamedAttack] = {row.name: row for row in _ROWS}
"""Every attack by its name. nuclear-2 has two steps; autoattack (v2) attacks what the attacks before it left standing,
autoattack-alone every image that is classified correctly; autoattack-fast stops after the first two attacks of v2, and
autoattack-quick is CR and then Square, so their accuracies are upper bounds of v2's."""

SUITES: dict[str, tuple[str, ...]] = {
    "quick": ("clean", "pgd-100", "gama-100"),
    "paper": ("clean", "fgsm", "pgd-20", "pgd-100", "pgd-500", "gama-100", "autoattack"),
    "standard": ("clean", "autoattack"),
    "full": (
        *("clean", "fgsm", "rfgsm", "nuclear", "nuclear-2", "noise-10000", "mi-fgsm-100", "pgd-20", "pgd-100"),
        *("pgd-500", "margin-pgd-100", "targeted-100", "targeted-random-100", "multi-targeted-100", "gama-100"),
        *("gama-fw-100", "gama-mt-100", "adaptive-100", "adaptive-same-class-100", "adaptive-eot-100"),
        *("adaptive-nuclear-100", "adaptive-logit-100", "autoattack"),
    ),
}
"""Attacks by the name of the suite: a first look, the paper's, the field's standard number, and every kind."""


def look_up(name: str) -> tuple[NamedAttack, int]:
    """Return the row of an attack and the number in its name, 0 if it has none.

    The pinned name of an attack of the user's own has a row, too; its code runs when the job is made.

    Raises:
        InputError: no attack has this name.
    """
    _, name = split(name)
    if own_code.is_pinned(name):
        return NamedAttack(
            name,
            own_code.plain(name),
            None,
            lambda r: own_job(r),
            passes=_UNKNOWN_PASSES,
            stops_early=True,  # it may, so that only the model itself decides
        ), 0
    for row in CATALOGUE.values():
        fixed, numbered, _ = row.name.partition("<")
        if match := re.fullmatch(re.escape(fixed) + (r"([1-9]\d*)" if numbered else ""), name, re.ASCII):
            return row, int(match[1]) if numbered else 0
    hint = did_you_mean(name, [*CATALOGUE, "pgd-20", "pgd-100", "gama-100"])
    raise InputError(f"unknown attack {name!r}.{hint} Attacks: {', '.join(CATALOGUE)}; or FILE.py:NAME, your own.")


def split(name: str) -> tuple[Norm | None, str]:
    """Return the norm that begins the name of an attack in a union, and the rest: "L2:pgd-20" to L2 and "pgd-20".

    None: the name is of the first ball.
    """
    norm, colon, rest = name.partition(":")
    return (norm, rest) if colon and norm in NORMS else (None, name)


def across(names: Sequence[str], norms: Sequence[Norm]) -> tuple[str, ...]:
    """Return the names of attacks in each ball of a union, one norm after another; those that have a norm stay."""
    plain = [name for name in names if split(name)[0] is None and name != "clean"]
    others = [f"{norm}:{name}" for norm in norms[1:] for name in plain]
    return (*names, *(name for name in others if name not in names))


def attack_name(name: str, first: Norm | None = None) -> str:
    """Return the name of an attack for people, as the paper writes it; an unknown name stays as it is.

    Args:
        name: name of the attack, or of the worst case.
        first: norm of the first ball of a union, whose attacks have no norm in their names. None: there is one ball.
    """
    if name == WORST_CASE:
        return "Worst case over norms" if first else "Worst case"
    try:
        row, number = look_up(name)
    except InputError:
        return name
    norm = split(name)[0] or (first if name != "clean" else None)
    return row.label.format(number) + (f", {norm}" if norm else "")


def attack_strength(name: str) -> tuple[int, int]:
    """Return a key that sorts attacks by strength, the weakest first: the rank, then the number in the name."""
    if name == WORST_CASE:
        return _WORST_CASE_RANK, 0
    try:
        row, number = look_up(name)
    except InputError:
        return NamedAttack.rank, 0
    return row.rank, number


def needs_gradient(name: str) -> bool:
    """Return whether an attack needs the gradient of the model; an unknown one may."""
    try:
        return look_up(name)[0].gradients
    except InputError:
        return True


def attack_passes(names: Sequence[str]) -> int:
    """Return the forward and backward passes per image, at most, that these attacks take together.

    The AutoAttack that may follow autoattack-quick is counted.
    """
    names = (*names, "autoattack") if QUICK in names and "autoattack" not in names else names
    rows = [look_up(name) for name in names]
    trajectories: dict[Norm | None, list[int]] = {}
    for name, (row, number) in zip(names, rows, strict=True):
        if row.name == "pgd-<steps>":
            trajectories.setdefault(split(name)[0], []).append(number)
    # several step counts of PGD are read off one trajectory, with a verdict each
    shared = sum(max(counts) + len(counts) for counts in trajectories.values())
    return shared + sum(row.cost(number) for row, number in rows if row.name != "pgd-<steps>")


def defined(names: Sequence[str], norms: Sequence[Norm]) -> tuple[str, ...]:
    """Return the names in each ball of a union, or in the only one, whose attacks are defined for its norm."""
    wanted = across(names, norms)
    return tuple(name for name in wanted if (split(name)[0] or norms[0]) in look_up(name)[0].norms)

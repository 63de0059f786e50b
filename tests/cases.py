"""The registry of defenses, attacks and networks that the contract tests run over.

A new defense or attack is one line here, and every contract test asks it the same questions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from torch import Generator, nn

from nuat.attacks import (
    CR,
    FGSM,
    GAMAFW,
    GAMAMT,
    GAMAPGD,
    MIFGSM,
    PGD,
    RFGSM,
    AdaptivePGD,
    Attack,
    AutoAttack,
    Ensemble,
    MultiTargetedPGD,
    NuclearNormAttack,
    RandomNoise,
    TargetedPGD,
    Transfer,
)
from nuat.config import ModelConfig
from nuat.core.losses import margin_sum
from nuat.core.schedules import Jumps, Ramp
from nuat.core.threat import Norm
from nuat.defenses import (
    AWP,
    FBF,
    FGSMAT,
    FGSMPGI,
    GAT,
    LIET,
    NFGSM,
    PGDAT,
    RFGSMAT,
    RMGM,
    TRADES,
    TRADESAWP,
    Defense,
    FreeAT,
    NuAT,
    NuAT2,
    NuATHybrid,
    Standard,
)
from nuat.recipes import RECIPES

CLASSES = 4
LAM = Ramp(peak=8.0)


@dataclass(frozen=True, kw_only=True)
class DefenseCase:
    """A defense, and how it departs from most."""

    defense: Defense
    state: Mapping[str, Any] = field(default_factory=dict)
    """Changes to its initial state."""
    radius: float = 1.0
    """Radius of its perturbations in units of eps; 0: it trains on no attacked images."""
    random: bool = True
    """Whether it draws from the generator."""
    eval_attack: bool = True
    """Whether its attack runs in evaluation mode."""


ALARM = {"epoch": 1, "previous_mean": 1e3}
"""State of NuAT-H in which every batch is below the previous epoch's mean."""
CALM = {"epoch": 1, "previous_mean": 1e-3}
"""State of NuAT-H in which no batch is."""

DEFENSES: dict[str, DefenseCase] = {
    "standard": DefenseCase(defense=Standard(), radius=0.0, random=False, eval_attack=False),
    "nuat": DefenseCase(defense=NuAT(lam=LAM)),
    "nuat-authors": DefenseCase(defense=NuAT(lam=LAM, passes="authors")),
    "nuat-alpha": DefenseCase(defense=NuAT(lam=LAM, alpha=0.3)),
    "nuat2": DefenseCase(defense=NuAT2(lam=LAM)),
    "nuat2-wa": DefenseCase(defense=NuAT2(lam=LAM, attack_tau=0.5)),
    "nuat-h-calm": DefenseCase(defense=NuATHybrid(lam=LAM), state=CALM),
    "nuat-h-alarm": DefenseCase(defense=NuATHybrid(lam=LAM), state=ALARM),
    "nuat-h-authors-alarm": DefenseCase(defense=NuATHybrid(lam=LAM, passes="authors"), state=ALARM),
    "fgsm-at": DefenseCase(defense=FGSMAT(), random=False),
    "rfgsm-at": DefenseCase(defense=RFGSMAT()),
    "fbf": DefenseCase(defense=FBF()),
    "r-mgm": DefenseCase(defense=RMGM()),
    "gat": DefenseCase(defense=GAT(weight=Jumps(start=5.0))),
    "pgd-at": DefenseCase(defense=PGDAT(steps=4, step_size=0.4)),
    "trades": DefenseCase(defense=TRADES(steps=3, step_size=0.5)),
    "awp": DefenseCase(defense=AWP(steps=3, step_size=0.5)),
    "awp-warmup": DefenseCase(defense=AWP(steps=3, step_size=0.5, warmup=0.5)),
    "trades-awp": DefenseCase(defense=TRADESAWP(steps=2, step_size=0.5)),
    "free-at": DefenseCase(defense=FreeAT(replays=2), random=False, eval_attack=False),
    "n-fgsm": DefenseCase(defense=NFGSM(), radius=3.0),
    "fgsm-pgi": DefenseCase(defense=FGSMPGI()),
    "liet": DefenseCase(defense=LIET(every=2)),
    "liet-not-projected": DefenseCase(defense=LIET(projected=False), radius=3.0),
}
"""Defenses by name; several cases of one where its settings choose between ways."""

DEFENSE_CLASSES: tuple[type[Defense], ...] = tuple(dict.fromkeys(type(case.defense) for case in DEFENSES.values()))
"""Every defense, once."""


@dataclass(frozen=True, kw_only=True)
class AttackCase:
    """An attack, and how it departs from most."""

    make: Callable[[nn.Module, float, Generator | None], Attack]
    """Model, Linf eps and generator to the attack. An L2 ball of 3 eps, or an L1 ball of 10 eps, is about as large as
    the Linf ball of eps."""
    official: bool = False
    """Whether the arithmetic is the official AutoAttack's: float32, and slow."""
    finds_all: bool = True
    """Whether it changes every image; one that finds nothing may return an image as it was."""
    shows_draws: bool = False
    """Whether another seed gives other images."""
    single_pass: bool = False
    """Whether one pass is all that it needs."""
    norm: Norm = "Linf"
    """Norm of its ball."""


def _autoattack(model: nn.Module, eps: float, **settings: object) -> Attack:
    pytest.importorskip("pyautoattack")
    return AutoAttack(model, eps=eps, **settings)


def _ensemble(model: nn.Module, eps: float, generator: Generator | None) -> Attack:
    pgd = PGD(model, eps=eps, alpha=eps / 2, steps=2, generator=generator)
    return Ensemble(model, attacks=(FGSM(model, eps=eps), pgd))


def _transfer(model: nn.Module, eps: float, generator: Generator | None) -> Attack:
    """From the model itself, so that what is asked of an attack is asked of its surrogate."""
    return Transfer(model, surrogate=model, make=lambda m: PGD(m, eps=eps, alpha=eps / 2, steps=3, generator=generator))


def _pgd(**settings: Any) -> Callable[[nn.Module, float, Generator | None], Attack]:
    return lambda m, eps, g: PGD(m, eps=eps, alpha=eps / 2, generator=g, **{"steps": 3, **settings})


RADIUS: dict[Norm, float] = {"Linf": 1.0, "L2": 3.0, "L1": 10.0}
"""Radius of the balls of the cases, in units of the Linf eps."""


def _l2(attack: type[Attack]) -> Callable[[nn.Module, float, Generator | None], Attack]:
    return lambda m, eps, g: attack(m, eps=3 * eps, norm="L2", alpha=eps, steps=3, generator=g)  # type: ignore[call-arg]


def _in(norm: Norm, attack: type[Attack], *, single_pass: bool = False, **settings: Any) -> AttackCase:
    return AttackCase(
        make=lambda m, eps, g: attack(m, eps=RADIUS[norm] * eps, norm=norm, generator=g, **settings),
        single_pass=single_pass,
        norm=norm,
    )


def _adaptive(**settings: Any) -> Callable[[nn.Module, float, Generator | None], Attack]:
    return lambda m, eps, g: AdaptivePGD(m, eps=eps, alpha=eps / 2, steps=3, generator=g, **settings)


ATTACKS: dict[str, AttackCase] = {
    "fgsm": AttackCase(make=lambda m, eps, g: FGSM(m, eps=eps), single_pass=True),
    "rfgsm": AttackCase(make=lambda m, eps, g: RFGSM(m, eps=eps, generator=g), shows_draws=True, single_pass=True),
    "pgd": AttackCase(make=_pgd(), shows_draws=True),
    "pgd-l2": AttackCase(make=_l2(PGD), shows_draws=True, norm="L2"),
    "pgd-restarts": AttackCase(make=_pgd(steps=2, restarts=2)),
    "pgd-margin": AttackCase(make=_pgd(objective=margin_sum)),
    "i-fgsm": AttackCase(make=lambda m, eps, g: PGD(m, eps=eps, alpha=eps / 3, steps=3, random_start=False)),
    "mi-fgsm": AttackCase(make=lambda m, eps, g: MIFGSM(m, eps=eps, steps=3)),
    "targeted": AttackCase(make=lambda m, eps, g: TargetedPGD(m, eps=eps, alpha=eps / 2, steps=3, generator=g)),
    "targeted-l2": AttackCase(make=_l2(TargetedPGD), norm="L2"),
    "targeted-random": AttackCase(
        make=lambda m, eps, g: TargetedPGD(m, eps=eps, alpha=eps / 2, steps=3, target="random", generator=g),
        shows_draws=True,
    ),
    "multi-targeted": AttackCase(
        make=lambda m, eps, g: MultiTargetedPGD(m, eps=eps, alpha=eps / 2, steps=3, generator=g)
    ),
    "multi-targeted-l2": AttackCase(make=_l2(MultiTargetedPGD), norm="L2"),
    "gama": AttackCase(make=lambda m, eps, g: GAMAPGD(m, eps=eps, steps=8, generator=g), shows_draws=True),
    "gama-fw": AttackCase(make=lambda m, eps, g: GAMAFW(m, eps=eps, steps=8, generator=g), shows_draws=True),
    "gama-mt": AttackCase(make=lambda m, eps, g: GAMAMT(m, eps=eps, steps=8, generator=g)),
    "cr": AttackCase(make=lambda m, eps, g: CR(m, eps=eps, restarts=1, generator=g), finds_all=False),
    "noise": AttackCase(
        make=lambda m, eps, g: RandomNoise(m, eps=eps, draws=40, batch_size=7, generator=g),
        finds_all=False,
        shows_draws=True,
    ),
    "noise-l2": AttackCase(
        make=lambda m, eps, g: RandomNoise(m, eps=3 * eps, norm="L2", draws=40, batch_size=7, generator=g),
        finds_all=False,
        norm="L2",
    ),
    "nuclear": AttackCase(make=lambda m, eps, g: NuclearNormAttack(m, eps=eps, lam=4.0, generator=g), shows_draws=True),
    "nuclear-two-step": AttackCase(
        make=lambda m, eps, g: NuclearNormAttack(m, eps=eps, lam=4.0, steps=2, alpha=eps, generator=g)
    ),
    "adaptive": AttackCase(make=_adaptive(group_size=2, regroupings=3), shows_draws=True),
    "adaptive-l2": AttackCase(make=_l2(AdaptivePGD), norm="L2"),
    "fgsm-l2": _in("L2", FGSM, single_pass=True),
    "rfgsm-l1": _in("L1", RFGSM, single_pass=True),
    "pgd-l1": _in("L1", PGD, steps=3),
    "gama-l2": _in("L2", GAMAPGD, steps=8),
    "gama-fw-l1": _in("L1", GAMAFW, steps=8),
    "nuclear-l1": _in("L1", NuclearNormAttack, lam=4.0, steps=2),
    "adaptive-same-class": AttackCase(make=_adaptive(same_class=True)),
    "adaptive-nuclear": AttackCase(make=_adaptive(objective="nuclear")),
    "adaptive-logit": AttackCase(make=_adaptive(objective="logit")),
    "ensemble": AttackCase(make=_ensemble),
    "transfer": AttackCase(make=_transfer, shows_draws=True),
    "autoattack": AttackCase(make=lambda m, eps, g: _autoattack(m, eps), official=True, finds_all=False),
    "apgd-ce-l2": AttackCase(
        make=lambda m, eps, g: _autoattack(m, 3 * eps, norm="L2", attacks=("apgd-ce",)),
        official=True,
        finds_all=False,
        norm="L2",
    ),
    "apgd-ce-l1": AttackCase(
        make=lambda m, eps, g: _autoattack(m, 10 * eps, norm="L1", attacks=("apgd-ce",)),
        official=True,
        finds_all=False,
        norm="L1",
    ),
}
"""Attacks by name; several cases of one where its settings choose between ways."""


NETWORKS: dict[str, ModelConfig] = {
    "vit": ModelConfig(
        name="timm:vit_tiny_patch16_224",
        options=("patch_size=4", "embed_dim=16", "depth=2", "num_heads=2", "proj_drop_rate=0.1"),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    ),
    "convnext": ModelConfig(
        name="timm:convnext_atto",
        options=("depths=1:1:1:1", "dims=8:8:8:8", "patch_size=1", "ls_init_value=1", "drop_path_rate=0.1"),
    ),
}
"""Networks without batch norm; the last option of each is its dropout."""


_KINDS = {type(part): name for name, make in RECIPES.items() for part in (make().defense, make().optimizer.lr)}
RECIPES_BY_KIND: tuple[str, ...] = tuple(dict.fromkeys(_KINDS.values()))
"""Recipes with every class of defense and of learning-rate schedule, for tests of what fields a recipe has."""

"""Defenses, one per file: how a batch becomes a loss. ``Defense`` says how to write one."""

import inspect
from dataclasses import MISSING, fields

from nuat import own_code
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.awp import AWP, TRADESAWP
from nuat.defenses.base import BatchLoss, Defense, State, Step
from nuat.defenses.fbf import FBF
from nuat.defenses.fgsm_at import FGSMAT
from nuat.defenses.fgsm_pgi import FGSMPGI
from nuat.defenses.free_at import FreeAT
from nuat.defenses.gat import GAT
from nuat.defenses.liet import LIET
from nuat.defenses.n_fgsm import NFGSM
from nuat.defenses.nuat import NuAT
from nuat.defenses.nuat2 import NuAT2
from nuat.defenses.nuat_hybrid import NuATHybrid
from nuat.defenses.pgd_at import PGDAT
from nuat.defenses.r_mgm import RMGM
from nuat.defenses.rfgsm_at import RFGSMAT
from nuat.defenses.standard import Standard
from nuat.defenses.trades import TRADES
from nuat.errors import InputError, did_you_mean

DEFENSES: dict[str, type[Defense]] = {
    "standard": Standard,
    "fgsm-at": FGSMAT,
    "rfgsm-at": RFGSMAT,
    "n-fgsm": NFGSM,
    "fbf": FBF,
    "free-at": FreeAT,
    "fgsm-pgi": FGSMPGI,
    "liet": LIET,
    "r-mgm": RMGM,
    "gat": GAT,
    "nuat": NuAT,
    "nuat-h": NuATHybrid,
    "nuat2": NuAT2,
    "pgd-at": PGDAT,
    "trades": TRADES,
    "awp": AWP,
    "trades-awp": TRADESAWP,
}
"""Name on the command line to defense."""

__all__ = [
    "AWP",
    "DEFENSES",
    "FBF",
    "FGSMAT",
    "FGSMPGI",
    "GAT",
    "LIET",
    "NFGSM",
    "PGDAT",
    "RFGSMAT",
    "RMGM",
    "TRADES",
    "TRADESAWP",
    "AdversarialTraining",
    "BatchLoss",
    "Defense",
    "FreeAT",
    "NuAT",
    "NuAT2",
    "NuATHybrid",
    "Standard",
    "State",
    "Step",
    "find",
]


def find(name: str) -> type[Defense]:
    """Return the defense of a name: one of ``DEFENSES``, or a class of the user's own.

    Args:
        name: name in the table; ``FILE.py:CLASS``, which runs the file; or ``plugin:NAME``.

    Raises:
        InputError: there is no such defense, or the class is not one.

    Example:
        >>> from nuat import defenses
        >>> defenses.find("trades").__name__
        'TRADES'
    """
    if name in DEFENSES:
        return DEFENSES[name]
    if not own_code.is_named(name):
        raise InputError(
            f"--defense {name}: no such defense.{did_you_mean(name, DEFENSES)} Known: {', '.join(DEFENSES)}; or "
            "FILE.py:CLASS, a class of your own."
        )
    kind = own_code.find(name)
    if not (isinstance(kind, type) and issubclass(kind, Defense)):
        raise InputError(f"--defense {name}: is not a class that is derived from nuat.defenses.Defense.")
    check_own(kind)
    return kind


def check_own(kind: type[Defense]) -> None:
    """Refuse a class of the user's own that lacks what every defense has.

    Raises:
        InputError: it defines no loss, is no dataclass, or has a setting without a default, which a record needs.
    """
    name = kind.__name__
    if kind.loss is Defense.loss:
        raise InputError(f"{name}: defines no loss(self, model, x, y, step, state).")
    settings = [hint for hint in inspect.get_annotations(kind).values() if "ClassVar" not in str(hint)]
    if settings and "__dataclass_params__" not in vars(kind):
        raise InputError(f"{name}: has settings; put @dataclass(frozen=True, kw_only=True) before the class.")
    for setting in fields(kind):
        if setting.default is setting.default_factory is MISSING:
            raise InputError(f"{name}: its setting {setting.name!r} has no default; give it one.")

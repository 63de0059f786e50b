"""Defenses, one per file: how a batch becomes a loss. ``Defense`` says how to write one."""

from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.awp import AWP, TRADESAWP
from nuat.defenses.base import BatchLoss, Defense, State, Step
from nuat.defenses.fbf import FBF
from nuat.defenses.fgsm_at import FGSMAT
from nuat.defenses.fgsm_pgi import FGSMPGI
from nuat.defenses.free_at import FreeAT
from nuat.defenses.gat import GAT
from nuat.defenses.n_fgsm import NFGSM
from nuat.defenses.nuat import NuAT
from nuat.defenses.nuat2 import NuAT2
from nuat.defenses.nuat_hybrid import NuATHybrid
from nuat.defenses.pgd_at import PGDAT
from nuat.defenses.r_mgm import RMGM
from nuat.defenses.rfgsm_at import RFGSMAT
from nuat.defenses.standard import Standard
from nuat.defenses.trades import TRADES

DEFENSES: dict[str, type[Defense]] = {
    "standard": Standard,
    "fgsm-at": FGSMAT,
    "rfgsm-at": RFGSMAT,
    "n-fgsm": NFGSM,
    "fbf": FBF,
    "free-at": FreeAT,
    "fgsm-pgi": FGSMPGI,
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
]

"""Attacks, one per file, each usable alone: ``x_adv = PGD(model, eps=8/255)(x, y)``.

The radius ``eps`` is always given; every other setting has the usual value of its attack. PGD, TargetedPGD,
MultiTargetedPGD and AdaptivePGD take 40 steps of 2.5 * eps / 40 (Madry et al. 2018), MI-FGSM 10 of eps / 10 (Dong et
al. 2018), the GAMA attacks 100 (Sriramanan et al. 2020); AutoAttack is the standard version. Transfer needs a
surrogate, Ensemble its attacks; both have the radius of the attacks that they run.

``nuat.attacks.catalogue`` names them for the command line. The settings of a name there, such as pgd-100, do not depend
on these defaults.
"""

from nuat.attacks.adaptive import AdaptivePGD
from nuat.attacks.autoattack import AutoAttack
from nuat.attacks.base import Attack, eval_mode
from nuat.attacks.cr import CR
from nuat.attacks.ensemble import Ensemble
from nuat.attacks.fgsm import FGSM
from nuat.attacks.gama import GAMAPGD
from nuat.attacks.gama_fw import GAMAFW
from nuat.attacks.gama_mt import GAMAMT
from nuat.attacks.mi_fgsm import MIFGSM
from nuat.attacks.multi_targeted import MultiTargetedPGD
from nuat.attacks.noise import RandomNoise
from nuat.attacks.nuclear import NuclearNormAttack
from nuat.attacks.pgd import PGD, usual_step
from nuat.attacks.rfgsm import RFGSM
from nuat.attacks.targeted import TargetedPGD
from nuat.attacks.transfer import Transfer

__all__ = [
    "CR",
    "FGSM",
    "GAMAFW",
    "GAMAMT",
    "GAMAPGD",
    "MIFGSM",
    "PGD",
    "RFGSM",
    "AdaptivePGD",
    "Attack",
    "AutoAttack",
    "Ensemble",
    "MultiTargetedPGD",
    "NuclearNormAttack",
    "RandomNoise",
    "TargetedPGD",
    "Transfer",
    "eval_mode",
    "usual_step",
]

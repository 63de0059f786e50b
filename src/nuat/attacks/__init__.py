"""Attacks, one per file, each usable alone: ``x_adv = PGD(model, eps=8/255, alpha=2/255, steps=20)(x, y)``.

``nuat.attacks.catalogue`` names them for the command line.
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
from nuat.attacks.pgd import PGD
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
]

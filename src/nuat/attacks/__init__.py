"""Attacks, one per file; each is usable alone: ``x_adv = PGD(model, eps=8/255, alpha=2/255, steps=20)(x, y)``."""

from nuat.attacks.autoattack import AutoAttack
from nuat.attacks.base import Attack, eval_mode
from nuat.attacks.fgsm import FGSM
from nuat.attacks.gama import GAMAPGD
from nuat.attacks.nuclear import NuclearNormAttack
from nuat.attacks.pgd import PGD
from nuat.attacks.rfgsm import RFGSM

__all__ = ["FGSM", "GAMAPGD", "PGD", "RFGSM", "Attack", "AutoAttack", "NuclearNormAttack", "eval_mode"]

"""How axes and small print call what an attack left."""

from nuat.analysis.runs import WORST_CASE
from nuat.attacks.catalogue import attack_name


def under(attack: str) -> str:
    """Return what follows "accuracy", such as "under GAMA-PGD-100"; attacks are named as in the report."""
    if attack == "clean":
        return "on clean images"
    return "in the worst case" if attack == WORST_CASE else f"under {attack_name(attack)}"

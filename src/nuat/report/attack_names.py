"""What people read where the command line says pgd-100: for texts, tables and axes alike."""

_ATTACKS = {
    "clean": "Clean",
    "fgsm": "FGSM",
    "rfgsm": "R-FGSM",
    "square": "Square",
    "autoattack": "AutoAttack",
    "autoattack-v1": "AutoAttack v1",
    "worst-case": "Worst case",
}
_FAMILIES = {"pgd-": "PGD-", "gama-": "GAMA-PGD-"}


def attack_name(attack: str) -> str:
    """Return an attack as the paper writes it; one that it does not have as the command line does."""
    for prefix, name in _FAMILIES.items():
        if attack.startswith(prefix) and attack.removeprefix(prefix).isdigit():
            return name + attack.removeprefix(prefix)
    return _ATTACKS.get(attack, attack)

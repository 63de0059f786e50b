"""Names of attacks for people, in text, tables and axes: PGD-100 for pgd-100."""

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
    """Return the name of an attack as the paper writes it. An attack that the paper lacks keeps its own."""
    for prefix, name in _FAMILIES.items():
        if attack.startswith(prefix) and attack.removeprefix(prefix).isdigit():
            return name + attack.removeprefix(prefix)
    return _ATTACKS.get(attack, attack)

"""``nuat compare``."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from nuat.config.arguments import parse
from nuat.evaluation.comparison import compare as differences
from nuat.progress import terminal
from nuat.records.evaluations import find_evaluation
from nuat.report.tables import comparison_table


@dataclass(frozen=True, kw_only=True)
class _Compare:
    """Say whether two models differ: the same attacks on the same images, image by image."""

    a: tyro.conf.Positional[Path]
    """A run, or the JSON file of an evaluation."""
    b: tyro.conf.Positional[Path]
    """Another."""


def compare(arguments: list[str]) -> int:
    """``nuat compare A B``."""
    asked = parse(_Compare, arguments, prog="nuat compare")
    found = differences(find_evaluation(asked.a), find_evaluation(asked.b))
    console = terminal()
    console.print(comparison_table(found, str(asked.a), str(asked.b)))
    for difference in found:
        console.print(_verdict(difference.attack, difference.is_real, difference.p_value, difference.interval))
    return 0


def _verdict(attack: str, is_real: bool, p_value: float, interval: tuple[float, float]) -> str:
    low, high = (100 * end for end in interval)
    better = "A" if low + high > 0 else "B"
    if is_real:
        return f"{attack}: {better} is better, a real difference (p = {p_value:.2g})."
    if low > 0 or high < 0:  # an approximate interval may exclude 0 where the exact test does not
        return f"{attack}: {better} seems better, but p = {p_value:.2g}: not shown at the 5 % level. Use more images."
    return (
        f"{attack}: these images do not tell A from B (p = {p_value:.2g}); the difference lies between {low:+.1f} and "
        f"{high:+.1f} points. More images narrow that."
    )

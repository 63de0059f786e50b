"""``nuat compare``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.table import Table

from nuat.config.arguments import parse
from nuat.evaluation.comparison import Difference, compare_corruptions
from nuat.evaluation.comparison import compare as differences
from nuat.evaluation.results import caveats
from nuat.progress import terminal
from nuat.records.corruptions import find_corruptions, holds_corruptions
from nuat.records.evaluations import evaluation_files, find_evaluation


@dataclass(frozen=True, kw_only=True)
class _Compare:
    """Say whether two models differ: the same attacks on the same images, image by image."""

    a: tyro.conf.Positional[Path]
    """A run, or the JSON file of an evaluation or of results on corrupted images."""
    b: tyro.conf.Positional[Path]
    """The run or file of the other model."""


def compare(arguments: list[str]) -> int:
    """``nuat compare A B``."""
    asked = parse(_Compare, arguments, prog="nuat compare")
    both = asked.a, asked.b
    corrupted = all(map(holds_corruptions, both))
    attacked = not corrupted or all(path.is_dir() and evaluation_files(path) for path in both)
    tables = []
    if attacked:
        a, b = map(find_evaluation, both)
        tables.append(("attack", differences(a, b), (a.caveats, b.caveats)))
    if corrupted:
        c, d = map(find_corruptions, both)
        tables.append(("corruption", compare_corruptions(c, d), (caveats(c.warnings), caveats(d.warnings))))
    console = terminal()
    console.print(f"A: {asked.a}")
    console.print(f"B: {asked.b}")
    for head, found, told in tables:
        console.print(_table(head, found))
        warned = [(name, text) for name, texts in zip("AB", told, strict=True) for text in texts]
        for name, text in warned:
            console.print(f"warning on {name}: {text}.", style="yellow", soft_wrap=False)
        pointer = f" Mind the warnings on {' and '.join(dict(warned))}." if warned else ""
        # of 17 rows on corrupted images a sentence each would hide the two that count
        for one in found if head == "attack" else (found[0], found[-1]):
            console.print(_verdict(one.attack, one.is_real, one.p_value, one.interval) + pointer, soft_wrap=False)
    return 0


def _table(head: str, found: Sequence[Difference]) -> Table:
    """Return a row for each attack or corruption, as ``head`` says: accuracies in %, the difference in points.

    On a narrow terminal the names of attacks are folded; numbers never are.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(head, overflow="fold", min_width=12)
    for name in ("n", "A %", "B %", "A - B", "95 % interval", "only A", "only B", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        low, high = one.interval
        table.add_row(
            one.attack,
            f"{one.n:,}",
            f"{100 * one.accuracy_a:.2f}",
            f"{100 * one.accuracy_b:.2f}",
            f"{100 * (one.accuracy_a - one.accuracy_b):+.2f}",
            f"{100 * low:+.1f} to {100 * high:+.1f}",
            str(one.only_a),
            str(one.only_b),
            f"{one.p_value:.2g}",
        )
    return table


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

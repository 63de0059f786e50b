"""``nuat analyse``: what the paper's figures show, on the user's own models and runs. One file an analysis.

A new one is a file here with ``run(arguments) -> int`` and a line in ``ANALYSES``; its record and its figure are a file
and a line each in ``nuat.analysis`` and ``nuat.report.plots``.
"""

from collections.abc import Callable

from nuat.commands.analyse import (
    confusion,
    cost,
    eps_curve,
    lambda_sweep,
    loss_surface,
    nuclear_profile,
    redraw,
    steps_curve,
    training,
)
from nuat.errors import InputError, did_you_mean

ANALYSES: dict[str, tuple[str, str, Callable[[list[str]], int]]] = {
    "loss-surface": ("MODELS...", "Figure 1: the loss around an image, and how rough it is", loss_surface.run),
    "confusion": ("MODEL", "Figure 2: where nuclear-norm and Frobenius-norm attacks send each class", confusion.run),
    "nuclear-profile": ("MODELS...", "Figure 3a: nuclear norms on robust and on other images", nuclear_profile.run),
    "cost": ("RECORDS...", "Figure 3b: robust accuracy against training time and passes", cost.run),
    "lambda-sweep": ("RUNS...", "clean and robust accuracy against lambda", lambda_sweep.run),
    "eps-curve": ("MODELS...", "accuracy under PGD against eps", eps_curve.run),
    "steps-curve": ("MODELS...", "accuracy against the steps of PGD", steps_curve.run),
    "training": ("RUNS...", "losses, accuracies, schedules, alarms and switches over the epochs", training.run),
    "redraw": ("RECORD.json...", "draw figures again from records alone", redraw.run),
}
"""Name, what it takes, a line on it, and what runs it."""

_HELP = """\
usage: nuat analyse ANALYSIS ... [--out FOLDER] [--format svg|png|pdf]

Compute what a figure shows, write it as analysis-<ANALYSIS>.json, and draw the figure beside it.

analyses:
{lines}

MODELS are runs, .safetensors files or file.py:function. 'nuat analyse ANALYSIS --help' shows every setting of one.
"""


def analyse(arguments: list[str]) -> int:
    """``nuat analyse ANALYSIS ...``.

    Raises:
        InputError: there is no such analysis, or what the analysis itself refuses.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        heads = {name: f"{name} {takes}" for name, (takes, _, _) in ANALYSES.items()}
        width = max(map(len, heads.values())) + 2
        print(
            _HELP.format(lines="\n".join(f"  {heads[n]:<{width}}{told}" for n, (_, told, _) in ANALYSES.items())),
            end="",
        )
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in ANALYSES:
        raise InputError(
            f"unknown analysis {name!r}.{did_you_mean(name, ANALYSES)} 'nuat analyse --help' shows them all."
        )
    return ANALYSES[name][2](rest)

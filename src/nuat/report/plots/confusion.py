"""Figure 2: where attacks that maximise the nuclear and the Frobenius norm send each class."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from nuat.analysis.confusion import AttackConfusion, Confusion
from nuat.core.eps import eps_text
from nuat.report.plots import style

_NAMES = {"nuclear": "nuclear norm", "frobenius": "Frobenius norm"}
_MOST_NUMBERS = 12


def draw(records: Sequence[Confusion]) -> Figure:
    """Draw a row for each record: two matrices in % of the class, and the entropy of each class."""
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH, 2.95 * len(records) + 0.2), layout="constrained")
        axes = figure.subplots(len(records), 3, squeeze=False, width_ratios=(1.25, 1.25, 0.8))
        for row, record in zip(axes, records, strict=True):
            for axis, attack in zip(row, record.attacks, strict=False):
                shown = _matrix(axis, record, attack, first=axis is row[0])
            bar = figure.colorbar(shown, ax=list(row[:2]), label="% of the class", fraction=0.035, pad=0.02)
            bar.outline.set_visible(False)
            _entropies(row[2], record)
        style.note(figure, [_small_print(record) for record in records])
    return figure


def _matrix(axis: Any, record: Confusion, attack: AttackConfusion, *, first: bool) -> Any:
    counts = np.asarray(attack.matrix)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    shown = axis.imshow(shares, cmap=style.MAP, vmin=0, vmax=100, interpolation="nearest", aspect="auto")
    n = len(record.classes)
    axis.grid(visible=False)
    names = [style.shorten(name, 11) for name in record.classes]
    few = n <= _MOST_NUMBERS
    places = range(n) if few else range(0, n, -(-n // 10))
    axis.set_xticks(places, [names[i] for i in places], rotation=90 if max(map(len, names)) > 2 else 0)
    axis.set_yticks(places, [names[i] for i in places] if first else [])
    axis.set_xlabel("prediction under attack")
    if first:
        axis.set_ylabel("label")
    told = f"accuracy {100 * attack.accuracy:.1f} %\nmean entropy {attack.mean_entropy:.2f} nats"
    axis.set_title(f"{_NAMES.get(attack.norm, attack.norm)}\n{told}", fontsize=8)
    if few:
        for i, j in np.argwhere(shares >= 0.5):
            pale = shares[i, j] > 60
            axis.text(
                j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=5.5, color="black" if pale else "white"
            )
    return shown


def _entropies(axis: Any, record: Confusion) -> None:
    places = np.arange(len(record.classes))
    height = 0.8 / len(record.attacks)
    for i, (attack, shade) in enumerate(zip(record.attacks, (style.BLUE, style.VERMILION), strict=False)):
        axis.barh(
            places + (i - 0.5) * height, attack.entropy, height, color=shade, label=_NAMES[attack.norm].split()[0]
        )
        axis.axvline(attack.mean_entropy, color=shade, linewidth=1, linestyle="--")
    axis.set_ylim(len(places) - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_xlim(0, np.log(len(places)) * 1.02)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("entropy (nats)")
    axis.set_title(f"entropy by class\n(at most {np.log(len(places)):.2f})", fontsize=7)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))


def _small_print(record: Confusion) -> str:
    return (
        f"{record.subject.name}: {record.n:,} test images in same-class batches of {record.batch_size}, clean accuracy "
        f"{100 * record.clean_accuracy:.1f} %; one step of Linf eps {eps_text(record.eps)} from Bernoulli noise of "
        f"{eps_text(record.alpha)} on the norm alone. Dashed: mean over the classes."
    )

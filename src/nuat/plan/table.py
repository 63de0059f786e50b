"""A plan for people: a table with a column for each number of devices, and what it rests on."""

from collections.abc import Sequence

from rich.table import Table

from nuat.plan.forecast import Asked, Figure, Forecast
from nuat.plan.measure import Measured

_SILENT = (
    "cache_bytes",
    "norm_bytes",
    "defense_bytes",
    "noise_bytes",
    "average_bytes",
    "joint_seconds",
    "logit_bytes",
    "resident_bytes",
)
"""Figures that are left out where they are 0 for every number of devices."""


def plan_table(recipe: str, found: Sequence[Forecast]) -> Table:
    """Return the figures of a recipe, a row each: its value for each number of devices, and how it was got."""
    table = Table(title=f"{recipe}: what it would cost", title_justify="left", box=None, pad_edge=False)
    table.add_column("figure")
    for one in found:
        table.add_column(f"{one.devices:,} device{'s' if one.devices > 1 else ''}", justify="right", no_wrap=True)
    table.add_column("how")
    for name, figure in found[0].figures.items():
        if name in _SILENT and not any(one[name] for one in found):
            continue
        if name in ("state_bytes", "checkpoint_bytes", "sent_bytes", "images_rate", "steps"):
            table.add_section()
        hows = dict.fromkeys(one.figures[name].how for one in found)
        table.add_row(figure.label, *(text(one.figures[name]) for one in found), ", ".join(hows))
    return table


def text(figure: Figure) -> str:
    """Return a figure with a unit that suits its size."""
    value = figure.value
    match figure.unit:
        case "s":
            return (
                f"{value:.3g} s"
                if value >= 1
                else f"{1e3 * value:.3g} ms"
                if value >= 1e-3
                else f"{1e6 * value:.3g} us"
            )
        case "hours":
            return f"{value:,.3g} h" if value >= 1 else f"{60 * value:.3g} min"
        case "bytes" | "bytes/s":
            rate = "/s" if figure.unit == "bytes/s" else ""
            for power, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
                if value >= power:
                    return f"{value / power:.3g} {unit}{rate}"
            return f"{value:.3g} B{rate}"
        case "operations":
            return f"{value / 1e9:.3g} G" if value >= 1e8 else f"{value / 1e6:.3g} M"
        case "fraction":
            return f"{100 * value:.3g} %"
        case "images/s":
            return f"{value:,.0f}/s" if value >= 10 else f"{value:.2g}/s"
        case _:
            return f"{value:,.0f}"


def assumptions(measured: Measured, asked: Sequence[Asked]) -> list[str]:
    """Return what the figures rest on, a line each."""
    timed = {batch: s for group in measured.groups for batch, s in group.seconds.items()}
    achieved = max(g.operations * b / s for g in measured.groups for b, s in g.seconds.items()) / 1e12
    told = [
        f"measured: steps of {', '.join(map(str, sorted(timed)))} images on {measured.hardware}, which achieves "
        f"{achieved:.3g} TFLOP/s there (an even and an odd batch; epochs of another cost apart); other numbers of "
        "images are taken to cost in proportion. A hybrid is taken to attack every batch in two steps: at most."
    ]
    if asked[0].rate is not None:
        told.append(
            f"assumed: devices that achieve {asked[0].rate / 1e12:g} TFLOP/s in this training; time is operations / "
            "rate. Whether they do depends on their kernels, precision and images a device; a plan made on one tells."
        )
    for link in dict.fromkeys(one.link for one in asked):
        told.append(
            f"assumed: {link.name}: {link.bandwidth / 1e9:g} GB/s and {1e6 * link.latency:g} us a message; gradients "
            "in a ring; nothing is hidden behind computation."
        )
    if measured.cpu:
        told.append(
            "memory of a step: tensors that autograd saves, on the line through two sizes of batch; workspace of "
            "kernels and temporaries come on top. A plan made on a GPU has all of it measured."
        )
    told.append(
        "not counted: start-up, the evaluation after training, waiting for images, failures and what is done again "
        "after them (docs/scale.md)."
    )
    return told

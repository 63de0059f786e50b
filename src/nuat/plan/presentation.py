"""A plan for people: a table with a column for each number of devices, and the assumptions that it rests on."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from nuat.hardware import describe
from nuat.plan.estimate import Estimate, PlannedRun
from nuat.plan.step_costs import StepCosts


def plan_table(recipe: str, found: Mapping[int, Mapping[str, Estimate]]) -> Table:
    """Return a row for each estimate that is not 0: its value for each number of devices, and how it is known."""
    table = Table(title=f"{recipe}: estimated cost", title_justify="left", box=None, pad_edge=False)
    table.add_column("estimate")
    for devices in found:
        table.add_column(f"{devices:,} device{'s' if devices > 1 else ''}", justify="right", no_wrap=True)
    table.add_column("how")
    plans = list(found.values())
    for name in plans[0]:
        row = [plan[name] for plan in plans]
        if not any(one.value for one in row):
            continue
        if name in ("steps", "state_bytes", "sent_bytes", "images_rate", "checkpoint_bytes"):
            table.add_section()
        table.add_row(row[0].label, *map(text, row), ", ".join(dict.fromkeys(one.how for one in row)))
    return table


def text(one: Estimate) -> str:
    """Return a value with a unit that suits its size."""
    value = one.value
    match one.unit:
        case "s":
            return _scaled(value, (1, "s"), (1e-3, "ms"), (1e-6, "us"))
        case "hours":
            return _scaled(value, (1, "h"), (1 / 60, "min"))
        case "bytes" | "bytes/s":
            rate = one.unit.removeprefix("bytes")
            return _scaled(value, (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")) + rate
        case "operations":
            return _scaled(value, (1e9, "G"), (1e6, "M"))
        case "fraction":
            return f"{100 * value:.3g} %"
        case "images/s":
            return f"{value:,.0f}/s" if value >= 10 else f"{value:.2g}/s"
        case _:
            return f"{value:,.0f}"


def _scaled(value: float, *units: tuple[float, str]) -> str:
    """Return a value in the largest unit that it reaches, else in the smallest."""
    size, unit = next((one for one in units if value >= one[0]), units[-1])
    return f"{value / size:,.3g} {unit}"


def assumptions(costs: StepCosts, runs: Sequence[PlannedRun]) -> list[str]:
    """Return what the estimates rest on, a line each."""
    timed = sorted({batch for phase in costs.phases for batch in phase.seconds})
    told = [
        f"measured: steps of {', '.join(map(str, timed))} images on {describe(costs.device)}, which achieves "
        f"{costs.achieved / 1e12:.3g} TFLOP/s: an even and an odd batch in the last epoch of each image size. Other "
        "batches are taken to cost in proportion. Warm-up epochs of AWP cost less, two-step batches of a hybrid more."
    ]
    if runs[0].rate is not None:
        told.append(
            f"assumed: devices that achieve {runs[0].rate / 1e12:g} TFLOP/s in this training; a plan made on one tells."
        )
    for link in dict.fromkeys(run.link for run in runs):
        told.append(
            f"assumed: {link.name}: {link.bandwidth / 1e9:g} GB/s and {1e6 * link.latency:g} us a message; gradients "
            "in a ring; nothing is hidden behind computation."
        )
    if costs.device.type == "cpu":
        told.append(
            "memory of a step: the tensors that are alive at once, gradients included, without the workspace inside "
            "kernels. A plan made on a GPU measures all of it."
        )
    told.append(
        "not counted: start-up, the evaluation after training, waiting for images, failures and the work that is "
        "repeated after them (docs/scale.md)."
    )
    return told

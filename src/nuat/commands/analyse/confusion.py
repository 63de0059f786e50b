"""``nuat analyse confusion``."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from nuat import paper
from nuat.analysis.confusion import Confusion, confusion
from nuat.commands.analyse.options import ModelOptions, finish, load_models, parse_models, read_dataset, target
from nuat.progress import TerminalReporter, progress_bars


@dataclass(frozen=True, kw_only=True)
class _Confusion(ModelOptions):
    """Figure 2: predictions under single-step attacks that maximise the nuclear and the Frobenius norm."""

    batch_size: int = 100
    """Images of one class that are attacked together; the paper's 100."""
    batches: int | None = None
    """Batches of each class; none: all whole ones."""
    alpha: float | None = None
    """Magnitude of the Bernoulli start; none: eps / 2, as in training."""


def run(arguments: list[str]) -> int:
    """``nuat analyse confusion MODEL [--batches N] [--alpha A]``."""
    asked, found = parse_models(_Confusion, arguments, "nuat analyse confusion", single=True)
    folder = target(asked, found[0].folder)
    dataset = read_dataset(asked.data)
    console = Console()
    reporter = TerminalReporter(console)
    (model,) = load_models(asked, found, dataset, reporter)
    with progress_bars(reporter) as progress:
        record = confusion(
            model, dataset.test, dataset.classes, eps=asked.threat.eps, alpha=asked.alpha, batch_size=asked.batch_size,
            batches=asked.batches, seed=asked.seed, progress=progress,
        )  # fmt: skip
    finish(record, asked, folder, console, _table(record))
    return 0


def _table(record: Confusion) -> Table:
    """Return the entropies beside the paper's, which are of a plain ResNet-18 on CIFAR-10."""
    theirs = {n.method.split()[0].lower(): n.value for n in paper.numbers() if n.quantity == "entropy"}
    table = Table(title=f"{record.n:,} test images, clean accuracy {record.clean_accuracy:.1%}", title_justify="left")
    table.add_column("attack")
    for name in ("mean entropy (nats)", "paper, ResNet-18, CIFAR-10", "accuracy %"):
        table.add_column(name, justify="right")
    for attack in record.attacks:
        table.add_row(
            f"{attack.norm} norm",
            f"{attack.mean_entropy:.3f}",
            f"{theirs[attack.norm]:.2f}",
            f"{100 * attack.accuracy:.2f}",
        )
    return table

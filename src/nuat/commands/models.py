"""``nuat models``: the weights that have a name."""

import json
from dataclasses import dataclass

from rich.table import Table

from nuat.config.arguments import parse
from nuat.core.eps import eps_text
from nuat.evaluation.results import Evaluation
from nuat.progress import terminal
from nuat.records import checkpoints
from nuat.records.folder import RunFolder
from nuat.records.named_weights import NAMED, fetch


@dataclass(frozen=True, kw_only=True)
class _Models:
    """List the weights that nuat.load and the commands take by name."""


def models(arguments: list[str]) -> int:
    """``nuat models``."""
    parse(_Models, arguments, prog="nuat models")
    table = Table(box=None, pad_edge=False)
    for name in ("name", "network", "images", "withstands", "accuracy", ""):
        table.add_column(name)
    for name, row in NAMED.items():
        if row.address is not None:
            table.add_row(name, "", "", "", "", f"{row.summary} (downloaded on first use)")
            continue
        folder = RunFolder(fetch(name))
        info = checkpoints.read_info(folder.best)
        found = Evaluation.from_json(json.loads(folder.evaluation.read_text(encoding="utf-8")))
        table.add_row(
            name,
            info.model.name,
            f"{info.channels} x {info.image_size[0]} x {info.image_size[1]}, {len(info.classes)} classes",
            f"{info.threat.norm} eps {eps_text(info.threat.eps, info.threat.norm)}",
            f"{found.accuracy('clean'):.1%} clean, {found.accuracy('worst-case'):.1%} attacked ({found.n} images)",
            row.summary,
        )
    console = terminal()
    console.print(table)
    console.print("Use one by its name: nuat predict NAME IMAGES..., nuat evaluate NAME, nuat.load('NAME').")
    return 0

"""``nuat models``: the weights that have a name."""

import json
from dataclasses import dataclass

from nuat.config.arguments import parse
from nuat.core.eps import threat_text
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
    console = terminal()
    for name, row in NAMED.items():
        console.print(f"{name}: {row.summary}")
        if row.address is not None:
            console.print("  downloaded on first use")
            continue
        folder = RunFolder(fetch(name))
        info = checkpoints.read_info(folder.best)
        found = Evaluation.from_json(json.loads(folder.evaluation.read_text(encoding="utf-8")))
        size = f"{info.channels} x {info.image_size[0]} x {info.image_size[1]}"
        ball = threat_text(info.threat.norm, info.threat.eps, info.threat.also)
        activation = "" if info.model.activation == "relu" else f" with {info.model.activation}"
        console.print(f"  {info.model.name}{activation} for images of {size}, {len(info.classes)} classes")
        console.print(f"  trained on {info.data}")
        console.print(
            f"  {found.accuracy('clean'):.1%} right on {found.n:,} clean images, "
            f"{found.accuracy('worst-case'):.1%} under attack ({ball})"
        )
    console.print()
    console.print("By its name: nuat predict NAME IMAGES..., nuat evaluate NAME, nuat.load('NAME').")
    return 0

"""``nuat analyse redraw``."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from nuat.analysis import read
from nuat.commands.analyse.options import OutputOptions, parse_paths, say_written, target
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class _Redraw(OutputOptions):
    """Draw figures again from records alone."""

    records: tyro.conf.Positional[tuple[Path, ...]]
    """Records that analyses wrote."""
    together: bool = False
    """Whether to draw all records, of one kind, as one figure instead of one each."""


def run(arguments: list[str]) -> int:
    """``nuat analyse redraw RECORD.json... [--together true]``."""
    asked = parse_paths(_Redraw, arguments, "nuat analyse redraw", "which records")
    if asked.suffix and not asked.together:
        raise InputError("--suffix has no effect without --together true: each figure is named as its record.")
    folder = target(asked, asked.records[0].parent)
    records = [read(path) for path in asked.records]
    from nuat.report import plots
    from nuat.report.plots import style

    console = Console()
    if asked.together:
        stem = f"analysis-{records[0].kind}" + (f"-{asked.suffix}" if asked.suffix else "")
        drawn = [(folder / f"{stem}.{asked.format}", plots.draw(records))]
    else:
        drawn = [
            ((asked.out or path.parent) / f"{path.stem}.{asked.format}", plots.draw([record]))
            for path, record in zip(asked.records, records, strict=True)
        ]
    for figure_file, figure in drawn:
        style.save(figure, figure_file)
        say_written(console, figure_file)
    return 0

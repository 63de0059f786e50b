"""The curves of a run as TensorBoard events."""

from pathlib import Path
from typing import Any


class Curves:
    """Writes every number of an epoch's record as a scalar, named by its place in the record."""

    def __init__(self, folder: Path, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second to import, so only where a run writes events

        # events of epochs that are done again after a resume are hidden; records count epochs from 1
        self._writer = SummaryWriter(str(folder), purge_step=first_epoch + 1 if first_epoch else None)

    def add(self, record: dict[str, Any]) -> None:
        """Write the numbers of an epoch's record."""
        for name, value in _numbers(record):
            self._writer.add_scalar(name, value, record["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _numbers(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found

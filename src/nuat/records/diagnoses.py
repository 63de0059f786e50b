"""Verdicts of ``nuat diagnose`` in a run's folder."""

from dataclasses import dataclass
from pathlib import Path

from nuat.errors import InputError
from nuat.records.json_values import check, read_object
from nuat.records.shapes import DiagnosisShape


@dataclass(frozen=True, kw_only=True)
class RecordedVerdict:
    """One verdict of ``nuat diagnose``."""

    check: str
    status: str
    threshold: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Verdicts of ``nuat diagnose`` on a run."""

    file: str
    n: int
    checks: tuple[RecordedVerdict, ...]
    left_out: tuple[str, ...]
    """Checks that were not made, each with the reason."""

    def count(self, status: str) -> int:
        """Return the number of checks that came out as ``status``."""
        return sum(check.status == status for check in self.checks)


def read_diagnosis(path: Path) -> tuple[Diagnosis | None, tuple[str, ...]]:
    """Return the verdicts, or the reason why they cannot be read."""
    if not path.is_file():
        return None, ()
    try:
        values = check(DiagnosisShape, read_object(path), str(path))
    except InputError as error:
        return None, (f"{str(error).replace(str(path), path.name).rstrip('.')}; remove it, or make it again",)
    names = ("check", "status", "threshold", "meaning")
    verdicts = tuple(RecordedVerdict(**{name: found[name] for name in names}) for found in values["verdicts"])
    return Diagnosis(
        file=path.name, n=values["evaluation"]["n"], checks=verdicts, left_out=tuple(values.get("left_out", []))
    ), ()

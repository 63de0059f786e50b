"""The one reader of results on corrupted images."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from nuat.data.corruptions import CORRUPTIONS, SEVERITIES
from nuat.errors import InputError
from nuat.evaluation.corruption_results import CORRUPTION_FORMAT, CorruptionResults
from nuat.hardware import hardware_text
from nuat.records.evaluations import SAME, check_indices
from nuat.records.json_values import Amount, Count, Fraction, Positive, check, read_object


class _Clean(TypedDict):
    accuracy: Fraction
    correct: str


class _Severity(TypedDict):
    severity: Positive
    accuracy: Fraction
    correct: str


class _Corruption(TypedDict):
    name: str
    severities: list[_Severity]


class _File(TypedDict):
    format: Positive
    n: Positive
    source: str
    seed: Count | None
    batch_size: Positive
    images_sha256: str
    hardware: str
    seconds: Amount
    forwards: Count
    versions: dict[str, str | None]
    warnings: NotRequired[list[str]]
    clean: _Clean
    corruptions: list[_Corruption]
    indices: Any


def read_corruptions(path: Path) -> CorruptionResults:
    """Return the results on corrupted images in a JSON file of ``nuat evaluate``, checked as a whole.

    Raises:
        InputError: no such file, or it holds no such results, or some whose parts contradict each other.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; 'nuat evaluate ... --suite corruptions --json FILE' writes one.")
    try:
        values = read_object(path)
        if type(values.get("format")) is int and values["format"] > CORRUPTION_FORMAT and "corruptions" in values:
            raise InputError(f"format {values['format']}, of a later nuat; this version reads {CORRUPTION_FORMAT}")
        check(_File, values, str(path))
        check_indices(values["indices"], values["n"])
        _check_rows(values)
    except InputError as error:
        told = str(error).removeprefix(f"{path}: ").rstrip(".")
        raise InputError(
            f"{path}: does not hold results on corrupted images ({told}); remove it, or make it again."
        ) from None
    found = CorruptionResults.from_json(values)
    return replace(found, hardware=hardware_text(found.hardware))


def corruption_files(folder: Path) -> list[Path]:
    """Return the files of results on corrupted images in a folder, in order of their names."""
    return sorted(path for path in folder.glob("corruptions*.json") if not path.name.endswith(".partial.json"))


def holds_corruptions(path: Path) -> bool:
    """Return whether a file, or a file in a folder, is one of results on corrupted images."""
    return bool(corruption_files(path)) if path.is_dir() else path.is_file() and "corruptions" in read_object(path)


def find_corruptions(path: Path) -> CorruptionResults:
    """Return the results on corrupted images in a JSON file, or the only ones in a folder.

    Raises:
        InputError: no such file, a folder of none or of several, or a damaged file.
    """
    if not path.is_dir():
        return read_corruptions(path)
    files = corruption_files(path)
    if len(files) != 1:
        raise InputError(
            f"{path}: holds {len(files)} results on corrupted images; name one file: {', '.join(map(str, files))}."
        )
    return read_corruptions(files[0])


def read_all_corruptions(folder: Path) -> tuple[dict[str, CorruptionResults], dict[str, str]]:
    """Return the results in a folder by the names of their files; and for each damaged file the reason."""
    found, broken = {}, {}
    for path in corruption_files(folder):
        try:
            found[path.name] = read_corruptions(path)
        except InputError as error:
            broken[path.name] = str(error).replace(str(path), path.name).rstrip(".")
    return found, broken


def best_of(found: Mapping[str, CorruptionResults]) -> CorruptionResults | None:
    """Return the results to show of several: over the most corruptions, then the most images. None: there are none.

    Only results whose ``missing`` is empty have a mean that compares with others.
    """
    return max(found.values(), key=lambda one: (len(one.correct), one.n), default=None)


def _check_rows(values: dict[str, Any]) -> None:
    names = [row["name"] for row in values["corruptions"]]
    if not names or names != [name for name in CORRUPTIONS if name in names]:
        raise InputError(f"expected some of the 15 corruptions, each once and in order; it has {', '.join(names)}.")
    rows = [("clean", values["clean"])]
    for row in values["corruptions"]:
        if tuple(at["severity"] for at in row["severities"]) != SEVERITIES:
            raise InputError(f"{row['name']}: expected severities 1 to 5.")
        rows += [(f"{row['name']} at severity {at['severity']}", at) for at in row["severities"]]
    for name, row in rows:
        correct = row["correct"]
        if len(correct) != values["n"] or not set(correct) <= {"0", "1"}:
            raise InputError(f"{name} has verdicts on other images than n={values['n']}.")
        if abs(correct.count("1") / values["n"] - row["accuracy"]) > SAME:
            raise InputError(f"the accuracy written for {name} is not that of its verdicts.")

"""The reader of results on corrupted images: what was written, and one line on what contradicts itself."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corrupted_files import RESULTS as N
from corrupted_files import results
from figure_models import write_row

from nuat.errors import InputError
from nuat.records.corruptions import best_of, find_corruptions, read_corruptions
from nuat.records.elsewhere import holds_results, read_results
from nuat.records.runs import read_run


def write(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    results(**changes).save(path)
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "corruptions.json")
    assert read_corruptions(path).to_json() == results().to_json()
    assert find_corruptions(tmp_path).to_json() == results().to_json()
    with pytest.raises(InputError, match=r"none\.json: no such file; 'nuat evaluate .* --suite corruptions"):
        read_corruptions(tmp_path / "none.json")


def _severity(values: dict[str, Any]) -> None:
    values["corruptions"][0]["severities"][1]["severity"] = 1


def _order(values: dict[str, Any]) -> None:
    values["corruptions"].reverse()


def _accuracy(values: dict[str, Any]) -> None:
    values["corruptions"][2]["severities"][3]["accuracy"] = 0.999


def _short(values: dict[str, Any]) -> None:
    values["corruptions"][2]["severities"][3]["correct"] = "1" * (N - 1)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_severity, "gaussian_noise: expected severities 1 to 5"),
        (_order, "each once and in order; it has jpeg_compression"),
        (_accuracy, "the accuracy written for impulse_noise at severity 4 is not that of its verdicts"),
        (_short, f"impulse_noise at severity 4 has verdicts on other images than n={N}"),
        (lambda values: values.pop("source"), "source"),
        (lambda values: values.update(n=3), "its indices are not those of n=3 images"),
        (lambda values: values["clean"].update(correct="2" * N), "clean has verdicts on other images"),
        (lambda values: values.update(format=2), "format 2, of a later nuat"),
        (lambda values: values.update(corruptions=[]), "expected some of the 15 corruptions"),
    ],
)
def test_a_damaged_file(tmp_path: Path, spoil: Callable[[dict[str, Any]], object], told: str) -> None:
    path = write(tmp_path / "corruptions.json")
    values = json.loads(path.read_text())
    spoil(values)
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=re.escape(told)) as refused:
        read_corruptions(path)
    assert str(refused.value).startswith(f"{path}: does not hold results on corrupted images (")


def test_a_folder_of_several_or_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 0 results"):
        find_corruptions(tmp_path)
    for name in ("corruptions-1.json", "corruptions-2.json"):
        write(tmp_path / name)
    with pytest.raises(InputError, match=r"holds 2 results on corrupted images; name one file: .*-1.json, .*-2.json"):
        find_corruptions(tmp_path)


def test_a_run_has_its_results_and_names_damaged_ones(tmp_path: Path) -> None:
    folder = write_row(tmp_path / "run", "A")
    assert read_run(folder).corruptions == {}
    assert best_of({}) is None
    write(folder / "corruptions-1.json", names=("snow", "fog"))
    write(folder / "corruptions-2.json")
    (folder / "corruptions-3.json").write_text("{}")
    (folder / "corruptions-4.partial.json").write_text("{}")
    found = read_run(folder)
    assert list(found.corruptions) == ["corruptions-1.json", "corruptions-2.json"]
    assert best_of(found.corruptions) is found.corruptions["corruptions-2.json"]  # the most corruptions
    (damaged,) = found.damaged
    assert damaged.startswith("corruptions-3.json: does not hold results on corrupted images")


def test_results_on_a_model_from_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "theirs" / "corruptions.json")
    assert holds_results(tmp_path / "theirs")
    found = read_results(tmp_path / "theirs")
    assert (found.eps, found.evaluations) == (None, ())
    assert list(found.corruptions) == ["corruptions.json"]

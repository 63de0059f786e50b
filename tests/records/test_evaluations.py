"""The one reader of evaluations."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from nuat.cli import main
from nuat.errors import InputError
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.records.evaluations import find_evaluation, read_evaluation


def write(path: Path, correct: str = "1101", **changes: Any) -> Path:
    flags = torch.tensor([character == "1" for character in correct])
    found = Evaluation(
        results=(AttackResult("pgd-100", {}, flags, 1.0, 4, 4),),
        indices=torch.arange(len(flags)),
        eps=0.3,
        seed=0,
        batch_size=4,
        hardware="here, 1 threads",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    values = found.to_json() | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value != "left out"}))
    return path


def test_an_old_file_without_norm_and_versions_is_of_linf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old.json", norm="left out", versions="left out", images_sha256="left out", format=1)
    found = read_evaluation(old)
    assert (found.norm, found.versions, found.images, found.hardware) == ("Linf", {}, None, "here, 1 thread")
    assert main(["compare", str(old), str(write(tmp_path / "new.json", "1000"))]) == 0
    assert "pgd-100" in capsys.readouterr().out


def test_a_rows_only_evaluation_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a" / "evaluation-main.json").parent
    (a / "evaluation-main.partial.json").write_text("{")
    b = write(tmp_path / "b" / "evaluation-main.json", "1000").parent
    assert main(["compare", str(a), str(b)]) == 0
    assert "pgd-100" in capsys.readouterr().out
    write(b / "evaluation-more.json")
    assert main(["compare", str(a), str(b)]) == 2
    assert "holds several evaluations; name one" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is no folder of a run and holds no evaluation; name its file"):
        find_evaluation(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="empty: holds no evaluation; 'nuat evaluate"):
        find_evaluation(tmp_path / "empty")


def test_a_file_that_is_not_there_is_said_with_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: no such file; 'nuat evaluate .* --json FILE' writes one"):
        read_evaluation(tmp_path / "none.json")


def test_a_folder_of_runs_names_the_evaluations_below_it(tmp_path: Path) -> None:
    files = [tmp_path / f"nuat/seed-{i}/evaluation-{suite}.json" for i in range(3) for suite in ("few", "main")]
    named = "holds no evaluation; name one of those below it: " + ", ".join(map(str, files[:4]))
    for count, more in ((4, "."), (6, ", ....")):
        for file in files[:count]:
            write(file)
        for path in (tmp_path, tmp_path / "nuat"):
            with pytest.raises(InputError, match=re.escape(named + more) + "$"):
                find_evaluation(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"norm": "L7"}, "norm: expected 'Linf' or 'L2' or 'L1'; it is 'L7'"),
        ({"also": "L2"}, "expected balls such as L2:0.5,L1:12"),
        ({"eps": -0.1}, "eps: expected a number of at least 0"),
        ({"eps": "8/255"}, "eps: expected a number"),
        ({"format": 3}, r"evaluation format 3: this version reads \(1, 2\); update nuat"),
        ({"indices": "0-9999999999999"}, "its indices are not those of n=4 images"),
        ({"indices": "0-" + "9" * 5000}, "its indices are not those of n=4 images"),
        ({"indices": "a-3"}, "its indices are not those of n=4 images"),
        ({"indices": "-1-2"}, "its indices are not those of n=4 images"),
        ({"indices": [0, 1, 2, 1.5]}, r"indices\[3\]: expected a whole number"),
        ({"indices": [0, 1, 2]}, "its indices are not those of n=4"),
        ({"n": 5}, "its indices are not those of n=5"),
        ({"n": True}, "n: expected a whole number"),
        ({"results": []}, "expected results of different attacks; it has none"),
        ({"results": None}, "results: expected a list"),
        ({"seed": 10**30}, "too large a number"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_evaluation(write(tmp_path / "e.json", **changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"correct": "11012"}, "has verdicts on other images than n=4"),
        ({"correct": "1101" * 2}, "has verdicts on other images than n=4"),
        ({"correct": "1x01"}, "has verdicts on other images than n=4"),
        ({"accuracy": 0.5}, "the accuracy written for pgd-100 is not that of its verdicts"),
        ({"accuracy": 1.5}, "accuracy: expected a number of at least 0.0 and at most 1.0"),
        ({"name": "worst-case"}, "expected results of different attacks"),
        ({"forwards": -1}, "forwards: expected a whole number of at least 0"),
    ],
)
def test_a_wrong_result_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = write(tmp_path / "e.json")
    values = json.loads(path.read_text())
    values["results"][0] |= changes
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=told):
        read_evaluation(path)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("labels", None, "it has labels without predictions, or predictions without labels"),
        ("temperature", 0.0, "temperature 0: expected a number from"),
        ("predicted", None, "it has labels without predictions, or predictions without labels"),
        ("labels", [0, 1, 0], "its labels are not those of n=4 images of 2 classes"),
        ("labels", [0, 1, 0, 2], "its labels are not those of n=4 images of 2 classes"),
        ("predicted", [0, 1, 0, 1], "the predictions under pgd-100 are not those of its verdicts"),
        ("predicted", [0, 1, 1], "the predictions under pgd-100 are not those of its verdicts"),
        ("confidence", [0.5] * 3, "the predictions under pgd-100 are not those of its verdicts"),
    ],
)
def test_predictions_that_contradict_the_verdicts_are_refused(tmp_path: Path, name: str, value: Any, told: str) -> None:
    path = write(tmp_path / "e.json", classes=["a", "b"], labels=[0, 1, 0, 1], temperature=1.0)
    values = json.loads(path.read_text())
    (row,) = values["results"]
    row |= {"predicted": [0, 1, 1, 1], "confidence": [0.5] * 4}
    path.write_text(json.dumps(values))
    assert read_evaluation(path).labels is not None
    where = values if name in ("labels", "temperature") else row
    where |= {name: value}
    if value is None:
        del where[name]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=told):
        read_evaluation(path)


def test_two_results_of_one_attack_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "e.json")
    values = json.loads(path.read_text())
    values["results"] *= 2
    path.write_text(json.dumps(values))
    with pytest.raises(
        InputError, match=rf"{path}: does not hold an evaluation \(expected results of different attacks"
    ):
        read_evaluation(path)

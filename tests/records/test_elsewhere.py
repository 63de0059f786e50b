"""Results on a model that nuat did not train: a folder of its own makes a page."""

import json
import shutil
from pathlib import Path

import pytest
from cli.cli_runs import CommandLine
from evaluation_models import THREAT, tiny_case
from figures.figure_records import RECORDS

import nuat as library
from nuat.errors import InputError
from nuat.records.elsewhere import holds_results
from nuat.records.finished_runs import finished_runs
from nuat.records.search import find_runs


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one evaluation, in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("theirs")
    folder.mkdir()
    model, images = tiny_case(20)
    library.evaluate(model, images, ("clean", "fgsm"), threat=THREAT).save(folder / "evaluation.json")
    return folder


@pytest.fixture
def nuat(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def test_a_folder_of_results_is_one_model(results: Path) -> None:
    assert holds_results(results)
    (run,) = find_runs([results]).runs
    assert (run.label, run.called, run.state, run.trained_here) == ("theirs", "theirs", "done", False)
    assert run.data == "images not recorded"
    assert [(found.attack, found.n) for found in run.measurements] == [("clean", 20), ("fgsm", 20)]
    assert run.threat == ("Linf", THREAT.eps, None)


@pytest.mark.slow
def test_its_page_shows_the_accuracies_and_the_verdicts(results: Path, nuat: CommandLine) -> None:
    verdict = {"check": "a check", "status": "PASS", "threshold": "any", "meaning": "it means this", "measured": {}}
    evaluation = json.loads((results / "evaluation.json").read_text())
    diagnosis = {"counts": {"PASS": 1}, "verdicts": [verdict], "evaluation": evaluation}
    (results / "diagnosis.json").write_text(json.dumps(diagnosis))
    nuat.done("report", results, "--out", "page.html")
    page = Path("page.html").read_text()
    (run,) = find_runs([results]).runs
    for text in ("theirs", "a model from elsewhere", "it means this", f"{run.measurements[0].percent:.2f}"):
        assert text in page
    assert "| theirs |" in nuat("report", results, "--format", "markdown").out
    assert "nuat did not train the model" in nuat.refused("report", results, "--format", "model-card")


def test_runs_below_a_folder_come_before_its_results(results: Path, tmp_path: Path) -> None:
    (results / "row" / "seed-0").mkdir(parents=True)
    (results / "row" / "seed-0" / "row.json").write_text(
        json.dumps({"recipe": "quickstart", "status": "failed", "reason": "x"})
    )
    (run,) = find_runs([results]).runs
    assert run.trained_here


def test_results_below_a_folder_are_found(results: Path) -> None:
    both = Path("both")
    both.mkdir()
    results.rename(both / "theirs")
    shutil.copytree(both / "theirs", both / "deeper" / "other")
    (both / "theirs" / "evaluation.json").write_text("{}")
    found = find_runs([both])
    assert [run.called for run in found.runs] == ["both/deeper/other"]
    ((called, reason),) = found.unreadable
    assert called == "both/theirs"
    assert reason.startswith("holds no evaluation that can be read (evaluation.json")
    with pytest.raises(InputError, match="both/theirs: holds no evaluation"):
        finished_runs([both])
    shutil.copy(both / "deeper" / "other" / "evaluation.json", both / "theirs")
    assert [run.folder for run in finished_runs([both])] == [both / "deeper" / "other", both / "theirs"]


def test_results_above_others_are_found_with_them(results: Path) -> None:
    shutil.copytree(results, results / "old")
    assert [run.called for run in find_runs([results]).runs] == ["theirs", "theirs/old"]


def test_a_diagnosis_alone_below_a_folder_is_no_result(results: Path) -> None:
    (results / "examined").mkdir()
    (results / "examined" / "diagnosis.json").write_text("{}")
    both = Path("both")
    both.mkdir()
    results.rename(both / "theirs")
    assert [run.folder for run in finished_runs([both])] == [both / "theirs"]


def test_a_diagnosis_alone_beside_the_results_of_others_is_no_result(results: Path) -> None:
    both = Path("both")
    both.mkdir()
    (both / "diagnosis.json").write_text("{}")
    results.rename(both / "theirs")
    assert [run.called for run in find_runs([both]).runs] == ["both/theirs"]
    assert [run.folder for run in finished_runs([both])] == [both / "theirs"]
    shutil.rmtree(both / "theirs")
    for search in (find_runs, finished_runs):
        with pytest.raises(InputError, match="both: holds no evaluation that can be read"):
            search([both])


def test_analyses_beside_results_that_cannot_be_read_are_found(results: Path) -> None:
    both = Path("both")
    shutil.copytree(results, both / "a")
    (both / "a" / "evaluation.json").write_text("{}")
    RECORDS["cost"].save(both / "a" / "analysis-cost.json")
    results.rename(both / "b")
    assert find_runs([both]).analyses == (both / "a" / "analysis-cost.json",)


def test_results_that_cannot_be_read_are_refused(results: Path) -> None:
    (results / "evaluation.json").write_text("{}")
    with pytest.raises(InputError, match=r"theirs: holds no evaluation that can be read \(evaluation\.json"):
        find_runs([results])
    (results / "evaluation.json").unlink()
    assert not holds_results(results)
    with pytest.raises(InputError, match=r"holds no run; .* are called evaluation\.json and diagnosis\.json\."):
        find_runs([results])


def test_runs_of_which_none_can_be_read_are_refused(results: Path) -> None:
    broken = Path("broken")
    broken.mkdir()
    (broken / "evaluation.json").write_text("{}")
    with pytest.raises(InputError, match="broken: holds no evaluation that can be read"):
        find_runs([results, broken])
    (broken / "a").mkdir()
    (broken / "a" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no run can be read; the first, .*a: .*config\.json"):
        find_runs([broken])
    drawn = Path("drawn")
    drawn.mkdir()
    RECORDS["cost"].save(drawn / "analysis-cost.json")
    with pytest.raises(InputError, match="drawn: holds no run; "):
        find_runs([drawn])


def test_its_name_is_printable(results: Path) -> None:
    (run,) = find_runs([results.rename("a\x1b[31m\nb")]).runs
    assert run.label == r"a\x1b[31m\nb"

"""A campaign that is cut off at any point goes on to the same numbers when it is given again."""

import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign.campaign_runs import MAIN, NAMES, NORMAL, STEPS, At, plan, record, run, runner, snapshot, statuses, toml

from nuat.campaign import Ledger, RowStatus
from nuat.evaluation.job_runner import JobRunner
from nuat.training.signals import Interrupted

WEIGHTS = ("best.safetensors", "last.safetensors")


class PowerCut(BaseException):
    """Ends a campaign like a killed process: nothing is caught."""


def cut() -> None:
    raise PowerCut


def weights(folder: Path) -> list[bytes]:
    return [(folder / name / file).read_bytes() for name in NAMES for file in WEIGHTS]


def verdicts(folder: Path) -> list[str]:
    """Return which image withstood which attack, in every evaluation of a campaign."""
    return [
        result["correct"]
        for path in sorted(folder.rglob("evaluation-*.json"))
        for result in json.loads(path.read_text())["results"]
    ]


def same(one: Path, other: Path) -> bool:
    return weights(one) == weights(other) and verdicts(one) == verdicts(other) != []


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5, 7])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_was_interrupted_goes_on(finished: Path, step: int, number: int) -> None:
    with pytest.raises(Interrupted) as caught:
        run(plan(), "again", reporter=At({step: lambda: signal.raise_signal(number)}))
    assert caught.value.signal_number == number
    assert str(caught.value).startswith(f"stopped in {NAMES[0]}; ")
    assert str(caught.value).endswith("The same command goes on")
    assert not (Path("again") / NAMES[0] / "row.json").exists()
    again = runner(plan(), "again")
    assert statuses(again.queue()) == {**dict.fromkeys(NAMES, "waiting"), NAMES[0]: "half done"}
    assert set(statuses(again.run()).values()) == {"done"}
    assert same(finished, Path("again"))
    lines = [json.loads(line) for line in (Path("again") / NAMES[0] / "metrics.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("resume") == 1


@pytest.mark.slow
def test_a_later_row_that_was_interrupted_leaves_the_earlier_ones_alone(finished: Path) -> None:
    told: list[str] = []
    ours = runner(plan(), "again", reporter=At({}))
    steps = 0

    def step(number: int, metrics: dict[str, Any]) -> None:
        nonlocal steps
        steps += 1
        if steps == STEPS + 7:
            signal.raise_signal(signal.SIGINT)

    ours._reporter.step = step  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match=NAMES[1]):
        ours.run(None, lambda entry: told.append(entry.row.name))
    assert told == NAMES[:1]
    first = snapshot(Path("again") / NAMES[0])
    run(plan(), "again")
    assert snapshot(Path("again") / NAMES[0]) == first
    assert same(finished, Path("again"))


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 7])
def test_a_killed_process_loses_no_more_than_an_epoch(finished: Path, step: int) -> None:
    """At step 1 there is no checkpoint yet: the row is begun again; at step 7 there is that of epoch 1."""
    with pytest.raises(PowerCut):
        run(plan(), "again", reporter=At({step: cut}))
    again = runner(plan(), "again")
    assert statuses(again.queue())[NAMES[0]] == ("waiting" if step == 1 else "half done")
    assert set(statuses(again.run()).values()) == {"done"}
    assert same(finished, Path("again"))


@pytest.mark.slow
@pytest.mark.parametrize("left", [[], ["config.json"], ["config.json", "metrics.jsonl", "best.safetensors"]])
def test_a_folder_cut_off_before_its_first_checkpoint_is_begun_again(finished: Path, left: list[str]) -> None:
    folder = Path("again") / NAMES[0]
    folder.mkdir(parents=True)
    for name in left:
        shutil.copy(finished / NAMES[0] / name, folder / name)
    if "metrics.jsonl" in left:
        whole = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(whole.splitlines()[0] + '\n{"kind": "ep')
    assert set(run(plan(), "again").values()) == {"done"}
    assert same(finished, Path("again"))


def test_evaluations_without_their_training_are_not_removed(finished: Path) -> None:
    """Nothing says what they are of: the row fails, and the rest goes on."""
    for name in ("metrics.jsonl", "checkpoint.pt", "row.json"):
        (finished / NAMES[0] / name).unlink()
    before = snapshot(finished / NAMES[0])
    found = run(plan())
    assert found == {**dict.fromkeys(NAMES, "done"), NAMES[0]: "failed"}
    assert "holds evaluations, but no finished training" in record(NAMES[0])["reason"]
    after = snapshot(finished / NAMES[0])
    assert {name: after[name] for name in before} == before


def test_a_finished_row_needs_its_record_and_evaluations_alone(finished: Path) -> None:
    for name in ("metrics.jsonl", "checkpoint.pt", "last.safetensors"):
        (finished / NAMES[0] / name).unlink()
    before = snapshot(finished)
    assert set(run(plan()).values()) == {"done"}
    assert snapshot(finished) == before


def interrupt_in_batch(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Interrupt the given batch (from 1) of all evaluations; the returned function counts them."""
    seen, whole = 0, JobRunner._logits

    def logits(*arguments: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == number:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr("nuat.evaluation.evaluate.JobRunner._logits", logits)
    return lambda: seen


@pytest.mark.slow
def test_an_evaluation_that_was_interrupted_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    text = toml({"recipe": NORMAL, "set": {"evaluation.batch-size": 10}}, suites=(MAIN,))
    name = f"{NORMAL}_evaluation.batch-size-10/seed-0"
    run(plan(text), "whole")
    with monkeypatch.context() as patch:
        # clean: three batches; pgd-2 and pgd-4, a batch for every ten images that stand: the second of these is cut off
        interrupt_in_batch(6, patch)
        with pytest.raises(Interrupted, match=rf"stopped in {name}; .*The same command goes on"):
            run(plan(text))
    folder = Path("out") / name
    partial = folder / "evaluation-main.partial.json"
    assert partial.is_file()
    assert not (folder / "evaluation-main.json").exists()
    assert statuses(runner(plan(text)).queue()) == {name: "half done"}
    before = (folder / "metrics.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        count = interrupt_in_batch(0, patch)
        assert run(plan(text)) == {name: "done"}
        batches = math.ceil(verdicts(Path("whole"))[0].count("1") / 10)
        assert count() == 2 * (batches - 1) > 0
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert not partial.exists()
    assert verdicts(Path("out")) == verdicts(Path("whole"))


def test_a_row_that_was_cut_off_after_its_last_suite_is_recorded(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = record(NAMES[2])
    (finished / NAMES[2] / "row.json").unlink()
    monkeypatch.setattr("nuat.campaign.runner.run", cut)
    assert run(plan())[NAMES[2]] == "done"
    assert {**record(NAMES[2]), "git": None} == {**before, "git": None}


def test_a_training_whose_end_was_not_written_ends_again(finished: Path) -> None:
    before = weights(finished)
    folder = finished / NAMES[0]
    (folder / "row.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert set(run(plan()).values()) == {"done"}
    assert weights(finished) == before
    assert record(NAMES[0])["epochs"] == 2


def test_how_far_a_row_is_rests_on_its_checkpoint() -> None:
    row = plan(toml({"recipe": NORMAL, "set": {"epochs": 4, "checkpoint-every": 2}})).rows[0]
    ledger = Ledger(Path("out"))
    assert ledger.progress(row) == 0.0
    folder = ledger.folder(row)
    folder.path.mkdir(parents=True)
    for epoch, part in ((1, 0.0), (2, 0.5), (3, 0.5), (4, 1.0)):
        folder.append({"kind": "epoch", "epoch": epoch, "lr": 0.1, "train": {}, "validation": {}})
        assert ledger.progress(row) == 0.0
        folder.checkpoint.touch()
        assert ledger.progress(row) == part
        assert ledger.status(row) is RowStatus.PARTIAL
        folder.checkpoint.unlink()

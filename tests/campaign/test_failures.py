"""A row that fails is recorded with its reason, and no finished row is lost to it."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from campaign.campaign_runs import (
    FEW,
    FOUR,
    MAIN,
    NAMES,
    NORMAL,
    NUAT,
    SMALL,
    At,
    plan,
    record,
    run,
    runner,
    snapshot,
    statuses,
    toml,
)

import nuat.campaign.runner
from nuat.campaign import CampaignRow, Ledger, QueueEntry, RowStatus
from nuat.campaign.runner import run as train
from nuat.errors import InputError, TransientError
from nuat.files import atomic_write
from nuat.records.search import find_runs
from nuat.report.campaigns import campaign_markdown
from nuat.report.page.groups import group
from nuat.report.page.table import tabulate
from nuat.training import run as training_run

ONE_FAILED = {**dict.fromkeys(NAMES, "done"), NAMES[1]: "failed"}


def break_row(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """Let the training of one row raise."""

    def broken(config: Any, *, out: Path, **keywords: Any) -> Any:
        if str(out).endswith(name):
            raise error
        return train(config, out=out, **keywords)

    monkeypatch.setattr("nuat.campaign.runner.run", broken)


@pytest.mark.slow
def test_a_crash_in_a_row_is_recorded_and_the_others_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[QueueEntry] = []
    told = At()
    with monkeypatch.context() as patch:
        break_row(patch, NAMES[1], ZeroDivisionError("no\nway\n\nout"))
        entries = runner(plan(), reporter=told).run(None, ended.append)
    assert statuses(entries) == ONE_FAILED
    assert [entry.row.name for entry in ended] == NAMES
    (failed,) = [entry for entry in entries if entry.status is RowStatus.FAILED]
    assert (failed.note, failed.seconds) == ("ZeroDivisionError: no way out", None)
    assert [text for text in told.messages if "failed" in text] == [f"{NAMES[1]} failed: {failed.note}"]
    found = record(NAMES[1])
    assert (found["status"], found["reason"], found["recipe"], found["seed"]) == ("failed", failed.note, NORMAL, 1)
    assert "in broken\n" in found["traceback"]


@pytest.mark.slow
def test_what_may_pass_is_no_failure_of_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    told = At()
    with monkeypatch.context() as patch:
        break_row(patch, NAMES[1], TransientError("0001.png cannot be read"))
        entries = statuses(runner(plan(), reporter=told).run())
    assert entries[NAMES[1]] not in ("done", "failed")
    assert [name for name, status in entries.items() if status == "done"] == [n for n in NAMES if n != NAMES[1]]
    assert any("the same command tries it again: 0001.png cannot be read" in text for text in told.messages)
    assert run(plan()) == dict.fromkeys(NAMES, "done")


@pytest.mark.slow
def test_a_failed_row_stays_failed_until_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_row(patch, NAMES[1], RuntimeError("out of luck"))
        run(plan())
    before = snapshot(Path("out"))
    assert run(plan()) == ONE_FAILED
    assert snapshot(Path("out")) == before
    assert run(plan(), retry_failed=True) == dict.fromkeys(NAMES, "done")
    assert "reason" not in record(NAMES[1])
    after = snapshot(Path("out"))
    assert {name for name in before if after[name] != before[name]} == {f"{NAMES[1]}/row.json"}


@pytest.mark.slow
def test_a_row_that_fails_again_is_tried_once_and_keeps_the_new_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for reason in ("first", "second"):
        with monkeypatch.context() as patch:
            break_row(patch, NAMES[1], RuntimeError(reason))
            assert run(plan(), retry_failed=True) == ONE_FAILED
        assert record(NAMES[1])["reason"] == f"RuntimeError: {reason}"


@pytest.mark.slow
def test_a_row_that_fails_after_its_training_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **keywords: Any) -> Any:
        raise RuntimeError("CUDA error: out of memory\nCompile with ...")

    with monkeypatch.context() as patch:
        patch.setattr("nuat.campaign.runner.evaluate", broken)
        assert run(plan()) == dict.fromkeys(NAMES, "failed")
    metrics = (Path("out") / NAMES[0] / "metrics.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        break_row(patch, NAMES[0], AssertionError("trained already"))
        assert run(plan(), retry_failed=True)[NAMES[0]] == "done"
    assert (Path("out") / NAMES[0] / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.slow
def test_a_row_that_diverges_is_recorded_with_its_alarm() -> None:
    wild = {"recipe": NORMAL, "set": {"optimizer.lr.peak": 1e30, "optimizer.momentum": 0.99}}
    name = f"{NORMAL}_optimizer.lr.peak-1e-30_optimizer.momentum-0.99/seed-0"
    assert run(plan(toml(wild, {"recipe": NORMAL}))) == {name: "failed", f"{NORMAL}/seed-0": "done"}
    found = record(name)
    assert found["alarms"][-1]["monitor"] == "nonfinite"
    assert found["alarms"][-1]["epoch"] == 1
    assert found["alarms"][-1]["message"] == found["reason"]
    assert "infinite or NaN" in found["reason"]
    assert "traceback" not in found


@pytest.mark.slow
def test_a_model_that_cannot_be_evaluated_fails_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def infinite(images: Any, *rest: Any, **keywords: Any) -> Any:
        raise InputError("the model returns logits that are infinite or NaN on clean images; it cannot be evaluated.")

    monkeypatch.setattr("nuat.evaluation.evaluate.check_logits", infinite)
    assert run(plan(toml({"recipe": NORMAL}))) == {f"{NORMAL}/seed-0": "failed"}
    assert record(f"{NORMAL}/seed-0")["reason"].startswith("the model returns logits")


@pytest.mark.slow
def test_the_alarms_of_a_row_are_in_its_record() -> None:
    """With a learning rate of 0 the model stays the near-constant that it begins as."""
    settings = {**SMALL, "epochs": 3, "optimizer.lr.peak": 0, "monitors.collapse-patience": 2}
    assert run(plan(toml({"recipe": NUAT}, common=settings))) == {f"{NUAT}/seed-0": "done"}
    (alarm,) = record(f"{NUAT}/seed-0")["alarms"]
    assert (alarm["monitor"], alarm["epoch"]) == ("collapse", 2)
    assert alarm["message"].startswith("collapse to a constant: the clean loss has been 1.09")
    assert f"{math.log(3):.3f}" in alarm["message"]


def test_an_overfitting_alarm_is_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([0.3, 0.9])

    def validate(model: Any, images: Any, **keywords: Any) -> dict[str, float]:
        return {"clean_loss": 0.5, "clean": 0.9, "fgsm": next(seen), "pgd": 0.2}

    monkeypatch.setattr("nuat.training.validation.validate", validate)
    run(plan(toml({"recipe": NORMAL})))
    found = record(f"{NORMAL}/seed-0")
    assert found["status"] == "done"
    (alarm,) = found["alarms"]
    assert (alarm["monitor"], alarm["epoch"]) == ("overfitting", 2)
    assert "90.0% under FGSM but 20.0% under PGD-7" in alarm["message"]


@pytest.mark.slow
def test_a_full_disk_in_training_ends_the_campaign_and_keeps_what_is_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved, save = 0, training_run.Bookkeeper.checkpoint

    def checkpoint(books: Any, *, now: bool) -> None:
        nonlocal saved
        saved += 1
        if saved == 4:  # the second of the second row
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(books, now=now)

    with monkeypatch.context() as patch:
        patch.setattr(training_run.Bookkeeper, "checkpoint", checkpoint)
        with pytest.raises(InputError, match="no space left on the disk"):
            run(plan())
    assert record(NAMES[0])["status"] == "done"
    assert not (Path("out") / NAMES[1] / "row.json").exists()
    first = snapshot(Path("out") / NAMES[0])
    left = {**dict.fromkeys(NAMES, "waiting"), NAMES[0]: "done", NAMES[1]: "half done"}
    assert statuses(runner(plan()).queue()) == left
    assert set(run(plan()).values()) == {"done"}
    assert snapshot(Path("out") / NAMES[0]) == first


@pytest.mark.slow
@pytest.mark.parametrize("file", ["evaluation-main.json", "row.json"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_after_training_ends_the_campaign(
    finished: Path, monkeypatch: pytest.MonkeyPatch, file: str, number: int
) -> None:
    for path in (finished / NAMES[1]).glob("*.json"):
        if path.name in ("evaluation-main.json", "row.json"):
            path.unlink()

    def full(path: Path) -> Any:
        if path.name == file:
            raise OSError(number, os.strerror(number))
        return atomic_write(path)

    before = snapshot(finished)
    with monkeypatch.context() as patch:
        patch.setattr("nuat.files.atomic_write", full)
        with pytest.raises(OSError, match=os.strerror(number)):
            run(plan())
    after = snapshot(finished)
    assert {name: after[name] for name in before} == before
    assert run(plan()) == dict.fromkeys(NAMES, "done")


DAMAGED = {
    "empty": "",
    "half": '{"format": 1, "eps": 0.1, "resul',
    "no object": "[]",
    "a number": "3",
    "no results": '{"format": 1, "eps": 0.1}',
    "other kinds": '{"format": 1, "results": 3, "indices": ["a"], "eps": 1, "seed": 1, "batch_size": 1}',
    "no text": "\xff\xfe",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_evaluation_is_said_and_nothing_is_run(
    finished: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = finished / NAMES[1] / "evaluation-main.json"
    path.write_bytes(text.encode("latin-1"))
    break_row(monkeypatch, "", AssertionError("nothing runs"))
    with pytest.raises(InputError, match=f"^{path}: does not hold an evaluation .*; remove it, or make it") as caught:
        runner(plan())
    assert len(str(caught.value).splitlines()) == 1
    path.unlink()
    assert set(run(plan()).values()) == {"done"}


def test_verdicts_on_fewer_images_than_named_are_damage(finished: Path) -> None:
    path = finished / NAMES[1] / "evaluation-main.json"
    values = json.loads(path.read_text())
    values["results"][1]["correct"] = values["results"][1]["correct"][:-1]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"^{path}: does not hold an evaluation .pgd-2 has verdicts on other images"):
        runner(plan())


def test_an_evaluation_of_another_format_is_named(finished: Path) -> None:
    path = finished / NAMES[1] / "evaluation-main.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(InputError, match=f"^{path}: evaluation format 99: this version reads "):
        runner(plan())


def test_a_damaged_checkpoint_fails_its_row_alone(finished: Path) -> None:
    folder = finished / NAMES[1]
    for name in ("row.json", "evaluation-main.json"):
        (folder / name).unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    (folder / "checkpoint.pt").write_bytes(b"PK")
    assert run(plan()) == ONE_FAILED
    assert "checkpoint.pt" in record(NAMES[1])["reason"]
    assert record(NAMES[1])["alarms"] == []


@pytest.mark.slow
def test_a_failure_to_tell_of_a_row_leaves_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(entry: QueueEntry) -> None:
        raise RuntimeError("the terminal has gone")

    with pytest.raises(RuntimeError, match="the terminal"):
        runner(plan()).run(None, tell)
    assert record(NAMES[0])["status"] == "done"


@pytest.mark.slow
def test_a_failed_row_is_in_the_report_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = plan(toml({"recipe": NORMAL}, {"recipe": NUAT}, suites=(MAIN,)))
    break_row(monkeypatch, f"{NUAT}/seed-0", InputError("no such thing"))
    ours = runner(campaign)
    ours.run()
    text = campaign_markdown(campaign, ours.ledger)
    assert f"Failed:\n\n- {NUAT}/seed-0: no such thing\n" in text
    assert "1 of 2 rows are done" in text
    assert f"| {NUAT} |" not in text


def test_a_failure_in_learning_a_rate_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(row: CampaignRow) -> Any:
        raise KeyError("odd") if row.recipe == NUAT else InputError("no")

    monkeypatch.setattr("nuat.campaign.remaining_time.measure", measure)
    assert statuses(runner(plan()).run(1000.0)) == dict.fromkeys(NAMES, "failed")
    assert [record(name)["reason"] for name in NAMES] == ["no", "no", "KeyError: 'odd'", "KeyError: 'odd'"]


@pytest.mark.slow
def test_a_failure_of_other_settings_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that failed before it had a config.json is tried again once its settings changed."""
    text = toml({"recipe": NORMAL})
    name = f"{NORMAL}/seed-0"
    with monkeypatch.context() as patch:
        break_row(patch, name, RuntimeError("out of luck"))
        assert run(plan(text)) == {name: "failed"}
    assert len(record(name)["settings_sha256"]) == 64
    assert run(plan(text)) == {name: "failed"}
    assert run(plan(text, settings=(("epochs", "3"),))) == {name: "done"}


LATER = {"name": "later", "attacks": ["pgd-3"]}
MORE = {"name": "more", "attacks": ["fgsm"], "n": 6}


@pytest.mark.slow
def test_a_suite_that_is_added_later_and_fails_leaves_the_rows_figures(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: record(name) for name in NAMES}
    wider = plan(FOUR.replace("[[row]]", f"{toml(suites=(LATER, MORE), common={}).partition(chr(10))[2]}[[row]]", 1))
    with monkeypatch.context() as patch:
        fail_attack(patch, ("pgd-3",), ValueError("no such\nluck"))
        told = At()
        assert set(run(wider, reporter=told).values()) == {"failed"}
        assert f"{NAMES[0]}, suite later failed: ValueError: no such luck" in told.messages
        assert set(run(wider).values()) == {"failed"}  # and is not tried again
    for name in NAMES:
        after = record(name)
        assert after["status"] == "done"
        assert after["failed_suites"] == {"later": "ValueError: no such luck"}
        assert after["suites"].keys() == {*before[name]["suites"], "more"}
        assert before[name]["suites"].items() <= after["suites"].items()
    text = campaign_markdown(wider, Ledger(finished))
    assert "4 of 4 rows are done" in text
    assert f"- {NAMES[0]}: later: ValueError: no such luck" in text
    assert any("suite later failed" in remark for remark in page_remarks(finished))
    assert set(run(wider, retry_failed=True).values()) == {"done"}
    assert "failed_suites" not in record(NAMES[0])


def test_a_suite_that_failed_is_not_tried_again_with_another(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = record(NAMES[0]) | {"failed_suites": {"later": "no luck"}}
    (finished / NAMES[0] / "row.json").write_text(json.dumps(before))
    fail_attack(monkeypatch, ("pgd-3",), AssertionError("tried again"))
    assert run(plan(toml({"recipe": NORMAL}, suites=(MAIN, FEW, LATER, MORE)))) == {NAMES[0]: "failed"}
    after = record(NAMES[0])
    assert after["failed_suites"] == before["failed_suites"]
    assert after["suites"].keys() == {"main", "few", "more"}


def test_what_may_pass_is_no_failure_of_a_suite(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wider, before = plan(toml({"recipe": NORMAL}, suites=(MAIN, FEW, LATER))), record(NAMES[0])
    with monkeypatch.context() as patch:
        fail_attack(patch, ("pgd-3",), TransientError("0001.png cannot be read"))
        assert run(wider) == {NAMES[0]: "half done"}
    assert record(NAMES[0]) == before
    fail_attack(monkeypatch, ("pgd-3",), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        run(wider)
    assert record(NAMES[0]) == before


def test_a_rate_that_cannot_be_learned_leaves_a_finished_rows_figures(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = record(NAMES[0])
    wider = plan(FOUR.replace("[[row]]", f"{toml(suites=(LATER,), common={}).partition(chr(10))[2]}[[row]]", 1))
    fail = ZeroDivisionError("no")
    monkeypatch.setattr("nuat.campaign.remaining_time.measure", lambda row: (_ for _ in ()).throw(fail))
    assert set(statuses(runner(wider).run(1000.0)).values()) == {"failed"}
    assert record(NAMES[0]) == before | {"failed_suites": {"later": "ZeroDivisionError: no"}}
    assert finished.is_dir()


def fail_attack(monkeypatch: pytest.MonkeyPatch, attacks: tuple[str, ...], error: Exception) -> None:
    """Let one suite raise."""
    evaluate = nuat.campaign.runner.evaluate

    def broken(model: Any, images: Any, names: Any, **keywords: Any) -> Any:
        if tuple(names) == attacks:
            raise error
        return evaluate(model, images, names, **keywords)

    monkeypatch.setattr("nuat.campaign.runner.evaluate", broken)


def page_remarks(folder: Path) -> list[str]:
    """Return the remarks of the report on the runs in a folder."""
    tables = [tabulate(one) for one in group(find_runs([folder]).runs)]
    return [remark for table in tables for row in table.rows for remark in row.remarks]

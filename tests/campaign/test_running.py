"""A campaign runs every row, records what its files say, and does nothing twice."""

import json
import re
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
    STEPS,
    TEST,
    At,
    plan,
    record,
    run,
    runner,
    snapshot,
    statuses,
    toml,
    write_images,
)
from oracles import shorten_autoattack

import nuat
from nuat.campaign import Ledger, QueueEntry, RowStatus
from nuat.errors import InputError
from nuat.evaluation.results import Evaluation
from nuat.progress import Reporter
from nuat.report.campaigns import campaign_markdown

FILES = {
    "config.json", "environment.json", "split.json", "metrics.jsonl", "checkpoint.pt", "best.safetensors",
    "last.safetensors", "evaluation-main.json", "row.json",
}  # fmt: skip
DONE = dict.fromkeys(NAMES, "done")


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make training, evaluation or both fail where they are called."""

    def never(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("this was done already")

    for name in names or ("run", "evaluate"):
        monkeypatch.setattr(f"nuat.campaign.runner.{name}", never)


def test_two_recipes_with_two_seeds(finished: Path) -> None:
    found = {path.name for path in finished.iterdir()}
    assert found == {NORMAL, f"{NUAT}_defense.lam.peak-2"}
    for name in NAMES:
        few = {"evaluation-few.json"} if name.endswith("0") else set()
        assert {path.name for path in (finished / name).iterdir()} == FILES | few
    assert not [path for path in finished.rglob("*") if path.name.endswith((".tmp", ".partial.json"))]


@pytest.mark.slow
def test_a_rows_run_is_that_of_its_config(finished: Path, tmp_path: Path) -> None:
    row = plan().rows[3]
    alone = nuat.run(row.config, out=tmp_path / "alone", recipe=row.recipe)
    assert row.name == NAMES[3]
    for name in ("best.safetensors", "last.safetensors"):
        assert (alone.folder / name).read_bytes() == (finished / row.name / name).read_bytes()


def test_a_record_says_what_the_runs_files_say(finished: Path) -> None:
    for row in plan().rows:
        found = record(row.name)
        end = json.loads((finished / row.name / "metrics.jsonl").read_text().splitlines()[-1])
        assert found["status"] == "done"
        assert {name: found[name] for name in ("campaign", "label", "recipe", "seed", "eps", "settings")} == {
            "campaign": "small",
            "label": row.label,
            "recipe": row.recipe,
            "seed": row.seed,
            "eps": 0.1,
            "settings": dict(row.settings),
        }
        for name in ("epochs", "best_epoch", "forwards", "backwards"):
            assert found[name] == end[name]
        assert found["seconds"]["training"] == end["seconds"]
        assert found["nuat"] == nuat.__version__
        assert found["packages"]["torch"]
        assert found["alarms"] == []
        assert set(found["suites"]) == {suite.name for suite in row.suites}
        for suite in row.suites:
            evaluation = json.loads((finished / row.name / f"evaluation-{suite.name}.json").read_text())
            expected = {result["name"]: result["accuracy"] for result in evaluation["results"]}
            expected["worst-case"] = evaluation["worst_case"]["accuracy"]
            assert found["suites"][suite.name] == {
                "images": "test",
                "n": evaluation["n"],
                "accuracies": expected,
            }
            assert evaluation["n"] == (suite.n or TEST)
            assert (evaluation["seed"], evaluation["eps"]) == (row.seed, 0.1)
            seconds = sum(result["seconds"] or 0 for result in evaluation["results"])
            assert found["seconds"][suite.name] == pytest.approx(seconds)


def test_the_best_weights_are_attacked(finished: Path) -> None:
    row = plan().rows[2]
    evaluation = json.loads((finished / row.name / "evaluation-main.json").read_text())
    again = nuat.evaluate(
        nuat.load(finished / row.name),
        nuat.data.load(row.config.data).test,
        ["clean", "pgd-2", "pgd-4"],
        threat=row.config.threat,
        seed=row.seed,
    )
    ours = [result["correct"] for result in again.to_json()["results"]]
    assert [result["correct"] for result in evaluation["results"]] == ours


def test_a_suite_on_validation_images_attacks_those() -> None:
    text = toml({"recipe": NORMAL}, suites=({**MAIN, "images": "validation"},))
    assert run(plan(text)) == {f"{NORMAL}/seed-0": "done"}
    suite = record(f"{NORMAL}/seed-0")["suites"]["main"]
    assert (suite["images"], suite["n"]) == ("validation", 12)


def test_a_suite_in_balls_of_its_own() -> None:
    def text(threat: str) -> str:
        return toml({"recipe": NORMAL}, suites=({**MAIN, "attacks": ["clean", "fgsm"], "threat": threat},))

    campaign = plan(text("L2:0.5, L1:2"))
    assert campaign.rows[0].config.threat.norm == "Linf"
    assert run(campaign) == {f"{NORMAL}/seed-0": "done"}
    found = json.loads(Path(f"out/{NORMAL}/seed-0/evaluation-main.json").read_text())
    assert (found["norm"], found["eps"], found["also"]) == ("L2", 0.5, "L1:2")
    assert [result["name"] for result in found["results"]] == ["clean", "fgsm", "L1:fgsm"]
    assert runner(campaign).queue()[0].status == "done"
    head, _, row, *notes = campaign_markdown(campaign, Ledger(Path("out"))).splitlines()[2:]
    assert head.startswith("| method | seeds | clean | fgsm | L1:fgsm | worst-case | images")
    worst = found["worst_case"]["accuracy"]
    for cell, accuracy in zip(row.split(" | ")[2:6], [*(r["accuracy"] for r in found["results"]), worst], strict=True):
        assert cell.startswith(f"{100 * accuracy:.2f} (")
    assert notes[1].startswith("Accuracy in %; 1 of 1 rows")
    assert "Suite main: L2 eps 0.5 and L1 2." in notes
    for other, said in (("L2:0.4,L1:2", "eps=0.5, not 0.4"), ("L2:0.5,L1:3", "also=L1:2, not L1:3")):
        with pytest.raises(InputError, match=f"was made with {said}"):
            runner(plan(text(other))).queue()


def test_a_second_call_does_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(finished)
    forbid(monkeypatch)
    ended: list[QueueEntry] = []
    again = runner(plan())
    assert statuses(again.queue()) == DONE
    assert statuses(again.run(None, ended.append)) == DONE
    assert ended == []
    assert snapshot(finished) == before


@pytest.mark.slow
def test_every_row_that_ends_is_told_once() -> None:
    ended: list[QueueEntry] = []
    runner(plan()).run(None, ended.append)
    assert [(entry.row.name, entry.status) for entry in ended] == [(name, RowStatus.DONE) for name in NAMES]
    for entry in ended:
        assert entry.seconds == sum(record(entry.row.name)["seconds"].values())


@pytest.mark.slow
def test_a_new_seed_is_run_and_the_rest_kept(finished: Path) -> None:
    before = snapshot(finished)
    assert set(run(plan(seeds=(0, 1, 2))).values()) == {"done"}
    after = snapshot(finished)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1] for name in after.keys() - before.keys()} == {"seed-2"}


def test_a_new_suite_is_all_that_an_old_row_gets(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = toml(
        {"recipe": NORMAL, "label": "Normal", "seeds": [0, 1]},
        suites=(MAIN, FEW, {"name": "new", "attacks": ["rfgsm"], "n": 6}),
    )
    forbid(monkeypatch, "run")
    before = snapshot(finished)
    campaign = plan(text)
    assert statuses(runner(campaign).queue()) == dict.fromkeys(NAMES[:2], "half done")
    assert run(campaign) == dict.fromkeys(NAMES[:2], "done")
    after = snapshot(finished)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {f"{name}/{file}" for name in NAMES[:2] for file in ("row.json", "evaluation-new.json")}
    assert set(record(NAMES[1])["suites"]) == {"main", "new"}


@pytest.mark.slow
def test_an_autoattack_that_followed_by_itself_belongs_to_its_suite(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_autoattack(monkeypatch)
    forbid(monkeypatch, "run")
    monkeypatch.setattr("nuat.evaluation.evaluate.doubt_of_quick", lambda *_: "a doubt")
    text = toml(
        {"recipe": NORMAL, "label": "Normal", "seeds": [0]},
        suites=(MAIN, {"name": "quick", "attacks": ["autoattack-quick"], "n": 3}),
    )
    with pytest.warns(UserWarning, match="a doubt"):
        assert run(plan(text)) == {NAMES[0]: "done"}
    forbid(monkeypatch)
    assert run(plan(text)) == {NAMES[0]: "done"}
    told = campaign_markdown(plan(text), Ledger(finished))
    suite = record(NAMES[0])["suites"]["quick"]["accuracies"]
    assert list(suite) == ["autoattack-quick", "autoattack", "worst-case"]
    assert "| autoattack, n 3 | worst-case, n 3 |" in told
    assert f"is not to be believed in these rows, where AutoAttack followed it: {NAMES[0]} (quick)" in told
    with pytest.raises(InputError, match="was made with attacks="):
        run(plan(text.replace("autoattack-quick", "autoattack-fast")))


def test_a_removed_evaluation_is_made_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, "run")
    path = finished / NAMES[1] / "evaluation-main.json"
    before = json.loads(path.read_text())
    path.unlink()
    assert run(plan()) == DONE
    after = json.loads(path.read_text())
    assert [result["correct"] for result in after["results"]] == [result["correct"] for result in before["results"]]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"status": "done"}', '{"status": "odd"}', "\xff"])
def test_a_record_that_cannot_be_read_is_made_again(finished: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    forbid(monkeypatch)
    before = record(NAMES[0])
    (finished / NAMES[0] / "row.json").write_bytes(text.encode("latin-1"))
    again = runner(plan())
    assert statuses(again.queue())[NAMES[0]] == "half done"
    assert statuses(again.run()) == DONE
    assert {**record(NAMES[0]), "git": None} == {**before, "git": None}


def test_the_data_and_the_suites_are_checked_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch)
    row = {"recipe": NORMAL}
    too_many = plan(toml(row, suites=({**FEW, "n": TEST + 1},)))
    with pytest.raises(InputError, match=rf"suite few: n=31, but {NORMAL}/seed-0 has 30 test images"):
        runner(too_many)
    too_many = plan(toml(row, suites=({**FEW, "n": 13, "images": "validation"},)))
    with pytest.raises(InputError, match=r"suite few: n=13, but \S+ has 12 validation images"):
        runner(too_many)
    with pytest.raises(InputError, match=r"data\.validation=72"):
        runner(plan(toml(row, {**row, "set": {"data.validation": 72}})))
    with pytest.raises(InputError, match="device='tpu'"):
        runner(plan(toml(row, {**row, "set": {"device": "tpu"}})))
    Path("images.npz").unlink()
    with pytest.raises(InputError, match=r"images\.npz"):
        runner(plan(toml(row)))
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch)
    for out in ("images.npz", "images.npz/deep/er"):
        with pytest.raises(InputError, match=rf"^--out {out}: images\.npz is a file, not a folder; choose another"):
            runner(plan(), out)
    monkeypatch.setattr("nuat.files.os.access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"^--out out: nothing can be written in .*; choose another --out\.$"):
        runner(plan())


def test_looking_at_the_queue_writes_nothing() -> None:
    before = snapshot(Path())
    assert statuses(runner(plan()).queue()) == dict.fromkeys(NAMES, "waiting")
    assert snapshot(Path()) == {**before, "small.toml": FOUR.encode()}


@pytest.mark.slow
def test_progress_is_told() -> None:
    stretches: list[tuple[str, int]] = []
    advanced: list[int] = []

    class Told(Reporter):
        def begin(self, title: str, total: int, done: int = 0) -> None:
            stretches.append((title.strip(), total))

        def advance(self, done: int, note: str = "") -> None:
            advanced.append(done)

    run(plan(toml({"recipe": NORMAL})), reporter=Told())
    files = [Path("out") / NORMAL / "seed-0" / f"evaluation-{suite}.json" for suite in ("main", "few")]
    whole, few = (Evaluation.from_json(json.loads(file.read_text())) for file in files)
    stands = whole.results[0].correct  # only these are attacked; the first evaluation is of all images, in order
    attacked, attacked_few = int(stands.sum()), int(stands[few.indices].sum())
    assert 0 < attacked_few < 9
    assert stretches == [
        ("training", STEPS),
        ("clean", TEST),
        ("pgd-4", attacked),  # both step counts of PGD
        ("clean", 9),
        ("fgsm", attacked_few),
    ]
    assert advanced.count(TEST) == 1
    assert advanced[-1] == attacked_few


@pytest.mark.slow
def test_rows_are_announced() -> None:
    told = At()
    run(plan(), reporter=told)
    announced = [text for text in told.messages if re.fullmatch(r"\S+: 2 epochs, then \w+(, \w+)?", text)]
    assert announced == [f"{name}: 2 epochs, then {'main, few' if name.endswith('0') else 'main'}" for name in NAMES]


def test_other_images_in_the_same_file_are_no_reason_to_mix(finished: Path) -> None:
    write_images(Path("images.npz"), test=TEST - 3)
    with pytest.raises(InputError, match=r"evaluation-main\.json: was made with n=30, not all 27"):
        runner(plan())


def test_a_row_whose_metrics_cannot_be_read_is_not_trained() -> None:
    ledger, row = Ledger(Path("damaged")), plan().rows[0]
    metrics = ledger.folder(row).path / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"kind": "end"\n{"kind": "end"}\n')
    assert (ledger.metrics(row), ledger.trained(row)) == ([], False)


def test_the_ledger_of_a_folder_that_is_not_there() -> None:
    campaign, ledger = plan(), Ledger(Path("nowhere"))
    ledger.check(campaign)
    row = campaign.rows[0]
    assert (ledger.status(row), ledger.record(row), ledger.trained(row)) == (RowStatus.WAITING, None, False)
    assert ledger.missing(row) == row.suites
    assert not Path("nowhere").exists()

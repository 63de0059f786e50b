"""``nuat campaign`` on the command line."""

import errno
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from campaign.campaign_runs import FOUR, NAMES, NORMAL, NUAT, plan, record, snapshot, toml

from nuat.campaign import CampaignRow, Ledger, Runner
from nuat.campaign.remaining_time import Forecaster, Rates
from nuat.campaign.row_record import failed
from nuat.cli import main
from nuat.report.escaping import escape_markdown
from nuat.training.signals import Interrupted


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class CommandLine:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ended:
        self._capsys.readouterr()
        code = main(["campaign", *map(str, arguments)])
        return Ended(code, *self._capsys.readouterr())

    def refused(self, *arguments: object) -> str:
        """Call a command that must be refused in one line, and leave nothing behind."""
        before = snapshot(Path())
        ended = self(*arguments)
        assert ended.code == 2, ended
        (line,) = ended.err.splitlines()
        assert line.startswith("nuat: error: ")
        assert snapshot(Path()) == before
        return line.removeprefix("nuat: error: ")


@pytest.fixture
def campaign(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    Path("small.toml").write_text(FOUR)
    return CommandLine(capsys)


@pytest.mark.slow
def test_a_whole_campaign(campaign: CommandLine) -> None:
    ended = campaign("small.toml")
    assert (ended.code, ended.err) == (0, "")
    folder = Path("campaigns/small")
    assert {record(name, folder)["status"] for name in NAMES} == {"done"}
    lines = ended.out.splitlines()
    for name in NAMES:
        assert any(re.fullmatch(rf"{name}: done in \d+ s ?", line) for line in lines)
    assert "4 waiting; in campaigns/small" in lines
    assert lines[-2:] == ["4 done; in campaigns/small", "results: campaigns/small/table.md"]
    assert "4 of 4 rows are done" in (folder / "table.md").read_text()
    before = snapshot(folder)
    assert campaign("small.toml").code == 0
    assert snapshot(folder) == before


def test_a_table_that_was_lost_is_written_again(campaign: CommandLine, finished: Path) -> None:
    ended = campaign("small.toml", "--out", "out")
    assert ended.out.splitlines()[-1] == "results: out/table.md"
    assert "| NuAT |" in (finished / "table.md").read_text()


@pytest.mark.parametrize("words", [["--dry-run"], ["--dry-run", "true"], ["--dry-run=true"], ["--dry_run"]])
def test_a_dry_run_shows_the_queue_and_writes_nothing(
    campaign: CommandLine, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, "run", lambda *arguments: pytest.fail("a dry run runs nothing"))
    before = snapshot(Path())
    ended = campaign(*words[:1], "small.toml") if len(words) == 1 else campaign("small.toml", *words)
    assert (ended.code, ended.err) == (0, "")
    assert snapshot(Path()) == before
    assert ended.out.splitlines()[-1] == "4 waiting; in campaigns/small"
    assert [line.split() for line in ended.out.splitlines()[:2]] == [
        ["row", "seed", "status", "time"],
        [NORMAL, "0", "waiting", "?"],
    ]


def test_a_dry_run_with_a_budget_times_nothing(campaign: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuat.campaign.remaining_time.measure", lambda row: pytest.fail("a dry run times nothing"))
    assert campaign("small.toml", "--dry-run", "--budget", "5m").code == 0
    assert not Path("campaigns").exists()


def test_the_queue_says_what_is_done_running_failed_and_left(
    campaign: CommandLine, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = plan()
    ledger = Runner(ours, Ledger(finished)).ledger
    (finished / NAMES[1] / "row.json").unlink()
    (finished / NAMES[1] / "evaluation-main.json").unlink()
    ledger.write(ours.rows[2], failed(ours, ledger, ours.rows[2], RuntimeError("it was [bold]too hot")))
    (finished / NAMES[3] / "row.json").unlink()
    lock = ledger.lock(ours.rows[3])
    monkeypatch.setattr(Forecaster, "needed", lambda forecaster, row: 3600.0 * (row.seed + 1))
    assert ledger.try_lock(lock)
    ended = campaign("small.toml", "--out", "out", "--dry-run")
    lock.release()
    assert ended.code == 0
    rows = [line.split() for line in ended.out.splitlines()[1:5]]
    seconds = sum(record(NAMES[0])["seconds"].values())
    assert rows == [
        [NORMAL, "0", "done", f"{seconds:.0f}", "s"],
        [NORMAL, "1", "half", "done", "~2.0", "h"],
        [f"{NUAT}_defense.lam.peak-2", "0", "failed"],
        [f"{NUAT}_defense.lam.peak-2", "1", "running", "~2.0", "h"],
    ]
    assert f"{NAMES[2]}: RuntimeError: it was [bold]too hot" in ended.out
    last = ended.out.splitlines()[-1]
    assert last == "1 done, 1 failed, 1 running, 1 half done; the rest needs about 2.0 h; in out"


@pytest.mark.slow
def test_a_failed_row_makes_the_exit_code_1(campaign: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("small.toml").write_text(toml({"recipe": NORMAL, "set": {"optimizer.lr.peak": 1e30}}, {"recipe": NORMAL}))
    ended = campaign("small.toml", "--out", "out")
    assert (ended.code, ended.err) == (1, "")
    name = f"{NORMAL}_optimizer.lr.peak-1e-30/seed-0"
    assert f"{name}: failed " in ended.out
    assert "1 done, 1 failed; in out" in ended.out.splitlines()
    table = (Path("out") / "table.md").read_text()
    assert f"- {escape_markdown(name)}: " in table
    assert "1 of 2 rows are done" in table
    assert campaign("small.toml", "--out", "out").code == 1

    def again(runner: Runner, row: CampaignRow) -> None:
        raise RuntimeError("tried again")

    monkeypatch.setattr(Runner, "_train", again)
    for words in (["--retry-failed"], ["--retry-failed", "true"]):
        ended = campaign("small.toml", "--out", "out", *words)
        assert ended.code == 1
        assert f"{name}: RuntimeError: tried again" in ended.out


def test_an_interruption_is_130(campaign: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **keywords: object) -> None:
        raise Interrupted(int(signal.SIGINT), "stopped after epoch 0")

    monkeypatch.setattr("nuat.campaign.runner.run", interrupted)
    ended = campaign("small.toml")
    assert ended.code == 130
    message = f"nuat: stopped in {NAMES[0]}; what is finished is kept in campaigns/small. The same command goes on"
    assert ended.err.strip() == message


@pytest.mark.slow
def test_a_full_disk_is_2(campaign: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nuat.campaign.runner.evaluate", full)
    ended = campaign("small.toml")
    assert ended.code == 2
    assert ended.err.startswith("nuat: error: no space left on the disk; free some and repeat the command")


def test_help_names_every_option(campaign: CommandLine) -> None:
    for word in ("--help", "-h"):
        ended = campaign(word)
        assert ended.code == 0
        for option in ("--seeds", "--budget", "--out", "--retry-failed", "--dry-run"):
            assert option in ended.out
        assert "usage: nuat campaign" in ended.out


def test_without_a_name_the_campaigns_are_named(campaign: CommandLine) -> None:
    line = campaign.refused()
    assert line.startswith("say which campaign: ")
    assert "mnist-small" in line
    assert "table-1a" in line


@pytest.mark.slow
def test_settings_of_training_hold_for_every_row(campaign: CommandLine) -> None:
    Path("images.npz").rename("moved.npz")
    ended = campaign("--epochs", "1", "small.toml", "--data.path=moved.npz", "--seeds", "3", "--batch-size", "24")
    assert ended.code == 0, ended
    folder = Path("campaigns/small")
    assert {path.parent.name for path in folder.rglob("row.json")} == {"seed-3"}
    for method in (NORMAL, f"{NUAT}_defense.lam.peak-2"):
        found = record(f"{method}/seed-3", folder)
        assert (found["epochs"], found["seed"]) == (1, 3)
        assert f'"path": "{Path("moved.npz").absolute()}"' in (folder / method / "seed-3" / "config.json").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mnist-smal"], "no campaign 'mnist-smal' and no such file. Did you mean 'mnist-small'?"),
        (["small.toml", "--buget", "25m"], "unknown option --buget. Did you mean 'budget'?"),
        (["small.toml", "--buget=25m"], "unknown option --buget. Did you mean 'budget'?"),
        (["small.toml", "--seed", "3"], "small.toml: row 1: seed has no effect here; the seeds and the suites"),
        (["small.toml", "--epoch", "3"], "unknown option --epoch. Did you mean 'epochs'?"),
        (
            ["small.toml", "--model.wdith", "3"],
            "small.toml: row 1: Unrecognized options: --model.wdith=3. Did",
        ),
        (["small.toml", "--epochs"], "--epochs: needs a value."),
        (["small.toml", "--epochs", "many"], "small.toml: row 1: --epochs: 'many' is not a whole number"),
        (["small.toml", "--budget", "25"], "--budget 25: expected a time such as 90s, 25m or 1h30m."),
        (["small.toml", "--budget"], "Missing value for argument '--budget'"),
        (["small.toml", "--seeds", "0,x"], "--seeds: 'x' is not a whole number"),
        (["small.toml", "--seeds", "0,0"], f"small.toml: the row {NORMAL}/seed-0 is there twice"),
        (["small.toml", "--seeds", "-1"], "seed=-1: expected a seed from 0"),
        (["small.toml", "other.toml"], "Unrecognized options: other.toml"),
        (["small.toml", "--retry-failed", "maybe"], "Unrecognized options: maybe"),
        (["small.toml", "--dry-run=maybe"], "Error parsing --dry-run"),
        (["--budget", "5m"], "nuat campaign needs another word: "),
        (["small.toml", "--device", "tpu"], "device='tpu'"),
        (["small.toml", "--data.path", "nowhere.npz"], "nowhere.npz does not exist"),
        (["small.toml", "--out", "images.npz"], "--out images.npz: images.npz is a file, not a folder"),
        (["small.toml", "--out", "images.npz/x"], "--out images.npz/x: images.npz is a file, not a folder"),
        (["images.npz"], "images.npz: cannot be read as text"),
        (["small.toml", "--"], "unknown option --."),
    ],
)
def test_refusals(campaign: CommandLine, words: list[str], message: str) -> None:
    line = campaign.refused(*words)
    assert line.startswith(message)


def test_other_settings_in_the_folder_are_refused(campaign: CommandLine, finished: Path) -> None:
    assert "epochs=2, not 3" in campaign.refused("small.toml", "--out", "out", "--epochs", "3")


def test_a_budget_too_small_is_refused_and_its_rates_are_kept(
    campaign: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuat.campaign.remaining_time.measure", lambda row: Rates(training=900.0, passes=0.0))
    monkeypatch.setattr("nuat.commands.campaign.time.monotonic", lambda: 0.0)
    ended = campaign("small.toml", "--budget", "10m", "--out", "out")
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith(f"nuat: error: the budget is too small for any row that is left: the shortest, {NAMES[0]}")
    assert "needs about 990 s and 600 s are left" in line
    assert "4 waiting; the rest needs about 66 min; in out" in ended.out
    assert [path.name for path in Path("out").rglob("*")] == ["rates.json"]


def test_the_time_that_timing_takes_is_of_the_budget(campaign: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def measure(row: CampaignRow) -> Rates:
        clock[0] += 100.0
        return Rates(training=0.0, passes=0.0)

    given: list[float | None] = []
    monkeypatch.setattr("nuat.campaign.remaining_time.measure", measure)
    monkeypatch.setattr("nuat.commands.campaign.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(Runner, "run", lambda runner, budget, tell: given.append(budget) or runner.queue())
    assert campaign("small.toml", "--budget", "10m").code == 0
    assert given == [600.0 - 200.0]


@pytest.mark.slow
def test_a_budget_that_is_enough(campaign: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuat.campaign.remaining_time._PROBE_SECONDS", 0.1)
    ended = campaign("small.toml", "--budget", "1h", "--seeds", "1")
    assert (ended.code, ended.err) == (0, "")
    assert f"timing the first steps of {NORMAL}" in ended.out.splitlines()
    assert re.search(r"2 waiting; the rest needs about \d+ s; in campaigns/small", ended.out)
    assert "2 done; in campaigns/small" in ended.out.splitlines()


def test_the_general_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "campaign NAME|FILE" in capsys.readouterr().out

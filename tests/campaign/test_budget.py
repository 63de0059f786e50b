"""Forecasts, and a budget that starts nothing it cannot finish."""

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign.campaign_runs import (
    MAIN,
    NAMES,
    NORMAL,
    NUAT,
    SMALL,
    TEST,
    VALIDATION,
    At,
    plan,
    record,
    run,
    runner,
    snapshot,
    statuses,
    toml,
)

from nuat import hardware
from nuat.attacks.catalogue import CATALOGUE
from nuat.campaign import Campaign, CampaignRow, Ledger, RowStatus, Runner
from nuat.campaign.definition import Suite
from nuat.campaign.remaining_time import MARGIN, Forecaster, Rates, _passes, measure
from nuat.commands.campaign import parse_duration
from nuat.config import ThreatConfig
from nuat.errors import InputError
from nuat.recipes import find

COUNTS = {"test": TEST, "validation": VALIDATION}
CONFIG = find(NORMAL)()
SEVEN = {CONFIG.data: {"test": 7}}
VALIDATED = 2 * 12 * VALIDATION  # two epochs, each with the clean pass, FGSM, and PGD-7 and the passes on their results


def rates(monkeypatch: pytest.MonkeyPatch, of: Callable[[CampaignRow], Rates]) -> list[str]:
    """Let the first steps of a row tell these rates; the returned list grows by the method of each that is timed."""
    timed: list[str] = []

    def timing(row: CampaignRow) -> Rates:
        timed.append(row.method)
        return of(row)

    monkeypatch.setattr("nuat.campaign.remaining_time.measure", timing)
    return timed


def needs(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
    """Let rows need given seconds."""
    rates(monkeypatch, lambda row: Rates(training=1.0, passes=1.0))
    monkeypatch.setattr(Forecaster, "needed", lambda forecaster, row: seconds[row.name])


class Clock:
    """A clock that each training moves by the seconds that the row was said to need."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
        self.now = 0.0
        monkeypatch.setattr("nuat.campaign.runner.time.monotonic", lambda: self.now)
        whole = Runner._train

        def train(ours: Runner, row: CampaignRow) -> None:
            self.now += seconds[row.name]
            whole(ours, row)

        monkeypatch.setattr(Runner, "_train", train)


@pytest.mark.slow
def test_only_rows_that_fit_are_started_and_shorter_later_ones_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = dict(zip(NAMES, (40.0, 70.0, 90.0, 50.0), strict=True))
    campaign = plan()
    needs(monkeypatch, seconds)
    with monkeypatch.context() as patch:
        Clock(patch, seconds)
        found = statuses(runner(campaign).run(100.0))
    assert found == dict(zip(NAMES, ("done", "waiting", "waiting", "done"), strict=True))
    assert statuses(runner(campaign).run(71.0)) == dict(zip(NAMES, ("done", "done", "waiting", "done"), strict=True))


@pytest.mark.slow
def test_a_budget_of_exactly_what_a_row_needs_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = dict.fromkeys(NAMES, 50.0)
    needs(monkeypatch, seconds)
    Clock(monkeypatch, seconds)
    assert list(statuses(runner(plan()).run(100.0)).values()) == ["done", "done", "waiting", "waiting"]


def test_a_budget_too_small_for_any_row_is_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs(monkeypatch, dict(zip(NAMES, (400.0, 300.0, 200.4, 300.0), strict=True)))
    monkeypatch.setattr("nuat.campaign.runner.time.monotonic", lambda: 0.0)
    with pytest.raises(InputError) as caught:
        runner(plan()).run(200.0)
    assert str(caught.value) == (
        f"the budget is too small for any row that is left: the shortest, {NAMES[2]}, needs about 200 s and 200 s are "
        "left. Give a larger --budget, or none."
    )
    assert [path.name for path in Path("out").rglob("*")] == ["rates.json"]


@pytest.mark.slow
def test_a_row_of_an_unknown_rate_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    needs(monkeypatch, dict.fromkeys(NAMES, 1.0))
    monkeypatch.setattr(Forecaster, "needed", lambda forecaster, row: None if row.seed else 1.0)
    assert list(statuses(runner(plan()).run(1000.0)).values()) == ["done", "waiting"] * 2


def test_a_budget_for_nothing_that_is_left_is_no_error(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, lambda row: pytest.fail("nothing is left to time"))
    assert set(statuses(runner(plan()).run(0.001)).values()) == {"done"}


@pytest.mark.slow
def test_without_a_budget_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, lambda row: pytest.fail("there is no budget to keep"))
    assert set(run(plan()).values()) == {"done"}
    assert not (Path("out") / "rates.json").exists()


def test_each_method_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = rates(monkeypatch, lambda row: Rates(training=1.0, passes=0.001))
    told = At()
    ours = runner(plan(), reporter=told)
    ours.learn()
    ours.learn()
    assert timed == [NORMAL, f"{NUAT}_defense.lam.peak-2"]
    assert told.messages == [f"timing the first steps of {method}" for method in timed]
    runner(plan()).learn()
    assert len(timed) == 2
    runner(plan(), "elsewhere").learn()
    assert len(timed) == 4


def test_rates_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a budget was refused as too small, fewer epochs are another forecast."""
    timed = rates(monkeypatch, lambda row: Rates(training=100.0 * row.config.epochs, passes=0.0))
    text = toml({"recipe": NORMAL}, suites=(MAIN,))
    for epochs in (3, 2, 3):
        ours = runner(plan(text, settings=(("epochs", str(epochs)),)))
        ours.learn()
        assert ours.queue()[0].seconds == pytest.approx(MARGIN * 100.0 * epochs)
    assert timed == [NORMAL] * 2


def test_rates_are_kept_by_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = rates(monkeypatch, lambda row: Rates(training=8.0, passes=0.25))
    for name in ("one", "other", "one"):
        monkeypatch.setattr(hardware, "describe", lambda device, name=name: name)
        runner(plan()).learn()
    assert len(timed) == 4
    values = json.loads((Path("out") / "rates.json").read_text())
    assert list(values) == ["one", "other"]
    assert list(values["one"].values()) == [{"training": 8.0, "passes": 0.25}] * 2
    assert [name.split()[0] for name in values["one"]] == [NORMAL, f"{NUAT}_defense.lam.peak-2"]


def test_rates_of_two_processes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = rates(monkeypatch, lambda row: Rates(training=8.0, passes=0.25))
    one, other = (runner(plan(toml({"recipe": recipe}))) for recipe in (NORMAL, NUAT))
    one.learn()
    other.learn()
    runner(plan(toml({"recipe": NORMAL}, {"recipe": NUAT}))).learn()
    assert timed == [NORMAL, NUAT]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[1]",
        lambda text: "3",
        lambda text: '{"HERE": 3}',
        lambda text: '{"HERE": {"' + NORMAL + '": 3}}',
        lambda text: text.replace("training", "trainings"),
        lambda text: text.replace("8.0", '"8"'),
        lambda text: text.replace("8.0", "null"),
        lambda text: text.replace("8.0", "-1.0"),
        lambda text: text.replace("8.0", "NaN"),
        lambda text: "\xff",
    ],
)
def test_damaged_rates_are_measured_again(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[str], str]) -> None:
    timed = rates(monkeypatch, lambda row: Rates(training=8.0, passes=0.25))
    campaign = plan(toml({"recipe": NORMAL}))
    runner(campaign).learn()
    path = Path("out") / "rates.json"
    good = path.read_text()
    here = json.dumps(next(iter(json.loads(good))))[1:-1]
    path.write_bytes(spoil(good).replace("HERE", here).encode("latin-1"))
    again = runner(campaign)
    assert again.queue()[0].seconds is None
    again.learn()
    assert timed == [NORMAL] * 2
    assert json.loads(path.read_text()) == json.loads(good)


def forecast(campaign: Campaign, training: float, passes: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    rates(monkeypatch, lambda row: Rates(training=training, passes=passes))
    (Path("out") / "rates.json").unlink(missing_ok=True)
    ours = runner(campaign)
    ours.learn()
    return {entry.row.name: entry.seconds for entry in ours.queue()}


@pytest.mark.parametrize(
    ("attacks", "n", "images", "passes"),
    [
        (["clean"], "all", "test", 1 * TEST),
        (["clean"], 9, "test", 1 * 9),
        (["clean"], "all", "validation", 1 * VALIDATION),
        (["pgd-20"], "all", "test", 21 * TEST),
        (["pgd-20", "pgd-500"], "all", "test", 502 * TEST),
        (["gama-100", "rfgsm"], "all", "test", 103 * TEST),
        (["autoattack"], 3, "test", 5400 * 3),
    ],
)
def test_a_suite_costs_its_passes(
    monkeypatch: pytest.MonkeyPatch, attacks: list[str], n: Any, images: str, passes: int
) -> None:
    pytest.importorskip("pyautoattack")
    suite = {"name": "s", "attacks": attacks, "n": n, "images": images}
    campaign = plan(toml({"recipe": NORMAL}, suites=(suite,)))
    (seconds,) = forecast(campaign, 7.0, 0.5, monkeypatch).values()
    assert seconds == pytest.approx(MARGIN * (7.0 + 0.5 * VALIDATED + 0.5 * passes))


def test_an_average_is_validated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    text = toml({"recipe": NORMAL, "set": {"averaging.tau": 0.9}}, suites=(MAIN,))
    (seconds,) = forecast(plan(text), 0.0, 1.0, monkeypatch).values()
    assert seconds == pytest.approx(MARGIN * (2 * VALIDATED + 7 * TEST))


def change(name: str, **values: Any) -> None:
    path = Path("out") / name / "row.json"
    path.write_text(json.dumps({**record(name), **values}))


def test_finished_rows_replace_the_first_steps(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training of the method's finished rows, the suites of any row; the longest of each."""
    change(NAMES[0], seconds={"training": 30.0, "main": 4.0, "few": 2.0})
    change(NAMES[1], seconds={"training": 20.0, "main": 5.0})
    change(NAMES[2], seconds={"training": 99.0, "main": 3.0})
    change(NAMES[3], seconds={"training": 99.0, "main": 3.0})
    found = forecast(plan(seeds=(0, 1, 7)), 1000.0, 0.0, monkeypatch)
    assert found[f"{NORMAL}/seed-7"] == pytest.approx(MARGIN * (30.0 + 5.0))
    assert found[f"{NUAT}_defense.lam.peak-2/seed-7"] == pytest.approx(MARGIN * (99.0 + 5.0))


def test_finished_rows_are_enough_for_a_forecast(finished: Path) -> None:
    change(NAMES[0], seconds={"training": 30.0, "main": 4.0, "few": 2.0})
    entries = {entry.row.name: entry for entry in runner(plan(seeds=(0, 7))).queue()}
    assert entries[NAMES[0]].seconds == 36.0
    assert entries[f"{NORMAL}/seed-7"].seconds == pytest.approx(MARGIN * 34.0, rel=0.01)


def test_rows_on_other_hardware_say_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        change(name, hardware="an abacus")
    assert runner(plan(seeds=(0, 7))).queue()[1].seconds is None
    found = forecast(plan(seeds=(0, 7)), 1000.0, 0.0, monkeypatch)
    assert found[f"{NORMAL}/seed-7"] == pytest.approx(MARGIN * 1000.0)


def test_autoattack_on_a_broken_model_says_nothing_of_a_robust_one(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves out the images that are broken already, so that only the same method's rows are a measure."""
    pytest.importorskip("pyautoattack")
    suites = (MAIN, {"name": "few", "attacks": ["autoattack"], "n": 9})
    rows = ({"recipe": NORMAL, "seeds": [0, 7]}, {"recipe": NUAT, "seeds": [7], "set": {"defense.lam.peak": 2}})
    monkeypatch.setattr(Ledger, "check", lambda ledger, campaign: None)
    change(NAMES[0], seconds={"training": 3.0, "main": 4.0, "few": 2.0})
    found = forecast(plan(toml(*rows, suites=suites)), 10.0, 0.01, monkeypatch)
    validation = 0.01 * VALIDATED
    assert found[f"{NORMAL}/seed-7"] == pytest.approx(MARGIN * (3.0 + validation + 4.0 + 2.0))
    assert found[f"{NUAT}_defense.lam.peak-2/seed-7"] == pytest.approx(
        MARGIN * (10.0 + validation + 4.0 + 0.01 * 5400 * 9)
    )


@pytest.mark.slow
def test_what_is_half_done_needs_the_rest_alone(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished / NAMES[0]
    (folder / "row.json").unlink()
    for name in NAMES[1:]:
        change(name, hardware="an abacus")
    assert forecast(plan(), 80.0, 0.0, monkeypatch)[NAMES[0]] == 0.0
    (folder / "evaluation-main.json").unlink()
    assert forecast(plan(), 80.0, 1.0, monkeypatch)[NAMES[0]] == pytest.approx(MARGIN * 7 * TEST)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert '"epoch"' in lines[1]
    (folder / "metrics.jsonl").write_text("".join(lines[:2]))
    assert runner(plan()).queue()[0].status is RowStatus.PARTIAL
    half = (80.0 + VALIDATED) / 2
    assert forecast(plan(), 80.0, 1.0, monkeypatch)[NAMES[0]] == pytest.approx(MARGIN * (half + 7 * TEST))


@pytest.mark.parametrize("recipe", [NORMAL, "free-at-mnist-small-cnn", "fgsm-pgi-mnist-small-cnn"])
@pytest.mark.parametrize("batch_size", [12, 60])
def test_measuring_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, recipe: str, batch_size: int) -> None:
    """With 60 images a batch an epoch is one batch, which the first call alone must not use up."""
    monkeypatch.setattr("nuat.campaign.remaining_time._PROBE_SECONDS", 0.01)
    before = snapshot(Path())
    text = toml({"recipe": recipe}, common={**SMALL, "batch-size": batch_size})
    found = measure(plan(text).rows[0])
    assert 1e-6 < found.passes < 1.0
    assert 1e-4 < found.training < 100.0
    assert snapshot(Path()) == {**before, "small.toml": text.encode()}


@pytest.mark.slow
def test_a_measure_is_of_the_size_of_what_it_forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factor of 20 either way: no clock of a busy machine is that wrong, and a forgotten factor is."""
    monkeypatch.setattr("nuat.campaign.remaining_time._PROBE_SECONDS", 0.3)
    campaign = plan(toml({"recipe": NUAT, "set": {"epochs": 12}}, suites=(MAIN,)))
    ours = runner(campaign)
    ours.learn()
    (seconds,) = [entry.seconds for entry in ours.queue()]
    began = time.perf_counter()
    ours.run()
    took = time.perf_counter() - began
    assert seconds is not None
    assert took / 20 < seconds < 20 * took


def test_a_row_that_diverges_at_the_ramps_end_is_measured_nonetheless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuat.campaign.remaining_time._PROBE_SECONDS", 0.1)
    text = toml({"recipe": NORMAL, "set": {"optimizer.lr.peak": 1e30}})
    assert math.isfinite(measure(plan(text).rows[0]).training)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("25m", 1500), ("1h", 3600), ("1.5h", 5400), ("1h30m", 5400), ("1h30m15s", 5415), ("0h2m", 120),
        ("1h5s", 3605), (" 25m ", 1500), ("0.5s", 0.5),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "25", "m", "-5m", "5x", "25 m", "30m1h", "1h1h", "5m 3s", "1e3s", "inf", "nan", "0", "0s", "0h0m0s",
     "25min", "1:30", "h", ".5h", "soon", "25M"],
)  # fmt: skip
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_duration(text)
    assert str(caught.value) == f"--budget {text}: expected a time such as 90s, 25m or 1h30m."


@pytest.mark.parametrize(
    ("attacks", "passes"),
    [
        (("clean",), 1),
        (("pgd-20", "pgd-100"), 102),  # one trajectory
        (("gama-100",), 101),
        (("margin-pgd-10",), 11),
        (("noise-50",), 51),
        (("square-200",), 201),
        (("multi-targeted-10",), 110),  # ten targets
        (("nuclear-2",), 4),
        (("autoattack",), 5400),
        (("autoattack-v1",), 4600),
        (("square",), 5001),
    ],
)
def test_every_attack_has_a_cost(attacks: tuple[str, ...], passes: int) -> None:
    assert _passes(Suite(name="s", attacks=attacks), CONFIG, SEVEN) == 7 * passes
    assert _passes(Suite(name="s", attacks=attacks, n=3), CONFIG, SEVEN) == 3 * passes


def test_a_suite_costs_its_passes_in_every_ball() -> None:
    suite = Suite(name="s", attacks=("clean", "pgd-20", "gama-100"), threat=ThreatConfig(eps=0.1, also="L2:1,L1:4"))
    assert _passes(suite, CONFIG, SEVEN) == 7 * (1 + 3 * (21 + 101))


def test_every_attack_by_name_has_a_cost() -> None:
    for pattern in CATALOGUE:
        assert _passes(Suite(name="s", attacks=(re.sub("<.*>", "5", pattern),)), CONFIG, SEVEN) >= 7

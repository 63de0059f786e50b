"""Alarms: what each monitor says, what a run does about it, and how it goes on afterwards."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.small_runs import (
    BATCH_NORM,
    BATCH_SIZE,
    BATCHES,
    LAM,
    VALIDATION,
    PowerCut,
    Spoiled,
    Watcher,
    assert_equal,
    assert_same_run,
    averaged,
    cut,
    metrics,
    remembered,
    small_config,
    train,
    wait_for,
    write_images,
)

import nuat
from nuat.config import DataConfig, MonitorConfig, OptimizerConfig, TrainConfig
from nuat.core.schedules import Constant
from nuat.defenses import BatchLoss, Defense, NuAT, NuATHybrid, Standard, State, Step
from nuat.errors import InputError
from nuat.records.checkpoints import read_info
from nuat.training import monitors, validation
from nuat.training.monitors import Alarm, RunStopped

SPOILED = BATCHES + 1  # the second step of epoch 2, counted from 0
STOP = MonitorConfig(on_overfitting="stop", on_collapse="stop", on_nonfinite="stop")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


# each monitor by itself


@pytest.mark.parametrize("on", ["warn", "stop"])
def test_overfitting(on: Any) -> None:
    config = MonitorConfig(overfitting_gap=0.25, on_overfitting=on)
    assert monitors.overfitting(config, {"fgsm": 0.5, "pgd": 0.25}, "pgd-7") is None  # exactly the gap
    assert monitors.overfitting(config, {"fgsm": 0.1, "pgd": 0.9}, "pgd-7") is None
    alarm = monitors.overfitting(config, {"fgsm": 0.76, "pgd": 0.5}, "pgd-7")
    assert alarm is not None
    assert (alarm.monitor, alarm.stop) == ("overfitting", on == "stop")
    assert "76.0%" in alarm.message
    assert "50.0%" in alarm.message
    assert monitors.overfitting(MonitorConfig(overfitting_gap=0.3), {"fgsm": 0.76, "pgd": 0.5}, "pgd-7") is None


def test_looks_collapsed() -> None:
    config = MonitorConfig(collapse_margin=0.02)
    limit = 0.98 * math.log(10)
    assert not monitors.looks_collapsed(config, limit - 1e-9, 10)
    assert monitors.looks_collapsed(config, limit + 1e-9, 10)
    assert not monitors.looks_collapsed(config, limit + 1e-9, 11)
    assert not monitors.looks_collapsed(MonitorConfig(collapse_margin=0.0), math.log(10), 10)


def test_smoothed_labels_raise_the_least_loss_that_collapse_is_measured_from() -> None:
    config = MonitorConfig(collapse_margin=0.02)
    shares = [0.64] + 9 * [0.04]  # smoothing 0.4
    least = -sum(share * math.log(share) for share in shares)
    limit = least + 0.98 * (math.log(10) - least)
    assert not monitors.looks_collapsed(config, limit - 1e-9, 10, 0.4)
    assert monitors.looks_collapsed(config, limit + 1e-9, 10, 0.4)


@pytest.mark.parametrize("on", ["warn", "stop"])
def test_collapse_is_said_once(on: Any) -> None:
    config = MonitorConfig(collapse_patience=3, on_collapse=on)
    alarms = [monitors.collapse(config, epochs, 2.3, 10) for epochs in range(6)]
    assert [alarm is not None for alarm in alarms] == [False, False, False, True, False, False]
    assert alarms[3] is not None
    assert (alarms[3].monitor, alarms[3].stop) == ("collapse", on == "stop")
    assert "2.300" in alarms[3].message
    assert "3 epochs" in alarms[3].message


@pytest.mark.parametrize("on", ["skip", "stop"])
def test_nonfinite(on: Any) -> None:
    alarm = monitors.nonfinite(MonitorConfig(on_nonfinite=on), "a loss.", 1, 4)
    assert (alarm.monitor, alarm.stop) == ("nonfinite", on == "stop")
    assert alarm.message.startswith("epoch 2, batch 5: a loss. ")
    assert ("skipped" in alarm.message) == (on == "skip")


def test_the_line_of_an_alarm() -> None:
    alarm = Alarm(monitor="collapse", message="constant", stop=True)
    line = {"kind": "alarm", "monitor": "collapse", "epoch": 7, "message": "constant", "stop": True}
    assert alarm.record(7) == line


# a loss that is NaN


@dataclass(frozen=True, kw_only=True)
class Diverged(NuAT):
    """NuAT whose logits are NaN in one step, so that the nuclear norm refuses them."""

    at: int = SPOILED

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        spoiled = step.epoch * step.batches + step.batch == self.at
        return super().loss(model, x * math.nan if spoiled else x, y, step, state)


@dataclass(frozen=True, kw_only=True)
class DivergedHybrid(NuATHybrid):
    """NuAT-H on images that are NaN in one step."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        spoiled = step.epoch * step.batches + step.batch == SPOILED
        return super().loss(model, x * math.nan if spoiled else x, y, step, state)


def bad(kind: str, *steps: int) -> Spoiled:
    return Spoiled(steps=steps, error="NonFiniteError" if kind == "nuclear norm" else None)


KINDS = pytest.mark.parametrize("kind", ["loss", "nuclear norm"])


@pytest.mark.slow
@KINDS
def test_stop_keeps_the_last_good_checkpoint(
    kind: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = small_config(images, defense=bad(kind, SPOILED), monitors=STOP), tmp_path / "run"
    before: dict[str, bytes] = {}

    def look() -> None:
        wait_for(out / "checkpoint.pt")  # a thread writes it, last of the three
        for name in ("checkpoint.pt", "best.safetensors", "last.safetensors"):
            before[name] = (out / name).read_bytes()

    with pytest.raises(RunStopped, match="epoch 2, batch 2") as caught:
        train(config, out, {SPOILED: look})
    assert caught.value.alarm.monitor == "nonfinite"
    assert len(before) == 3
    assert {name: (out / name).read_bytes() for name in before} == before
    last = metrics(out)[-1]
    assert (last["kind"], last["monitor"], last["epoch"], last["stop"]) == ("alarm", "nonfinite", 2, True)
    assert ("the logits have diverged" if kind == "nuclear norm" else "the loss or its gradient") in last["message"]

    with pytest.raises(RunStopped):  # the same batch, the same end
        train(config, out, resume=True)
    assert [line["epoch"] for line in metrics(out, "alarm")] == [2]
    assert {name: (out / name).read_bytes() for name in before} == before
    monkeypatch.setattr(Spoiled, "loss", Standard.loss)  # it does not happen again
    train(config, out, resume=True)
    train(config, tmp_path / "whole")
    assert_same_run(out, tmp_path / "whole")
    assert metrics(out, "alarm") == []  # it was about a step that has been done again


WEIGHTS: list[dict[str, Tensor]] = []


@dataclass(frozen=True, kw_only=True)
class Seen(Spoiled):
    """Keeps the weights that each step begins with."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        WEIGHTS.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return super().loss(model, x, y, step, state)


@KINDS
def test_skip_leaves_the_weights_and_goes_on(kind: str, images: Path, tmp_path: Path) -> None:
    WEIGHTS.clear()
    error = "NonFiniteError" if kind == "nuclear norm" else None
    config = small_config(
        images,
        defense=Seen(steps=(SPOILED,), error=error),
        monitors=MonitorConfig(on_nonfinite="skip"),
        averaging=averaged(),
        optimizer=OptimizerConfig(lr=Constant(peak=0.05)),
    )
    watcher = Watcher()
    run = nuat.run(config, out=tmp_path / "run", reporter=watcher)
    assert len(WEIGHTS) == run.summary["steps"] == 2 * BATCHES
    same = [all(torch.equal(a[n], b[n]) for n in a) for a, b in itertools.pairwise(WEIGHTS)]
    assert same == [step == SPOILED for step in range(2 * BATCHES - 1)]
    state = remembered(tmp_path / "run")
    assert all(bool(tensor.isfinite().all()) for tensor in state["model"].values())
    assert all(bool(tensor.isfinite().all()) for tensor in state["average"].values())

    (alarm,) = metrics(tmp_path / "run", "alarm")
    assert (alarm["monitor"], alarm["epoch"], alarm["stop"]) == ("nonfinite", 2, False)
    assert any(text.startswith("warning: ") and "skipped" in text for text in watcher.messages)
    assert watcher.steps == [step + 1 for step in range(2 * BATCHES) if step != SPOILED]
    # the epoch's mean is over the images of the other batches
    left = [(m["clean_loss"], n) for m, n in zip(watcher.metrics[BATCHES:], (BATCH_SIZE, BATCH_SIZE, 4), strict=True)]
    mean = sum(loss * n for loss, n in left) / sum(n for _, n in left)
    assert metrics(tmp_path / "run", "epoch")[1]["train"]["clean_loss"] == pytest.approx(mean, rel=1e-6)


@pytest.mark.slow
def test_the_nuclear_norm_itself_raises_the_alarm(images: Path, tmp_path: Path) -> None:
    config = small_config(images, defense=Diverged(lam=LAM), monitors=MonitorConfig(on_nonfinite="skip"))
    train(config, tmp_path / "run")
    (alarm,) = metrics(tmp_path / "run", "alarm")
    assert alarm["message"].startswith("epoch 2, batch 2: ")
    assert all(bool(tensor.isfinite().all()) for tensor in remembered(tmp_path / "run")["model"].values())


@pytest.mark.slow
def test_a_run_that_was_stopped_may_go_on_and_skip(images: Path, tmp_path: Path) -> None:
    config = small_config(images, defense=bad("loss", SPOILED), monitors=STOP)
    with pytest.raises(RunStopped):
        train(config, tmp_path / "run")
    skip = dataclasses.replace(config, monitors=MonitorConfig(on_nonfinite="skip"))
    train(skip, tmp_path / "run", resume=True)
    train(skip, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert [alarm["stop"] for alarm in metrics(tmp_path / "run", "alarm")] == [False]


@dataclass(frozen=True, kw_only=True)
class Steep(Standard):
    """Standard training whose gradient is infinite in one step while its loss is finite."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        terms = super().loss(model, x, y, step, state)
        if step.epoch * step.batches + step.batch != SPOILED:
            return terms
        root = (terms.loss - terms.loss.detach()).sqrt()  # 0, of slope infinity
        return BatchLoss(terms.loss + root, terms.metrics)


def test_a_gradient_that_is_not_finite(images: Path, tmp_path: Path) -> None:
    config = small_config(images, defense=Steep(), monitors=MonitorConfig(on_nonfinite="skip"))
    train(config, tmp_path / "run")
    (alarm,) = metrics(tmp_path / "run", "alarm")
    assert alarm["message"].startswith("epoch 2, batch 2: the loss or its gradient is infinite or NaN")
    assert all(bool(tensor.isfinite().all()) for tensor in remembered(tmp_path / "run")["model"].values())


@pytest.mark.slow
@pytest.mark.parametrize("defense", [Diverged(lam=LAM), DivergedHybrid(lam=LAM)])
def test_a_skipped_update_leaves_no_trace_in_batch_norm(defense: Defense, images: Path, tmp_path: Path) -> None:
    config = small_config(
        images, model=BATCH_NORM, defense=defense, monitors=MonitorConfig(on_nonfinite="skip"), averaging=averaged()
    )
    train(config, tmp_path / "run")
    assert len([line for line in metrics(tmp_path / "run", "alarm") if line["monitor"] == "nonfinite"]) == 1
    state = remembered(tmp_path / "run")
    for weights in (state["model"], state["average"]):
        assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    for value in state["defense"].values():
        assert value is None or math.isfinite(value)


@pytest.mark.parametrize("on", ["skip", "stop"])
def test_weights_that_validation_finds_to_be_infinite(
    on: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = validation.validate, 0

    def validate(model: nn.Module, *arguments: Any, **settings: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 2:
            model = copy.deepcopy(model)
            next(model.parameters()).data.mul_(math.inf)
        return real(model, *arguments, **settings)

    monkeypatch.setattr(validation, "validate", validate)
    config, out = small_config(images, monitors=MonitorConfig(on_nonfinite=on), epochs=3), tmp_path / "run"
    if on == "stop":
        with pytest.raises(RunStopped, match="validation"):
            train(config, out)
        assert remembered(out)["epoch"] == 1
        assert metrics(out)[-1]["monitor"] == "nonfinite"
        return
    train(config, out)
    assert [line["validation"] == {} for line in metrics(out, "epoch")] == [False, True, False]
    (alarm,) = (line for line in metrics(out, "alarm") if line["monitor"] == "nonfinite")
    assert alarm["epoch"] == 2
    assert metrics(out, "end")[0]["best_epoch"] != 2


def test_an_epoch_without_a_finite_loss(images: Path, tmp_path: Path) -> None:
    config = small_config(
        images, defense=bad("loss", *range(BATCHES)), monitors=MonitorConfig(on_nonfinite="skip"), epochs=2
    )
    train(config, tmp_path / "run")
    first, second = metrics(tmp_path / "run", "epoch")
    assert first["train"] == {}
    assert second["train"]["clean_loss"] > 0
    assert len(metrics(tmp_path / "run", "alarm")) == BATCHES


def test_other_errors_of_a_defense_are_not_swallowed(images: Path, tmp_path: Path) -> None:
    config = small_config(
        images, defense=Spoiled(steps=(1,), error="ZeroDivisionError"), monitors=MonitorConfig(on_nonfinite="skip")
    )
    with pytest.raises(ZeroDivisionError):
        train(config, tmp_path / "run")


# collapse


def collapsing(images: Path, **monitor: Any) -> TrainConfig:
    """Return four epochs at a learning rate of 0: the loss stays that of the first weights, about log 3."""
    return small_config(
        images,
        optimizer=OptimizerConfig(lr=Constant(peak=0.0)),
        monitors=MonitorConfig(collapse_patience=2, **monitor),
        epochs=4,
    )


@pytest.mark.slow
def test_collapse_warns_once_when_the_patience_is_reached(images: Path, tmp_path: Path) -> None:
    train(collapsing(images), tmp_path / "run")
    (alarm,) = metrics(tmp_path / "run", "alarm")
    assert (alarm["monitor"], alarm["epoch"], alarm["stop"]) == ("collapse", 2, False)
    assert len(metrics(tmp_path / "run", "epoch")) == 4


@pytest.mark.slow
def test_collapse_stops(images: Path, tmp_path: Path) -> None:
    config = collapsing(images, on_collapse="stop")
    with pytest.raises(RunStopped, match="collapse to a constant"):
        train(config, tmp_path / "run")
    assert [line["kind"] for line in metrics(tmp_path / "run")] == ["start", "epoch", "epoch", "alarm"]
    assert remembered(tmp_path / "run")["epoch"] == 1
    with pytest.raises(RunStopped, match="collapse to a constant"):
        train(config, tmp_path / "run", resume=True)
    train(collapsing(images), tmp_path / "run", resume=True)  # an alarm may be set to warn
    train(collapsing(images), tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_the_patience_survives_a_resume(images: Path, tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        train(collapsing(images), tmp_path / "run", {BATCHES + 2: cut})
    train(collapsing(images), tmp_path / "run", resume=True)
    assert [alarm["epoch"] for alarm in metrics(tmp_path / "run", "alarm")] == [2]


@pytest.mark.slow
def test_an_epoch_that_learns_starts_the_patience_anew(images: Path, tmp_path: Path) -> None:
    """Losses of 2, 2, 0.1, 2 and 2 in epochs of patience 3: no alarm."""

    def config(*small: int) -> TrainConfig:
        return small_config(
            images, defense=Scripted(small=small), monitors=MonitorConfig(collapse_patience=3), epochs=5
        )

    train(config(2), tmp_path / "learns")
    assert metrics(tmp_path / "learns", "alarm") == []
    train(config(), tmp_path / "never")
    assert [alarm["epoch"] for alarm in metrics(tmp_path / "never", "alarm")] == [3]


@dataclass(frozen=True, kw_only=True)
class Scripted(Spoiled):
    """Says a clean loss of 2 in every epoch but some."""

    small: tuple[int, ...] = ()

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        loss = super().loss(model, x, y, step, state).loss
        return BatchLoss(loss, {"clean_loss": 0.1 if step.epoch in self.small else 2.0})


# catastrophic overfitting; a real one is in test_robustness.py


def scripted_validation(
    monkeypatch: pytest.MonkeyPatch, accuracy: Callable[[int], tuple[float, float]]
) -> list[dict[str, float]]:
    """Let the n-th validation of a run (from 0) find the FGSM and PGD accuracies that ``accuracy(n)`` says."""
    found: list[dict[str, float]] = []

    def validate(model: nn.Module, images: Any, **settings: Any) -> dict[str, float]:
        assert len(images) == VALIDATION
        fgsm, pgd = accuracy(len(found))
        found.append({"clean_loss": 0.1, "clean": 0.9, "fgsm": fgsm, "pgd": pgd})
        return found[-1]

    monkeypatch.setattr("nuat.training.validation.validate", validate)
    return found


def test_overfitting_is_recorded_with_its_epoch(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_validation(monkeypatch, lambda n: (0.9, 0.1) if n == 1 else (0.5, 0.4))
    watcher = Watcher()
    nuat.run(small_config(images, epochs=3), out=tmp_path / "run", reporter=watcher)
    (alarm,) = (line for line in metrics(tmp_path / "run", "alarm") if line["monitor"] != "collapse")
    assert (alarm["monitor"], alarm["epoch"], alarm["stop"]) == ("overfitting", 2, False)
    assert any("warning: catastrophic overfitting" in text for text in watcher.messages)
    assert len(metrics(tmp_path / "run", "epoch")) == 3


@pytest.mark.slow
def test_overfitting_stop_keeps_the_checkpoint_before(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_validation(monkeypatch, lambda n: (0.9, 0.1) if n == 1 else (0.5, 0.4))
    config, out = small_config(images, monitors=STOP), tmp_path / "run"
    before: dict[str, bytes] = {}

    def look() -> None:
        before.update({path.name: path.read_bytes() for path in (*out.glob("*.safetensors"), out / "checkpoint.pt")})

    with pytest.raises(RunStopped, match="catastrophic overfitting") as caught:
        train(config, out, {2 * BATCHES: look})
    assert caught.value.alarm.monitor == "overfitting"
    assert set(before) == {"checkpoint.pt", "best.safetensors", "last.safetensors"}
    assert {name: (out / name).read_bytes() for name in before} == before
    assert [line["kind"] for line in metrics(out)] == ["start", "epoch", "epoch", "alarm"]
    monkeypatch.undo()

    train(config, out, resume=True)
    train(config, tmp_path / "whole")
    state, whole = remembered(out), remembered(tmp_path / "whole")
    assert_equal(state["model"], whole["model"])
    assert_equal(state["optimizer"], whole["optimizer"])
    assert metrics(out, "alarm") == metrics(tmp_path / "whole", "alarm") == []


@pytest.mark.parametrize("which", ["live", "averaged"])
def test_overfitting_is_judged_on_the_live_weights(
    which: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each epoch validates the live weights, then the average."""
    overfitted = 0 if which == "live" else 1
    found = scripted_validation(monkeypatch, lambda n: (0.9, 0.1) if n % 2 == overfitted else (0.5, 0.4))
    train(small_config(images, averaging=averaged()), tmp_path / "run")
    assert len(found) == 4
    assert len(metrics(tmp_path / "run", "alarm")) == (2 if which == "live" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("average", [False, True])
def test_the_best_epoch_is_that_of_the_weights_that_are_shipped(
    average: bool, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later of two equal epochs is taken."""
    live, averages = [0.1, 0.3, 0.3, 0.2], [0.4, 0.2, 0.1, 0.1]
    both = [accuracy for pair in zip(live, averages, strict=True) for accuracy in pair]
    scripted_validation(monkeypatch, lambda n: (0.4, both[n] if average else live[n]))
    changes = {"averaging": averaged()} if average else {}
    run = train(small_config(images, epochs=4, **changes), tmp_path / "run")
    assert run.summary["best_epoch"] == (1 if average else 3)
    assert run.summary["best_validation"] == (0.4 if average else 0.3)
    assert read_info(tmp_path / "run" / "best.safetensors").epoch == run.summary["best_epoch"]
    assert read_info(tmp_path / "run" / "last.safetensors").epoch == 4


def test_without_validation_images_there_is_no_overfitting_to_see(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"on_overfitting=stop has no effect without validation"):
        small_config(images, data=DataConfig(path=images, validation=0), monitors=STOP)
    config = small_config(images, data=DataConfig(path=images, validation=0))
    train(config, tmp_path / "run")
    epochs = metrics(tmp_path / "run", "epoch")
    assert [epoch["validation"] for epoch in epochs] == [{}, {}]
    assert len(epochs) == 2
    assert metrics(tmp_path / "run", "end")[0]["best_validation"] is None
    assert metrics(tmp_path / "run", "end")[0]["best_epoch"] == 2

"""The brake: a run goes back to its last good epoch, at half the rate, and nothing else about it changes."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training.small_runs import (
    BATCH_NORM,
    BATCHES,
    LAM,
    TRAIN,
    VALIDATION,
    PowerCut,
    Watcher,
    assert_equal,
    assert_same_run,
    averaged,
    cut,
    interrupt,
    metrics,
    remembered,
    small_config,
    terminate,
    timeless,
    train,
    write_images,
)

import nuat
from nuat.config import DataConfig, MonitorConfig, OptimizerConfig, TrainConfig
from nuat.core.losses import cross_entropy
from nuat.core.schedules import Constant, Cyclic
from nuat.defenses import FGSMAT, FGSMPGI, BatchLoss, Defense, FreeAT, NuAT, NuAT2, NuATHybrid
from nuat.errors import InputError
from nuat.records.checkpoints import read_checkpoint
from nuat.training import brake, monitors
from nuat.training.monitors import Alarm, RunStopped
from nuat.training.signals import Interrupted
from nuat.training.state import TrainingState, tensors_of
from nuat.training.validation import Validator, is_validated

BRAKE = MonitorConfig(on_overfitting="brake")
CASES: dict[str, dict[str, Any]] = {
    "averaged": {"model": BATCH_NORM, "defense": NuAT(lam=LAM), "averaging": averaged()},
    "attack-average": {"model": BATCH_NORM, "defense": NuAT2(lam=LAM, attack_tau=0.5)},
    "hybrid": {"defense": NuATHybrid(lam=LAM, drop=0.155)},
    "per-image": {"defense": FGSMPGI()},
    "replays": {"defense": FreeAT()},
    "adam": {"defense": FGSMAT(), "optimizer": OptimizerConfig(name="adam", lr=Cyclic(peak=0.01, rise=0.3))},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def overfits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what sets the epochs (from 1) whose validation shows the gap, and their accuracy under PGD.

    The clean loss of runs as small as these is a constant model's, so it is looked at only if ``collapse``.
    """

    def script(*bad: int, pgd: float = 0.1, every: int = 1, average: float = 0.4, collapse: bool = False) -> None:
        def validate(self: Validator, models: Any, epoch: int, trained: float) -> dict[str, dict[str, float]] | None:
            if not is_validated(epoch, 99, every):
                return None
            fgsm, found = (0.9, pgd) if epoch in bad else (0.5, 0.4)
            one = {"clean_loss": 0.1, "clean": 0.9, "fgsm": fgsm, "pgd": found}
            other = {**one, "pgd": average if epoch in bad else found}
            return {"live": one} if len(models) == 1 else {"live": one, "averaged": other}

        monkeypatch.setattr(Validator, "validate", validate)
        if not collapse:
            monkeypatch.setattr(monitors, "looks_collapsed", lambda *_: False)

    return script


Overfits = Callable[..., None]


def braking(images: Path, **changes: Any) -> TrainConfig:
    return small_config(images, **{"monitors": BRAKE, **changes})


def warning(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, monitors=MonitorConfig())


@pytest.mark.parametrize("name", CASES)
def test_all_that_is_trained_goes_back_and_the_position_stays(
    name: str, images: Path, overfits: Overfits, tmp_path: Path
) -> None:
    overfits(3)
    config = braking(images, epochs=3, **CASES[name])
    train(config, tmp_path / "run")
    found = remembered(tmp_path / "run")
    steps = BATCHES * config.defense.updates_per_batch
    with pytest.raises(Interrupted):
        train(config, tmp_path / "before", {2 * steps: interrupt})
    before = remembered(tmp_path / "before")
    assert_equal(found["optimizer"]["state"], before["optimizer"]["state"])
    for part in ("model", "average", "defense"):
        assert_equal(found[part], before[part], part)
    train(warning(config), tmp_path / "warned")
    warned = remembered(tmp_path / "warned")
    with pytest.raises(AssertionError):
        assert_equal(warned["model"], before["model"])  # the epoch moved them
    assert (found["epoch"], found["step"], found["brakes"]) == (3, 3 * steps, 1)
    for part in ("generator", "step", "forwards", "backwards"):
        assert_equal(found[part], warned[part], part)


def test_the_record_says_when_why_and_where_to(images: Path, overfits: Overfits, tmp_path: Path) -> None:
    overfits(3)
    watcher = Watcher()
    nuat.run(braking(images, epochs=4), out=tmp_path / "run", reporter=watcher)
    (line,) = metrics(tmp_path / "run", "brake")
    told = "back to the end of epoch 2; the learning rate is multiplied by 0.5 from here on."
    assert {name: value for name, value in line.items() if name != "time"} == {
        "kind": "brake", "monitor": "overfitting", "epoch": 3, "back_to": 2, "rate_factor": 0.5, "message": told,
    }  # fmt: skip
    (alarm,) = metrics(tmp_path / "run", "alarm")
    assert (alarm["epoch"], alarm["stop"]) == (3, False)
    assert told in watcher.messages


def test_each_brake_halves_the_rate(images: Path, overfits: Overfits, tmp_path: Path) -> None:
    overfits(2, 4)
    config = braking(images, epochs=5)
    train(config, tmp_path / "run")
    train(warning(config), tmp_path / "warned")
    rates, before = ([line["lr"] for line in metrics(tmp_path / name, "epoch")] for name in ("run", "warned"))
    assert [rate / whole for rate, whole in zip(rates, before, strict=True)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_a_run_without_alarms_is_the_run_without_brake(images: Path, overfits: Overfits, tmp_path: Path) -> None:
    overfits()
    config = braking(images, epochs=3, **CASES["averaged"])
    train(config, tmp_path / "run")
    train(warning(config), tmp_path / "warned")
    state = remembered(tmp_path / "run")
    good = state.pop("good")
    assert_equal(state, remembered(tmp_path / "warned"))
    assert timeless(tmp_path / "run") == timeless(tmp_path / "warned")
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "warned" / name).read_bytes()
    assert good["epoch"] == 3
    assert_equal(good["model"], dict(state["model"]))


STOPS: dict[str, tuple[int, Callable[[], None], int]] = {
    "in the bad epoch": (BATCHES + 2, terminate, 1),
    "cut in the epoch after": (2 * BATCHES + 1, cut, 1),
    "in the epoch after": (2 * BATCHES + 2, terminate, 1),
    "cut in a good epoch whose checkpoint was left out": (3 * BATCHES + 1, cut, 2),
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("name", ["averaged", "per-image"])
def test_resume_is_bit_for_bit_across_a_brake(
    name: str, stop: str, images: Path, overfits: Overfits, tmp_path: Path
) -> None:
    overfits(2, 4)
    at, act, every = STOPS[stop]
    config = braking(images, epochs=5, checkpoint_every=every, **CASES[name])
    train(config, tmp_path / "whole")
    with pytest.raises(PowerCut if act is cut else Interrupted):
        train(config, tmp_path / "run", {at: act})
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert [line["back_to"] for line in metrics(tmp_path / "run", "brake")] == [1, 3]


def test_fgsm_training_attacks_in_two_steps_in_the_epoch_after(
    images: Path, overfits: Overfits, tmp_path: Path
) -> None:
    """Each is a pass forward and back; a resumed run knows which epoch it is in."""
    overfits(2)
    config = braking(images, defense=FGSMAT(), epochs=4)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {2 * BATCHES + 2: terminate})
    train(config, tmp_path / "run", resume=True)
    totals = [0, *(line["backwards"] for line in metrics(tmp_path / "run", "epoch"))]
    passes = [after - before for before, after in itertools.pairwise(totals)]
    assert passes == [n * (TRAIN - VALIDATION) for n in (2, 2, 3, 2)]


def test_before_the_first_good_epoch_overfitting_warns(images: Path, overfits: Overfits, tmp_path: Path) -> None:
    overfits(1, 2)
    train(braking(images, epochs=2), tmp_path / "run")
    assert [line["stop"] for line in metrics(tmp_path / "run", "alarm")] == [False, False]
    assert metrics(tmp_path / "run", "brake") == []


def test_while_accuracy_under_pgd_is_no_lower_overfitting_warns(
    images: Path, overfits: Overfits, tmp_path: Path
) -> None:
    overfits(2, pgd=0.4)  # that of a good epoch
    train(braking(images, epochs=2), tmp_path / "run")
    assert [line["epoch"] for line in metrics(tmp_path / "run", "alarm")] == [2]
    assert metrics(tmp_path / "run", "brake") == []


def test_a_collapse_from_the_start_goes_back_to_the_initial_weights(images: Path, tmp_path: Path) -> None:
    config = small_config(
        images,
        defense=SaysCollapsed(begins=0),
        monitors=MonitorConfig(on_collapse="brake", collapse_patience=1),
        averaging=averaged(),
        epochs=1,
    )
    train(config, tmp_path / "run")
    (line,) = metrics(tmp_path / "run", "brake")
    assert line["back_to"] == 0
    assert line["message"].startswith("back to the initial weights; ")
    still = dataclasses.replace(config, optimizer=OptimizerConfig(lr=Constant(peak=0.0)))
    with pytest.raises(Interrupted):
        train(still, tmp_path / "initial", {1: interrupt})
    found, initial = remembered(tmp_path / "run"), remembered(tmp_path / "initial")
    assert_equal(found["model"], initial["model"])
    assert all(not entry["momentum_buffer"].any() for entry in found["optimizer"]["state"].values())


def test_an_epoch_that_is_not_validated_is_not_gone_back_to(images: Path, overfits: Overfits, tmp_path: Path) -> None:
    overfits(4, every=2)
    train(braking(images, epochs=4), tmp_path / "run")
    assert [line["back_to"] for line in metrics(tmp_path / "run", "brake")] == [2]


@pytest.mark.parametrize("average", [0.1, 0.6])
def test_the_best_epoch_is_chosen_as_without_brake(
    average: float, images: Path, overfits: Overfits, tmp_path: Path
) -> None:
    """Its weights are those that were validated, also where the run then goes back."""
    overfits(2, average=average)
    config = braking(images, epochs=2, averaging=averaged())
    train(config, tmp_path / "run")
    train(warning(config), tmp_path / "warned")
    assert len(metrics(tmp_path / "run", "brake")) == 1
    first, other = ((tmp_path / name / "best.safetensors").read_bytes() for name in ("run", "warned"))
    assert first == other
    assert metrics(tmp_path / "run", "end")[0]["best_epoch"] == (2 if average > 0.4 else 1)


def test_after_the_last_brake_the_alarm_ends_the_run(images: Path, overfits: Overfits, tmp_path: Path) -> None:
    overfits(*range(2, 9))
    config = braking(images, epochs=8)
    with pytest.raises(RunStopped, match="The run ends, because it has gone back 3 times"):
        train(config, tmp_path / "run")
    assert [line["epoch"] for line in metrics(tmp_path / "run", "brake")] == [2, 3, 4]
    assert [line["stop"] for line in metrics(tmp_path / "run", "alarm")] == [False, False, False, True]
    assert remembered(tmp_path / "run")["epoch"] == 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaysCollapsed(Defense):
    """Standard training that says a clean loss of 2 from an epoch (from 0) on."""

    begins: int = 1

    def loss(self, model: nn.Module, x: Any, y: Any, step: Any, state: Any) -> BatchLoss:
        return BatchLoss(cross_entropy(model(x), y), {"clean_loss": 2.0 if step.epoch >= self.begins else 0.1})


def test_collapse_goes_back_past_the_epochs_of_its_patience(images: Path, tmp_path: Path) -> None:
    """Neither validation images nor the other monitor are needed; after a brake the patience begins anew."""
    config = small_config(
        images,
        defense=SaysCollapsed(),
        data=DataConfig(path=images, validation=0),
        monitors=MonitorConfig(on_collapse="brake", collapse_patience=2),
        epochs=6,
    )
    train(config, tmp_path / "run")
    lines = metrics(tmp_path / "run", "brake")
    assert [(line["monitor"], line["epoch"], line["back_to"]) for line in lines] == [
        ("collapse", 3, 1),
        ("collapse", 5, 1),
    ]
    with pytest.raises(Interrupted):
        train(config, tmp_path / "first", {BATCHES: interrupt})
    good = read_checkpoint(tmp_path / "run" / "checkpoint.pt")["good"]
    assert_equal(good["model"], dict(remembered(tmp_path / "first")["model"]))


def test_a_collapsed_epoch_is_never_gone_back_to(images: Path, overfits: Overfits, tmp_path: Path) -> None:
    """An epoch that the other monitor only warns of, too."""
    overfits(3, collapse=True)
    train(braking(images, defense=SaysCollapsed(), epochs=3), tmp_path / "run")
    assert [line["back_to"] for line in metrics(tmp_path / "run", "brake")] == [1]


def test_recorded_updates_keep_their_tensors() -> None:
    """The weights, the optimizer's tensors and the averages are filled in place."""
    config = TrainConfig(defense=FGSMAT(), averaging=averaged(), monitors=BRAKE)
    state = TrainingState.start(config, nn.Linear(3, 2), torch.device("cpu"))
    state.model(torch.ones(4, 3)).square().mean().backward()
    state.optimizer.step()

    def places() -> list[int]:
        parts = (state.model.state_dict(), state.optimizer.state_dict()["state"], state.averages)
        return [tensor.data_ptr() for tensor in tensors_of(parts)]

    before, moved = places(), state.model.weight.detach().clone()
    event = brake.settle(state, [Alarm(monitor="overfitting", message="", stop=False, brake=True)], {})
    assert event is not None
    assert places() == before
    assert not state.model.weight.equal(moved)


def test_it_is_refused_where_nothing_can_call_it(images: Path) -> None:
    with pytest.raises(InputError, match=r"on_overfitting=brake has no effect without validation images"):
        braking(images, data=DataConfig(path=images, validation=0))


def test_a_run_that_began_without_brake_does_not_go_on_with_it(
    images: Path, overfits: Overfits, tmp_path: Path
) -> None:
    overfits()
    config = braking(images)
    with pytest.raises(Interrupted):
        train(warning(config), tmp_path / "run", {BATCHES: interrupt})
    with pytest.raises(InputError, match=r"monitors\.on_overfitting=warn, not brake"):
        train(config, tmp_path / "run", resume=True)

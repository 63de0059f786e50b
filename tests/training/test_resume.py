"""A run that was cut off and resumed is the run that was not, to the last bit."""

import dataclasses
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training.small_runs import (
    BATCH_NORM,
    BATCHES,
    LAM,
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
    temporary_files,
    terminate,
    timeless,
    train,
    write_images,
)

import nuat
from nuat.config import OptimizerConfig, TrainConfig
from nuat.core.schedules import OneCycle, Ramp
from nuat.defenses import NuAT, NuAT2, NuATHybrid, Standard
from nuat.errors import InputError
from nuat.records.checkpoints import read_checkpoint, read_info, save_checkpoint, save_weights
from nuat.training.signals import Interrupted

CASES: dict[str, dict[str, Any]] = {
    "nuat-averaged": {"model": BATCH_NORM, "defense": NuAT(lam=LAM), "averaging": averaged(warmup=True)},
    "nuat2": {"model": BATCH_NORM, "defense": NuAT2(lam=LAM, attack_tau=0.5), "averaging": averaged()},
    "hybrid": {"model": BATCH_NORM, "defense": NuATHybrid(lam=LAM, drop=0.155)},
    "standard": {"model": BATCH_NORM, "defense": Standard()},
    "bf16": {"model": BATCH_NORM, "defense": NuAT(lam=LAM), "averaging": averaged(), "precision": "bf16"},
    "small-cnn": {"defense": NuAT(lam=LAM), "checkpoint_every": 2},
}
# the step after which the run is cut off, how, and the (epoch, batch) that it goes on with
STOPS: dict[str, tuple[int, Callable[[], None], tuple[int, int]]] = {
    "cut-in-epoch-2": (7, cut, (1, 0)),  # nothing is saved: what was done since the end of epoch 1 is done again
    "sigint-in-epoch-1": (2, interrupt, (0, 2)),
    "sigterm-in-epoch-2": (6, terminate, (1, 2)),
    "sigint-at-the-end-of-epoch-1": (BATCHES, interrupt, (0, BATCHES)),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[TrainConfig, Path]]:
    """Return, by name, a case's settings and the folder of its run without a stop."""
    done: dict[str, tuple[TrainConfig, Path]] = {}

    def get(name: str) -> tuple[TrainConfig, Path]:
        if name not in done:
            config, out = small_config(images, **CASES[name]), tmp_path_factory.mktemp("whole") / name
            train(config, out)
            done[name] = config, out
        return done[name]

    return get


Undisturbed = Callable[[str], tuple[TrainConfig, Path]]


EVERY = [(name, stop) for name in ("nuat-averaged", "hybrid") for stop in STOPS]
SOME = [(name, stop) for name in ("nuat2", "standard", "bf16") for stop in ("cut-in-epoch-2", "sigterm-in-epoch-2")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stop"), EVERY + SOME)
def test_resume_is_bit_for_bit(name: str, stop: str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, whole = undisturbed(name)
    at, act, place = STOPS[stop]
    with pytest.raises(PowerCut if act is cut else Interrupted):
        train(config, tmp_path / "run", {at: act})
    state = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert (state["epoch"], state["batch"]) == place
    assert state["step"] == place[0] * BATCHES + place[1]
    metrics(tmp_path / "run")  # every line is whole
    assert temporary_files(tmp_path) == []

    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)
    (resumed,) = metrics(tmp_path / "run", "resume")
    assert (resumed["epoch"], resumed["batch"]) == place


@pytest.mark.slow
def test_what_the_cases_are_meant_to_cover(undisturbed: Undisturbed) -> None:
    """The states that resume must carry are there, and were not trivial."""
    hybrid = undisturbed("hybrid")[1]
    switches = metrics(hybrid, "switch")
    assert [(switch["batch"], switch["two_step"]) for switch in switches] == [(1, True), (3, False)]
    assert remembered(hybrid)["defense"]["two_step_batches"] == 2
    assert metrics(hybrid, "end")[0]["two_step_batches"] == remembered(hybrid)["defense"]["two_step_batches"]
    assert metrics(hybrid, "end")[0]["switches"] == len(switches)
    nuat2 = remembered(undisturbed("nuat2")[1])
    assert set(nuat2["defense"]["attack_average"]) == set(nuat2["model"]) == set(nuat2["average"])
    assert not nuat2["defense"]["attack_average"]["net.fc.weight"].equal(nuat2["average"]["net.fc.weight"])
    plain = remembered(undisturbed("nuat-averaged")[1])
    assert not plain["average"]["net.fc.weight"].equal(plain["model"]["net.fc.weight"])
    assert bool(plain["model"]["net.bn1.running_mean"].any())
    assert any("momentum_buffer" in entry for entry in plain["optimizer"]["state"].values())
    bf16 = remembered(undisturbed("bf16")[1])
    assert not bf16["model"]["net.fc.weight"].equal(plain["model"]["net.fc.weight"])


@pytest.mark.slow
def test_several_stops(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, whole = undisturbed("hybrid")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {1: interrupt})
    for step in (3, 4, 7):
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run", {step: terminate}, resume=True)
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)
    assert len(metrics(tmp_path / "run", "resume")) == 4


@pytest.mark.slow
def test_a_cut_after_lines_that_are_written_again(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Switches of steps that are done again stand in the metrics once."""
    config, whole = undisturbed("hybrid")
    with pytest.raises(PowerCut):
        train(config, tmp_path / "run", {8: cut})
    before = metrics(tmp_path / "run", "switch")
    assert before  # written, and after the last checkpoint
    train(config, tmp_path / "run", resume=True)
    assert timeless(tmp_path / "run") == timeless(whole)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2])
def test_resuming_a_finished_run_is_harmless(undisturbed: Undisturbed, tmp_path: Path, at: int) -> None:
    config, whole = undisturbed("nuat-averaged")
    summary = train(config, tmp_path / "run").summary
    for _ in range(at):
        again = train(config, tmp_path / "run", resume=True).summary
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}
    assert again["seconds"] == summary["seconds"]
    assert_same_run(tmp_path / "run", whole)
    assert len(metrics(tmp_path / "run", "end")) == 1


@pytest.mark.slow
def test_checkpoints_come_as_often_as_configured(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, whole = undisturbed("small-cnn")  # checkpoint_every=2
    with pytest.raises(PowerCut):
        train(config, tmp_path / "run", {BATCHES + 1: cut})
    assert (tmp_path / "run" / "best.safetensors").is_file()
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    with pytest.raises(InputError, match=r"checkpoint\.pt"):
        train(config, tmp_path / "run", resume=True)
    longer = dataclasses.replace(config, epochs=3)
    with pytest.raises(PowerCut):
        train(longer, tmp_path / "longer", {2 * BATCHES + 1: cut})
    assert remembered(tmp_path / "longer")["epoch"] == 2
    train(longer, tmp_path / "longer", resume=True)
    assert remembered(tmp_path / "longer")["epoch"] == 3  # the last epoch is saved whatever the interval
    assert remembered(whole)["epoch"] == 2


@pytest.mark.slow
def test_the_best_weights_are_those_of_the_run_that_goes_on(images: Path, tmp_path: Path) -> None:
    """Epochs that are done again may turn out otherwise (on a GPU) than those that wrote the best weights."""
    config = small_config(images, **CASES["small-cnn"] | {"epochs": 4})
    folder = tmp_path / "run"
    with pytest.raises(PowerCut):
        train(config, folder, {3 * BATCHES + 1: cut})
    state, info = read_checkpoint(folder / "checkpoint.pt"), read_info(folder / "best.safetensors")
    assert state["epoch"] == 2
    given_up = dataclasses.replace(info, epoch=3)  # of an epoch after the checkpoint, and better than any to come
    save_weights(folder / "best.safetensors", {n: t + 1.0 for n, t in state["model"].items()}, given_up)
    save_checkpoint(folder / "checkpoint.pt", {**state, "best_accuracy": 2.0})
    summary = train(config, folder, resume=True).summary
    epochs = metrics(folder, "epoch")[2:]
    assert summary["best_validation"] == max(epoch["validation"]["live"]["pgd"] for epoch in epochs)
    assert read_info(folder / "best.safetensors").epoch == summary["best_epoch"]


def test_interrupted_says_which_signal_and_how_to_go_on(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, _ = undisturbed("small-cnn")
    for name, act, number in (("a", interrupt, signal.SIGINT), ("b", terminate, signal.SIGTERM)):
        with pytest.raises(Interrupted, match=r"after epoch 0, batch 3; .*--resume") as caught:
            train(config, tmp_path / name, {3: act})
        assert caught.value.signal_number == number
        assert str(tmp_path / name) in str(caught.value)


class Impatient(Watcher):
    """Sends SIGTERM while an epoch is being validated and recorded."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def message(self, text: str, *, style: str = "") -> None:
        if text.lstrip().startswith(f"{self.epoch}/"):
            terminate()


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_signal_between_the_epochs(undisturbed: Undisturbed, tmp_path: Path, epoch: int) -> None:
    """The run stops there, after the last epoch too: an evaluation would follow."""
    config, whole = undisturbed("small-cnn")
    with pytest.raises(Interrupted) as caught:
        nuat.run(config, out=tmp_path / "run", reporter=Impatient(epoch))
    assert caught.value.signal_number == signal.SIGTERM
    state = remembered(tmp_path / "run")
    assert (state["epoch"], state["batch"], state["step"]) == (epoch, 0, epoch * BATCHES)
    assert metrics(tmp_path / "run", "end") == []
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("second", [interrupt, terminate])
def test_the_second_signal_interrupts_at_once(
    undisturbed: Undisturbed, tmp_path: Path, second: Callable[[], None]
) -> None:
    config, _ = undisturbed("small-cnn")

    def twice() -> None:
        interrupt()
        second()
        raise AssertionError("the second signal was not heard")

    with pytest.raises(KeyboardInterrupt) as caught:
        train(config, tmp_path / "run", {2: twice})
    assert not isinstance(caught.value, Interrupted)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    metrics(tmp_path / "run")


def _handler(number: int, frame: Any) -> None:
    raise AssertionError("the test's own handler is not called")


@pytest.mark.parametrize("end", ["finished", "interrupted", "cut"])
def test_signal_handlers_are_restored(undisturbed: Undisturbed, tmp_path: Path, end: str) -> None:
    config, _ = undisturbed("small-cnn")
    before = {number: signal.signal(number, _handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if end == "finished":
            train(config, tmp_path / "run")
        else:
            with pytest.raises((Interrupted, PowerCut)):
                train(config, tmp_path / "run", {2: cut if end == "cut" else interrupt})
        assert signal.getsignal(signal.SIGINT) is _handler
        assert signal.getsignal(signal.SIGTERM) is _handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_a_run_outside_the_main_thread(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, whole = undisturbed("small-cnn")
    before = signal.getsignal(signal.SIGINT)
    errors: list[BaseException] = []

    def target() -> None:
        try:
            nuat.run(config, out=tmp_path / "run")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert errors == []
    assert_same_run(tmp_path / "run", whole)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_the_clock_and_the_passes_go_on(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, whole = undisturbed("small-cnn")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {6: interrupt})
    stopped = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert stopped["seconds"] > 0
    summary = train(config, tmp_path / "run", resume=True).summary
    assert summary["seconds"] > stopped["seconds"]
    whole_end = metrics(whole, "end")[0]
    assert (summary["forwards"], summary["backwards"]) == (whole_end["forwards"], whole_end["backwards"])
    assert summary["forwards"] > stopped["forwards"] > 0


@pytest.mark.slow
def test_the_bar_goes_on_where_the_run_does(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, _ = undisturbed("small-cnn")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {6: interrupt})
    watcher = Watcher()
    nuat.run(config, out=tmp_path / "run", resume=True, reporter=watcher)
    assert watcher.stretches == [("training", 2 * BATCHES, 6)]
    assert watcher.steps == [7, 8]


def test_no_other_folder_or_settings(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, whole = undisturbed("small-cnn")
    with pytest.raises(InputError, match=r"no such file"):
        train(config, tmp_path / "absent", resume=True)
    assert not (tmp_path / "absent").exists()
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    others: dict[str, dict[str, Any]] = {
        r"model\.name=small-cnn, not wrn-10-1": {"model": BATCH_NORM},
        r"defense\.class=NuAT, not NuATHybrid": {"defense": NuATHybrid(lam=LAM)},
        r"defense\.lam\.peak=6\.0, not 5\.0": {"defense": NuAT(lam=Ramp(peak=5.0))},
        r"optimizer\.lr\.class=Cyclic, not OneCycle": {"optimizer": OptimizerConfig(lr=OneCycle())},
        r"averaging\.tau=None, not 0\.8": {"averaging": averaged()},
        r"epochs=2, not 3": {"epochs": 3},
        r"batch_size=32, not 16": {"batch_size": 16},
        r"seed=0, not 1": {"seed": 1},
    }
    for message, changes in others.items():
        with pytest.raises(InputError, match=message):
            train(dataclasses.replace(config, **changes), whole, resume=True)
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_a_damaged_split_is_named(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, whole = undisturbed("small-cnn")
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "split.json").write_text("{")
    with pytest.raises(InputError, match=r"run/split\.json: not JSON"):
        train(config, tmp_path / "run", resume=True)


def test_parts_that_a_killed_process_left_are_removed(undisturbed: Undisturbed, tmp_path: Path) -> None:
    config, whole = undisturbed("small-cnn")
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / ".best.safetensors.x.tmp").touch()
    train(config, tmp_path / "run", resume=True)
    assert temporary_files(tmp_path) == []


@pytest.mark.slow
def test_other_training_images(images: Path, tmp_path: Path) -> None:
    """The file of the images was written anew between the stop and the resume."""
    shutil.copy(images, tmp_path / "images.npz")
    config = small_config(tmp_path / "images.npz")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {3: interrupt})
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    write_images(tmp_path, seed=1)
    with pytest.raises(InputError, match="was begun with other training images"):
        train(config, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    shutil.copy(images, tmp_path / "images.npz")
    train(config, tmp_path / "run", resume=True)
    assert remembered(tmp_path / "run")["epoch"] == 2


def test_equality_helper_sees_differences(undisturbed: Undisturbed) -> None:
    """The comparison that these tests rest on can fail."""
    state = remembered(undisturbed("hybrid")[1])
    other = remembered(undisturbed("hybrid")[1])
    assert_equal(state, other)
    other["model"]["net.bn1.running_var"][0] += 1e-6
    with pytest.raises(AssertionError, match=r"bn1\.running_var"):
        assert_equal(state, other)

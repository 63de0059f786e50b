"""Updates whose check is left to the device, as on a GPU: the same as those checked at once, without waiting for it."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import DEFENSES
from recording import AskedError, NoQuestions
from torch import Tensor, nn
from training.small_runs import (
    BATCH_NORM,
    BATCHES,
    LAM,
    Spoiled,
    assert_equal,
    averaged,
    metrics,
    remembered,
    small_config,
    timeless,
    train,
    wait_for,
    write_images,
)

from nuat.config import AveragingConfig, MonitorConfig, OptimizerConfig, TrainConfig
from nuat.core import nuclear
from nuat.core.nonfinite import Watch, check_finite
from nuat.core.schedules import Constant
from nuat.defenses import BatchLoss, NuAT2, State, Step
from nuat.errors import NonFiniteError
from nuat.progress import Reporter
from nuat.records.folder import RunFolder
from nuat.training import run as training_run
from nuat.training.monitors import RunStopped
from nuat.training.run import Loop
from nuat.training.update import Updater

SKIP = MonitorConfig(on_nonfinite="skip")
SPOILED = BATCHES + 1
Deferring = Callable[[bool], None]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def deferring(monkeypatch: pytest.MonkeyPatch) -> Deferring:
    def choose(defers: bool) -> None:
        monkeypatch.setattr(training_run, "Updater", functools.partial(Updater, defers=defers))

    return choose


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the nuclear norm by the method of a GPU, which gives NaN for logits that are not finite."""
    monkeypatch.setattr(nuclear, "_method", lambda device, dtype: nuclear._by_iteration)


@dataclass(frozen=True, kw_only=True)
class SpoiledNuAT2(NuAT2):
    """NuAT2 whose images are NaN in given steps of the run."""

    steps: tuple[int, ...] = ()

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        spoiled = step.epoch * step.batches + step.batch in self.steps
        return super().loss(model, x * torch.nan if spoiled else x, y, step, state)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("steps", [(0,), (SPOILED, SPOILED + 1), ()])
def test_a_bad_update_is_skipped_as_if_it_were_checked_at_once(
    optimizer: Any, steps: tuple[int, ...], images: Path, tmp_path: Path, deferring: Deferring
) -> None:
    config = small_config(
        images,
        defense=Spoiled(steps=steps),
        model=BATCH_NORM,
        monitors=SKIP,
        averaging=averaged(),
        optimizer=OptimizerConfig(name=optimizer, lr=Constant(peak=0.01)),
    )
    for defers in (False, True):
        deferring(defers)
        train(config, tmp_path / str(defers))
    at_once, later = remembered(tmp_path / "False"), remembered(tmp_path / "True")
    assert {
        n: t.isfinite().all() for n, t in later["model"].items() if t.is_floating_point() and not t.isfinite().all()
    } == {}
    for name, tensor in at_once.pop("average").items():  # another order of the same operations
        torch.testing.assert_close(later["average"][name], tensor, rtol=1e-5, atol=1e-7)
    del later["average"]
    assert_equal(later["model"], at_once["model"])
    assert later["images"] == at_once["images"]
    ours, theirs = (timeless(tmp_path / name) for name in ("True", "False"))
    assert [line["kind"] for line in ours] == [line["kind"] for line in theirs]
    for kind in ("alarm", "end"):
        assert [x for x in ours if x["kind"] == kind] == [x for x in theirs if x["kind"] == kind]
    for a, b in zip(metrics(tmp_path / "True", "epoch"), metrics(tmp_path / "False", "epoch"), strict=True):
        assert a["train"] == pytest.approx(b["train"], rel=1e-12)
    expected = [divmod(step, BATCHES) for step in steps]
    alarms = metrics(tmp_path / "True", "alarm")
    assert [line["message"].partition(":")[0] for line in alarms] == [
        f"epoch {e + 1}, batch {b + 1}" for e, b in expected
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_a_defense_averages_does_not_see_a_skipped_update(
    images: Path, tmp_path: Path, deferring: Deferring
) -> None:
    config = small_config(
        images, defense=SpoiledNuAT2(lam=LAM, attack_tau=0.9, steps=(SPOILED,)), model=BATCH_NORM, monitors=SKIP
    )
    for defers in (False, True):
        deferring(defers)
        train(config, tmp_path / str(defers))
    at_once, later = remembered(tmp_path / "False"), remembered(tmp_path / "True")
    assert_equal(later["defense"], at_once["defense"])
    assert_equal(later["model"], at_once["model"])
    assert len(metrics(tmp_path / "True", "alarm")) == 1


def test_stop_keeps_the_last_good_checkpoint(images: Path, tmp_path: Path, deferring: Deferring) -> None:
    config = small_config(images, defense=Spoiled(steps=(SPOILED,)), monitors=MonitorConfig(on_nonfinite="stop"))
    deferring(True)
    out = tmp_path / "run"
    before: dict[str, bytes] = {}

    def look() -> None:
        wait_for(out / "checkpoint.pt")  # the last of the three
        before.update({n: (out / n).read_bytes() for n in ("checkpoint.pt", "best.safetensors", "last.safetensors")})

    with pytest.raises(RunStopped, match="epoch 2, batch 2"):
        train(config, out, {SPOILED: look})
    assert {name: (out / name).read_bytes() for name in before} == before
    assert len(before) == 3
    assert [line["kind"] for line in metrics(out)] == ["start", "epoch", "alarm"]


def test_a_checkpoint_within_the_epoch_waits_for_the_verdict(
    images: Path, tmp_path: Path, deferring: Deferring
) -> None:
    config = small_config(
        images, defense=Spoiled(steps=(1,)), monitors=MonitorConfig(on_nonfinite="stop"), checkpoint_batches=2
    )
    deferring(True)
    with pytest.raises(RunStopped, match="epoch 1, batch 2"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


# nothing in a step asks the device


NAMES = ("nuat", "nuat-authors", "nuat2-wa", "gat", "trades", "pgd-at", "awp", "free-at")


def loop_of(config: TrainConfig, out: Path) -> Loop:
    loop = Loop(config, RunFolder(out), "test", torch.device("cpu"), Reporter())
    loop.state.epoch = 1  # lambda is not 0, and averages take part
    return loop


@pytest.mark.slow
@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("monitors", [MonitorConfig(), SKIP], ids=["stop", "skip"])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_does_not_wait_for_the_device(
    name: str,
    monitors: MonitorConfig,
    images: Path,
    tmp_path: Path,
    deferring: Deferring,
) -> None:
    config = small_config(
        images,
        defense=DEFENSES[name].defense,
        model=BATCH_NORM,
        monitors=monitors,
        averaging=AveragingConfig(tau=0.9, warmup=True),
    )
    deferring(True)
    loop = loop_of(config, tmp_path)
    stream = loop.epoch()
    loop.train_batches([next(stream)])  # optimizers set up what they remember
    with NoQuestions():
        for batch in itertools.islice(stream, 2):
            loop.train_batches([batch])
    assert loop.updater.skipped() == []
    deferring(False)  # and the mode above would have noticed
    loop = loop_of(config, tmp_path)
    with NoQuestions(), pytest.raises(AskedError):
        loop.train_batches([next(loop.epoch())])


def test_check_finite_refuses_or_notes() -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        bad = torch.tensor([1.0, value, 2.0])
        with pytest.raises(NonFiniteError, match="what it says"):
            check_finite(bad, "what it says")
        watch = Watch()
        with watch.entered():
            check_finite(bad, "")
            check_finite(torch.ones(3), "")
        assert watch.bad is not None
        assert bool(watch.bad)
    both = torch.tensor([float("inf"), -float("inf")])
    with pytest.raises(NonFiniteError):
        check_finite(both, "")
    check_finite(torch.full((100,), 3e4, dtype=torch.float16), "")  # whose sum half precision does not hold
    check_finite(torch.full((4,), torch.finfo(torch.float32).max), "")  # nor float32 this one

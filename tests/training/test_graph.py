"""Recorded updates on a CPU, where a stand-in repeats the operations of a step as a CUDA graph does."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import DEFENSES, LAM
from recording import Operations, taped
from torch import Tensor
from training.recorded_runs import BATCHES, EPOCHS, SUITED, Asking, Curriculum, Replacing, Undeclared, moving
from training.small_runs import BATCH_NORM, EPS, Watcher, assert_equal, metrics, small_config, write_images

import nuat
from nuat.config import AveragingConfig, MonitorConfig, OptimizerConfig, ThreatConfig, TrainConfig
from nuat.core import averaging, nuclear
from nuat.core.schedules import Cyclic
from nuat.defenses import FGSMAT, Defense, NuAT, NuAT2
from nuat.distributed.world import ALONE
from nuat.errors import InputError
from nuat.progress import Reporter
from nuat.records.folder import RunFolder
from nuat.training import brake
from nuat.training import run as training_run
from nuat.training.capture import Capture
from nuat.training.graph import RecordedUpdates, unsuited
from nuat.training.monitors import Alarm
from nuat.training.run import Loop
from nuat.training.update import Taken, Updater

UNION = ThreatConfig(eps=EPS, also="L2:0.5,L1:2")
THREATS = (ThreatConfig(eps=EPS), ThreatConfig(norm="L2", eps=0.5), ThreatConfig(norm="L1", eps=2.0))
ACROSS = ("nuat", "n-fgsm", "free-at", "pgd-at")
"""Defenses whose operations are looked at in each norm: they take every start, step and projection between them."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), size=4)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the nuclear norm by the method of a GPU, which asks for no values."""
    monkeypatch.setattr(nuclear, "_method", lambda device, dtype: nuclear._by_iteration)


def loop_of(config: TrainConfig, out: Path, capture: Capture | None, dtype: torch.dtype = torch.float32) -> Loop:
    """Return a run whose updates are left to the device, and recorded if there is a ``capture``."""
    loop = Loop(config, RunFolder(out), "test", torch.device("cpu"), Reporter())
    loop.state.model.to(dtype)
    loop.state.averages = tuple(averaging.start(loop.state.model) for _ in loop.state.averages)
    loop.state.defense = config.defense.init_state(loop.state.model)
    loop.updater = Updater(config, loop.state, ALONE, steps=loop.steps, batches=loop.batches, defers=True)
    if capture is not None:
        tell: Callable[[str], None] = pytest.fail
        loop.recorded = RecordedUpdates(config, loop.state, loop.updater, capture=capture, tell=tell)
    return loop


def train(loop: Loop, dtype: torch.dtype = torch.float32, *, begins: int = 0) -> None:
    """Take all steps of a run, from an epoch on."""
    for epoch in range(begins, loop.config.epochs):
        loop.state.epoch, loop.state.batch = epoch, 0
        for batch in loop.epoch():
            loop.train_batches([replace(batch, x=batch.x.to(dtype))])


def left(loop: Loop) -> dict[str, Any]:
    """Return what a run has come to."""
    values = loop.state.to_dict()
    values["means"] = loop.state.means()
    return values


def test_most_defenses_can_be_recorded() -> None:
    assert set(DEFENSES) - set(SUITED) == {"nuat-h-calm", "nuat-h-alarm", "nuat-h-authors-alarm"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITED)
def test_steps_of_a_kind_issue_the_same_operations_and_ask_nothing(name: str, images: Path, tmp_path: Path) -> None:
    recordings: list[list[tuple[int, list[Any]]]] = []

    def traced(body: Callable[[], Taken], generators: Sequence[torch.Generator]) -> Callable[[], Taken]:
        traces: list[tuple[int, list[Any]]] = []
        recordings.append(traces)

        def repeat() -> Taken:
            with Operations() as operations:
                taken = body()
            traces.append((loop.state.epoch, operations.listed))
            return taken

        return repeat

    for threat in THREATS if name in ACROSS else (ThreatConfig(eps=EPS),):
        config = moving(images, DEFENSES[name].defense, model=BATCH_NORM, threat=threat)
        config = replace(config, data=replace(config.data, train_limit=5 * config.batch_size + 2))
        loop = loop_of(config, tmp_path, traced)
        train(loop, begins=1)  # lambda is not 0
    assert recordings
    for traces in recordings:
        assert len(traces) >= 2
        for _, operations in traces:
            assert operations == traces[0][1]
    assert len({epoch for traces in recordings for epoch, _ in traces}) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("threat", [ThreatConfig(norm="L2", eps=0.5), ThreatConfig(norm="L1", eps=2.0), UNION], ids=str)
@pytest.mark.parametrize("name", ["nuat", "free-at"])
def test_updates_in_other_norms_are_repeated(name: str, threat: ThreatConfig, images: Path, tmp_path: Path) -> None:
    config = moving(images, DEFENSES[name].defense, threat=threat)
    worst = replace(config, worst_ball=threat.also is not None, epochs=4 if threat.also else config.epochs)
    found = {}
    for capture in (None, taped):
        loop = loop_of(worst, tmp_path, capture, torch.float64)
        torch.manual_seed(0)
        train(loop, torch.float64)
        found[capture] = left(loop)
    assert loop.recorded is not None
    assert loop.recorded.repeated > 0
    _assert_close(found[taped], found[None])


@pytest.mark.parametrize(("name", "cutmix"), [*((name, None) for name in SUITED), ("nuat", 1.0), ("liet", 1.0)])
def test_repeated_updates_equal_eager_ones(name: str, cutmix: float | None, images: Path, tmp_path: Path) -> None:
    defense = DEFENSES[name].defense
    config = moving(images, defense if cutmix is None else replace(defense, smoothing=0.3))
    config = replace(config, data=replace(config.data, cutmix=cutmix))
    found = {}
    for capture in (None, taped):
        loop = loop_of(config, tmp_path, capture, torch.float64)
        torch.manual_seed(0)
        train(loop, torch.float64)
        found[capture] = left(loop)
    assert loop.recorded is not None
    assert loop.recorded.repeated >= BATCHES
    _assert_close(found[taped], found[None])


def _assert_close(ours: Any, theirs: Any, where: str = "") -> None:
    """Nested plain data are equal, tensors and numbers to rounding in float64."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for name in theirs:
            _assert_close(ours[name], theirs[name], f"{where}/{name}")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), where
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            _assert_close(one, other, f"{where}/{i}")
    elif isinstance(theirs, Tensor):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9, msg=lambda text: f"{where}: {text}")
    else:
        assert ours == (pytest.approx(theirs, rel=1e-6) if isinstance(theirs, float) else theirs), where


@pytest.mark.slow
def test_where_momentum_stays_the_bits_are_those_of_eager_updates(images: Path, tmp_path: Path) -> None:
    config = moving(images, NuAT2(lam=LAM, attack_tau=0.9), optimizer=OptimizerConfig(lr=Cyclic(peak=0.05, rise=0.5)))
    runs = [loop_of(config, tmp_path, capture) for capture in (None, taped)]
    for loop in runs:
        train(loop)
    eager, repeated = map(left, runs)
    assert_equal(repeated, eager)


def test_updates_across_a_brake_are_repeated(images: Path, tmp_path: Path) -> None:
    """Its two attack steps are a kind of their own, and what goes back keeps the tensors of the recordings."""
    config = moving(images, FGSMAT(), monitors=MonitorConfig(on_overfitting="brake"), epochs=4)
    alarm = Alarm(monitor="overfitting", message="", stop=False, brake=True)
    found = []
    for capture in (None, taped):
        loop = loop_of(config, tmp_path, capture, torch.float64)
        loop.state.keep()  # in float64
        for epoch in range(config.epochs):
            loop.state.epoch, loop.state.batch = epoch, 0
            for batch in loop.epoch():
                loop.train_batches([replace(batch, x=batch.x.double())])
            loop.state.epoch = epoch + 1
            brake.settle(loop.state, [alarm] if epoch == 1 else [], {})
        found.append(left(loop))
    assert loop.recorded is not None
    assert loop.recorded.repeated >= 2 * BATCHES
    _assert_close(*reversed(found))


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 2, "averaging": AveragingConfig(tau=(0.5, 0.9), warmup=True)},
        {"optimizer": OptimizerConfig(name="adam")},
    ],
    ids=str,
)
def test_other_updates_are_repeated(changes: dict[str, Any], images: Path, tmp_path: Path) -> None:
    config = moving(images, NuAT(lam=LAM, scale="gaussian"), **changes)
    runs = [loop_of(config, tmp_path, capture, torch.float64) for capture in (None, taped)]
    for loop in runs:
        stream: list[Any] = []
        for epoch in range(EPOCHS):
            loop.state.epoch, loop.state.batch = epoch, 0
            for batch in loop.epoch():
                stream.append(replace(batch, x=batch.x.double()))
                if len(stream) == config.accumulate:
                    loop.train_batches(stream)
                    stream = []
    eager, repeated = map(left, runs)
    assert runs[1].recorded is not None
    assert runs[1].recorded.repeated > 0
    _assert_close(repeated, eager)


@pytest.mark.slow
def test_a_state_that_begins_anew_is_recorded_anew(images: Path, tmp_path: Path) -> None:
    config = moving(images, DEFENSES["free-at"].defense)
    runs = [loop_of(config, tmp_path, capture, torch.float64) for capture in (None, taped)]
    for loop in runs:
        train(loop, torch.float64)
        loop.state.defense["delta"] = torch.zeros_like(loop.state.defense["delta"])
        loop.state.step = 0
        train(loop, torch.float64)
    _assert_close(*map(left, reversed(runs)))


def test_a_recording_is_compared_again_and_again(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    compared = RecordedUpdates._compared

    def watched(updates: RecordedUpdates, *arguments: Any) -> str | None:
        tried.append(loop.state.epoch)
        return compared(updates, *arguments)

    monkeypatch.setattr(RecordedUpdates, "_compared", watched)
    loop = loop_of(moving(images, DEFENSES["standard"].defense, epochs=9), tmp_path, taped)
    train(loop)
    assert tried == [0, 1, 3, 7]


# what cannot be repeated stays eager, and the run says why


@pytest.mark.parametrize(
    ("defense", "reason"),
    [
        (Curriculum(), "a repeated update differs from an eager one"),
        (Replacing(), "more than tensors that are changed in place"),
        (Asking(), "AskedError: aten._local_scalar_dense"),
        (Undeclared(), "Undeclared declares no kinds of steps"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_defense_that_cannot_be_repeated_runs_eagerly_and_says_why(
    defense: Defense, reason: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = moving(images, defense, eps_warmup=0.0)
    nuat.run(config, out=tmp_path / "eager")
    watcher = Watcher()

    def as_with_a_gpu(config: TrainConfig, state: Any, updater: Updater, world: Any, *, tell: Any) -> RecordedUpdates:
        return RecordedUpdates(config, state, updater, capture=taped, tell=tell, reason=unsuited(config, world))

    monkeypatch.setattr(training_run, "recorded_updates", as_with_a_gpu)
    monkeypatch.setattr(training_run, "cuda_capture", lambda: taped)
    monkeypatch.setattr(training_run, "Updater", _deferring)
    nuat.run(config, out=tmp_path / "run", reporter=watcher)
    (said,) = [message for message in watcher.messages if "CUDA graphs" in message]
    assert reason in said
    (line,) = metrics(tmp_path / "run", "eager")
    assert line["reason"] in said
    for ours, theirs in zip(*(metrics(tmp_path / name, "epoch") for name in ("run", "eager")), strict=True):
        assert ours["train"] == pytest.approx(theirs["train"], rel=1e-5)
        assert (ours["forwards"], ours["backwards"]) == (theirs["forwards"], theirs["backwards"])


def _deferring(*arguments: Any, **settings: Any) -> Updater:
    return Updater(*arguments, **settings, defers=True)


def test_on_is_refused_where_nothing_can_be_recorded(images: Path, tmp_path: Path) -> None:
    for graph_setting in ("auto", "off"):
        loop = loop_of(small_config(images, graph=graph_setting), tmp_path, None)
        assert loop.recorded is None
    with pytest.raises(InputError, match="graph=on: CUDA graphs need a GPU"):
        loop_of(small_config(images, graph="on"), tmp_path, None)
    nesterov = OptimizerConfig(nesterov=True, lr=Cyclic(), momentum_at_peak=0.8)
    assert "Nesterov" in str(unsuited(small_config(images, optimizer=nesterov), ALONE))

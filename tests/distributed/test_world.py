"""Processes that train together: what they exchange, what they must agree on, messages when one is gone."""

import contextlib
import copy
import dataclasses
import datetime
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.engine import Left, batch_of, config_of, run_processes, train
from oracles import TinyConv, images, labels
from torch import nn
from training.small_runs import small_config, write_images

from nuat.config import MonitorConfig, ThreatConfig
from nuat.core.random import Rows, integers, normal, uniform
from nuat.data import ImageSet, check_shares
from nuat.distributed import world
from nuat.distributed.world import ALONE, PeerLostError, World, check_gpus, joined, peer_lost, timeout_seconds
from nuat.errors import InputError
from nuat.evaluation.evaluate import evaluate
from nuat.models import synchronise_batch_norm
from nuat.progress import Reporter
from nuat.training import preparation
from nuat.training.state import TrainingState
from nuat.training.update import Updater
from nuat.training.validation import validate

Two = dict[str, tuple[Any, Any]]
"""Values that each of two processes returned, by the name of what they did."""


def test_draws_are_those_of_one_device() -> None:
    whole, like = (5, 2), torch.empty(())

    def rows(rank: int) -> Rows:
        return Rows(torch.Generator().manual_seed(3), rank, 2, 5)

    for draw in (
        lambda shape, source: uniform(shape, source, like),
        lambda shape, source: normal(shape, source, like),
        lambda shape, source: integers(9, shape, source, like.device),
    ):
        expected = draw(whole, torch.Generator().manual_seed(3))
        for rank in range(2):
            assert torch.equal(draw((3 - rank, 2), rows(rank)), expected[rank::2])
    offsets = integers(9, (2, 5), torch.Generator().manual_seed(3), like.device, images=1)
    assert torch.equal(integers(9, (2, 2), rows(1), like.device, images=1), offsets[:, 1::2])
    with pytest.raises(AssertionError, match="not the rows"):
        uniform((4, 2), rows(0), like)


def exchanges(world: World) -> dict[str, Any]:
    mine = torch.full((world.share(5), 2), float(world.rank), requires_grad=True)
    gathered = world.gather(mine, 5)
    (gathered * torch.arange(5.0)[:, None]).sum().backward()
    network = nn.Sequential(nn.BatchNorm2d(2))
    network[0].running_mean.fill_(float(world.rank))
    world.average_buffers(network)
    return {
        "gathered": gathered.detach(),
        "gradient": mine.grad,
        "sum": world.sum([torch.tensor(1.0 + world.rank), torch.ones(2)]),
        "any": (world.any(world.rank == 1), world.any(False)),
        "agree": world.agree({"rank": world.rank}),
        "objects": world.objects(world.rank),
        "buffer": network[0].running_mean,
    }


@pytest.mark.slow
def test_exchanges(two: Two) -> None:
    for rank, found in enumerate(two["exchanges"]):
        assert found["gathered"][:, 0].tolist() == [0, 1, 0, 1, 0]
        assert found["gradient"][:, 0].tolist() == list(range(rank, 5, 2))
        assert found["sum"][0] == 3.0
        assert found["sum"][1].tolist() == [2.0, 2.0]
        assert found["any"] == (True, False)
        assert found["agree"] == {"rank": 0}
        assert found["objects"] == [0, 1]
        assert found["buffer"].tolist() == [0.5, 0.5]


def kept_per_image(world: World) -> dict[str, Any]:
    """Save on the processes what they remember per image, now and of the last good epoch; load it on one and on all."""
    config = dataclasses.replace(config_of("free-at", batch_norm=False), monitors=MonitorConfig(on_collapse="brake"))
    model = TinyConv(classes=4, batch_norm=False)
    state = TrainingState.start(config, model, torch.device("cpu"))
    whole = torch.arange(8.0)[:, None]
    state.defense["delta"] = world.rows(whole).clone()
    state.keep()
    values = state.to_dict(world)
    alone, together = (TrainingState.start(config, model, torch.device("cpu")) for _ in range(2))
    alone.load(values, "checkpoint")
    together.load(values, "checkpoint", world)
    found = {"saved": values, "one": vars(alone), "own": vars(together)}
    return {name: [one["defense"]["delta"], one["good"]["defense"]["delta"]] for name, one in found.items()}


@pytest.mark.slow
def test_a_checkpoint_is_for_any_number_of_processes(two: Two) -> None:
    whole = torch.arange(8.0)[:, None]
    for rank, found in enumerate(two["kept per image"]):
        for name, expected in (("saved", whole), ("one", whole), ("own", whole[rank::2])):
            assert all(torch.equal(one, expected) for one in found[name]), name


def other_statistics(world: World) -> tuple[Left, Left]:
    return (
        train(config_of("nuat", batch_norm=False, statistics="device"), world, batch_norm=False),
        train(config_of("nuat", batch_norm=True, accumulate=2), world, batch_norm=True),
    )


@pytest.mark.slow
def test_statistics_per_device_and_accumulation(two: Two) -> None:
    per_device, accumulated = zip(*two["other statistics"], strict=True)
    alone = train(config_of("nuat", batch_norm=False), batch_norm=False)
    name = next(iter(alone.weights))
    assert torch.equal(per_device[0].weights[name], per_device[1].weights[name])
    assert not torch.allclose(per_device[0].weights[name], alone.weights[name], rtol=1e-9, atol=1e-9)
    assert per_device[0].losses != per_device[1].losses  # each of its own images
    together = train(config_of("nuat", batch_norm=True, accumulate=2), batch_norm=True)
    for found in accumulated:
        for key, tensor in together.weights.items():
            torch.testing.assert_close(found.weights[key], tensor, rtol=1e-9, atol=1e-9)


def test_accumulated_gradients_are_those_of_the_mean_over_images() -> None:
    """Without batch norm and nuclear norm, two batches in one update are one batch of both."""
    config = config_of("standard", batch_norm=False, accumulate=3)
    found = train(config, batch_norm=False)
    model = TinyConv(classes=4, batch_norm=False, dropout=0.0).double()
    with torch.no_grad():
        model.linear.weight.mul_(0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0003, momentum=0.9, weight_decay=5e-4)
    for epoch in range(2):
        parts = [(m, 10 * epoch + b) for b, m in enumerate((8, 8, 6))]
        x = torch.cat([images(m, 3, 6, torch.float64, 0.1, seed) for m, seed in parts])
        y = torch.cat([labels(m, 4, seed) for m, seed in parts])
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(found.weights[key], tensor, rtol=1e-9, atol=1e-12)


def shared_work(world: World) -> dict[str, Any]:
    torch.manual_seed(0)
    model = TinyConv(classes=4, dropout=0.0).eval()
    some = ImageSet((255 * images(23, 3, 6)).to(torch.uint8), labels(23, 4, 1))
    found = evaluate(
        model, some, ("clean", "pgd-3", "square-5"), threat=ThreatConfig(eps=0.05), batch_size=4, world=world
    )
    return {
        "verdicts": {result.name: result.correct for result in found.results},
        "costs": [(result.forwards, result.backwards) for result in found.results],
        "validation": validate(model, some, threat=ThreatConfig(eps=0.05), batch_size=4, world=world),
    }


@pytest.mark.slow
def test_evaluation_and_validation_are_shared_and_exact(tmp_path: Path) -> None:
    expected = shared_work(ALONE)
    for found in run_processes(3, shared_work, folder=tmp_path):
        assert found["verdicts"].keys() == expected["verdicts"].keys()
        for name, verdict in expected["verdicts"].items():
            assert torch.equal(found["verdicts"][name], verdict)
        assert found["costs"] == expected["costs"]
        # accuracies are exact; a mean loss of other batches is one to rounding
        assert {**found["validation"], "clean_loss": 0} == {**expected["validation"], "clean_loss": 0}
        assert found["validation"] == pytest.approx(expected["validation"], rel=1e-6)


def one_sees_infinity(world: World, statistics: str) -> dict[str, Any]:
    config = config_of("nuat", batch_norm=True, statistics=statistics)
    config = dataclasses.replace(config, monitors=MonitorConfig(on_nonfinite="skip"))
    model = synchronise_batch_norm(TinyConv(classes=4, dropout=0.0).double(), world)
    state = TrainingState.start(config, model.train(), torch.device("cpu"))
    updater = Updater(config, state, world, steps=10, batches=3)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    bad = batch_of(0, 1, world)
    state.epoch, state.batch = 1, 1
    if world.rank == 1:
        bad.x[0, 0, 0, 0] = torch.nan
    updater.update([bad])
    unchanged = all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())
    updater.update([batch_of(0, 2, world)])
    return {
        "unchanged": unchanged,
        "skipped": [(skipped.epoch, skipped.batch) for skipped in updater.skipped()],
        "weights": {name: tensor.detach() for name, tensor in model.named_parameters()},
    }


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["global", "device"])
def test_an_update_that_is_bad_on_one_is_skipped_on_all(two: Two, statistics: str) -> None:
    one, other = two[f"infinity, {statistics}"]
    for found in (one, other):
        assert found["unchanged"]
        assert found["skipped"] == [(1, 1)]
        assert all(bool(tensor.isfinite().all()) for tensor in found["weights"].values())
    assert all(torch.equal(tensor, other["weights"][name]) for name, tensor in one["weights"].items())


def disagree(world: World, path: Path, other: Path, kind: str) -> str:
    config = small_config(other if kind == "images" and world.rank else path)
    if kind == "settings" and world.rank:
        config = small_config(path, epochs=3)
    try:
        preparation.prepare(config, torch.device("cpu"), Reporter(), world)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [("settings", "epochs is 2 on process 0 and 3 on process 1"), ("images", "the training images is"), ("", "")],
)
def test_different_settings_or_images_are_refused_on_all(two: Two, kind: str, said: str) -> None:
    for found in two[f"disagree, {kind}"]:
        assert said in found
        assert bool(found) == bool(kind)


def one_sleeps(world: World) -> str:
    if world.rank == 1:
        time.sleep(3.0)
        return "slept"
    try:
        world.wait()
    except RuntimeError as error:
        return type(error).__name__
    return "stayed"


def one_leaves_an_evaluation(world: World, state: str) -> list[str]:
    if world.rank == 1:
        world.agree(None)  # what was finished before
        return ["left"]
    torch.manual_seed(0)
    some = ImageSet((255 * images(8, 3, 6)).to(torch.uint8), labels(8, 4, 1))
    model, threat = TinyConv(classes=4, dropout=0.0).eval(), ThreatConfig(eps=0.05)
    told = []
    for act in (
        lambda: evaluate(model, some, ("pgd-3",), threat=threat, batch_size=4, world=world, state_path=Path(state)),
        world.wait,
    ):
        try:
            act()
        except RuntimeError as error:
            told.append(type(error).__name__)
    return told


@pytest.mark.slow
def test_a_process_that_is_gone_is_noticed_and_an_own_batch_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    told = run_processes(2, one_leaves_an_evaluation, str(state), folder=tmp_path)
    assert told == [["PeerLostError", "PeerLostError"], ["left"]]
    (job,) = json.loads(state.read_text())["jobs"].values()
    assert list(job) == ["0"]


def one_has_long_work(world: World) -> list[Any]:
    world = dataclasses.replace(
        world, patient=torch.distributed.new_group(backend="gloo", timeout=datetime.timedelta(seconds=60))
    )
    if world.rank == 1:
        time.sleep(2.5)
    found: list[Any] = world.objects(world.rank, patient=True)
    with world.first_of_machine():
        if world.rank == 0:
            time.sleep(2.5)
        found.append(time.monotonic())
    return [*found, world.any(world.rank == 1, patient=True)]


def long_work_and_sleep(world: World) -> list[Any]:
    return [*one_has_long_work(world), one_sleeps(world)]


@pytest.mark.slow
def test_a_process_with_long_work_is_waited_for_and_one_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    one, other = run_processes(2, long_work_and_sleep, folder=tmp_path, timeout=2.0)
    assert one[:2] == other[:2] == [0, 1]
    assert one[2] < other[2]  # the first of the machine goes first
    assert one[3] is other[3] is True
    assert (one[4], other[4]) == ("PeerLostError", "slept")


def first_fails(world: World) -> str:
    try:
        with world.first_of_machine():
            raise InputError(f"process {world.rank}")
    except InputError as error:
        return str(error)


@pytest.mark.slow
def test_where_the_first_of_a_machine_fails_the_others_find_out_for_themselves(two: Two) -> None:
    assert two["first fails"] == ("process 0", "process 1")


def draws_of_dropout(world: World) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw after a checkpoint, and again after going back to it."""
    config = config_of("nuat", batch_norm=False)
    torch.manual_seed(10 + world.rank)
    state = TrainingState.start(config, TinyConv(classes=4, batch_norm=False), torch.device("cpu"))
    values = state.to_dict(world)
    drawn = torch.rand(3)
    state.load(values, "checkpoint", world)
    again = torch.rand(3)
    state.load(values, "checkpoint")  # on one process
    alone = torch.rand(3)
    state.load({**values, "torch_rng": values["torch_rng"][0]}, "checkpoint")  # as it was written before
    assert torch.equal(torch.rand(3), alone)
    return drawn, again, alone


@pytest.mark.slow
def test_a_checkpoint_keeps_the_global_generator_of_every_process(two: Two) -> None:
    one, other = two["draws of dropout"]
    for drawn, again, _ in (one, other):
        assert torch.equal(drawn, again)
    assert not torch.equal(one[0], other[0])
    assert torch.equal(other[2], one[0])


def together(world: World, path: Path, other: Path) -> dict[str, Any]:
    """Do all that ends well, so that it starts two processes once."""
    return {
        "exchanges": exchanges(world),
        "kept per image": kept_per_image(world),
        "other statistics": other_statistics(world),
        "infinity, global": one_sees_infinity(world, "global"),
        "infinity, device": one_sees_infinity(world, "device"),
        "disagree, settings": disagree(world, path, other, "settings"),
        "disagree, images": disagree(world, path, other, "images"),
        "disagree, ": disagree(world, path, other, ""),
        "first fails": first_fails(world),
        "draws of dropout": draws_of_dropout(world),
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    folders = [tmp_path_factory.mktemp(name) for name in ("together", "other")]
    files = [write_images(folder, seed=seed) for seed, folder in enumerate(folders)]
    one, other = run_processes(2, together, *files, folder=folders[0])
    return {name: (one[name], other[name]) for name in one}


def test_a_batch_is_shared_out_or_refused() -> None:
    check_shares(100, 32, 2, 2)
    with pytest.raises(InputError, match=r"does not divide among 3 devices.*try batch_size=33"):
        check_shares(100, 32, 3, 1)
    with pytest.raises(InputError, match="a batch of 4 of the 100 training images leaves some of 4 devices 1"):
        check_shares(100, 32, 4, 2)
    with pytest.raises(InputError, match="leaves some of 8 devices 0"):
        check_shares(100, 32, 8, 1)


def test_gpus_and_timeouts_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_gpus("auto", 2)
    check_gpus("cpu", 5)
    with pytest.raises(InputError, match="devices=3: this machine has 2 GPU"):
        check_gpus("cuda", 3)
    with pytest.raises(InputError, match="give --device cuda"):
        check_gpus("cuda:1", 2)
    monkeypatch.setenv("NUAT_TIMEOUT", "soon")
    with pytest.raises(InputError, match="NUAT_TIMEOUT='soon'"):
        timeout_seconds()


def test_alone_where_nothing_started_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as world:
        assert world == ALONE
    assert "MASTER_ADDR" not in os.environ


def test_only_lost_peers_are_called_so_and_the_reason_is_kept() -> None:
    lost = peer_lost(RuntimeError("NCCL error: unhandled system error\nno room in /dev/shm"))
    assert "see its message" in str(lost)
    assert "unhandled system error no room in /dev/shm" in str(lost)
    slow = peer_lost(RuntimeError("Timed out waiting 600000ms for recv operation to complete"))
    assert "set NUAT_TIMEOUT [s] (now 600)" in str(slow)
    assert peer_lost(RuntimeError("Connection closed by peer [127.0.0.1]:1")) is not None
    for other in ("size mismatch", "could not restore the state"):
        assert peer_lost(RuntimeError(other)) is None


def test_an_exchange_tells_lost_peers_from_other_errors() -> None:
    with pytest.raises(PeerLostError), world._peers():
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="size mismatch"), world._peers():
        raise RuntimeError("size mismatch")
    with pytest.raises(AssertionError, match="4 rows on rank 0 of a batch of 5"):
        World(0, 2).gather(torch.zeros(4, 2), 5)


def test_a_process_that_cannot_join_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match=r"process 0 of 2 could not join the others .*; start them with torchrun"):
        joined("cpu").__enter__()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"devices=2: this machine has 1 GPU"):
        joined("cuda").__enter__()


def test_a_synchronised_batch_norm_takes_batches_of_images_alone() -> None:
    with pytest.raises(ValueError, match="expected 4D input"):
        synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(2)), World(0, 2))(torch.zeros(2, 2, 3))


def test_one_process_needs_no_synchronised_batch_norm() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2))
    assert type(synchronise_batch_norm(model, ALONE)[0]) is nn.BatchNorm2d


@pytest.mark.parametrize("training", [False, True])
def test_what_follows_a_batch_norm_of_timm_stays(training: bool) -> None:
    """With a single process the synchronised statistics are the batch's own."""
    timm = pytest.importorskip("timm", reason="the timm extra is not installed")
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), timm.layers.BatchNormAct2d(4), nn.Conv2d(4, 2, 1)).train(training)
    x = torch.randn(6, 3, 5, 5)
    expected = copy.deepcopy(plain)(x)
    names = list(plain.state_dict())
    synchronised = synchronise_batch_norm(copy.deepcopy(plain), World(0, 2))
    assert list(synchronised.state_dict()) == names
    assert type(synchronised[1]) is not type(plain[1])
    with one_process_group():
        torch.testing.assert_close(synchronised(x), expected)


@contextlib.contextmanager
def one_process_group() -> Iterator[None]:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(2), nn.BatchNorm3d(2), type("Own", (nn.BatchNorm2d,), {})(2)])
def test_a_batch_norm_of_another_kind_is_not_synchronised_in_part(norm: nn.Module) -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), norm)
    with pytest.raises(InputError, match=rf"batch_norm=sync: 1 is a {type(norm).__name__}, which cannot be"):
        synchronise_batch_norm(model, World(0, 2))
    assert type(model[0]) is nn.BatchNorm2d

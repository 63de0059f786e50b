"""Rehearsed steps: what kinds of epochs there are, and what a batch of each defense does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nuat.core.schedules import Ramp
from nuat.defenses import AWP, PGDAT, Defense, FreeAT, NuAT, NuAT2, NuATHybrid
from nuat.plan.images import Images, made_up
from nuat.plan.steps import count, epoch_kinds, rehearsal, seconds, stand_at
from nuat.recipes import find

SIZE = (8, 8)
TINY = Images(train=100, validation=0, test=10, channels=1, size=SIZE, classes=3, source="made up")


@pytest.mark.parametrize(
    ("defense", "epochs_of_a_kind"),
    [
        (NuAT(), [4]),
        (PGDAT(steps=2), [4]),
        (AWP(steps=2, warmup=0.5), [2, 2]),
        (NuAT2(), [1, 3]),  # lambda is 0 in the first epoch, and needs no reference
        (NuAT2(lam=Ramp(peak=0.0)), [4]),
    ],
)
def test_epochs_that_take_other_passes_are_told_apart(defense: Defense, epochs_of_a_kind: list[int]) -> None:
    kinds = epoch_kinds(defense, 4)
    assert [kinds.count(kind) for kind in dict.fromkeys(kinds)] == epochs_of_a_kind


def test_a_hybrid_takes_its_two_steps_in_every_epoch() -> None:
    (hybrid,), (single,) = set(epoch_kinds(NuATHybrid(), 4)[1:]), set(epoch_kinds(NuAT(), 4))
    assert sum(hybrid) > sum(single)


def rehearsed(defense: Defense, folder: Path, **changes: Any) -> Any:
    """Return the settings of a rehearsal on two batches of 6 made-up images."""
    config = find("nuat-mnist-small-cnn")()
    data = made_up(folder, TINY, SIZE, 6, config.data)
    model = replace(config.model, width=4)
    return replace(
        config, defense=defense, data=data, model=model, batch_size=6, device="cpu", precision="fp32", **changes
    )


@pytest.mark.parametrize(
    ("defense", "forwards", "training", "backwards"),
    [
        (NuAT(), 3, 2, 3),  # clean, attack, attacked; the loss goes back through both of its passes
        (PGDAT(steps=3), 4, 1, 4),
        (FreeAT(replays=5), 5, 5, 5),
    ],
)
def test_a_batch_is_counted(defense: Defense, forwards: int, training: int, backwards: int, tmp_path: Path) -> None:
    config = rehearsed(defense, tmp_path)
    with rehearsal(config, "tiny", torch.device("cpu")) as loop:
        found = count(loop, config.epochs - 1)
        parameters = sum(p.numel() for p in loop.state.model.parameters())
        folder = loop.folder.path
    assert (found.forwards, found.training_forwards, found.backwards) == (forwards, training, backwards)
    assert found.state["weights"] == found.state["gradients"] == found.state["optimizer"] == 4 * parameters
    assert found.state["averages"] == 0
    assert found.operations > 0
    assert not folder.exists()


@pytest.mark.parametrize(("defense", "decisions", "sums"), [(NuAT(), 0, 0), (NuATHybrid(), 1, 0), (AWP(steps=2), 0, 1)])
def test_what_a_defense_would_exchange_is_counted(defense: Defense, decisions: int, sums: int, tmp_path: Path) -> None:
    with rehearsal(rehearsed(defense, tmp_path), "tiny", torch.device("cpu")) as loop:
        found = count(loop, 1)
        weights = sum(4 * p.numel() for p in loop.state.model.parameters() if p.dim() > 1)
    assert (found.decisions, found.sums, found.summed) == (decisions, sums, sums * weights)


def test_operations_and_saved_tensors_grow_with_the_batch(tmp_path: Path) -> None:
    totals = []
    for batch in (6, 12):
        config = rehearsed(NuAT(), tmp_path)
        config = replace(config, data=made_up(tmp_path, TINY, SIZE, batch, config.data), batch_size=batch)
        with rehearsal(config, "tiny", torch.device("cpu")) as loop:
            totals.append(count(loop, 1))
    small, large = totals
    assert large.operations == pytest.approx(2 * small.operations, rel=0.02)  # the nuclear norm's do not double
    assert large.saved == pytest.approx(2 * small.saved, rel=0.05)


def test_an_average_is_counted_with_the_network_that_it_is_loaded_into(tmp_path: Path) -> None:
    config = rehearsed(NuAT(), tmp_path)
    config = replace(config, averaging=replace(config.averaging, tau=0.9))
    with rehearsal(config, "tiny", torch.device("cpu")) as loop:
        found = count(loop, 0)
        whole = sum(tensor.nbytes for tensor in loop.state.model.state_dict().values())
    assert found.state["averages"] == 2 * whole


def test_steps_are_timed_at_the_epoch_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    loss = NuAT.loss

    def watched(self: NuAT, model: Any, x: Any, y: Any, step: Any, state: Any) -> Any:
        seen.append((step.epoch, step.batch))
        return loss(self, model, x, y, step, state)

    monkeypatch.setattr(NuAT, "loss", watched)
    with rehearsal(rehearsed(NuAT(), tmp_path), "tiny", torch.device("cpu")) as loop:
        assert seconds(loop, 3, pairs=2) > 0.0
        assert seen == [(3, 0), (3, 1)] * 3  # a pair that is not timed comes first
        stand_at(loop, 2)
        assert (loop.state.epoch, loop.state.batch, loop.state.step) == (2, 0, 4)

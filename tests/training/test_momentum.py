"""Momentum that cycles against the learning rate, as torch's CyclicLR does in the authors' scripts."""

import math
from pathlib import Path

import pytest
import torch
from training.small_runs import BATCHES, small_config, train, write_images

from nuat.config import OptimizerConfig
from nuat.core.schedules import Constant, Cyclic, CyclicSchedule, CyclicStep
from nuat.errors import InputError
from nuat.recipes import RECIPES

EPOCHS = 16
STEPS = EPOCHS * BATCHES
PEAK = 0.1


def torchs(rise: int, fall: int, steps: int) -> list[tuple[float, float]]:
    """Rate and momentum of each update: CyclicLR over ``rise`` + ``fall`` updates, and frozen from there on."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CyclicLR(
        optimizer, base_lr=0.0, max_lr=PEAK, step_size_up=rise, step_size_down=fall
    )
    found = []
    for step in range(steps):
        found.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        if step + 1 < rise + fall:
            schedule.step()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["triangle", "cyclic-step"])
def test_every_update_has_torchs_rate_and_momentum(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rise = STEPS // 4
    if name == "triangle":
        lr: CyclicSchedule = Cyclic(peak=PEAK, rise=1 / 4)
        expected = torchs(rise, STEPS - rise, STEPS)
    else:
        # the cycle would end after 64 updates; at update 48 its rate is a third of the peak, and both stay
        lr = CyclicStep(peak=PEAK, rise=1 / 4, fall=3 / 4, floor=PEAK / 3, drops=(7 / 8,), factor=0.1)
        cycle = torchs(rise, STEPS - rise, STEPS)
        held = [(rate / 10 if step >= 56 else rate, m) for step in range(48, 64) for rate, m in [cycle[48]]]
        expected = cycle[:48] + held
    seen: list[tuple[float, float]] = []
    update = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, *arguments: object) -> object:
        seen.append((self.param_groups[0]["lr"], self.param_groups[0]["momentum"]))
        return update(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    optimizer = OptimizerConfig(lr=lr, momentum_at_peak=0.8)
    train(small_config(write_images(tmp_path), epochs=EPOCHS, optimizer=optimizer), tmp_path / "run")
    assert len(seen) == STEPS
    for step, (found, wanted) in enumerate(zip(seen, expected, strict=True)):
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12), step


def test_where_the_papers_cycles_end() -> None:
    """NuAT keeps 0.88 from epoch 80 on, NuAT2 0.875 from epoch 35 on; a triangle ends at 0.9."""
    for recipe, t, momentum in (
        ("nuat-cifar10-resnet18", 0.8, 0.88),
        ("nuat-cifar10-resnet18", 0.99, 0.88),
        ("nuat-cifar10-resnet18", 0.4, 0.8),
        ("nuat2-cifar10-wrn-34-10", 35 / 55, 0.875),
        ("nuat-wa-cifar10-resnet18", math.nextafter(1.0, 0.0), 0.9),
        ("fbf-cifar10-resnet18", 0.5, 0.8),
    ):
        assert RECIPES[recipe]().optimizer.momentum_at(t) == pytest.approx(momentum), recipe


def test_the_rows_of_the_paper_that_cycle_momentum() -> None:
    cycled = {
        name
        for name, recipe in RECIPES.items()
        if "cifar10" in name and recipe().optimizer.momentum_at_peak is not None
    }
    methods = {name.partition("-cifar10-")[0] for name in cycled}
    assert methods == {
        *("nuat", "nuat-wa", "nuat2", "nuat2-wa", "nuat-h", "nuat-wa-h", "nuat-wa-h-25", "nuat-wa-h-60"),
        *("fbf", "n-fgsm", "free-at"),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": Constant(), "momentum_at_peak": 0.8}, "momentum_at_peak has no effect without SGD and a cyclic"),
        ({"lr": Cyclic(), "momentum_at_peak": 0.8, "name": "adam"}, "momentum_at_peak has no effect without SGD"),
        ({"lr": Cyclic(), "momentum_at_peak": 1.0}, r"momentum_at_peak=1: expected a value in \[0, 1\)"),
    ],
)
def test_momentum_that_cannot_cycle_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OptimizerConfig(**settings)  # type: ignore[arg-type]

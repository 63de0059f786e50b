"""The learning rates and lambda against the table of the authors' scripts, and against torch's OneCycleLR."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nuat.core.schedules import Constant, Cyclic, CyclicStep, Jumps, MultiStep, OneCycle, Ramp, Schedule, warm_up
from nuat.errors import InputError

STEPS = 7  # of an epoch


def rates(schedule: Schedule, epochs: int, steps: int = STEPS) -> list[float]:
    return [schedule(step / (epochs * steps)) for step in range(epochs * steps)]


def test_nuat_resnet18_100_epochs() -> None:
    """0 -> 0.1 over 40 epochs, slope 0.1/50 down until epoch 80, constant, /10 after epoch indices 85 and 90."""

    def table(epoch: float) -> float:
        if epoch < 40:
            return 0.1 * epoch / 40
        if epoch < 80:
            return 0.1 - (epoch - 40) * 0.1 / 50
        if int(epoch) <= 85:
            return 0.02
        return 0.002 if int(epoch) <= 90 else 0.0002

    expected = [table(step / STEPS) for step in range(100 * STEPS)]
    assert rates(CyclicStep(), 100) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_nuat2_wrn_55_epochs() -> None:
    """20 epochs up to 0.1, slope 0.1/20 down until epoch 35 (0.025), /10 after epoch indices 40 and 45."""
    schedule = CyclicStep(rise=20 / 55, fall=35 / 55, floor=0.025, drops=(41 / 55, 46 / 55))

    def table(epoch: float) -> float:
        if epoch < 20:
            return 0.1 * epoch / 20
        if epoch < 35:
            return 0.1 - (epoch - 20) * 0.1 / 20
        if int(epoch) <= 40:
            return 0.025
        return 0.0025 if int(epoch) <= 45 else 0.00025

    expected = [table(step / STEPS) for step in range(55 * STEPS)]
    assert rates(schedule, 55) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("epochs", "up"), [(100, 25), (80, 20)])
def test_the_triangles_of_the_weight_averaged_rows(epochs: int, up: int) -> None:
    expected = [
        0.1 * e / up if (e := step / STEPS) < up else 0.1 * (epochs - e) / (epochs - up)
        for step in range(epochs * STEPS)
    ]
    assert rates(Cyclic(), epochs) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_multi_step_drops_at_the_milestone() -> None:
    """PGD-AT: 0.1, /10 at 100 and 150 of 200 epochs."""
    expected = [0.1] * (100 * STEPS) + [0.01] * (50 * STEPS) + [0.001] * (50 * STEPS)
    assert rates(MultiStep(), 200) == pytest.approx(expected)


def test_constant() -> None:
    assert rates(Constant(peak=0.3), 2) == [0.3] * 14


@pytest.mark.parametrize(("rise", "total"), [(0.3, 50), (0.25, 40), (0.5, 20)])
def test_one_cycle_has_the_shape_of_torchs(rise: float, total: int) -> None:
    schedule = OneCycle(peak=0.2, rise=rise, initial_divisor=10.0, final_divisor=500.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.2,
        total_steps=total,
        pct_start=rise,
        div_factor=10.0,
        final_div_factor=50.0,  # theirs divides the initial rate
        cycle_momentum=False,
    )
    top, last = rise * total - 1, total - 1  # torch puts the peak and the end on steps
    for step in range(total):
        t = rise * step / top if step < top else rise + (1.0 - rise) * (step - top) / (last - top)
        assert schedule(t) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9), step
        optimizer.step()
        if step < last:
            theirs.step()


ALL = [
    Constant(),
    Cyclic(),
    Cyclic(rise=0.0),
    Cyclic(rise=1.0),
    CyclicStep(),
    CyclicStep(rise=0.0, fall=0.0),
    CyclicStep(drops=()),
    MultiStep(),
    OneCycle(),
    OneCycle(rise=0.0),
    OneCycle(rise=1.0),
]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@given(t=st.floats(0.0, 1.0, exclude_max=True))
def test_every_schedule_stays_between_zero_and_its_peak(schedule: Schedule, t: float) -> None:
    assert 0.0 <= schedule(t) <= schedule.peak * (1 + 1e-12)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_every_schedule_reaches_its_peak(schedule: Schedule) -> None:
    top = max(schedule(step / 1000) for step in range(1000))
    reached = 0.02 if isinstance(schedule, CyclicStep) and schedule.fall == 0.0 else 0.1
    assert top == pytest.approx(reached, rel=0.01)


def test_a_schedule_is_only_its_shape() -> None:
    """A run of another length has the same rates at the same fractions."""
    assert rates(CyclicStep(), 100)[::10] == pytest.approx(rates(CyclicStep(), 10))


def test_lambda_of_nuat_resnet18() -> None:
    ramp = Ramp(peak=4.5, until=0.9)
    expected = [4.5 * e / 90 if e < 90 else 4.5 for e in range(100)]
    assert [ramp(e, 100) for e in range(100)] == pytest.approx(expected)
    assert ramp(0, 100) == 0.0


@pytest.mark.parametrize("epochs", [100, 55, 80])
def test_lambda_of_the_other_rows(epochs: int) -> None:
    assert [Ramp()(e, epochs) for e in range(epochs)] == pytest.approx([4 * e / epochs for e in range(epochs)])


def test_the_weight_of_gat() -> None:
    """CIFAR-10: 10, x4 at epoch 85 of 100; ImageNet-100: 20, x7 at epoch 90 of 120."""
    assert [Jumps()(e, 100) for e in range(100)] == [10.0] * 85 + [40.0] * 15
    imagenet = Jumps(start=20.0, at=(90 / 120,), factor=7.0)
    assert [imagenet(e, 120) for e in range(120)] == [20.0] * 90 + [140.0] * 30


def test_jumps_multiply() -> None:
    assert [Jumps(start=2.0, at=(0.25, 0.5), factor=3.0)(e, 8) for e in range(8)] == [2.0] * 2 + [6.0] * 2 + [18.0] * 4
    assert [Jumps(start=2.0, at=())(e, 3) for e in range(3)] == [2.0] * 3
    assert [Jumps(start=2.0, at=(0.0,), factor=0.0)(e, 3) for e in range(3)] == [0.0] * 3
    assert [Jumps(start=2.0, at=(1.0,))(e, 3) for e in range(3)] == [2.0] * 3


@pytest.mark.parametrize("epochs", [30, 50, 55, 100, 110, 120, 200])
def test_a_jump_at_a_whole_epoch_is_not_moved_by_rounding(epochs: int) -> None:
    """0.55 * 100 is more than 55."""
    for jump in range(epochs):
        values = [Jumps(start=1.0, at=(jump / epochs,), factor=2.0)(e, epochs) for e in range(epochs)]
        assert values == [1.0] * jump + [2.0] * (epochs - jump), jump


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(peak=-0.1), r"lr\.peak=-0\.1: expected a finite learning rate >= 0"),
        (lambda: Constant(peak=float("nan")), r"lr\.peak=nan"),
        (lambda: Cyclic(peak=float("inf")), r"lr\.peak=inf"),
        (lambda: Cyclic(rise=1.5), r"lr\.rise=1\.5: expected a fraction of the run in \[0, 1\]"),
        (lambda: Cyclic(rise=40), r"lr\.rise=40"),
        (lambda: CyclicStep(rise=0.5, fall=0.4), r"lr\.fall=0\.4 comes before the knot ahead of it \(0\.5\)"),
        (lambda: CyclicStep(drops=(0.7,)), r"lr\.drops\[0\]=0\.7 comes before"),
        (lambda: CyclicStep(drops=(0.9, 0.85)), r"lr\.drops\[1\]=0\.85 comes before"),
        (lambda: CyclicStep(floor=-1.0), r"lr\.floor=-1"),
        (lambda: CyclicStep(factor=-1.0), r"lr\.factor=-1"),
        (lambda: MultiStep(drops=(0.5, 100.0)), r"lr\.drops\[1\]=100"),
        (lambda: MultiStep(peak=-1.0), r"lr\.peak=-1"),
        (lambda: OneCycle(rise=-0.1), r"lr\.rise=-0\.1"),
        (lambda: OneCycle(initial_divisor=0.0), r"lr\.initial_divisor"),
        (lambda: OneCycle(final_divisor=-1.0), r"lr\.final_divisor"),
        (lambda: Ramp(peak=-1.0), r"lam\.peak=-1: expected a finite weight >= 0"),
        (lambda: Ramp(peak=float("nan")), r"lam\.peak=nan"),
        (lambda: Ramp(until=0.0), r"lam\.until=0: expected a fraction of the run in \(0, 1\]"),
        (lambda: Ramp(until=90), r"lam\.until=90"),
        (lambda: Jumps(start=-1.0), r"weight\.start=-1: expected a finite value >= 0"),
        (lambda: Jumps(start=float("inf")), r"weight\.start=inf"),
        (lambda: Jumps(factor=-4.0), r"weight\.factor=-4"),
        (lambda: Jumps(factor=float("nan")), r"weight\.factor=nan"),
        (lambda: Jumps(at=(85.0,)), r"weight\.at\[0\]=85: expected a fraction of the run in \[0, 1\]"),
        (lambda: Jumps(at=(0.5, 0.4)), r"weight\.at\[1\]=0\.4 comes before the knot ahead of it \(0\.5\)"),
        (lambda: Jumps(at=(float("nan"),)), r"weight\.at\[0\]=nan"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_warm_up_over_four_steps() -> None:
    assert [warm_up(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [warm_up(step, 2.5) for step in range(4)] == pytest.approx([0.4, 0.8, 1.0, 1.0])
    assert [warm_up(step, 0.0) for step in range(3)] == [1.0, 1.0, 1.0]  # no warm-up
    assert warm_up(0, 0.5) == 1.0


@given(st.integers(0, 10**6), st.floats(0.0, 1e6))
def test_a_warm_up_is_never_0_and_only_grows(step: int, steps: float) -> None:
    assert 0.0 < warm_up(step, steps) <= warm_up(step + 1, steps) <= 1.0
    assert (warm_up(step, steps) == 1.0) == (step + 1 >= steps)

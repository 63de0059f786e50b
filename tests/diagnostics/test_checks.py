"""Each check on flags made by hand, or on a model whose answer is known."""

import itertools
import re
from collections.abc import Callable

import pytest
import torch
from diagnostics.masked_models import THREAT, Bars, Exploding, Graphless, Noisy, Quantised, Unconnected, bars, saturated
from torch import Tensor, nn

from nuat.attacks.catalogue import CATALOGUE
from nuat.attacks.planned_jobs import jobs
from nuat.config import ThreatConfig
from nuat.core.threat import Norm, threat
from nuat.data import to_float
from nuat.diagnostics import Gap, Status, Verdict, strength
from nuat.diagnostics.accuracy_by_eps import judge_curve, judge_unbounded, unbounded
from nuat.diagnostics.applicable_checks import stand_ins
from nuat.diagnostics.gradients import judge_gradients, judge_linearity
from nuat.diagnostics.modes import changed_by_draws, judge_modes, judge_randomness

N = 3000


def standing(*broken: range) -> Tensor:
    """All images but those of these numbers withstand."""
    flags = torch.ones(N, dtype=torch.bool)
    for part in broken:
        flags[list(part)] = False
    return flags


def lookup(**special: Tensor) -> Callable[[str], Tensor]:
    """Flags of the attacks named so (dashes as underscores); every other attack breaks the first third."""
    named = {name.replace("_", "-"): flags for name, flags in special.items()}
    return lambda name: named.get(name, standing(range(1000)))


def check(words: str) -> strength.Comparison:
    (found,) = (c for c in strength.COMPARISONS if words in c.check)
    return found


@pytest.mark.parametrize("comparison", strength.COMPARISONS, ids=lambda c: c.check)
def test_equal_attacks_pass(comparison: strength.Comparison) -> None:
    verdict = comparison.judge(lookup())
    assert verdict.status is Status.PASS
    assert (verdict.check, verdict.meaning) == (comparison.check, comparison.passes)
    excluded = f"{100 * (comparison.allowed + comparison.matters):g} points"
    assert verdict.threshold == f"{comparison.asks} (PASS: more than {excluded} is excluded)"
    assert comparison.undecided("none").threshold == verdict.threshold


@pytest.mark.parametrize("comparison", strength.COMPARISONS, ids=lambda c: c.check)
def test_every_member_of_the_weaker_group_may_fail_the_check(comparison: strength.Comparison) -> None:
    """It breaks 600 of the 2,000 images that all others leave."""
    for name in comparison.weaker:
        if name not in comparison.stronger:
            more = {name: standing(range(1600))}
            verdict = comparison.judge(lambda asked, more=more: more.get(asked, standing(range(1000))))
            assert (verdict.status, verdict.meaning) == (Status.FAIL, comparison.fails), name


@pytest.mark.parametrize("comparison", strength.COMPARISONS, ids=lambda c: c.check)
def test_a_group_breaks_what_any_member_breaks(comparison: strength.Comparison) -> None:
    """One strong member of the stronger group is enough."""
    for name in set(comparison.stronger) - set(comparison.weaker):
        more = {name: standing(range(1600)), **dict.fromkeys(comparison.weaker, standing(range(1600)))}
        assert comparison.judge(lambda asked, more=more: more.get(asked, standing(range(10)))).status is Status.PASS


@pytest.mark.parametrize("comparison", strength.COMPARISONS, ids=lambda c: c.check)
def test_a_gap_that_is_allowed_is_no_failure(comparison: strength.Comparison) -> None:
    extra = int(comparison.allowed * N)
    weaker = standing(range(1000 + extra))
    verdict = comparison.judge(lambda name: weaker if name in comparison.weaker else standing(range(1000)))
    assert verdict.status is not Status.FAIL


def test_being_stronger_elsewhere_sets_nothing_off_where_groups_are_taken_together() -> None:
    """Square breaks 300 images that no gradient finds, the gradients 500 that Square does not."""
    flags = lookup(square=standing(range(500, 1300)))
    apart, together = check("Square is weaker"), check("Square finds nothing")
    assert apart.judge(flags).status is Status.PASS
    verdict = together.judge(flags)
    assert verdict.status is Status.FAIL
    assert verdict.measured["only_weaker_breaks"] == 300
    assert verdict.measured["only_stronger_breaks"] == 0


def test_the_attacks_are_those_of_the_checks_and_can_run() -> None:
    threat_names = strength.ATTACKS
    pytest.importorskip("pyautoattack")
    assert len(set(threat_names)) == len(threat_names)
    assert len(jobs(threat_names, nn.Identity(), THREAT)) == len(threat_names) - 2  # three step counts of PGD are one
    assert {"clean", "fgsm", "square"} <= set(CATALOGUE) & set(threat_names)


@pytest.mark.parametrize(("classes", "stand_in"), [(2, {"apgd-t": "apgd-ce"}), (3, {"apgd-t": "apgd-dlr"}), (4, {})])
def test_attacks_that_few_classes_do_not_have(classes: int, stand_in: dict[str, str]) -> None:
    pytest.importorskip("pyautoattack")
    assert stand_ins(classes) == stand_in
    names = tuple(dict.fromkeys(stand_in.get(name, name) for name in strength.ATTACKS))
    jobs(names, nn.Identity(), THREAT, classes)


@pytest.mark.parametrize("comparison", strength.COMPARISONS, ids=lambda c: c.check)
def test_a_gap_that_a_random_models_draws_could_make_is_no_failure(comparison: strength.Comparison) -> None:
    """Where ``weaker`` has more draws; a gap beyond what they could make stands, and no PASS is given for them."""

    def judged(extra: int, changes: float) -> Verdict:
        weaker = standing(range(1000 + extra))
        flags = dict.fromkeys(comparison.weaker, weaker)
        return comparison.judge(lambda name: flags.get(name, standing(range(1000))), changes=changes)

    more_draws = comparison.together or len(comparison.weaker) > len(comparison.stronger)
    extra = 300 + int(comparison.allowed * N)
    assert judged(extra, 0.0).status is Status.FAIL
    assert "changed_by_draws" not in judged(extra, 0.0).measured
    doubted = judged(extra, 0.2)
    assert doubted.status is (Status.INCONCLUSIVE if more_draws else Status.FAIL)
    assert ("20.0% of the images another draw" in doubted.meaning) == more_draws
    assert doubted.measured.get("changed_by_draws") == (0.2 if more_draws else None)
    assert judged(extra, 0.05).status is Status.FAIL
    assert judged(0, 0.2).status is Status.PASS
    assert judged(extra, 0.99).status is not Status.PASS


def test_restarts_are_more_draws() -> None:
    assert check("more restarts").draws_more
    assert not check("iterative attacks").draws_more


def test_a_curve_that_falls_passes_and_one_that_rises_fails() -> None:
    falling = {0.1: standing(range(100)), 0.4: standing(range(1500)), 0.2: standing(range(800))}
    verdict = judge_curve(falling)
    assert verdict.status is Status.PASS
    assert list(verdict.measured["accuracy_by_eps"]) == ["0.1", "0.2", "0.4"]
    assert verdict.measured["accuracy_by_eps"]["0.4"] == pytest.approx(0.5)
    rising = {**falling, 0.8: standing(range(1000))}
    assert judge_curve(rising).status is Status.FAIL
    assert "misled" in judge_curve(rising).meaning
    few = {eps: flags[::60] for eps, flags in falling.items()}
    assert judge_curve({0.1: few[0.1], 0.2: few[0.1].clone()}).status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("smallest", "largest", "n", "status"),
    [
        (900, 900, 1000, Status.FAIL),  # PGD stands still
        (1000, 1000, 1000, Status.FAIL),
        (40, 40, 40, Status.INCONCLUSIVE),  # a fall of one point is not excluded
        (900, 899, 1000, Status.INCONCLUSIVE),  # one image may be chance
        (900, 880, 1000, Status.PASS),
        (0, 0, 1000, Status.PASS),  # nothing is left to fall
        (50, 50, 1000, Status.PASS),
        (60, 60, 1000, Status.INCONCLUSIVE),  # perhaps near 0
        (80, 80, 1000, Status.FAIL),
    ],
)
def test_a_curve_must_fall_unless_nothing_is_left(smallest: int, largest: int, n: int, status: Status) -> None:
    stands = {0.1: torch.arange(n) < smallest, 0.4: torch.arange(n) < largest}
    verdict = judge_curve(stands)
    assert verdict.status is status
    assert verdict.measured["fall_points"] == pytest.approx(100 * (smallest - largest) / n)
    if status is Status.FAIL:
        assert "no more dangerous" in verdict.meaning
    # what lies between does not hide it
    assert judge_curve({**stands, 0.2: stands[0.1]}).status is status


@pytest.mark.parametrize(
    ("survivors", "n", "status"),
    [
        (0, 300, Status.PASS),
        (3, 300, Status.PASS),
        (0, 20, Status.INCONCLUSIVE),
        (1, 20, Status.INCONCLUSIVE),
        (18, 300, Status.INCONCLUSIVE),  # 6 %: 10 are excluded, but 5 are allowed
        (60, 300, Status.FAIL),
        (1, 1, Status.FAIL),
    ],
)
def test_what_survives_an_unbounded_attack(survivors: int, n: int, status: Status) -> None:
    verdict = judge_unbounded(torch.arange(n) < survivors)
    assert (verdict.status, verdict.measured["accuracy"]) == (status, survivors / n)
    if status is Status.INCONCLUSIVE:
        found = re.search(r"about ([\d,]+) would", verdict.meaning)
        assert found is not None
        needed = int(found[1].replace(",", ""))
        by = -(-needed // n)
        assert judge_unbounded(torch.arange(by * n) < by * survivors).status is not status
    assert "more than 10% is excluded" in verdict.threshold


def test_every_image_is_within_the_unbounded_radius() -> None:
    assert unbounded("Linf", torch.Size([3, 32, 32])) == 1.0
    radius = unbounded("L2", torch.Size([3, 5, 7]))
    assert radius == pytest.approx(float((torch.ones(3, 5, 7) - torch.zeros(3, 5, 7)).norm()))
    assert "eps = 10.25" in judge_unbounded(torch.zeros(300), radius).threshold
    assert "eps = 1 is" in judge_unbounded(torch.zeros(300)).threshold


def test_gradients_that_are_there() -> None:
    images = bars(100)
    verdict = judge_gradients(Bars(), to_float(images.images), images.labels)
    assert verdict.status is Status.PASS
    assert verdict.measured["zero_share"] == 0.0
    assert verdict.measured["median_largest_component"] > 1e-4


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Quantised(), "vanishes exactly"),
        (saturated(), "vanishes exactly"),
        (Graphless(), "vanishes exactly"),
        (Unconnected(), "vanishes exactly"),
        (Exploding(), "explodes"),
    ],
)
def test_gradients_that_cannot_be_followed(model: nn.Module, says: str) -> None:
    images = bars(100)
    x = to_float(images.images)
    verdict = judge_gradients(model, x, images.labels)
    assert verdict.status is Status.FAIL
    assert says in verdict.meaning
    assert verdict.measured["zero_share"] == (0.0 if says == "explodes" else 1.0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not x.requires_grad


def test_few_images_say_nothing_of_a_rare_zero() -> None:
    images = bars(20)
    verdict = judge_gradients(Bars(), to_float(images.images), images.labels)
    assert verdict.status is Status.INCONCLUSIVE


@pytest.mark.parametrize(("dead", "status"), [(10, Status.PASS), (14, Status.INCONCLUSIVE), (30, Status.FAIL)])
def test_more_zeros_than_are_allowed_are_no_pass(dead: int, status: Status) -> None:
    """14 of 1,000: more than 5 % is excluded, but 1 % is allowed."""

    class Partly(Bars):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.where(x[:, :, :1, :1] > 2.0, x.detach(), x))

    x = to_float(bars(1000).images)
    x[:dead, :, 0, 0] = 3.0
    verdict = judge_gradients(Partly(), x, bars(1000).labels)
    assert (verdict.status, verdict.measured["zero_share"]) == (status, dead / 1000)
    assert "more than 5% is excluded" in verdict.threshold


class Wavy(nn.Module):
    """A loss that turns within a hundredth of a pixel's range."""

    def __init__(self) -> None:
        super().__init__()
        self.bars = Bars()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bars(x + 0.05 * (400.0 * x).sin())
        return logits


def linearity(model: nn.Module, n: int = 60, eps: float = 0.1, norm: Norm = "Linf") -> tuple[Status, dict[str, object]]:
    images = bars(n)
    generator = torch.Generator().manual_seed(0)
    verdict = judge_linearity(
        model, to_float(images.images), images.labels, ball=threat(norm, eps), generator=generator
    )
    assert not any(parameter.grad is not None for parameter in model.parameters())
    return verdict.status, dict(verdict.measured)


def test_a_linear_model_is_linear_and_a_wavy_one_is_not() -> None:
    status, measured = linearity(Bars())
    assert status is Status.PASS
    assert measured["gradient_alignment"] > 0.99  # type: ignore[operator]
    status, measured = linearity(Wavy())
    assert status is Status.FAIL
    assert abs(measured["gradient_alignment"]) < 0.1  # type: ignore[arg-type]


def test_curvature_is_the_relative_error_of_the_linear_forecast() -> None:
    assert linearity(Bars(scale=1e-3), eps=0.01)[1]["curvature"] == pytest.approx(0.0, abs=0.01)
    assert linearity(Wavy())[1]["curvature"] > 0.3  # type: ignore[operator]
    assert linearity(Quantised())[1]["curvature"] is None  # nothing is forecast


def test_linearity_in_l2_is_that_of_its_ball() -> None:
    """An L2 ball moves each of 64 pixels by an eighth of what an Linf ball of its radius does."""
    assert linearity(Wavy(), eps=0.8, norm="L2")[0] is Status.FAIL
    assert linearity(Wavy(), eps=2e-3, norm="L2")[0] is Status.PASS
    within, across = linearity(Wavy(), eps=2e-3, norm="L2")[1], linearity(Wavy(), eps=2e-3)[1]
    assert within["curvature"] < 0.5 * across["curvature"]  # type: ignore[operator]
    assert within["gradient_alignment"] > across["gradient_alignment"]  # type: ignore[operator]


def test_a_gradient_that_turns_between_two_passes_says_nothing_of_linearity() -> None:
    class Turning(nn.Module):
        """Linear, of another direction each time."""

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = Bars()(x * torch.randn_like(x))
            return logits

    torch.manual_seed(0)
    status, measured = linearity(Turning())
    assert status is Status.INCONCLUSIVE
    assert abs(measured["alignment_of_two_passes"]) < 0.3  # type: ignore[arg-type]
    assert linearity(Wavy())[1]["alignment_of_two_passes"] == 1.0
    assert linearity(Quantised())[0] is Status.FAIL  # no gradient at all is another matter
    assert linearity(Exploding())[0] is Status.FAIL
    torch.manual_seed(0)
    assert linearity(Noisy())[0] is Status.PASS


def test_one_image_says_nothing_of_linearity() -> None:
    status, measured = linearity(Bars(), n=1)
    assert (status, measured["interval"]) == (Status.INCONCLUSIVE, [-1.0, 1.0])


def test_a_random_model() -> None:
    x = to_float(bars().images)
    assert judge_randomness(Bars(), x).status is Status.PASS
    verdict = judge_randomness(Noisy(), x)
    assert verdict.status is Status.FAIL
    assert "'rand'" in verdict.meaning
    assert verdict.measured["largest_difference"] > 0.1
    assert "single draws" in verdict.meaning
    dropout = nn.Sequential(nn.Dropout(0.5), Bars())
    assert judge_randomness(dropout, x).status is Status.PASS  # only in training mode
    assert dropout.training


class Spoken(nn.Module):
    """Says logits [n, N] that are given, another of them in each pass."""

    def __init__(self, *passes: Tensor) -> None:
        super().__init__()
        self.passes = itertools.cycle(passes)

    def forward(self, x: Tensor) -> Tensor:
        return next(self.passes)[: len(x)]


LOGITS = torch.tensor([[3.0, 1.0, -1.0], [0.0, 2.0, 1.0], [0.5, 0.0, 4.0]]).repeat(20, 1)
CANCELLED = torch.tensor([[1e-6, 0.0, -1.0]])
TIE = torch.tensor([[5.0, 5.000001, 4.999998]])
NOISE = 2.0 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))


def beside(logits: Tensor, value: float) -> Tensor:
    """A further class that no image is taken for."""
    return torch.cat([logits, torch.full((len(logits), 1), value)], dim=1)


@pytest.mark.parametrize(
    "passes",
    [
        (LOGITS, LOGITS + NOISE),
        (LOGITS, LOGITS, LOGITS, LOGITS + NOISE),  # in one pass alone
        (beside(LOGITS, -2e4), beside(LOGITS + NOISE, -2e4)),  # beside a logit that says nothing of their size
        (LOGITS + 2e4, LOGITS + NOISE + 2e4),  # softmax does not see it
        (1e-4 * LOGITS, 1e-4 * (LOGITS + NOISE)),  # small logits
        (LOGITS, LOGITS + 0.01 * NOISE.abs()),  # although no prediction changes
        (beside(LOGITS, -2e4), beside(LOGITS + 0.01 * NOISE.abs(), -2e4)),
        # half of the images are far from any other class, the others change
        (torch.cat([1e5 * LOGITS, LOGITS]), torch.cat([1e5 * LOGITS, LOGITS.roll(1, dims=1)])),
        (torch.tensor([[1e5, 0.0]] * 59 + [[0.1, 0.0]]), torch.tensor([[1e5, 0.0]] * 59 + [[0.0, 0.1]])),
    ],
)
def test_logits_that_change_in_substance(passes: tuple[Tensor, ...]) -> None:
    verdict = judge_randomness(Spoken(*passes), torch.zeros(len(passes[0]), 1, 2, 2))
    assert verdict.status is Status.FAIL
    assert verdict.measured["largest_difference"] > 0


@pytest.mark.parametrize(
    "passes",
    [
        (LOGITS, LOGITS * (1 + 2e-7)),
        (beside(LOGITS, -2e4), beside(LOGITS, -2e4 - 0.004)),  # two units in its last place
        (LOGITS + 2e4, LOGITS + 2e4 + 0.004),
        (torch.zeros(60, 3), torch.zeros(60, 3)),
        (1e4 * LOGITS, 1e4 * LOGITS * (1 + 2e-7)),
        # logits that nearly cancel keep the rounding of what they were summed from
        (torch.cat([LOGITS, CANCELLED]), torch.cat([LOGITS, CANCELLED * torch.tensor([[3.0, 1.0, 1.0]])])),
        # a tie between two classes may turn on the last bit
        (torch.cat([LOGITS, TIE]), torch.cat([LOGITS, TIE.roll(1, dims=1)])),
    ],
)
def test_logits_that_change_by_rounding(passes: tuple[Tensor, ...]) -> None:
    verdict = judge_randomness(Spoken(*passes), torch.zeros(len(passes[0]), 1, 2, 2))
    assert verdict.status is Status.PASS
    changed = float((passes[0].argmax(1) != passes[1].argmax(1)).double().mean())
    assert verdict.measured["predictions_changed"] == pytest.approx(changed)


class Tossed(Bars):
    """Turns its answers on the images whose first pixel is bright, every other time it is asked."""

    asked = 0

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if not x.requires_grad:
            Tossed.asked += 1
        return torch.where((x[:, 0, 0, :1] > 0.6) & (Tossed.asked % 2 == 0), logits.roll(1, dims=1), logits)


def test_how_often_another_draw_changes_the_verdict() -> None:
    images = bars(100)
    x, y = to_float(images.images), images.labels
    generator = torch.Generator().manual_seed(0)
    small = ThreatConfig(eps=0.01, pgd_alpha=0.01)
    assert changed_by_draws(Bars(), x, y, threat=THREAT, generator=generator) == 0.0
    assert changed_by_draws(Tossed(), x, y, threat=small, generator=generator) == 0.25  # of class 0
    assert 0.0 < changed_by_draws(Noisy(), x, y, threat=THREAT, generator=generator) <= 1.0
    model = Noisy().train()
    changed_by_draws(model, x, y, threat=ThreatConfig(norm="L2", eps=1.0, pgd_alpha=0.1), generator=generator)
    assert model.training


def test_the_mode_of_a_model() -> None:
    images = bars(200)
    x, y = to_float(images.images), images.labels
    assert judge_modes(nn.Sequential(nn.Dropout(0.1), Bars()), x, y).status is Status.PASS
    stale = nn.BatchNorm2d(1)  # its running statistics are of no images: a bar in eight rows stays, scale and all
    nn.init.zeros_(stale.weight)
    apart = nn.Sequential(stale, nn.Flatten(), nn.Linear(64, 4)).eval()
    assert judge_modes(apart, x, y).status is Status.PASS  # equally wrong in both

    class Moody(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = Bars()(x)
            return logits.flip(1) if self.training else logits

    verdict = judge_modes(Moody().eval(), x, y)
    assert verdict.status is Status.FAIL
    assert verdict.measured["accuracy_in_evaluation_mode"] > 0.9 > verdict.measured["accuracy_in_training_mode"]


class Lapsing(Bars):
    """Wrong in one mode on images whose last pixel is 1."""

    def __init__(self, wrong_in_training: bool) -> None:
        super().__init__()
        self.wrong_in_training = wrong_in_training

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        lapse = (x[:, 0, -1, -1:] == 1.0) & (self.training == self.wrong_in_training)
        return torch.where(lapse, logits.flip(1), logits)


@pytest.mark.parametrize("wrong_in_training", [True, False])
@pytest.mark.parametrize(
    ("lapses", "n", "status"),
    [
        (0, 40, Status.PASS),
        (4, 10, Status.INCONCLUSIVE),  # 60 % against 100 %
        (0, 10, Status.INCONCLUSIVE),
        (22, 200, Status.INCONCLUSIVE),  # 11 points
        (18, 200, Status.PASS),
        (40, 200, Status.FAIL),
        (0, 1, Status.INCONCLUSIVE),
    ],
)
def test_the_accuracies_of_two_modes(wrong_in_training: bool, lapses: int, n: int, status: Status) -> None:
    images = bars(n)
    x = to_float(images.images)
    x[:, 0, -1, -1] = 0.5
    x[:lapses, 0, -1, -1] = 1.0
    verdict = judge_modes(Lapsing(wrong_in_training), x, images.labels)
    assert verdict.status is status
    if n > 1:
        low, high = sorted(verdict.measured[f"accuracy_in_{mode}_mode"] for mode in ("training", "evaluation"))
        assert (low, high) == (pytest.approx(1 - lapses / n), 1.0)
    assert "more than 15 points" in verdict.threshold


class Uncopied(Bars):
    def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
        raise TypeError("cannot pickle '_thread.lock' object")


class Targeted(Bars):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise ValueError("targets are needed.")
        return super().forward(x)


@pytest.mark.parametrize(
    ("model", "reason"), [(Uncopied(), "cannot pickle '_thread.lock' object"), (Targeted(), "targets are needed")]
)
def test_a_model_that_does_not_train_cannot_be_judged_in_both_modes(model: nn.Module, reason: str) -> None:
    verdict = judge_modes(model.eval(), to_float(bars(8).images), bars(8).labels)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.meaning == f"a copy of the model does not run in training mode ({reason})."


def test_memory_that_runs_out_is_no_refusal_of_training_mode() -> None:
    class Large(Bars):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise torch.OutOfMemoryError("full")
            return super().forward(x)

    with pytest.raises(torch.OutOfMemoryError, match="full"):
        judge_modes(Large().eval(), to_float(bars(8).images), bars(8).labels)


def test_batch_norm_of_one_image_is_no_error() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4)).eval()
    verdict = judge_modes(model, to_float(bars(1).images), bars(1).labels)
    assert verdict.status is Status.INCONCLUSIVE
    assert "one image" in verdict.meaning


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), Bars()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = bars()
    judge_modes(model, to_float(images.images), images.labels)
    judge_randomness(model, to_float(images.images))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_gap_of_no_difference_is_zero() -> None:
    assert Gap.of(standing(), standing()).value == 0.0

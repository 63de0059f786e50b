"""evaluate() against what is known in closed form, and against what its attacks return."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from evaluation_models import (
    EPS,
    THREAT,
    WIDE,
    Watched,
    correct,
    evaluate,
    linear_case,
    planted,
    random_images,
    timeless,
    tiny_case,
    verdicts,
)
from oracles import TinyConv, assert_unchanged, shorten_autoattack, snapshot
from torch import Tensor, nn

from nuat.attacks import catalogue
from nuat.config import ThreatConfig
from nuat.data import ImageSet, class_balanced, to_float
from nuat.evaluation import job_runner


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_accuracies_of_a_linear_model_are_those_of_the_closed_form(channels: int) -> None:
    """With two classes every one of these attacks finds the worst case exactly; 7 does not divide 40."""
    model, images, withstands = linear_case(channels=channels)
    attacks = ("clean", "fgsm", "pgd-40", "gama-20")
    found = evaluate(model, images, attacks, threat=WIDE, batch_size=7)
    with torch.no_grad():
        clean = model(to_float(images.images)).argmax(dim=1) == images.labels
    expected = {"clean": clean.tolist(), **dict.fromkeys(attacks[1:], withstands.tolist())}
    assert verdicts(found) == expected
    assert found.accuracy("pgd-40") == pytest.approx(int(withstands.sum()) / 40)
    assert found.accuracy("worst-case") == found.accuracy("fgsm") < found.accuracy("clean") < 1.0
    assert found.n == 40
    assert found.indices.tolist() == list(range(40))
    assert (found.eps, found.seed, found.batch_size) == (EPS, 0, 7)


def test_a_smaller_ball_breaks_fewer_images() -> None:
    model, images, withstands = linear_case()
    small = evaluate(model, images, ("fgsm",), threat=ThreatConfig(eps=EPS / 4, pgd_alpha=EPS / 8))
    expected = model.worst_margins(to_float(images.images), images.labels, EPS / 4) > 0
    assert small.results[0].correct.tolist() == expected.tolist()
    assert expected.sum() > withstands.sum()


def test_the_step_of_pgd_is_the_one_of_the_threat() -> None:
    """From a random start in the ball, one step of 2 eps reaches the worst corner; one of eps / 100 does not."""
    model, images, withstands = linear_case()
    far = evaluate(model, images, ("pgd-1",), threat=ThreatConfig(eps=EPS, pgd_alpha=2 * EPS))
    near = evaluate(model, images, ("pgd-1",), threat=ThreatConfig(eps=EPS, pgd_alpha=EPS / 100))
    assert far.results[0].correct.tolist() == withstands.tolist()
    assert near.accuracy("pgd-1") > far.accuracy("pgd-1")
    assert far.results[0].settings == {"alpha": 2 * EPS, "steps": 1, "random_start": True, "restarts": 1}


def test_the_worst_case_is_the_and_of_all_attacks_per_image() -> None:
    model, images = tiny_case()
    found = evaluate(model, images, ("rfgsm", "nuclear", "pgd-3"), threat=THREAT, batch_size=16)
    by_hand = [all(flags) for flags in zip(*verdicts(found).values(), strict=True)]
    assert found.worst_case.tolist() == by_hand
    assert found.accuracy("worst-case") == sum(by_hand) / 60
    assert found.accuracy("worst-case") < min(result.accuracy for result in found.results)  # no attack has them all


@pytest.mark.slow
def test_step_counts_of_one_trajectory_equal_separate_evaluations() -> None:
    model, images = tiny_case()
    steps = ("pgd-1", "pgd-2", "pgd-4")
    together = evaluate(model, images, steps, threat=THREAT, batch_size=25)
    alone = {name: evaluate(model, images, (name,), threat=THREAT, batch_size=25).results[0] for name in steps}
    assert verdicts(together) == {name: result.correct.tolist() for name, result in alone.items()}
    assert len({tuple(flags) for flags in verdicts(together).values()}) == 3
    other = evaluate(model, images, ("pgd-1",), threat=THREAT, batch_size=25, seed=1)
    assert verdicts(other)["pgd-1"] != verdicts(together)["pgd-1"]  # the random start decides some of these images


def test_the_cost_of_a_trajectory_stands_with_its_longest_attack() -> None:
    model, images = tiny_case(10)
    found = evaluate(model, images, ("pgd-2", "clean", "pgd-7", "pgd-5"), threat=THREAT, batch_size=4)
    by_name = {result.name: result for result in found.results}
    for name in ("pgd-2", "pgd-5"):
        result = by_name[name]
        assert (result.seconds, result.forwards, result.backwards, result.shared_with) == (None, None, None, "pgd-7")
    assert by_name["pgd-7"].shared_with is None
    assert by_name["clean"].shared_with is None
    attacked = correct(model, images)
    assert 0 < attacked < 10
    assert by_name["pgd-7"].backwards == 7 * attacked
    assert by_name["pgd-7"].forwards == attacked * (7 + 3)  # a step each, and the verdict of three results
    assert (by_name["clean"].forwards, by_name["clean"].backwards) == (10, 0)
    seconds = by_name["pgd-7"].seconds
    assert seconds is not None
    assert seconds > 0


@pytest.mark.parametrize(
    ("attack", "forwards", "backwards"),
    [
        ("clean", 1, 0),
        ("fgsm", 2, 1),
        ("rfgsm", 2, 1),
        ("pgd-20", 21, 20),
        ("gama-5", 7, 5),  # the start's softmax, five steps, the verdict
        ("nuclear", 3, 1),  # the reference, the step, the verdict
        ("nuclear-2", 4, 2),
    ],
)
def test_forward_and_backward_counts_are_exact(attack: str, forwards: int, backwards: int) -> None:
    model, images = tiny_case(10)
    watched = Watched(model)
    found = evaluate(watched, images, (attack,), threat=THREAT, batch_size=4)
    result = found.results[0]
    attacked = 10 if attack == "clean" else correct(model, images)
    assert (result.forwards, result.backwards) == (attacked * forwards, attacked * backwards)
    others = 4 + (0 if attack == "clean" else 10)  # the check of the logits, on the first batch; what is correct
    assert watched.images == attacked * forwards + others


def test_results_come_in_the_order_asked_for() -> None:
    model, images = tiny_case(8)
    names = ("pgd-3", "fgsm", "pgd-1", "clean", "gama-2", "rfgsm", "pgd-2")
    found = evaluate(model, images, names, threat=THREAT)
    assert tuple(result.name for result in found.results) == names


def test_n_images_are_class_balanced_and_the_same_in_every_call() -> None:
    model, _ = tiny_case()
    images = ImageSet(random_images(90).images.expand(-1, 3, -1, -1).contiguous(), torch.tensor([0] * 70 + [1, 2] * 10))
    found = evaluate(model, images, ("clean",), threat=THREAT, n=30)
    assert torch.bincount(images.labels[found.indices]).tolist() == [10, 10, 10]
    assert found.n == 30
    again = evaluate(model, images, ("fgsm", "clean"), threat=THREAT, n=30, seed=7, batch_size=4)
    assert again.indices.tolist() == found.indices.tolist() == class_balanced(images.labels, 30, seed=0).tolist()
    assert verdicts(again)["clean"] == verdicts(found)["clean"]
    whole = evaluate(model, images, ("clean",), threat=THREAT)
    assert whole.results[0].correct[found.indices].tolist() == verdicts(found)["clean"]


@pytest.mark.parametrize("attack", ["pgd-2", "gama-3", "rfgsm", "nuclear"])
def test_the_seed_decides_the_result(attack: str) -> None:
    model, images = tiny_case()
    first, again, other = (evaluate(model, images, (attack,), threat=THREAT, seed=s, batch_size=16) for s in (3, 3, 4))
    assert timeless(first) == timeless(again)
    assert verdicts(first) != verdicts(other)


@pytest.mark.slow
def test_the_results_do_not_depend_on_the_other_attacks_or_on_the_global_generator() -> None:
    model, images = tiny_case()
    alone = evaluate(model, images, ("gama-3",), threat=THREAT, batch_size=16)
    torch.manual_seed(5)
    together = evaluate(model, images, ("rfgsm", "pgd-2", "gama-3"), threat=THREAT, batch_size=16)
    assert verdicts(together)["gama-3"] == verdicts(alone)["gama-3"]


def plan(monkeypatch: pytest.MonkeyPatch, result: Callable[[Tensor], Tensor]) -> None:
    """Make "planted" an attack that returns ``result``."""
    row = planted(lambda x, seed: result(x))
    monkeypatch.setattr(catalogue, "CATALOGUE", catalogue.CATALOGUE | row)


def test_an_image_counts_only_if_a_fresh_forward_pass_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack may return anything: what counts is the prediction on what it returns."""
    model, images, _ = linear_case()
    coin = torch.randint(0, 2, (40, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    across = (model.weight[1] - model.weight[0]).detach().sign()
    given: list[Tensor] = []

    def result(x: Tensor) -> Tensor:
        towards = 2 * coin[sum(map(len, given)) :][: len(x)] - 1
        given.append((x + 0.99 * EPS * towards * across).clamp(0, 1))
        return given[-1]

    plan(monkeypatch, result)
    passed: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: passed.append(inputs[0].clone()))
    found = evaluate(model, images, ("clean", "planted"), threat=WIDE, batch_size=16)
    assert [x.tolist() for x in passed[-len(given) :]] == [x.tolist() for x in given]
    with torch.no_grad():
        clean = model(to_float(images.images)).argmax(dim=1) == images.labels
        fresh = clean.clone()
        fresh[clean] = model(torch.cat(given)).argmax(dim=1) == images.labels[clean]
    assert verdicts(found) == {"clean": clean.tolist(), "planted": fresh.tolist()}
    assert 0 < int(fresh.sum()) < int(clean.sum())


@pytest.mark.parametrize(
    ("move", "inside"),
    [
        (lambda x: 1.0 - x, False),  # far outside the ball
        (lambda x: (x + 1.01 * EPS).clamp(max=1.0), False),
        (lambda x: x - EPS, False),  # dark pixels leave the box
        (lambda x: (x - 0.999 * EPS).clamp(min=0.0), True),
    ],
)
def test_an_image_outside_the_ball_or_the_box_ends_the_evaluation(
    move: Callable[[Tensor], Tensor], inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dark(nn.Module):
        """Sees one class alone in the images as they are, the other in whatever differs."""

        def forward(self, x: Tensor) -> Tensor:
            known = (x[:, None] == seen).flatten(2).all(dim=2).any(dim=1).float()
            return torch.stack([known, 1 - known], dim=1)

    images = random_images(6)
    images = ImageSet(images.images, torch.zeros(6).long())
    images.images[:, :, 0, 0] = 0
    seen = to_float(images.images)
    plan(monkeypatch, move)
    if not inside:
        with pytest.raises(RuntimeError, match="planted returned an example outside the ball or the box"):
            evaluate(Dark(), images, ("clean", "planted"), threat=WIDE)
        return
    found = evaluate(Dark(), images, ("clean", "planted"), threat=WIDE)
    assert (found.accuracy("clean"), found.accuracy("planted")) == (1.0, 0.0)


@pytest.mark.slow
def test_autoattack_takes_what_the_attacks_before_it_left_standing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is that of all of them together; alone, it takes all images that are classified correctly."""
    shorten_autoattack(monkeypatch)
    model, images = tiny_case(40)
    taken: dict[str, int] = {}

    def tell(name: str, done: float, of: int, step: str = "", /) -> None:
        taken[name] = of

    attacks = ("clean", "pgd-3", "autoattack", "autoattack-fast", "autoattack-alone")
    found = evaluate(model, images, attacks, threat=THREAT, batch_size=16, progress=tell)
    by_name = {result.name: result for result in found.results}
    first = by_name["clean"].correct & by_name["pgd-3"].correct
    assert 0 < int(first.sum()) < int(by_name["clean"].correct.sum())
    assert taken["autoattack"] == int(first.sum())
    assert taken["autoattack-alone"] == correct(model, images)
    assert not bool((by_name["autoattack"].correct & ~first).any())
    assert taken["autoattack-fast"] == int(by_name["autoattack"].correct.sum())
    assert by_name["autoattack"].settings["after"] == ["clean", "pgd-3"]
    assert by_name["autoattack-fast"].settings["line_up"] == ["apgd-ce", "apgd-t"]
    assert "after" not in by_name["autoattack-alone"].settings


def test_nothing_is_attacked_where_nothing_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)
    model, images = tiny_case(12)
    with torch.no_grad():
        wrong = (model(to_float(images.images)).argmax(dim=1) + 1) % 4
    found = evaluate(model, ImageSet(images.images, wrong), ("clean", "pgd-2", "autoattack"), threat=THREAT)
    assert [result.accuracy for result in found.results] == [0.0] * 3
    assert [(result.forwards, result.backwards) for result in found.results] == [(12, 0), (0, 0), (0, 0)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_may_be_of_any_integer_type(dtype: torch.dtype) -> None:
    model, images = tiny_case(12)
    expected = evaluate(model, images, ("clean", "pgd-2", "gama-2"), threat=THREAT)
    found = evaluate(
        model, ImageSet(images.images, images.labels.to(dtype)), ("clean", "pgd-2", "gama-2"), threat=THREAT
    )
    assert verdicts(found) == verdicts(expected)


def test_everything_is_computed_in_fp32_also_under_autocast() -> None:
    model, images = tiny_case()
    plain = evaluate(model, images, ("clean", "pgd-3", "gama-2"), threat=THREAT)
    watched = Watched(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(to_float(images.images)).dtype == torch.bfloat16
        found = evaluate(watched, images, ("clean", "pgd-3", "gama-2"), threat=THREAT)
    assert watched.dtypes == {torch.float32}
    assert timeless(found) == timeless(plain)


def test_fp32_means_fp32_inside_matrix_products_and_convolutions_and_is_restored() -> None:
    model, images = tiny_case(4)
    backends = torch.backends
    parts = {
        backends.cuda.matmul: "tf32",
        backends.cudnn.conv: "tf32",
        backends.mkldnn.matmul: "bf16",
        backends.mkldnn.conv: "bf16",
    }
    before = [part.fp32_precision for part in parts]
    seen: set[str] = set()
    try:
        for part, precision in parts.items():
            part.fp32_precision = precision
        watched = Watched(model, at=lambda _: seen.update(part.fp32_precision for part in parts))
        evaluate(watched, images, ("fgsm",), threat=THREAT)
        assert seen == {"ieee"}
        assert [part.fp32_precision for part in parts] == list(parts.values())
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


class _Stop(BaseException):  # as an interruption
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_modes_weights_and_gradients_are_left_as_they_were(fails: bool) -> None:
    model = TinyConv(3, 4)
    _, images = tiny_case(12)
    model.train()
    model.norm1.eval()
    model.linear.requires_grad_(False)
    modes = {name: module.training for name, module in model.named_modules()}
    before = snapshot(model)

    def stop(call: int) -> None:
        if fails and call == 9:
            raise _Stop

    watched = Watched(model.train(), at=stop)
    model.norm1.eval()
    if fails:
        with pytest.raises(_Stop):
            evaluate(watched, images, ("clean", "pgd-4", "gama-3"), threat=THREAT, batch_size=5)
    else:
        evaluate(watched, images, ("clean", "pgd-4", "gama-3"), threat=THREAT, batch_size=5)
    assert watched.training_modes == {False}
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert_unchanged(model, before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [p.requires_grad for p in model.linear.parameters()] == [False, False]


def test_a_model_without_parameters_is_evaluated_where_the_images_are() -> None:
    class Brightness(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mean = x.mean(dim=(1, 2, 3)) - 0.5
            return torch.stack([-mean, mean], dim=1)

    pixels = torch.tensor([10, 120, 135, 250], dtype=torch.uint8)[:, None, None, None].expand(4, 1, 2, 2).contiguous()
    images = ImageSet(pixels, torch.tensor([0, 0, 1, 1]))
    found = evaluate(Brightness(), images, ("clean", "fgsm"), threat=THREAT)
    assert verdicts(found) == {"clean": [True] * 4, "fgsm": [True, False, False, True]}


def test_progress_is_told_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "_SECONDS_BETWEEN_STEPS", float("inf"))
    model, images = tiny_case(10)
    told: list[tuple[Any, ...]] = []
    evaluate(
        model,
        images,
        ("clean", "pgd-1", "pgd-2"),
        threat=THREAT,
        batch_size=4,
        progress=lambda *arguments: told.append(arguments),
    )
    attacked = correct(model, images)
    assert 8 < attacked < 10
    assert told == [("clean", 4, 10), ("clean", 8, 10), ("clean", 10, 10)] + [
        ("pgd-2", done, attacked) for done in (4, 8, attacked)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["autoattack", "autoattack-v1"])
def test_autoattack_finds_the_worst_case_of_two_classes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)
    model, images, withstands = linear_case(24)
    found = evaluate(model, images, ("clean", name), threat=WIDE, batch_size=10)
    assert verdicts(found)[name] == withstands.tolist()
    result = found.results[1]
    assert result.settings["version"] == ("standard" if name == "autoattack" else "v1")
    assert result.settings["package"] == "pyautoattack"
    assert result.forwards is not None
    assert result.forwards > correct(model, images) * 10
    again = evaluate(model, images, (name,), threat=WIDE, batch_size=10)
    assert verdicts(again)[name] == verdicts(found)[name]

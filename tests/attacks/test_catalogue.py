"""Every name on the command line runs the attack that it says, with the settings that it records."""

import json
from collections.abc import Callable

import pytest
import torch
from evaluation_models import THREAT, Watched, correct, evaluate, tiny_case, verdicts
from oracles import assert_inside, shorten_autoattack
from torch import nn

from nuat.attacks import (
    CR,
    FGSM,
    GAMAFW,
    GAMAMT,
    GAMAPGD,
    MIFGSM,
    PGD,
    RFGSM,
    AdaptivePGD,
    Attack,
    AutoAttack,
    MultiTargetedPGD,
    NuclearNormAttack,
    RandomNoise,
    TargetedPGD,
)
from nuat.attacks.catalogue import CATALOGUE, attack_name, attack_passes, attack_strength
from nuat.attacks.planned_jobs import jobs
from nuat.core.losses import margin_sum
from nuat.data import to_float
from nuat.errors import InputError

EPS, ALPHA = THREAT.eps, THREAT.pgd_alpha
G = torch.Generator
Make = Callable[[nn.Module, G], Attack]

OURS: dict[str, tuple[dict[str, object], Make]] = {
    "fgsm": ({}, lambda m, g: FGSM(m, eps=EPS)),
    "rfgsm": ({}, lambda m, g: RFGSM(m, eps=EPS, generator=g)),
    "cr": ({}, lambda m, g: CR(m, eps=EPS, generator=g)),
    "pgd-3": (
        {"alpha": ALPHA, "steps": 3, "random_start": True, "restarts": 1},
        lambda m, g: PGD(m, eps=EPS, alpha=ALPHA, steps=3, generator=g),
    ),
    "margin-pgd-3": (
        {"alpha": ALPHA, "steps": 3, "objective": "margin_sum"},
        lambda m, g: PGD(m, eps=EPS, alpha=ALPHA, steps=3, objective=margin_sum, generator=g),
    ),
    "targeted-3": (
        {"alpha": ALPHA, "steps": 3, "target": "least-likely"},
        lambda m, g: TargetedPGD(m, eps=EPS, alpha=ALPHA, steps=3, generator=g),
    ),
    "targeted-random-3": (
        {"alpha": ALPHA, "steps": 3, "target": "random"},
        lambda m, g: TargetedPGD(m, eps=EPS, alpha=ALPHA, steps=3, target="random", generator=g),
    ),
    "multi-targeted-3": (
        {"alpha": ALPHA, "steps": 3, "targets": 3},
        lambda m, g: MultiTargetedPGD(m, eps=EPS, alpha=ALPHA, steps=3, generator=g),
    ),
    "mi-fgsm-3": ({"steps": 3, "mu": 1.0}, lambda m, g: MIFGSM(m, eps=EPS, steps=3)),
    "gama-8": ({"steps": 8}, lambda m, g: GAMAPGD(m, eps=EPS, steps=8, generator=g)),
    "gama-fw-8": ({"steps": 8}, lambda m, g: GAMAFW(m, eps=EPS, steps=8, generator=g)),
    "gama-mt-8": ({"steps": 8, "targets": 3}, lambda m, g: GAMAMT(m, eps=EPS, steps=8, generator=g)),
    "noise-30": ({"draws": 30}, lambda m, g: RandomNoise(m, eps=EPS, draws=30, generator=g)),
    "nuclear": ({"lam": 1.0, "steps": 1}, lambda m, g: NuclearNormAttack(m, eps=EPS, generator=g)),
    "nuclear-2": ({"lam": 1.0, "steps": 2}, lambda m, g: NuclearNormAttack(m, eps=EPS, steps=2, generator=g)),
    "adaptive-3": (
        {"alpha": ALPHA, "steps": 3, "objective": "ce+nuclear", "lam": 4.5, "group_size": 64},
        lambda m, g: AdaptivePGD(m, eps=EPS, alpha=ALPHA, steps=3, group_size=64, generator=g),
    ),
    "adaptive-same-class-3": (
        {"alpha": ALPHA, "steps": 3, "objective": "ce+nuclear", "lam": 4.5, "group_size": 64, "same_class": True},
        lambda m, g: AdaptivePGD(m, eps=EPS, alpha=ALPHA, steps=3, group_size=64, same_class=True, generator=g),
    ),
    "adaptive-eot-3": (
        {"alpha": ALPHA, "steps": 3, "objective": "ce+nuclear", "lam": 4.5, "group_size": 64, "regroupings": 4},
        lambda m, g: AdaptivePGD(m, eps=EPS, alpha=ALPHA, steps=3, group_size=64, regroupings=4, generator=g),
    ),
    "adaptive-nuclear-3": (
        {"alpha": ALPHA, "steps": 3, "objective": "nuclear", "group_size": 64},
        lambda m, g: AdaptivePGD(m, eps=EPS, alpha=ALPHA, steps=3, objective="nuclear", group_size=64, generator=g),
    ),
    "adaptive-logit-3": (
        {"alpha": ALPHA, "steps": 3, "objective": "logit"},
        lambda m, g: AdaptivePGD(m, eps=EPS, alpha=ALPHA, steps=3, objective="logit", generator=g),
    ),
}
OFFICIAL: dict[str, dict[str, object]] = {
    "autoattack": {"version": "standard", "line_up": ["apgd-ce", "apgd-t", "fab-t", "square"]},
    "autoattack-alone": {"version": "standard", "line_up": ["apgd-ce", "apgd-t", "fab-t", "square"]},
    "autoattack-fast": {"version": "fast", "line_up": ["apgd-ce", "apgd-t"]},
    "autoattack-v1": {"version": "v1", "line_up": ["apgd-ce", "apgd-dlr", "fab", "square"]},
    **{name: {"line_up": [name]} for name in ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")},
    "square-15": {"queries": 15, "line_up": ["square"]},
}


def pattern_of(name: str) -> str:
    last = name.rpartition("-")[2]
    whole = {"noise": "<draws>", "square": "<queries>"}.get(name.partition("-")[0], "<steps>")
    return name.removesuffix(last) + whole if last.isdigit() and name != "nuclear-2" else name


def test_every_name_is_tested_here() -> None:
    assert {"clean", "transfer", "autoattack-quick", *map(pattern_of, (*OURS, *OFFICIAL))} == set(CATALOGUE)


def test_the_autoattack_that_may_follow_the_quick_verdict_is_counted() -> None:
    most = CATALOGUE["autoattack-quick"].passes + CATALOGUE["autoattack"].passes
    assert attack_passes(("clean", "autoattack-quick")) == 1 + most
    assert attack_passes(("autoattack-quick", "autoattack")) == most
    assert attack_passes(("autoattack",)) < most


@pytest.mark.parametrize("name", OURS)
def test_a_name_is_the_attack_that_it_says(name: str) -> None:
    model, images = tiny_case(70)
    model.eval()
    x, y = to_float(images.images), images.labels
    (job,) = jobs([name], model, THREAT, classes=4)
    settings, make = OURS[name]
    assert job.names == (name,)
    assert job.settings == settings
    assert json.loads(json.dumps(job.settings)) == settings
    x_adv = job.run(x, y, 11)[name]
    assert torch.equal(x_adv, make(model, torch.Generator().manual_seed(11))(x, y))
    assert_inside(x_adv, x, EPS)


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_name_is_the_official_attack_that_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_autoattack(monkeypatch)
    model, images = tiny_case(12)
    model.eval()
    x, y = to_float(images.images), images.labels
    (job,) = jobs([name], model, THREAT, classes=4)
    assert job.settings == {**OFFICIAL[name], "package": "pyautoattack"}
    assert list(job.settings)[-1] == "package"
    settings = {key: job.settings[key] for key in ("version", "queries") if key in job.settings}
    if "version" not in settings:
        settings["attacks"] = tuple(job.settings["line_up"])
    expected = AutoAttack(model, eps=EPS, seed=11, batch_size=12, **settings)(x, y)
    assert torch.equal(job.run(x, y, 11)[name], expected)


def test_multi_targeted_attacks_go_through_nine_classes_at_most() -> None:
    for classes, targets in ((2, 1), (10, 9), (1000, 9)):
        for name in ("multi-targeted-2", "gama-mt-2"):
            (job,) = jobs([name], nn.Identity(), THREAT, classes=classes)
            assert job.settings["targets"] == targets


@pytest.mark.parametrize(("name", "classes"), [("apgd-dlr", 2), ("apgd-t", 2), ("apgd-t", 3)])
def test_an_attack_that_so_few_classes_do_not_have_is_refused(name: str, classes: int) -> None:
    pytest.importorskip("pyautoattack")
    with pytest.raises(InputError, match=f"{name} needs at least . classes; the model has {classes}"):
        jobs(["fgsm", name], nn.Identity(), THREAT, classes=classes)


@pytest.mark.parametrize(
    ("attack", "forwards", "backwards"),
    [
        ("margin-pgd-4", 5, 4),
        ("targeted-4", 6, 4),  # the clean logits, the steps, the verdict
        ("mi-fgsm-4", 5, 4),
        ("gama-fw-5", 7, 5),  # the start's softmax, the steps, the verdict
        ("adaptive-4", 6, 4),  # the reference, the steps, the verdict
        ("adaptive-logit-4", 6, 4),
    ],
)
def test_forward_and_backward_counts_are_exact(attack: str, forwards: int, backwards: int) -> None:
    model, images = tiny_case(10)
    (result,) = evaluate(Watched(model), images, (attack,), threat=THREAT, batch_size=4).results
    attacked = correct(model, images)
    assert (result.forwards, result.backwards) == (attacked * forwards, attacked * backwards)


@pytest.mark.slow
def test_stronger_names_break_more() -> None:
    model, images = tiny_case()
    names = ("clean", "noise-30", "fgsm", "gama-fw-20", "multi-targeted-20", "gama-mt-20", "adaptive-20")
    found = evaluate(model, images, names, threat=THREAT)
    accuracy = {name: sum(flags) / len(flags) for name, flags in verdicts(found).items()}
    assert accuracy["clean"] >= accuracy["noise-30"] > accuracy["multi-targeted-20"]
    assert accuracy["gama-mt-20"] <= accuracy["fgsm"]
    assert accuracy["gama-fw-20"] < accuracy["noise-30"]
    assert accuracy["adaptive-20"] < accuracy["noise-30"]


@pytest.mark.parametrize(
    "name",
    [
        "gama-fw-0",
        "noise-",
        "noise",
        "square-0",
        "square-05",
        "targeted-random",
        "apgd",
        "adaptive",
        "adaptive-ce-3",
        "pgd-٣",
    ],
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InputError, match=f"unknown attack '{name}'"):
        jobs([name], nn.Identity(), THREAT)


def test_an_attack_of_another_version_keeps_its_name_and_comes_before_the_worst_case() -> None:
    assert attack_name("of-tomorrow-3") == attack_name("of-tomorrow-3", "L2") == "of-tomorrow-3"
    assert attack_strength("clean") < attack_strength("of-tomorrow-3") < attack_strength("worst-case")

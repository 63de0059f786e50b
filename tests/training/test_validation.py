"""How often epochs are validated, and in which precision."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training.small_runs import metrics, small_config, write_images

import nuat
from nuat import data, models
from nuat.attacks import GAMAPGD, PGD, MultiTargetedPGD
from nuat.config import ModelConfig, ThreatConfig
from nuat.data import ImageSet
from nuat.distributed.world import ALONE, World
from nuat.errors import InputError, NonFiniteError
from nuat.training import validation
from nuat.training.validation import Validator, validate


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.slow
def test_only_some_epochs_are_validated(images: Path, tmp_path: Path) -> None:
    every = nuat.run(small_config(images, epochs=5), out=tmp_path / "every")
    some = nuat.run(small_config(images, epochs=5, validate_every=2), out=tmp_path / "some")
    lines, others = metrics(tmp_path / "some", "epoch"), metrics(tmp_path / "every", "epoch")
    assert [bool(line["validation"]) for line in lines] == [True, True, False, True, True]
    for ours, theirs in zip(lines, others, strict=True):
        assert ours["train"] == theirs["train"]
        assert ours["validation"] in ({}, theirs["validation"])
    # of equals the later epoch is kept
    best = max((line["validation"]["live"]["pgd"], line["epoch"]) for line in lines if line["validation"])
    assert (some.summary["best_validation"], some.summary["best_epoch"]) == best
    assert every.summary["forwards"] == some.summary["forwards"]


def test_validate_every_is_refused_where_it_has_no_effect(images: Path) -> None:
    config = small_config(images)
    with pytest.raises(InputError, match="validate_every has no effect without validation images"):
        replace(config, data=replace(config.data, validation=0), validate_every=2)
    with pytest.raises(InputError, match="validate_every"):
        small_config(images, validate_every=0)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("pgd-7", lambda m, g: PGD(m, eps=0.1, alpha=0.1 / 7, steps=7, random_start=False)),
        ("pgd-3", lambda m, g: PGD(m, eps=0.1, alpha=0.02, steps=3, generator=g)),
        ("gama-3", lambda m, g: GAMAPGD(m, eps=0.1, steps=3, generator=g)),
        ("multi-targeted-2", lambda m, g: MultiTargetedPGD(m, eps=0.1, alpha=0.02, steps=2, targets=2, generator=g)),
    ],
)
def test_the_attack_is_that_of_an_evaluation_or_the_authors(name: str, make: Any) -> None:
    """Each batch has its own noise, the same in every epoch."""
    torch.manual_seed(0)
    model = models.build(ModelConfig(name="small-cnn", width=2), channels=1, classes=3, image_size=(8, 8)).eval()
    some = ImageSet(torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8), torch.zeros(50, dtype=torch.int64))
    with torch.no_grad():
        model.net.fc2.bias -= model(data.to_float(some.images)).mean(dim=0)
        some = ImageSet(some.images, model(data.to_float(some.images)).argmax(dim=1))
    threat = ThreatConfig(eps=0.1, pgd_alpha=0.02)
    found = [validate(model, some, threat=threat, attack=name, batch_size=30)["pgd"] for _ in range(2)]
    right = 0
    for seed, (x, y) in enumerate(data.batches(some, 30)):
        x_adv = make(model, torch.Generator().manual_seed(seed))(x, y)
        right += int((model(x_adv).argmax(dim=1) == y).sum())
    assert found == [right / 50] * 2
    assert 0 < right < 50


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(
            ("clean", "takes no number of steps"),
            ("fgsm", "takes no number of steps"),
            ("cr", "takes no number of steps"),
        ),
        *(("noise-5", "along gradients"), ("square-10", "along gradients"), ("autoattack", "along gradients")),
        *(("gamma-20", "unknown attack 'gamma-20'.*gama-"), ("my.py:attack", "unknown attack")),
    ],
)
def test_an_attack_that_cannot_validate_is_refused(name: str, told: str, images: Path) -> None:
    with pytest.raises(InputError, match=f"^validate_attack={name}: .*{told}") as caught:
        Validator(small_config(images, validate_attack=name), data.load(small_config(images).data).validation,
                  torch.device("cpu"), ALONE)  # fmt: skip
    assert "\n" not in str(caught.value)


def test_an_attack_is_refused_where_there_are_no_images_to_validate_on(images: Path) -> None:
    config = small_config(images)
    with pytest.raises(InputError, match="validate_attack has no effect without validation images"):
        replace(config, data=replace(config.data, validation=0), validate_attack="pgd-40")


def validator(images: Path, device: str, monkeypatch: pytest.MonkeyPatch, seconds: float, count: int = 20) -> Validator:
    """Return what validates the epochs of a run of 100; each validation takes ``seconds``."""
    clock = 0.0

    def now() -> float:
        return clock

    def taken(*arguments: object, **settings: object) -> dict[str, float]:
        nonlocal clock
        clock += seconds
        return {"pgd": 0.5}

    monkeypatch.setattr(validation.time, "monotonic", now)
    monkeypatch.setattr(validation, "validate", taken)
    held_out = data.load(small_config(images).data).validation.select(torch.arange(count))
    return Validator(small_config(images, epochs=100), held_out, torch.device(device), ALONE)


@pytest.mark.parametrize(
    ("device", "seconds", "expected"),
    [
        ("cpu", 50.0, list(range(1, 101))),
        ("cuda", 1.0, [1, *range(4, 101, 3), 100]),  # 10 s an epoch: 1 s is less than 5 % of 30 s
        ("cuda", 0.1, list(range(1, 101))),
        ("cuda", 1e6, [1, 100]),
    ],
)
def test_by_default_a_gpu_validates_as_often_as_it_takes_little_time(
    device: str, seconds: float, expected: list[int], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = validator(images, device, monkeypatch, seconds)
    done = [epoch for epoch in range(1, 101) if judge.validate([torch.nn.Identity()], epoch, 10.0 * epoch)]
    assert done == sorted(set(expected))
    if device == "cuda" and seconds < 1e6:
        assert seconds * (len(done) - 2) <= 0.05 * 1000.0  # the first and the last are always taken


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_images_every_epoch_counts(device: str, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = validator(images, device, monkeypatch, 1.0, count=0)
    assert [judge.validate([], epoch, float(epoch)) for epoch in (1, 2, 50)] == [{}, {}, {}]


def test_attacks_search_in_their_own_precision_and_verdicts_are_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU both are full, so the search is told by another mark."""
    searching, passes = False, []

    @contextlib.contextmanager
    def search(precision: str) -> Iterator[None]:
        assert precision == "fp32"
        nonlocal searching
        searching = True
        yield
        searching = False

    monkeypatch.setattr(validation, "computing_in", search)
    model = models.build(ModelConfig(name="small-cnn", width=2), channels=1, classes=3, image_size=(8, 8))
    model.register_forward_hook(lambda *_: passes.append(searching))
    validate(
        model,
        ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) % 3),
        threat=ThreatConfig(eps=0.1),
        batch_size=4,
    )
    assert passes == [True] * 8 + [False] * 3  # FGSM and PGD-7; then clean and both attacked


def test_a_model_that_is_nan_on_the_images_of_another_process_is_refused() -> None:
    class Two(World):
        def any(self, flag: bool, *, patient: bool = False) -> bool:
            return True

    images = ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with pytest.raises(NonFiniteError, match="on another process's validation images"):
        validate(model, images, threat=ThreatConfig(eps=0.1), batch_size=4, world=Two(size=2))

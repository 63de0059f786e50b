"""Settings and generators of torch around passes of a stranger's model."""

import pickle
import warnings
from typing import Any

import pytest
import torch
from evaluation_models import Answering
from torch import Tensor, nn

from nuat.errors import InputError
from nuat.evaluation.guarded_model import guarded
from nuat.evaluation.surroundings import Surroundings

CPU = torch.device("cpu")
IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def leaves_the_generator(model: nn.Module, x: Tensor) -> bool:
    torch.rand(2)
    before = torch.get_rng_state()
    model(x)
    return torch.equal(before, torch.get_rng_state())


def test_a_default_device_of_the_callers_stays() -> None:
    guard, x = guarded(nn.Flatten()), IMAGES
    try:
        torch.set_default_device("cpu")
        guard(x)
        with torch.device("meta"):
            guard(x)
            assert torch.empty(0).is_meta
        guard(x)
        assert torch.empty(0).device == CPU
        torch.set_default_device("meta")
        guard(x)
        assert torch.empty(0).is_meta
    finally:
        torch.set_default_device(None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_default_device_that_is_not_there_is_put_back() -> None:
    def breaks(x: Tensor) -> Tensor:
        torch.set_default_device("cuda")
        torch.set_default_dtype(torch.float64)
        return x.flatten(1)

    try:
        guarded(Answering(breaks))(IMAGES)
        assert (torch.empty(0).device, torch.get_default_dtype()) == (CPU, torch.float32)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", ["cpu", "mps", "xpu"])
@pytest.mark.parametrize("before", [False, True])
def test_autocast_of_the_images_device_is_put_back(before: bool, kind: str) -> None:
    around = Surroundings(torch.device(kind))
    try:
        torch.set_autocast_enabled(kind, before)
        noted = around.begin()
        torch.set_autocast_enabled(kind, not before)
        around.end(noted)
        assert torch.is_autocast_enabled(kind) == before
    finally:
        torch.set_autocast_enabled(kind, False)


def test_a_default_device_that_a_model_takes_away_comes_back() -> None:
    def clears(x: Tensor) -> Tensor:
        torch.set_default_device(None)
        return x.flatten(1)

    guard = guarded(Answering(clears))
    try:
        torch.set_default_device("meta")
        guard(IMAGES)
        assert torch.empty(0).is_meta
    finally:
        torch.set_default_device(None)


def test_settings_and_generators_are_put_back_when_a_pass_fails() -> None:
    def fails(x: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(torch.initial_seed() + 1)
        raise ValueError("no")

    guard, before = guarded(Answering(fails)), torch.get_rng_state()
    try:
        with pytest.raises(InputError, match="the model fails"):
            guard(IMAGES)
        assert torch.get_default_dtype() == torch.float32
        assert torch.equal(torch.get_rng_state(), before)
        assert guard.reseeds
    finally:
        torch.set_default_dtype(torch.float32)


def test_passes_within_a_pass_are_put_back_one_by_one() -> None:
    around = Surroundings(CPU)
    outer = around.begin()
    torch.set_grad_enabled(False)
    inner = around.begin()
    torch.set_grad_enabled(True)
    around.end(inner)
    assert not torch.is_grad_enabled()
    around.end(outer)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("passes_before", "passes_between"), [(0, 1), (100, 1), (100, 40), (100, 64)], ids=["first", "late", "40", "64"]
)
def test_a_model_that_seeds_with_the_seed_that_is_there_is_seen(passes_before: int, passes_between: int) -> None:
    """An attack that draws once in so many passes would start everywhere alike."""

    def seeds(x: Tensor) -> Tensor:
        torch.manual_seed(4)
        return x.flatten(1) + torch.rand(())

    torch.manual_seed(4)
    guard, x = guarded(Answering(seeds)), torch.zeros(1, 1, 2, 2)
    for _ in range(passes_before):
        guard(x)
    for _ in range(2 if passes_before == 0 else 30):
        torch.rand(2)
        for _ in range(passes_between):
            guard(x)
    assert guard.reseeds
    assert leaves_the_generator(guard, x)


def test_another_seed_is_seen_in_every_pass() -> None:
    passes: list[int] = []

    def seeds_late(x: Tensor) -> Tensor:
        passes.append(len(x))
        if len(passes) > 100:
            torch.manual_seed(3)
        return x.flatten(1)

    torch.manual_seed(4)
    guard, x = guarded(Answering(seeds_late)), IMAGES
    for _ in range(100):
        guard(x)
    assert not guard.reseeds
    guard(x)
    assert guard.reseeds
    assert leaves_the_generator(guard, x)


def test_a_generator_that_the_model_does_not_seed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.Generator()
    monkeypatch.setattr(torch.cuda, "default_generators", (cuda,))
    around, noise = Surroundings(torch.device("cuda", 0)), []
    for _ in range(3):
        before = around.begin()
        torch.manual_seed(torch.initial_seed() + 1)
        noise.append(torch.rand((), generator=cuda).item())
        around.end(before)
    assert around.reseeded
    assert len(set(noise)) == 3


def test_a_model_that_draws_in_one_pass_alone_does_not_seed() -> None:
    around = Surroundings(CPU)
    for draws in (1, 0, 0):
        before = around.begin()
        torch.rand(draws)
        around.end(before)
    assert not around.reseeded


def test_filters_of_warnings_that_are_put_back_hold_at_once() -> None:
    """Python notes where it has warned, until it is told that the filters changed."""
    noted: dict[str, Any] = {}

    def warn() -> None:
        warnings.warn_explicit("take care", UserWarning, "theirs.py", 1, registry=noted)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        around = Surroundings(CPU)
        before = around.begin()
        warnings.simplefilter("default")
        warn()
        around.end(before)
        with pytest.raises(UserWarning, match="take care"):
            warn()


def test_unpickled_surroundings_watch_the_generator() -> None:
    around = pickle.loads(pickle.dumps(Surroundings(CPU)))
    state, before = torch.get_rng_state(), around.begin()
    torch.manual_seed(torch.initial_seed() + 1)
    around.end(before)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_stay_after_the_weights_have_changed_their_type() -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mul_(0.5).flatten(1))

    net, x = Writing().double(), torch.ones(1, 1, 4, 4)
    guard = guarded(net)
    guard(x)
    net.float()
    guard(x)
    assert torch.equal(x, torch.ones(1, 1, 4, 4))


def test_logits_without_a_shape_are_refused() -> None:
    with pytest.raises(InputError, match="the model fails on images of 1 x 4 x 4"):
        guarded(Answering(lambda x: torch.nested.nested_tensor([*x.flatten(1)])))(IMAGES)

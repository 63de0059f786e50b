"""A model on corrupted images: the verdicts of a slow loop, resumed bit for bit, behind the same guards."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corrupted_files import colours, shifted, write_arrays
from evaluation_models import Watched, tiny_case
from torch import Tensor, nn

from nuat.data import ImageSet, class_balanced, to_float
from nuat.data.corruptions import CORRUPTIONS, corrupted
from nuat.errors import InputError
from nuat.evaluation.corruption_results import CorruptionResults
from nuat.evaluation.corruption_runner import evaluate_corruptions

NAMES = ("gaussian_noise", "fog", "pixelate")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, ImageSet, Path]:
    """A small network, its images, and a folder of these with three corruptions."""
    model, images = tiny_case(20)
    return model, images, write_arrays(tmp_path_factory.mktemp("c"), images, NAMES)


def run(model: nn.Module, images: ImageSet, folder: Path, **settings: Any) -> CorruptionResults:
    return evaluate_corruptions(model, images, corruptions=folder, **{"batch_size": 6, "inspected": True, **settings})


def test_the_verdicts_are_those_of_a_slow_loop(case: tuple[nn.Module, ImageSet, Path]) -> None:
    model, images, folder = case
    found = run(model, images, folder, n=13)
    positions = class_balanced(images.labels, 13, seed=0)  # as in every evaluation
    assert torch.equal(found.indices, positions)
    assert tuple(found.correct) == NAMES
    assert len(found.missing) == 12
    with torch.no_grad():
        for name in NAMES:
            for severity in (1, 2, 3, 4, 5):
                for i, at in enumerate(positions.tolist()):
                    pixels = torch.from_numpy(shifted(images, name, severity)[at]).permute(2, 0, 1)
                    right = model(to_float(pixels)[None]).argmax() == images.labels[at]
                    assert found.correct[name][severity - 1, i] == right
        clean = model(to_float(images.images[positions])).argmax(dim=1) == images.labels[positions]
    assert torch.equal(found.clean, clean)
    assert 0 < found.accuracy("mean") < found.accuracy("clean")


def test_passes_are_counted(case: tuple[nn.Module, ImageSet, Path]) -> None:
    model, images, folder = case
    watched = Watched(model)
    found = run(watched, images, folder, n=13)
    assert found.forwards == 13 * (1 + 3 * 5)
    assert watched.images == found.forwards + 6  # the check of the first batch of logits
    assert watched.training_modes == {False}


def test_it_goes_on_where_it_was_cut_off(case: tuple[nn.Module, ImageSet, Path], tmp_path: Path) -> None:
    model, images, folder = case

    def stop(call: int) -> None:
        if call == 14:
            raise KeyboardInterrupt

    state, watched = tmp_path / "partial.json", Watched(model, at=stop)
    with pytest.raises(KeyboardInterrupt):
        run(watched, images, folder, state_path=state)
    assert state.is_file()
    watched.at, watched.calls = None, 0
    resumed = run(watched, images, folder, state_path=state)
    assert watched.calls == (1 + 4) + 3 * 5 * 4 - (13 - 5)  # the batches done before are not done again
    assert not state.exists()
    whole = run(model, images, folder)
    for name in NAMES:
        assert torch.equal(resumed.correct[name], whole.correct[name])
    assert resumed.forwards == whole.forwards


def test_what_is_kept_is_not_taken_for_other_files(case: tuple[nn.Module, ImageSet, Path], tmp_path: Path) -> None:
    model, images, folder = case
    watched, state = (
        Watched(model, at=lambda call: (_ for _ in ()).throw(KeyboardInterrupt) if call == 14 else None),
        tmp_path / "s",
    )
    with pytest.raises(KeyboardInterrupt):
        run(watched, images, folder, state_path=state)
    watched.at, watched.calls = None, 0
    other = write_arrays(tmp_path / "other", ImageSet(255 - images.images, images.labels), NAMES)
    run(watched, images, other, state_path=state)
    assert watched.calls == (1 + 4) + 3 * 5 * 4


class _Broken(nn.Module):
    """Returns NaN for bright images; writes into its input."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        logits = flat[:, :4] / (flat.mean(dim=1, keepdim=True) < 0.6)
        x.zero_()
        return logits


def test_the_guards_stand(case: tuple[nn.Module, ImageSet, Path], tmp_path: Path) -> None:
    _, images, _ = case
    bright = ImageSet(images.images, images.labels)
    folder = write_arrays(tmp_path / "c", bright, ("jpeg_compression",))
    pixels = np.load(folder / "jpeg_compression.npy")
    pixels[:] = 255
    np.save(folder / "jpeg_compression.npy", pixels)
    with pytest.raises(InputError, match="infinite or NaN under jpeg_compression-1"):
        run(_Broken(), bright, folder)


def test_the_order_of_the_classes_is_kept(case: tuple[nn.Module, ImageSet, Path]) -> None:
    model, images, folder = case

    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = model(x)
            return logits.roll(1, dims=1)

    straight, turned = run(model, images, folder), run(Turned(), images, folder, class_map=(1, 2, 3, 0))
    assert torch.equal(straight.correct["fog"], turned.correct["fog"])


@pytest.mark.parametrize(("n", "told"), [(0, "n=0: expected 1 to 20"), (21, "n=21: expected 1 to 20")])
def test_a_number_out_of_range(case: tuple[nn.Module, ImageSet, Path], n: int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        run(*case, n=n)


def test_images_that_the_package_does_not_take_are_refused_before_the_model_runs() -> None:
    model, images = tiny_case(4)
    watched = Watched(model)
    with pytest.raises(InputError, match="from 32 x 32 pixels on"):
        evaluate_corruptions(watched, images)
    assert watched.calls == 0


def test_the_batch_size_is_that_of_an_evaluation(case: tuple[nn.Module, ImageSet, Path]) -> None:
    """0 is a mistake, and not the absence of a number."""
    assert run(*case, batch_size=None).batch_size == 250
    with pytest.raises(InputError, match="batch_size=0: expected at least 1"):
        run(*case, batch_size=0)


@pytest.mark.slow
def test_made_corruptions_equal_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    images = colours(6, size=32, classes=2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    found = evaluate_corruptions(model, images, seed=4, batch_size=4, inspected=True)
    assert tuple(found.correct) == CORRUPTIONS
    assert found.missing == ()
    assert (found.seed, found.mean_name) == (4, "mean of 15")
    made = corrupted(images, torch.arange(6), seed=4)
    with torch.no_grad():
        for name in ("glass_blur", "snow", "jpeg_compression"):
            right = model(to_float(made.take(name, 3, torch.arange(6)))).argmax(dim=1) == images.labels
            assert torch.equal(found.correct[name][2], right)
    assert "imagecorruptions" in sys.modules

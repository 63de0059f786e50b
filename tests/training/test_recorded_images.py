"""The augmentation of batches, repeated from a recording, gives the images of the eager one."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from recording import taped

from nuat.data import Batch, ImageSet, epoch_batches
from nuat.training.capture import Capture
from nuat.training.recorded_images import RecordedImages

COUNT, BATCH = 31, 4  # seven whole batches and one of 3


def batches(repeats: RecordedImages | None, generator: torch.Generator, **settings: Any) -> list[Batch]:
    """Return the batches of two epochs."""
    pixels = torch.randint(256, (COUNT, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = ImageSet(pixels, torch.arange(COUNT))
    repeat = None if repeats is None else repeats.at_size(settings.get("size"))
    return [
        batch
        for epoch in range(2)
        for batch in epoch_batches(
            images, BATCH, order_seed=0, epoch=epoch, generator=generator, repeat=repeat, **settings
        )
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_padding": 2, "flip": True, "channels_last": True},
        {"crop_padding": 0, "crop_scale": 0.5, "flip": True, "size": 5},
        {"crop_padding": 0, "flip": False},
    ],
    ids=str,
)
def test_repeated_images_are_the_eager_ones(settings: dict[str, Any]) -> None:
    calls = 0

    def counted(body: Callable[[], Any], generators: Sequence[torch.Generator]) -> Callable[[], Any]:
        repeat = taped(body, generators)

        def again() -> Any:
            nonlocal calls
            calls += 1
            return repeat()

        return again

    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    eager = batches(None, generators[0], **settings)
    images = RecordedImages(generators[1], BATCH, capture=counted, tell=pytest.fail)
    repeated = batches(images, generators[1], **settings)
    assert calls == 1 + 2 * (COUNT // BATCH) - 3  # compared with the third batch, then repeated
    for ours, theirs in zip(repeated, eager, strict=True):
        assert torch.equal(ours.x, theirs.x)
        assert ours.x.stride() == theirs.x.stride()
        assert torch.equal(ours.y, theirs.y)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def failing(body: Callable[[], Any], generators: Sequence[torch.Generator]) -> Callable[[], Any]:
    raise RuntimeError("operation not permitted when stream is capturing")


def stale(body: Callable[[], Any], generators: Sequence[torch.Generator]) -> Callable[[], Any]:
    made = body()
    return lambda: made  # draws nothing anew


@pytest.mark.parametrize(("capture", "reason"), [(failing, "RuntimeError: operation not"), (stale, "differ")])
def test_what_cannot_be_repeated_is_drawn_eagerly_and_says_why(capture: Capture, reason: str) -> None:
    told: list[str] = []
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    settings: dict[str, Any] = {"crop_padding": 2, "flip": True}
    eager = batches(None, generators[0], **settings)
    images = RecordedImages(generators[1], BATCH, capture=capture, tell=told.append)
    others = batches(images, generators[1], **settings)
    assert all(torch.equal(a.x, b.x) for a, b in zip(eager, others, strict=True))
    assert len(told) == 1
    assert reason in told[0]

"""Number, size and classes of the images that a plan is made for. The images need not be there."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from nuat import data
from nuat.config import DataConfig
from nuat.data import layouts, shards
from nuat.data.augmentation import resized_shape
from nuat.data.decoding import decode
from nuat.data.samples import Parts
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Facts about the images of a run."""

    train: int
    """Images of an epoch."""
    validation: int
    """Images of the validation after each epoch."""
    test: int
    """Images of the evaluation after training."""
    channels: int
    """Channels C."""
    size: tuple[int, int]
    """Height and width [pixels] in evaluations, and in training unless sizes grow over the run."""
    classes: int
    """Number of classes."""
    source: str
    """Where these numbers come from, for people."""
    file_bytes: float | None = None
    """Mean bytes of an image file. None: not known."""

    @property
    def pixels(self) -> int:
        """Bytes of an image as uint8."""
        return self.channels * self.size[0] * self.size[1]

    @property
    def all(self) -> int:
        """Images of the three parts."""
        return self.train + self.validation + self.test


def image_facts(
    config: DataConfig, *, images: int | None = None, classes: int | None = None, image_size: int | None = None
) -> ImageFacts:
    """Return the facts about the images that the settings name; given numbers replace known ones.

    An .npz is read; files of images, rows of lists and of tables are counted. Data sets by name have known sizes, and
    so have folders that are not there but are called like one. Nothing is known of tar shards.

    Raises:
        InputError: a number is too small, or one is neither known nor given.
    """
    for name, value, least in (("images", images, 2), ("classes", classes, 2), ("image-size", image_size, 1)):
        if value is not None and value < least:
            raise InputError(f"--{name} {value}: expected at least {least}.")
    side = image_size or config.image_size
    found = known_facts(config)
    if found is None:
        needed = {"--images": images, "--classes": classes, "--image-size": side}
        missing = [option for option, value in needed.items() if value is None]
        if missing:
            raise InputError(
                f"data.path={config.path}: its images are not known; give {', '.join(missing)}, or the path of an .npz "
                "file or an image folder that exists."
            )
        found = ImageFacts(
            train=0, validation=_validation(config, images or 0), test=0, channels=3, size=(0, 0), classes=0,
            source="as given, 3 channels",
        )  # fmt: skip
    told = {"images": images, "classes": classes, "pixels": image_size}
    given = [f"{value} {name}" for name, value in told.items() if value is not None]
    return replace(
        found,
        train=images or found.train,
        classes=classes or found.classes,
        size=found.size if side is None else (side, side),
        source="; given: ".join((found.source, *([", ".join(given)] if given else []))),
    )


def training_sizes(config: DataConfig, images: ImageFacts, epochs: int) -> list[tuple[int, int]]:
    """Return height and width [pixels] of the training images in each epoch."""
    sides = (config.size_at(epoch, epochs) for epoch in range(epochs))
    return [images.size if side is None else resized_shape(*images.size, side) for side in sides]


def made_up(folder: Path, images: ImageFacts, size: tuple[int, int], batch: int, config: DataConfig) -> DataConfig:
    """Write two batches of noise; return the settings that train on them at ``size`` and evaluate at their own size.

    One more image is held out, since some settings are refused without validation images. Training augments the images,
    unless the run streams them: then worker processes would, but for CutMix.
    """
    draw = np.random.default_rng(0)
    count = 2 * batch + 1
    # channels last: the reader takes such files for that whatever the sides are
    x = draw.integers(0, 256, (count, *images.size, images.channels), dtype=np.uint8)
    y = np.minimum(np.arange(count) // 2, batch - 1) % images.classes  # a class keeps an image if it gives one
    path = folder / "made-up.npz"
    names = np.array([f"class {label}" for label in range(images.classes)])
    np.savez(path, allow_pickle=False, x_train=x, y_train=y, x_test=x, y_test=y, classes=names)
    # a phase even where images are streamed: the run asks the network whether it takes that size
    phase = () if size == images.size else (min(size),)
    made = DataConfig(
        path=path, validation=1, progressive_sizes=phase, progressive_from=(0.0,) * len(phase), cutmix=config.cutmix
    )
    if config.loading == "stream":
        return made
    return replace(made, crop_padding=config.crop_padding, crop_scale=config.crop_scale, flip=config.flip)


def known_facts(config: DataConfig) -> ImageFacts | None:
    """Return the facts that the settings alone tell. None: they tell too little."""
    path = config.path.expanduser() if config.path is not None else None
    if path is not None and path.exists():
        if shards.are_shards(path):
            return None
        parts = layouts.scan(path, config, data.cache_folder(config))
        if parts is not None:
            return _counted(parts, config)
    if path is not None and path.is_file():
        dataset = data.load(config)
        return ImageFacts(
            train=len(dataset.train),
            validation=len(dataset.validation),
            test=len(dataset.test),
            channels=dataset.channels,
            size=dataset.image_size,
            classes=len(dataset.classes),
            source=f"read from {dataset.source}",
        )
    if path is None and config.subset is None:
        data.check_name(config.name)
    name = config.subset or (config.name if path is None else path.name)
    row = data.SETS.get(name)
    if row is None:
        return None
    validation = _validation(config, row.train)
    return ImageFacts(
        train=_left(row.train, config, validation),
        validation=validation,
        test=row.test,
        channels=row.channels,
        size=(row.size, row.size),
        classes=row.classes,
        source=f"sizes of {name}{row.note}; no image was read",
    )


def _counted(parts: Parts, config: DataConfig) -> ImageFacts:
    """Return the facts about images in files, of which one is decoded."""
    own, n = parts.validation, config.validation_size
    if own is None:
        labels = torch.from_numpy(parts.train.labels)
        held_out = validation = len(data.split(labels, n, config.split_seed)[1]) if isinstance(n, float) else n
    else:
        held_out, validation = 0, len(own) if isinstance(n, float) else min(n, len(own))
    channels, size, name = _first_image(parts, config)
    return ImageFacts(
        train=_left(len(parts.train), config, held_out),
        validation=validation,
        test=len(parts.test),
        channels=channels,
        size=size,
        classes=len(parts.classes),
        source=f"counted in {config.path}, size and channels of {name}",
        file_bytes=float(parts.train.sizes.mean()),
    )


def _validation(config: DataConfig, train: int) -> int:
    """Return about how many of ``train`` images the validation takes."""
    n = config.validation_size
    return round(n * train) if isinstance(n, float) else n


def _left(train: int, config: DataConfig, held_out: int) -> int:
    """Return the images that training takes after ``held_out`` are gone and the limit is applied."""
    train -= held_out
    if train < 2:
        raise InputError(f"data.validation={held_out}: leaves no training images; hold out fewer.")
    return train if config.train_limit is None else min(train, config.train_limit)


def _first_image(parts: Parts, config: DataConfig) -> tuple[int, tuple[int, int], str]:
    """Return channels, height and width, and name of the first training image that can be decoded."""
    for i in range(len(parts.train)):
        try:
            channels, height, width = decode(parts.train.read(i), parts.train.name(i), None).shape
            return channels, (height, width), Path(parts.train.name(i)).name
        except InputError:
            if config.on_bad == "refuse":
                raise
    raise InputError(f"{parts.description}: no training image can be read; replace the files.")

"""Reading of the settings' data set and its split into the three sets of a run."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from nuat.config import DataConfig
from nuat.data import layouts, memory, npz, streaming
from nuat.data.images import Dataset, Images, ImageSet, UnsplitData
from nuat.data.memory import resized
from nuat.data.samples import Parts, reading
from nuat.data.sets import SETS, check_name
from nuat.data.splits import class_balanced, split
from nuat.errors import InputError, TransientError


def cache_folder(config: DataConfig) -> Path:
    """Return the folder of downloads and decoded images: config.cache, else $NUAT_CACHE, else ~/.cache/nuat.

    Example:
        >>> from pathlib import Path
        >>> from nuat.config import DataConfig
        >>> from nuat.data import cache_folder
        >>> cache_folder(DataConfig(cache=Path("elsewhere"))).name
        'elsewhere'
    """
    return (config.cache or Path(os.environ.get("NUAT_CACHE") or "~/.cache/nuat")).expanduser()


def load(config: DataConfig, *, needs_train: bool = True) -> Dataset:
    """Read the images that the settings name and split them, on the CPU.

    The validation images are ``validation`` images of the training part, see ``DataConfig``. If the images have a
    validation part of their own, they are images of that part instead. ``train_limit`` applies to the remaining
    training images. What was passed over or converted is a warning, and is listed in the data set's notes.

    Args:
        config: settings of the images.
        needs_train: whether a training part must be there. If false and there is none, the training and validation sets
            are empty; if ``validation`` or ``train_limit`` ask for more images than there are, they have no effect.

    Raises:
        InputError: the images are missing, unreadable or of another form; a download fails; a setting asks for more
            images than there are, leaves a class without a training image, or has no effect.

    Example:
        >>> from nuat.config import DataConfig
        >>> from nuat.data import load
        >>> digits = load(DataConfig(name="mnist-sample", validation=200, train_limit=1000))
        >>> len(digits.train), digits.channels, digits.image_size
        (1000, 1, (28, 28))
    """
    source = _read(config, needs_train)
    for note in source.notes:
        # of this line, whoever calls: a run that reads its images twice says it once
        warnings.warn(f"{source.description}: {note}", RuntimeWarning, stacklevel=1)
    if len(source.classes) < 2:
        raise InputError(f"{source.description} has a single class, {source.classes[0]!r}; give at least 2 classes.")
    labels = source.train.labels
    if not needs_train and len(labels) == 0:
        train_indices = validation_indices = torch.empty(0, dtype=torch.int64)
        validation = source.train.select(validation_indices)
    else:
        try:
            train_indices, validation_indices, validation = _split(source, config)
        except TransientError:
            raise
        except InputError:
            if needs_train:
                raise
            # settings of a training on other images: an evaluation needs no split, so all training images stay
            whole = replace(config, validation=0, train_limit=None)
            train_indices, validation_indices, validation = _split(source, whole)
    return Dataset(
        train=source.train.subset(train_indices),
        validation=validation,
        test=source.test,
        classes=source.classes,
        source=source.description,
        validation_indices=validation_indices,
        skipped=source.skipped,
        skipped_names=source.skipped_names,
        notes=source.notes,
    )


def _read(config: DataConfig, needs_train: bool) -> UnsplitData:
    if config.path is None:
        if config.image_size is not None:
            raise InputError(
                f"data.image_size={config.image_size} has no effect on {config.name}: only images of your own are "
                "resized; leave it out."
            )
        check_name(config.name)
        read = SETS[config.name].read
        assert read is not None
        return read(cache_folder(config), config.download)
    path = config.path.expanduser()
    with reading(path):
        if not path.exists():
            raise _absent(path)
    parts = layouts.scan(path, config, cache_folder(config), needs_train=needs_train)
    if parts is not None:
        return _decode(parts, config)
    if config.of_files:
        raise InputError(f"{config.of_files[0]} has no effect on the file {path}; leave it out.")
    source = npz.read(path, needs_train=needs_train)
    return source if config.image_size is None else resized(source, config.image_size, config.eval_resize)


def _absent(path: Path) -> InputError:
    """Return the error that nothing is at ``path``."""
    link = f" (it is a link to {path.readlink()})" if path.is_symlink() else ""
    looked = "" if path.is_absolute() else f" in {Path.cwd()}"
    return InputError(
        f"{path} does not exist{looked}{link}: expected a folder or file of images ({layouts.EXAMPLES}; or an .npz "
        f"file with {', '.join(npz.REQUIRED)}); put it there, or correct --data.path."
    )


def _decode(parts: Parts, config: DataConfig) -> UnsplitData:
    """Read encoded images into memory, or to be streamed."""
    cache = cache_folder(config)
    if config.loading == "stream" and config.image_size is not None:
        return streaming.read(
            parts,
            config.image_size,
            cache,
            eval_resize=config.eval_resize,
            workers=config.workers,
            on_bad=config.on_bad,
        )
    return memory.read(parts, config.image_size, cache, eval_resize=config.eval_resize, on_bad=config.on_bad)


def _split(source: UnsplitData, config: DataConfig) -> tuple[torch.Tensor, torch.Tensor, ImageSet]:
    """Return the positions of the training and the validation images, both int64 [n], and the validation images.

    Raises:
        InputError: a setting asks for more images than there are, or leaves a class without a training image.
    """
    labels = source.train.labels
    if source.validation is None:
        if config.validation_size >= len(labels):
            raise InputError(
                f"data.validation={config.validation_size}: {source.description} has only {len(labels)} training "
                "images; hold out fewer, or a fraction, such as --data.validation 0.1."
            )
        train_indices, validation_indices = split(labels, config.validation_size, config.split_seed)
    else:
        train_indices = torch.arange(len(labels))
        validation_indices = _from_validation_part(source.validation, config)
    _check_classes(source, train_indices, f"data.validation={config.validation_size}", "hold out fewer images")
    if config.train_limit is not None:
        if config.train_limit > len(train_indices):
            raise InputError(
                f"data.train_limit={config.train_limit}: there are only {len(train_indices)} training images after "
                "the split; lower it or leave it out."
            )
        train_indices = train_indices[class_balanced(labels[train_indices], config.train_limit, config.split_seed)]
        _check_classes(source, train_indices, f"data.train_limit={config.train_limit}", "raise the limit")
    if source.validation is not None:
        return train_indices, validation_indices, source.validation.select(validation_indices)
    return train_indices, validation_indices, (source.held_out or source.train.select)(validation_indices)


def _from_validation_part(part: Images, config: DataConfig) -> torch.Tensor:
    """Choose images of the set's own validation part: so many, or, for a fraction of the training images, all."""
    n = config.validation_size
    if isinstance(n, float):
        return torch.arange(len(part))
    if n > len(part):
        raise InputError(
            f"data.validation={n}: val/ of {config.path} holds only {len(part)} images; ask for at most that many."
        )
    return class_balanced(part.labels, n, config.split_seed)


def _check_classes(source: UnsplitData, train_indices: torch.Tensor, setting: str, remedy: str) -> None:
    """Refuse a setting that takes all training images of a class."""
    labels = source.train.labels
    before = torch.bincount(labels, minlength=len(source.classes))
    after = torch.bincount(labels[train_indices], minlength=len(source.classes))
    lost = ((before > 0) & (after == 0)).nonzero()
    if len(lost):
        label = int(lost[0])
        raise InputError(
            f"{setting} leaves no training image of class {source.classes[label]!r} (label {label}), of which "
            f"{source.description} has {int(before[label])}; {remedy}."
        )

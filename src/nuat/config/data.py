"""Settings of the images: source, split and augmentation."""

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nuat.core.ranges import at_least, check_seed
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Source of the images, their split and their augmentation."""

    name: str = "mnist-sample"
    """Data set that nuat knows by name (mnist-sample, mnist, cifar10, cifar100, ...), used when no path is given."""
    path: Path | None = None
    """Images of your own: a folder of classes (train/<class>/*.jpg and test/<class>/*.jpg, or just <class>/*.jpg), a
    CSV file (path,label), Parquet files, tar shards, or an .npz file. None: the data set called data.name."""
    download: bool = True
    """Whether a named data set that is not in the cache may be downloaded."""
    cache: Path | None = None
    """Folder of downloads and decoded images. None: $NUAT_CACHE, else .cache/nuat in the home folder."""
    loading: Literal["memory", "stream"] = "memory"
    """memory: decode all images once. stream: decode the training images of a folder or of shards in every epoch, in
    worker processes during training; random crops are then taken from the original images."""
    workers: int | None = None
    """Streaming: processes that decode, >= 0. None: the processor's cores less one, at most 16. 0: the training process
    decodes."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """Images in files of their own, shards or tables: whether those that cannot be decoded end the run (refuse) or are
    left out and counted (skip)."""
    image_size: int | None = None
    """Images of your own: side [pixels] that they are resized and centre-cropped to. None: all have one size
    already."""
    eval_resize: int | None = None
    """Images of evaluations: the shorter side is resized to this [pixels], then the centre of image_size is cut out, as
    on ImageNet with 256 and 224. None: the shorter side is resized to image_size."""
    subset: Literal["imagenet100"] | None = None
    """Image folders: take only these classes; imagenet100 means the 100 of ImageNet that the GAT authors chose. None:
    all classes."""
    validation: int | float | None = None
    """Training images held out to choose the best epoch: a fraction of each class, such as 0.1, or a number of images,
    class-balanced, >= 0. Images with a validation part besides the test part give that instead: all of it for a
    fraction, or so many of it. None: 0.1 of images of your own, 500 images of a named data set."""
    split_seed: int = 0
    """Seed of that split, and of the choice of test images where there is no test part. It is not the run's seed, so
    runs of several seeds share one split."""
    train_limit: int | None = None
    """Use only this many training images, class-balanced, after the split. None: all."""
    crop_padding: int = 0
    """Random crop: zeros [pixels] padded on each side. 0: no crop."""
    crop_scale: float | None = None
    """Random resized crop: least fraction of the area that is cut out, in (0, 1); 0.08 on ImageNet. None: no such
    crop."""
    flip: bool = False
    """Random horizontal flip."""
    cutmix: float | None = None
    """CutMix: paste a box of another image of the batch into each image, and mix the labels by area. The share that an
    image keeps is drawn from Beta(cutmix, cutmix), > 0; 1: uniform, the usual value. It helps where the weights are
    averaged. None: no boxes."""
    progressive_sizes: tuple[int, ...] = ()
    """Side [pixels] of the training images in each phase of the run, such as FBF's 128,224,288. Empty: image_size
    throughout. Evaluations stay at image_size."""
    progressive_from: tuple[float, ...] = ()
    """Fraction of the run at which each of these phases begins, in [0, 1), increasing from 0."""

    @property
    def of_files(self) -> list[str]:
        """Settings without effect on arrays and named sets, as text; image_size is not among them."""
        values = {"loading": "stream", "on_bad": "skip", "subset": "imagenet100"}
        return [f"data.{name}={value}" for name, value in values.items() if getattr(self, name) == value]

    def size_at(self, epoch: int, epochs: int) -> int | None:
        """Return the side [pixels] of training images in epoch ``epoch`` (from 0) of ``epochs``; None: image_size.

        A phase begins with the first epoch that lies wholly after its fraction of the run.
        """
        phases = zip(self.progressive_sizes, self.progressive_from, strict=True)
        # 0.1 * 30 is a little more than 3 in floating point
        begun = [size for size, begins in phases if begins * epochs <= epoch + 1e-6]
        return begun[-1] if begun else None

    @property
    def validation_size(self) -> int | float:
        """``validation``, or its value by default."""
        if self.validation is not None:
            return self.validation
        return 500 if self.path is None else 0.1

    def placed(self) -> "DataConfig":
        """Return the settings with absolute paths, which mean the same in every folder."""
        path, cache = (None if place is None else place.expanduser().absolute() for place in (self.path, self.cache))
        return replace(self, path=path, cache=cache)

    def __post_init__(self) -> None:
        if isinstance(self.validation, float):
            if not 0.0 < self.validation < 1.0:
                raise InputError(
                    f"data.validation={self.validation:g}: expected a fraction in (0, 1), such as 0.1, or a whole "
                    "number of images, such as 500."
                )
        elif self.validation is not None:
            at_least("data.validation", self.validation, 0)
        check_seed("data.split_seed", self.split_seed)
        at_least("data.crop_padding", self.crop_padding, 0)
        if self.crop_scale is not None:
            if not 0.0 < self.crop_scale < 1.0:
                raise InputError(f"data.crop_scale={self.crop_scale:g}: expected a fraction of the area in (0, 1).")
            if self.crop_padding > 0:
                raise InputError(
                    f"data.crop_scale={self.crop_scale:g} and data.crop_padding={self.crop_padding}: one crop or the "
                    "other; set data.crop_scale to none or data.crop_padding to 0."
                )
        if self.cutmix is not None and not 0.0 < self.cutmix < math.inf:
            raise InputError(
                f"data.cutmix={self.cutmix:g}: expected a parameter of the beta distribution > 0, such as 1."
            )
        if self.train_limit is not None:
            at_least("data.train_limit", self.train_limit, 2)
        if self.image_size is not None:
            at_least("data.image_size", self.image_size, 1)
        self._check_reading()
        self._check_phases()

    def _check_reading(self) -> None:
        """Refuse settings of reading files that are impossible or have no effect."""
        if self.path is None and self.of_files:
            raise InputError(
                f"{self.of_files[0]} has no effect on {self.name}: give the folder of the images as data.path."
            )
        if self.loading == "stream" and self.image_size is None:
            raise InputError("data.loading=stream needs the side of the images: give data.image_size, such as 224.")
        if self.workers is not None:
            at_least("data.workers", self.workers, 0)
            if self.loading == "memory":
                raise InputError(
                    f"data.workers={self.workers} has no effect on data.loading=memory; leave it out or set stream."
                )
        if self.eval_resize is not None and (self.image_size is None or self.eval_resize < self.image_size):
            raise InputError(
                f"data.eval_resize={self.eval_resize}, data.image_size={self.image_size}: image_size is cut out of the "
                "image of eval_resize; give both, eval_resize at least as large."
            )

    def _check_phases(self) -> None:
        """Refuse impossible phases of the image size."""
        sizes, starts = self.progressive_sizes, self.progressive_from
        if len(sizes) != len(starts):
            raise InputError(
                f"data.progressive_sizes has {len(sizes)} values and data.progressive_from {len(starts)}: give one of "
                "each per phase."
            )
        for size in sizes:
            at_least("data.progressive_sizes", size, 1)
        if starts and (starts[0] != 0 or not all(a < b for a, b in itertools.pairwise((*starts, 1.0)))):
            raise InputError(
                f"data.progressive_from={','.join(f'{f:g}' for f in starts)}: expected increasing fractions of the "
                "run, the first 0, the last below 1, such as 0,0.4,0.8."
            )

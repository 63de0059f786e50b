"""Settings of the images."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nuat.core.ranges import at_least, check_seed
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from, how they are split and augmented."""

    name: str = "mnist-sample"
    """Data set that nuat knows by name (mnist-sample, mnist, cifar10, cifar100, ...), used when no path is given."""
    path: Path | None = None
    """Used instead: an .npz (x_train, y_train, x_test, y_test), an image folder (train/<class>/*.png), or a folder of
    tar shards (train/NAME-000000.tar)."""
    download: bool = True
    """Whether a named source that is not in the cache may be downloaded."""
    cache: Path | None = None
    """Folder of downloads and decoded folders; none: $NUAT_CACHE, else .cache/nuat in the home folder."""
    loading: Literal["memory", "stream"] = "memory"
    """memory: decode all images once, into memory. stream: decode the training images of a folder or of shards anew in
    each epoch, in worker processes while training; random crops then come out of the original images."""
    workers: int | None = None
    """Streaming: processes that decode, >= 0; none: the processor's cores less one, at most 16; 0: the training
    process itself."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """Image folders and shards: what files that cannot be decoded do at the start: end the run, or be left out."""
    image_size: int | None = None
    """Image folders and shards: side [pixels] that images are resized and centre-cropped to; none: all are of one
    size."""
    eval_resize: int | None = None
    """Images of evaluations: the shorter side [pixels] is resized to this and the centre of image_size cut out, as on
    ImageNet with 256 and 224; none: it is resized to image_size."""
    subset: Literal["imagenet100"] | None = None
    """Image folders: take only these classes, imagenet100 for the 100 of ImageNet that the GAT authors chose; none:
    all."""
    validation: int = 500
    """Training images held out, class-balanced, to choose the best epoch; >= 0. From an image folder that has a val
    part beside test, this many of its images."""
    split_seed: int = 0
    """Seed of that split, apart from the run's seed so that runs of several seeds share one split."""
    train_limit: int | None = None
    """Use only this many training images, class-balanced, after the split; none: all."""
    crop_padding: int = 0
    """Random crop: zeros [pixels] padded on each side; 0: no crop."""
    crop_scale: float | None = None
    """Random resized crop: least fraction of the area that is cut out, in (0, 1); none: off. ImageNet's is 0.08."""
    flip: bool = False
    """Random horizontal flip."""
    progressive_sizes: tuple[int, ...] = ()
    """Side [pixels] of the training images in each phase of the run, as FBF's 128,224,288; empty: image_size
    throughout. Evaluations stay at image_size."""
    progressive_from: tuple[float, ...] = ()
    """Fraction of the run at which each of these phases begins, in [0, 1), increasing, the first 0."""

    @property
    def of_folders(self) -> list[str]:
        """Settings that have an effect on nothing but a folder, as text; image_size is not among them."""
        values = {"loading": "stream", "on_bad": "skip", "subset": "imagenet100"}
        return [f"data.{name}={value}" for name, value in values.items() if getattr(self, name) == value]

    def size_at(self, epoch: int, epochs: int) -> int | None:
        """Return the side [pixels] of the training images in epoch ``epoch`` (from 0) of ``epochs``; none: image_size.

        A phase begins with the first epoch of which no part lies before its fraction of the run.
        """
        phases = zip(self.progressive_sizes, self.progressive_from, strict=True)
        # 0.1 * 30 is a little more than 3 in floating point
        begun = [size for size, begins in phases if begins * epochs <= epoch + 1e-6]
        return begun[-1] if begun else None

    def __post_init__(self) -> None:
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
        if self.train_limit is not None:
            at_least("data.train_limit", self.train_limit, 2)
        if self.image_size is not None:
            at_least("data.image_size", self.image_size, 1)
        self._check_reading()
        self._check_phases()

    def _check_reading(self) -> None:
        """Refuse what images of files are read by where it cannot be or has no effect."""
        if self.path is None and self.of_folders:
            raise InputError(
                f"{self.of_folders[0]} has no effect on {self.name}: give the folder of the images as data.path."
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
                "image of eval_resize, so give both, the latter at least as large."
            )

    def _check_phases(self) -> None:
        """Refuse phases of the image size that cannot be."""
        sizes, starts = self.progressive_sizes, self.progressive_from
        if len(sizes) != len(starts):
            raise InputError(
                f"data.progressive_sizes has {len(sizes)} values and data.progressive_from {len(starts)}: give both of "
                "each phase."
            )
        for size in sizes:
            at_least("data.progressive_sizes", size, 1)
        if starts and (starts[0] != 0 or not all(a < b for a, b in itertools.pairwise((*starts, 1.0)))):
            raise InputError(
                f"data.progressive_from={','.join(f'{f:g}' for f in starts)}: expected increasing fractions of the "
                "run, the first 0, the last below 1, such as 0,0.4,0.8."
            )

"""Data sets: reading, splitting, augmenting and batching images that lie whole on one device."""

from nuat.data.augmentation import random_crop, random_flip
from nuat.data.images import Dataset, ImageSet, batches, to_float
from nuat.data.loader import Batch, check_batches, check_shares, epoch_batches
from nuat.data.sources import cache_folder, load
from nuat.data.splits import class_balanced, split

__all__ = [
    "Batch",
    "Dataset",
    "ImageSet",
    "batches",
    "cache_folder",
    "check_batches",
    "check_shares",
    "class_balanced",
    "epoch_batches",
    "load",
    "random_crop",
    "random_flip",
    "split",
    "to_float",
]

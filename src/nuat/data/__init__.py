"""Data sets: reading, splitting, augmenting and batching images, whole on one device or streamed from the disk."""

from nuat.data.augmentation import cutmix, random_crop, random_flip
from nuat.data.images import Dataset, Images, ImageSet, batches, to_float
from nuat.data.loader import Batch, check_batches, check_shares, check_sizes, epoch_batches
from nuat.data.sets import SETS, check_name
from nuat.data.sources import cache_folder, load
from nuat.data.splits import class_balanced, split
from nuat.data.streaming import StreamedSet

__all__ = [
    "SETS",
    "Batch",
    "Dataset",
    "ImageSet",
    "Images",
    "StreamedSet",
    "batches",
    "cache_folder",
    "check_batches",
    "check_name",
    "check_shares",
    "check_sizes",
    "class_balanced",
    "cutmix",
    "epoch_batches",
    "load",
    "random_crop",
    "random_flip",
    "split",
    "to_float",
]

"""Layouts in which images of a user's own may lie.

To add one, write a module with a function that knows the layout and one that returns its ``Parts``, and a row here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nuat.config import DataConfig
from nuat.data import flat_folder, folders, image_lists, shards, tables
from nuat.data.samples import PARTS, Parts, few, reading
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way to lay out images with their classes."""

    example: str
    """Its files, for messages."""
    fits: Callable[[Path], bool]
    """Return whether a path, which exists, has this layout."""
    scan: Callable[[Path, DataConfig, Path, bool], Parts]
    """Find the images of a path, given the settings, the cache, and whether there must be a training part."""


FOLDERS = Layout(
    example="train/<class>/*.jpg and test/<class>/*.jpg",
    fits=folders.has_classes_in_parts,
    scan=lambda path, config, cache, needs_train: folders.scan(path, config.subset, needs_train=needs_train),
)
LAYOUTS = (
    Layout(
        example="train/NAME-000000.tar and test/NAME-000000.tar",
        fits=shards.are_shards,
        scan=lambda path, config, cache, needs_train: shards.scan(path, cache, needs_train=needs_train),
    ),
    FOLDERS,
    Layout(
        example="labels.csv with the columns path and label",
        fits=image_lists.is_list,
        scan=lambda path, config, cache, needs_train: image_lists.scan(
            path, split_seed=config.split_seed, needs_train=needs_train
        ),
    ),
    Layout(
        example="Parquet files train-00000-of-00001.parquet",
        fits=tables.is_table,
        scan=lambda path, config, cache, needs_train: tables.scan(
            path, cache, split_seed=config.split_seed, needs_train=needs_train
        ),
    ),
    Layout(
        example="<class>/*.jpg",
        fits=flat_folder.is_flat,
        scan=lambda path, config, cache, needs_train: flat_folder.scan(path, split_seed=config.split_seed),
    ),
)
"""All layouts; the first that fits is taken."""
EXAMPLES = "; ".join(layout.example for layout in (FOLDERS, *(row for row in LAYOUTS if row is not FOLDERS)))
"""Files of every layout, for messages."""


def find(path: Path) -> Layout | None:
    """Return the layout of a path that exists. None: a file that has none of them.

    Raises:
        InputError: a folder has none of them.
        TransientError: a folder cannot be read.
    """
    for layout in LAYOUTS:
        if layout.fits(path):
            return layout
    with reading(path):
        if not path.is_dir():
            return None
        there = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if any(name in there for name in PARTS):
        return FOLDERS  # its reader says what is missing
    lists = [name for name in there if name.lower().endswith((".csv", ".tsv"))]
    more = f" To take {lists[0]}, give --data.path {path / lists[0]}." if lists else ""
    raise InputError(f"{path} holds no images in classes: expected {EXAMPLES}; found {few(there) or 'nothing'}.{more}")


def scan(path: Path, config: DataConfig, cache: Path, *, needs_train: bool = True) -> Parts | None:
    """Find the images of a path that exists, whatever its layout. None: a file that has none.

    Args:
        path: a folder or a file.
        config: settings of the images.
        cache: folder of the cache.
        needs_train: whether there must be a training part.

    Raises:
        InputError: the path has no known layout, or is damaged, or ``data.subset`` has no effect on it.
        TransientError: a file or folder cannot be read.
    """
    layout = find(path)
    if layout is not None and layout is not FOLDERS and config.subset is not None:
        raise InputError(
            f"data.subset={config.subset} has no effect on {path}: only train/<class>/ has subsets; leave it out."
        )
    return None if layout is None else layout.scan(path, config, cache, needs_train)

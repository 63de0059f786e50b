"""The data sets that nuat knows by name: one row each.

To add one, write a function ``read(cache, download)`` that returns its images, and a row here. ``--data.name`` takes
it, and plans, reports, model cards and RobustBench exports use the facts of the row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nuat.data import npz
from nuat.data.images import UnsplitData
from nuat.data.torchvision_sets import reader
from nuat.errors import InputError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """Facts about a data set that are known without reading it."""

    title: str
    """Name on pages and cards."""
    train: int
    """Training images."""
    test: int
    """Test images."""
    channels: int
    """Channels C of every image."""
    size: int
    """Side of the images [pixels]; of ImageNet, the usual one of evaluations."""
    classes: int
    """Number of classes."""
    read: Callable[[Path, bool], UnsplitData] | None = None
    """Read the set, given the cache folder and whether it may be downloaded. None: images come from ``data.path``."""
    licence: str | None = None
    """Sentence for the model card. None: not known."""
    leaderboard: tuple[float, int] | None = None
    """Linf radius and number of test images of RobustBench's leaderboard. None: there is no leaderboard."""
    note: str = ""
    """Reservation about these numbers, in parentheses."""


def _mnist_sample(cache: Path, download: bool) -> UnsplitData:
    """Read the digits in the package; neither the cache nor a download is needed."""
    with resources.as_file(resources.files("nuat.data") / "mnist_sample.npz") as file:
        sample = npz.read(file)
    return UnsplitData(sample.train, sample.test, sample.classes, "mnist-sample (5,000 MNIST digits in the package)")


_CIFAR = "(Alex Krizhevsky 2009) comes without a licence; its images were collected from the web."

SETS: dict[str, NamedSet] = {
    "mnist-sample": NamedSet(
        title="MNIST sample", train=4000, test=1000, channels=1, size=28, classes=10, read=_mnist_sample,
        licence="The digits are MNIST's (Yann LeCun, Corinna Cortes, Christopher J. C. Burges), CC BY-SA 3.0.",
    ),
    "mnist": NamedSet(
        title="MNIST", train=60_000, test=10_000, channels=1, size=28, classes=10, read=reader("mnist"),
        licence="MNIST (Yann LeCun, Corinna Cortes, Christopher J. C. Burges) is under CC BY-SA 3.0.",
    ),
    "cifar10": NamedSet(
        title="CIFAR-10", train=50_000, test=10_000, channels=3, size=32, classes=10, read=reader("cifar10"),
        licence=f"CIFAR-10 {_CIFAR}", leaderboard=(8 / 255, 10_000),
    ),
    "cifar100": NamedSet(
        title="CIFAR-100", train=50_000, test=10_000, channels=3, size=32, classes=100, read=reader("cifar100"),
        licence=f"CIFAR-100 {_CIFAR}", leaderboard=(8 / 255, 10_000),
    ),
    "imagenet100": NamedSet(
        title="ImageNet-100", train=128_117, test=5_000, channels=3, size=224, classes=100,
        note=" (a tenth of ImageNet; not known which classes)",
    ),
    "imagenet": NamedSet(
        title="ImageNet", train=1_281_167, test=50_000, channels=3, size=224, classes=1000,
        leaderboard=(4 / 255, 5_000),
    ),
}  # fmt: skip
"""Name in the settings to what is known of the set."""


def check_name(name: str) -> None:
    """Refuse a name that no row with a reader has.

    Raises:
        InputError: the name is unknown, or that of a set whose images must be given as a path.

    Example:
        >>> from nuat.data import check_name
        >>> check_name("cifar10")
    """
    readable = [known for known, row in SETS.items() if row.read is not None]
    if name in readable:
        return
    if name in SETS:
        raise InputError(f"data.name={name}: nuat cannot download {SETS[name].title}; give its folder as --data.path.")
    raise InputError(
        f"data.name={name!r}: no such data set.{did_you_mean(name, readable)} Known: {', '.join(readable)}; give any "
        "other as --data.path."
    )

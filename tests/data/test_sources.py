"""load(): the named sources in torchvision's layout, the split, and the settings that cannot be."""

import csv
import functools
import gzip
import hashlib
import http.server
import io
import pickle
import struct
import sys
import tarfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import write_folder, write_shards
from PIL import Image
from torchvision import datasets

from nuat.config import DataConfig
from nuat.data import sources
from nuat.data.layouts import LAYOUTS
from nuat.data.sources import cache_folder, load
from nuat.errors import InputError, TransientError

DIGITS = np.arange(30 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(30, 28, 28)
TEN = (np.arange(30) % 10).astype(np.uint8)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """The file format of MNIST."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder behind a web server on this machine; yields the folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mnist(served, monkeypatch):
    """A tiny MNIST of 30 training and 30 test images, served; the folder of the files on the server."""
    folder, address = served
    parts = {
        "train-images-idx3-ubyte": idx(DIGITS),
        "train-labels-idx1-ubyte": idx(TEN),
        "t10k-images-idx3-ubyte": idx(DIGITS[::-1]),
        "t10k-labels-idx1-ubyte": idx(TEN[::-1]),
    }
    resources = []
    for name, data in parts.items():
        packed = gzip.compress(data)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", md5(packed)))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    return folder


def cifar_files(kind: type, classes: int) -> dict[str, bytes]:
    """Batches in CIFAR's format: 30 images each, rows of 3072 values in the order C, H, W."""
    labels = [i % classes for i in range(30)]
    key = "labels" if kind is datasets.CIFAR10 else "fine_labels"
    files = {}
    for number, (name, _) in enumerate([*kind.train_list, *kind.test_list]):
        rows = np.arange(30 * 3072, dtype=np.uint32).astype(np.uint8).reshape(30, 3072) + np.uint8(number)
        files[name] = pickle.dumps({"data": rows, key: labels})
    files[kind.meta["filename"]] = pickle.dumps({kind.meta["key"]: [f"class {i}" for i in range(classes)]})
    return files


def set_checksums(monkeypatch, kind: type, files: dict[str, bytes]) -> None:
    for listing in ("train_list", "test_list"):
        monkeypatch.setattr(kind, listing, [[name, md5(files[name])] for name, _ in getattr(kind, listing)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(files[kind.meta["filename"]])})


def failure(**settings) -> str:
    """The message of the refusal, which must be one line."""
    with pytest.raises(InputError) as caught:
        load(DataConfig(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_sample_of_the_package():
    dataset = load(DataConfig())
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [3500, 500, 1000]
    assert torch.bincount(dataset.validation.labels).tolist() == [50] * 10
    assert dataset.classes == tuple("0123456789")
    assert (dataset.channels, dataset.image_size) == (1, (28, 28))
    assert dataset.source.startswith("mnist-sample")


def test_the_sample_is_the_file_that_its_page_describes():
    folder = Path(sys.modules["nuat.data"].__file__).parent
    digest = hashlib.sha256((folder / "mnist_sample.npz").read_bytes()).hexdigest()
    assert digest in (folder / "MNIST_SAMPLE.md").read_text()


def test_mnist_is_downloaded_once_and_then_read_without_the_server(mnist, tmp_path):
    cache = tmp_path / "cache"
    dataset = load(DataConfig(name="mnist", cache=cache, validation=10))
    assert len(dataset.train) == 20
    assert torch.equal(dataset.validation.images[:, 0], torch.from_numpy(DIGITS)[dataset.validation_indices])
    assert torch.equal(dataset.test.labels, torch.from_numpy(TEN[::-1].copy()).long())
    assert dataset.classes == tuple("0123456789")
    assert {path.parent for path in files_in(cache)} == {cache / "MNIST/raw"}
    assert len(files_in(cache)) == 4, "the packed files are not kept"
    assert [path.name for path in cache.iterdir()] == ["MNIST"], "nor the folder of the download"
    for path in mnist.iterdir():
        path.unlink()
    again = load(DataConfig(name="mnist", cache=cache, validation=10, download=False))
    assert torch.equal(again.train.images, dataset.train.images)


def test_a_wrong_checksum_is_refused_and_leaves_nothing(mnist, tmp_path):
    path = mnist / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    cache = tmp_path / "cache"
    message = failure(name="mnist", cache=cache, validation=10)
    for word in ("mnist could not be downloaded", str(cache / "MNIST/raw"), "orrupted", "--data.path"):
        assert word in message
    assert list(cache.iterdir()) == []


def test_a_server_without_the_file_or_no_server_is_refused_and_leaves_nothing(mnist, tmp_path, monkeypatch):
    (mnist / "train-labels-idx1-ubyte.gz").unlink()
    assert "404" in failure(name="mnist", cache=tmp_path / "cache", validation=10)
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert "could not be downloaded" in failure(name="mnist", cache=tmp_path / "cache", validation=10)
    assert files_in(tmp_path / "cache") == []


def test_files_that_were_cut_short_are_downloaded_again_or_refused(mnist, tmp_path):
    cache = tmp_path / "cache"
    load(DataConfig(name="mnist", cache=cache, validation=10))
    images = cache / "MNIST/raw/train-images-idx3-ubyte"
    whole = images.read_bytes()
    for damaged in (whole[:1000], b"", b"\xff" * 100):
        images.write_bytes(damaged)
        message = failure(name="mnist", cache=cache, validation=10, download=False)
        assert f"not found whole in {images.parent}" in message
        load(DataConfig(name="mnist", cache=cache, validation=10))
        assert images.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_named(mnist, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = failure(name="mnist", cache=tmp_path / "file", validation=10)
    assert str(tmp_path / "file") in message


@pytest.mark.parametrize(
    ("name", "kind", "classes"), [("cifar10", datasets.CIFAR10, 10), ("cifar100", datasets.CIFAR100, 15)]
)
def test_cifar_is_read_from_files_that_are_there(tmp_path, monkeypatch, name, kind, classes):
    files = cifar_files(kind, classes)
    set_checksums(monkeypatch, kind, files)
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    for file, data in files.items():
        (folder / file).write_bytes(data)
    dataset = load(DataConfig(name=name, cache=tmp_path, validation=0, download=False))
    assert len(dataset.train) == 30 * len(kind.train_list)
    assert dataset.classes == tuple(f"class {i}" for i in range(classes))
    assert dataset.train.images.shape[1:] == (3, 32, 32)
    first = torch.from_numpy(np.arange(3072, dtype=np.uint32).astype(np.uint8)).view(3, 32, 32)
    assert torch.equal(dataset.train.images[0], first)
    assert dataset.test.labels.tolist() == [i % classes for i in range(30)]
    assert dataset.source == f"{name} (torchvision)"
    (folder / kind.test_list[0][0]).write_bytes(b"damaged")
    assert "not found whole" in failure(name=name, cache=tmp_path, validation=0, download=False)


def test_cifar10_is_downloaded_and_a_wrong_checksum_refused(served, tmp_path, monkeypatch):
    folder, address = served
    files = cifar_files(datasets.CIFAR10, 10)
    set_checksums(monkeypatch, datasets.CIFAR10, files)
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}cifar.tar.gz")
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
    assert "orrupted" in failure(name="cifar10", cache=cache, validation=10)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5((folder / "cifar.tar.gz").read_bytes()))
    assert len(load(DataConfig(name="cifar10", cache=cache, validation=10)).train) == 140
    assert [path.name for path in cache.iterdir()] == ["cifar-10-batches-py"]


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_absent_files_without_download_say_where_they_were_looked_for(tmp_path, name):
    message = failure(name=name, cache=tmp_path, download=False)
    for word in (name, str(tmp_path), "--data.download false", "--data.path"):
        assert word in message
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "env"))
    assert cache_folder(DataConfig(cache=tmp_path / "given")) == tmp_path / "given"
    assert cache_folder(DataConfig()) == tmp_path / "env"
    monkeypatch.delenv("NUAT_CACHE")
    assert cache_folder(DataConfig()) == Path.home() / ".cache/nuat"
    monkeypatch.setenv("NUAT_CACHE", "")
    assert cache_folder(DataConfig()) == Path.home() / ".cache/nuat"


@pytest.fixture
def npz(tmp_path):
    """40 training images of classes 0 and 1, of which class 1 has four."""
    y = np.array([0] * 36 + [1] * 4)
    x = np.arange(40, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    np.savez(tmp_path / "set.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return tmp_path / "set.npz"


def test_a_file_is_split_and_limited(npz):
    dataset = load(DataConfig(path=npz, validation=4, train_limit=6))
    assert torch.bincount(dataset.validation.labels).tolist() == [2, 2]
    assert torch.bincount(dataset.train.labels).tolist() == [4, 2]
    assert dataset.validation.images[:, 0, 0, 0].tolist() == dataset.validation_indices.tolist()
    trained_on = set(dataset.train.images[:, 0, 0, 0].tolist())
    assert len(trained_on) == 6
    assert not trained_on & set(dataset.validation_indices.tolist())
    assert len(dataset.test) == 40


def test_the_split_follows_its_seed_and_the_limit_does_not_move_it(npz):
    first = load(DataConfig(path=npz, validation=4))
    assert torch.equal(load(DataConfig(path=npz, validation=4)).validation_indices, first.validation_indices)
    limited = load(DataConfig(path=npz, validation=4, train_limit=8))
    assert torch.equal(limited.validation_indices, first.validation_indices)
    other = load(DataConfig(path=npz, validation=4, split_seed=1))
    assert not torch.equal(other.validation_indices, first.validation_indices)


def test_no_validation_is_an_empty_set(npz):
    dataset = load(DataConfig(path=npz, validation=0))
    assert len(dataset.validation) == len(dataset.validation_indices) == 0
    assert len(dataset.train) == 40


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"validation": 500}, ("data.validation=500", "40 training images", "--data.validation 0.1")),
        ({"validation": 40}, ("data.validation=40", "40 training images")),
        ({"validation": 8}, ("data.validation=8", "class '1'", "has 4", "hold out fewer")),
        ({"validation": 4, "train_limit": 37}, ("data.train_limit=37", "36 training images")),
    ],
)
def test_settings_that_cannot_be_are_named(npz, settings, words):
    message = failure(path=npz, **settings)
    for word in words:
        assert word in message


def test_a_named_class_that_never_had_a_training_image_is_no_mistake_of_the_split(tmp_path):
    x, y = np.zeros((6, 4, 4), np.uint8), np.array([0, 2] * 3)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array(["a", "b", "c"]))
    assert load(DataConfig(path=tmp_path / "a.npz", validation=2)).classes == ("a", "b", "c")


def test_image_size_has_no_effect_on_a_named_source():
    assert "data.image_size=8 has no effect on mnist-sample" in failure(image_size=8)


def test_a_limit_that_leaves_a_class_without_images_is_refused():
    message = failure(train_limit=9)
    assert "data.train_limit=9 leaves no training image of class" in message
    assert "raise the limit" in message


def test_a_single_class_is_refused(tmp_path):
    x = np.zeros((4, 4, 4), np.uint8)
    np.savez(tmp_path / "one.npz", x_train=x, y_train=np.zeros(4, int), x_test=x, y_test=np.zeros(4, int))
    assert "single class, '0'" in failure(path=tmp_path / "one.npz", validation=0)


def test_a_missing_path_is_named_with_what_is_expected_there(tmp_path, monkeypatch):
    message = failure(path=tmp_path / "none")
    assert f"{tmp_path / 'none'} does not exist: expected a folder or file of images (train/<class>/*.jpg" in message
    for layout in LAYOUTS:
        assert layout.example in message
    assert "an .npz file with x_train" in message
    monkeypatch.chdir(tmp_path)
    assert f"none does not exist in {tmp_path}: expected" in failure(path=Path("none"), on_bad="skip")


def test_a_path_that_leads_nowhere_or_cannot_be_looked_at_is_named(tmp_path, monkeypatch):
    link = tmp_path / "images"
    link.symlink_to(tmp_path / "gone")
    assert f"{link} does not exist (it is a link to {tmp_path / 'gone'})" in failure(path=link)

    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", denied)
    assert f"{link} cannot be read (Permission denied)" in failure(path=link)


@pytest.fixture
def folder(tmp_path):
    """Six training, four validation and two test images of two classes."""
    for part, n in (("train", 3), ("val", 2), ("test", 1)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (4, 4), (len(part), i, 0)).save(tmp_path / "pets" / part / name / f"{i}.png")
    return tmp_path / "pets"


def test_the_validation_part_of_a_folder_is_used_whole_by_default(folder, tmp_path):
    dataset = load(DataConfig(path=folder, cache=tmp_path / "cache"))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [6, 4, 2]
    assert set(dataset.validation.images[:, 0, 0, 0].tolist()) == {3}
    assert dataset.validation_indices.tolist() == [0, 1, 2, 3]


def test_a_number_takes_so_many_images_of_the_validation_part(folder, tmp_path):
    dataset = load(DataConfig(path=folder, cache=tmp_path / "cache", validation=2))
    assert dataset.validation.labels.tolist() == [0, 1]
    assert len(dataset.train) == 6
    assert len(load(DataConfig(path=folder, cache=tmp_path / "cache", validation=0)).validation) == 0
    message = failure(path=folder, cache=tmp_path / "cache", validation=5)
    assert "data.validation=5: val/ of" in message
    assert "only 4 images" in message


def test_a_folder_is_resized(folder, tmp_path):
    dataset = load(DataConfig(path=folder, cache=tmp_path / "cache", image_size=6))
    assert dataset.image_size == (6, 6)


@pytest.mark.parametrize("settings", [{"validation": 200}, {"validation": 28}, {"validation": 0, "train_limit": 50}])
def test_an_evaluation_does_without_a_split_that_cannot_be_taken(tmp_path, settings):
    """Its settings may be those of a training on more images."""
    np.savez(tmp_path / "a.npz", x_train=DIGITS, y_train=TEN, x_test=DIGITS[::-1], y_test=TEN)
    config = DataConfig(path=tmp_path / "a.npz", **settings)
    with pytest.raises(InputError):
        load(config)
    found, plain = load(config, needs_train=False), load(DataConfig(path=tmp_path / "a.npz", validation=0))
    assert torch.equal(found.test.images, plain.test.images)
    assert torch.equal(found.test.labels, plain.test.labels)
    assert (len(found.train), len(found.validation)) == (30, 0)


def test_an_evaluation_does_not_do_without_images_that_may_come_back(npz, monkeypatch):
    split = sources._split

    def gone(source, config):
        if config.validation_size:
            raise TransientError("gone")
        return split(source, config)

    monkeypatch.setattr(sources, "_split", gone)
    with pytest.raises(TransientError, match="gone"):
        load(DataConfig(path=npz), needs_train=False)


def test_an_evaluation_keeps_a_split_that_can_be_taken(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=DIGITS, y_train=TEN, x_test=DIGITS, y_test=TEN)
    config = DataConfig(path=tmp_path / "a.npz", validation=10, train_limit=15)
    found, trained_on = load(config, needs_train=False), load(config)
    assert torch.equal(found.train.images, trained_on.train.images)
    assert torch.equal(found.validation_indices, trained_on.validation_indices)


def test_by_default_a_tenth_of_each_class_is_held_out(npz):
    """Class 1 has only four images; a number shared equally would take too many of them."""
    dataset = load(DataConfig(path=npz))
    assert torch.bincount(dataset.validation.labels).tolist() == [4, 1]
    assert torch.bincount(dataset.train.labels).tolist() == [32, 3]


def test_an_image_size_that_arrays_have_already_is_said(npz):
    size = load(DataConfig(path=npz)).image_size[0]
    with pytest.warns(RuntimeWarning, match=rf"set\.npz: data\.image_size={size} has no effect, as the images have"):
        dataset = load(DataConfig(path=npz, image_size=size))
    assert torch.equal(dataset.test.images, load(DataConfig(path=npz)).test.images)
    with warnings.catch_warnings(action="error"):
        load(DataConfig(path=npz, image_size=size, eval_resize=size + 2))
        load(DataConfig(path=npz, image_size=size + 1))


def test_what_is_passed_over_is_said_once_however_often_the_images_are_read(npz):
    settings = DataConfig(path=npz, image_size=4)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")  # as in the command line
        first = load(settings)
        again = load(settings)
    assert len(said) == 1
    assert first.notes == again.notes != ()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", [None, 9])
def test_arrays_are_resized_as_files_are(tmp_path, channels, resize):
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (6, 12, 15, channels), dtype=np.uint8), np.arange(6) // 3
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    for part in ("train", "test"):
        for i, pixels in enumerate(x):
            file = tmp_path / "files" / part / str(y[i]) / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.squeeze()).save(file)
    settings = {"cache": tmp_path / "cache", "image_size": 8, "eval_resize": resize, "validation": 2}
    arrays, files = (load(DataConfig(path=tmp_path / name, **settings)) for name in ("a.npz", "files"))
    for part in ("train", "validation", "test"):
        one, other = getattr(arrays, part), getattr(files, part)
        assert one.image_size == (8, 8)
        assert torch.equal(one.images, other.images)


NAME = "a\x1b[31m\n"


@pytest.mark.parametrize("kind", ["parts", "classes", "list", "shards", "npz"])
def test_texts_of_strangers_are_printable(kind: str, tmp_path: Path) -> None:
    root, n = tmp_path / NAME, {"train": 20, "test": 8}
    if kind == "parts":
        write_folder(root, n, kinds=["pixel.png"], classes=(NAME, "b"))
        (root / "train" / NAME / NAME).write_bytes(b"")
        (root / f"{NAME} too").mkdir()
    elif kind == "classes":
        write_folder(tmp_path, {NAME: 60}, kinds=["pixel.png"], classes=(NAME, "b"))
    elif kind == "list":
        write_folder(root, {"any": 60}, kinds=["pixel.png"], classes=(NAME, "b"))
        images = sorted(path for path in root.rglob("*.png"))
        with (root / "list.csv").open("w", newline="") as file:
            rows = [(path.relative_to(root), path.parent.name) for path in images[1:]]
            csv.writer(file).writerows([("path", "label"), *rows, rows[0]])
    elif kind == "shards":
        write_shards(root, n, kinds=["pixel.png"], classes=2)
        (root / "classes.txt").write_text("a\x1b[31m\nb")
    elif kind == "npz":
        root.mkdir()
        x, y = np.arange(80, dtype=np.uint8).reshape(20, 2, 2), np.arange(20) % 2
        np.savez(root / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array([NAME, "b"]))
    path = {"list": root / "list.csv", "npz": root / "a.npz"}.get(kind, root)
    dataset = load(DataConfig(path=path, cache=tmp_path / "cache", validation=2))
    assert r"\x1b[31m" in dataset.classes[0]
    assert r"a\x1b[31m\n" in dataset.source
    assert all(text.isprintable() for text in (*dataset.classes, dataset.source, *dataset.notes))
    assert len(dataset.notes) >= {"parts": 2, "classes": 1, "list": 2}.get(kind, 0)

"""Reading .npz files: every accepted form, and every mistake with a message that names it."""

import pickle
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nuat.data.npz import read
from nuat.errors import InputError

PIXELS = (np.arange(6 * 4 * 5 * 3) % 256).astype(np.uint8).reshape(6, 4, 5, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def write(path: Path, **changes) -> Path:
    """A good colour file of six training and three test images with single arrays replaced, or left out by None."""
    arrays = {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:3], "y_test": LABELS[:3]} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.fixture
def target(tmp_path):
    return tmp_path / "set.npz"


def test_colour_images_channels_last(target):
    source = read(write(target))
    assert torch.equal(source.train.images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert source.train.labels.tolist() == LABELS.tolist()
    assert len(source.test) == 3
    assert source.classes == ("0", "1", "2")
    assert source.validation is None
    assert source.description == f"file {target}"


def test_colour_images_channels_first(target):
    first = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))
    assert torch.equal(read(write(target, x_train=first, x_test=first[:3])).train.images, torch.from_numpy(first))


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4, 5, 1), (6, 1, 4, 5)])
def test_grey_images_in_three_forms(target, shape):
    grey = np.arange(120, dtype=np.uint8)
    x = grey.reshape(shape)
    source = read(write(target, x_train=x, x_test=x[:3]))
    assert torch.equal(source.train.images, torch.from_numpy(grey).view(6, 1, 4, 5))


def test_a_shape_that_fits_both_orders_is_read_with_the_channels_last(target):
    x = np.arange(6 * 3 * 2 * 3, dtype=np.uint8).reshape(6, 3, 2, 3)
    assert read(write(target, x_train=x, x_test=x[:3])).train.images.shape == (6, 3, 3, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_that_are_multiples_of_1_255_become_the_same_pixels(target, dtype):
    x = (PIXELS / 255).astype(dtype)
    source = read(write(target, x_train=x, x_test=x[:3]))
    assert torch.equal(source.train.images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_type_and_as_a_column(target, dtype):
    source = read(write(target, y_train=LABELS.astype(dtype)[:, None], y_test=LABELS[:3].astype(dtype)))
    assert source.train.labels.dtype == torch.int64
    assert source.train.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("names", [np.array(["cat", "dog", "eel", "fox"]), np.array([b"cat", b"dog", b"eel", b"fox"])])
def test_class_names_as_text_or_bytes_and_a_class_without_images(target, names):
    assert read(write(target, classes=names)).classes == ("cat", "dog", "eel", "fox")


def changed(array: np.ndarray, place, value) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


FLOATS = (PIXELS / 255).astype(np.float32)
BAD = {
    "float above 1": (
        {"x_test": changed(FLOATS[:3], (1, 0, 0, 0), 1.5)},
        ("x_test", "1.5", "image 1", "[0, 1]", "uint8"),
    ),
    "negative float": ({"x_train": changed(FLOATS, (5, 0, 0, 0), -0.25)}, ("x_train", "-0.25", "image 5")),
    "float up to 255": ({"x_train": PIXELS.astype(np.float32)}, ("x_train", "[0, 1]", "uint8")),
    "NaN": ({"x_train": changed(FLOATS, (2, 0, 0, 0), np.nan)}, ("x_train", "nan", "image 2")),
    "infinity": ({"x_train": changed(FLOATS, (2, 0, 0, 0), np.inf)}, ("x_train", "inf", "image 2")),
    "float between": ({"x_train": changed(FLOATS, (4, 0, 0, 0), 0.5)}, ("x_train", "0.5", "image 4", "uint8")),
    "int64 pixels": ({"x_train": PIXELS.astype(np.int64)}, ("x_train", "int64", "uint8")),
    "bool pixels": ({"x_train": PIXELS > 3}, ("x_train", "bool", "uint8")),
    "two dimensions": ({"x_train": np.zeros((6, 4), np.uint8)}, ("x_train", "[6, 4]", "[N, H, W]")),
    "two channels": ({"x_train": np.zeros((6, 4, 5, 2), np.uint8)}, ("x_train", "[6, 4, 5, 2]", "C 1 or 3")),
    "no images": ({"x_test": PIXELS[:0], "y_test": LABELS[:0]}, ("x_test", "empty")),
    "no pixels": ({"x_train": np.zeros((6, 0, 5), np.uint8)}, ("x_train", "empty")),
    "other test size": ({"x_test": PIXELS[:3, :, :4]}, ("x_train", "x_test", "(3, 4, 5)", "(3, 4, 4)")),
    "other test channels": ({"x_test": PIXELS[:3, :, :, 0]}, ("x_test", "(3, 4, 5)", "(1, 4, 5)")),
    "fewer labels": ({"y_train": LABELS[:5]}, ("y_train", "5 labels", "6 images")),
    "float labels": ({"y_train": LABELS.astype(float)}, ("y_train", "float64", "integer")),
    "one-hot labels": ({"y_train": np.eye(3, dtype=int)[LABELS]}, ("y_train", "[6, 3]", "argmax")),
    "scalar label": ({"y_train": np.array(1)}, ("y_train", "[]", "[N]")),
    "negative label": ({"y_train": changed(LABELS, 3, -1)}, ("y_train", "-1", "index 3")),
    "negative test label": ({"y_test": changed(LABELS[:3], 2, -7)}, ("y_test", "-7", "index 2", "0..2")),
    "test label unseen": ({"y_test": changed(LABELS[:3], 1, 3)}, ("y_test", "label 3", "index 1", "0..2")),
    "gap": ({"y_train": LABELS + 1, "y_test": LABELS[:3] + 1}, ("y_train", "class 0", "classes")),
    "huge label": ({"y_train": changed(LABELS, 2, 10**12)}, ("y_train", "1000000000000", "class 3")),
    "label without name": ({"classes": np.array(["a", "b"])}, ("y_train", "label 2", "index 2", "0..1")),
    "name twice": ({"classes": np.array(["a", "b", "a"])}, ("classes", "'a'", "twice")),
    "numbers for names": ({"classes": np.arange(3)}, ("classes", "int64", "names")),
    "table of names": ({"classes": np.array([["a", "b", "c"]])}, ("classes", "[1, 3]")),
    "no names": ({"classes": np.array([], dtype="U1")}, ("classes", "[0]")),
    "missing array": ({"x_test": None, "y_test": None}, ("x_test, y_test", "found: x_train, y_train")),
    "pickled labels": ({"y_train": np.array([0, 1, 2, 0, 1, None])}, ("y_train", "plain number arrays")),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_named(target, mistake):
    changes, words = BAD[mistake]
    message = failure(write(target, **changes))
    for word in words:
        assert word in message


def failure(path: Path) -> str:
    """The message of the refusal, which must be one line that names the file."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "does not exist" in failure(tmp_path / "none.npz")
    assert "is a folder" in failure(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 40, 500, -1])
def test_a_file_that_was_cut_short_is_unreadable(target, kept):
    data = write(target).read_bytes()
    target.write_bytes(data[:kept])
    assert "readable .npz" in failure(target)


def test_a_damaged_array_is_named(target):
    data = bytearray(write(target).read_bytes())
    place = bytes(data).find(PIXELS.tobytes())
    data[place] ^= 0xFF
    target.write_bytes(data)
    assert "x_train cannot be read" in failure(target)


def test_a_pickle_is_never_loaded(target, tmp_path):
    mark = tmp_path / "mark"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (mark,))

    target.write_bytes(pickle.dumps(Trap()))
    assert "readable .npz" in failure(target)
    np.savez(target, x_train=PIXELS, y_train=np.array([Trap()], dtype=object), x_test=PIXELS, y_test=LABELS)
    assert "y_train" in failure(target)
    assert not mark.exists()


def test_other_files_are_not_taken_for_image_sets(target):
    with target.open("wb") as file:
        np.save(file, PIXELS)
    assert "single array" in failure(target)
    target.write_text("label,pixel\n1,2\n")
    assert "readable .npz" in failure(target)
    with zipfile.ZipFile(target, "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(name, "no array")
    assert "x_train cannot be read" in failure(target)
    with zipfile.ZipFile(target, "w"):
        pass
    assert "found: nothing" in failure(target)


@given(
    dtype=st.sampled_from([np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.bool_]),
    values=st.lists(
        st.one_of(st.integers(0, 20), st.integers(-(2**15), 2**16 - 1)), min_size=2, max_size=2, unique=True
    ),
)
def test_the_remedy_for_other_integers_keeps_the_pixels(dtype, values):
    x = np.zeros((6, 2, 2), dtype)
    x[0, 0] = np.array(values).astype(dtype)
    low, high = int(x.min()), int(x.max())
    with tempfile.TemporaryDirectory() as folder, pytest.raises(InputError) as caught:
        read(write(Path(folder) / "set.npz", x_train=x))
    message = str(caught.value)
    assert f"x_train is {x.dtype}" in message
    if low < 0:
        assert "undo any normalisation" in message
        return
    remedies = {
        "(255 * x.astype('uint8'))": lambda: 255 * x.astype("uint8"),
        "convert with .astype('uint8')": lambda: x.astype("uint8"),
        ".round().astype('uint8')": lambda: (
            (x * (255 / int(message.split("255 / ")[1].split(")")[0]))).round().astype("uint8")
        ),
    }
    (remedy,) = (call for words, call in remedies.items() if words in message)
    converted = remedy()
    # the order of the pixels stays, and the largest is neither wrapped nor nearly black
    assert np.all((converted[0, 0, 0] <= converted[0, 0, 1]) == (x[0, 0, 0] <= x[0, 0, 1]))
    assert converted.max() == (255 if high <= 16 else high if high <= 255 else converted.max())
    assert high <= 255 or converted.max() > 127


@pytest.mark.parametrize("name", ["x_train", "x_test"])
def test_uint8_images_of_0_and_1_are_refused(target, name):
    n = 6 if name == "x_train" else 3
    with pytest.raises(InputError, match=rf"{name}: the values are 0 and 1 only.*\(255 \* x\)"):
        read(write(target, **{name: (PIXELS[:n] > 100).astype(np.uint8)}))


@pytest.mark.parametrize(("levels", "refused"), [(3, True), (16, True), (17, False)])
def test_uint8_images_of_a_few_levels_are_refused(target, levels, refused):
    x = (PIXELS.astype(np.int64) * levels // PIXELS.max()).astype(np.uint8)
    write(target, x_train=x)
    if not refused:
        assert read(target).train.images.max() == levels
        return
    remedy = rf"x_train: no value is above {levels}, so all are nearly black .* \(255 / {levels} \* x\)\.round\(\)"
    with pytest.raises(InputError, match=remedy):
        read(target)


def test_a_test_part_alone_is_enough_to_evaluate(target):
    whole = read(write(target))
    write(target, x_train=None, y_train=None)
    with pytest.raises(InputError, match="has no array x_train, y_train"):
        read(target)
    source = read(target, needs_train=False)
    assert torch.equal(source.test.images, whole.test.images)
    assert (len(source.train), source.classes) == (0, ("0", "1", "2"))
    write(target, y_train=None)
    with pytest.raises(InputError, match="has no array y_train"):
        read(target, needs_train=False)
    write(target, x_train=None, y_train=None, classes=np.array(["a", "b"]))
    with pytest.raises(InputError, match=r"y_test holds the label 2 at index .*; expected 0\.\.1"):
        read(target, needs_train=False)


@pytest.mark.parametrize(
    "header", [b"{'descr': '|u1', 'fortran_order': False, 'shape': (", b"(" * 400, b"{" * 60, b"'"]
)
def test_a_broken_header_is_one_line(target, header):
    write(target)
    with zipfile.ZipFile(target) as file:
        members = {name: file.read(name) for name in file.namelist()}
    text = header.ljust(117) + b"\n"
    members["x_train.npy"] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(target, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    with pytest.raises(InputError, match=r"array x_train cannot be read") as caught:
        read(target)
    assert "\n" not in str(caught.value)


def test_names_of_classes_are_printable(target):
    source = read(write(target, classes=np.array(["a\x1b[31m", "b\nc", "d"])))
    assert source.classes == (r"a\x1b[31m", r"b\nc", "d")

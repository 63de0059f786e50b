"""A folder of classes without parts."""

import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded

from nuat.config import DataConfig
from nuat.data import Dataset, load
from nuat.data.flat_folder import scan
from nuat.data.held_out import are_held_out
from nuat.data.samples import FileSamples, Samples
from nuat.errors import InputError

PIXELS = [encoded("pixel.png", label=label) for label in range(3)]


def write(root: Path, counts: dict[str, int]) -> Path:
    """Write so many small images of each class and return root."""
    for label, (name, count) in enumerate(counts.items()):
        for i in range(count):
            file = root / name / f"{i:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(PIXELS[label])
    return root


def names_of(samples: Samples) -> set[str]:
    assert isinstance(samples, FileSamples)
    return {samples.names[row] for row in samples.rows.tolist()}


def read(root: Path, **settings: object) -> Dataset:
    return load(DataConfig(path=root, cache=root.parent / "cache", **settings))


def failure(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
@settings(max_examples=15)
@given(
    st.dictionaries(st.sampled_from(["cat", "dog", "emu"]), st.integers(10, 16), min_size=2),
    st.integers(0, 5),
    st.integers(1, 3),
)
def test_a_folder_of_any_classes_is_split_and_images_that_are_added_move_none(counts, seed, more):
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder) / "photos", counts)
        parts = scan(root, split_seed=seed)
        assert parts.classes == tuple(sorted(counts))
        before = [names_of(part) for part in (parts.train, parts.test)]
        assert sum(map(len, before)) == sum(counts.values())
        assert not before[0] & before[1]
        assert parts.validation is None
        for part in (parts.train, parts.test):
            assert set(part.labels) <= set(range(len(counts)))
            for i in range(len(part)):
                assert Path(part.name(i)).parent.name == parts.classes[part.labels[i]]
        write(root, {name: count + more for name, count in counts.items()})
        grown = scan(root, split_seed=seed)
        after = [names_of(part) for part in (grown.train, grown.test)]
        assert before[0] <= after[0]
        assert before[1] <= after[1]


def test_the_split_is_said_with_its_numbers_and_seed(tmp_path):
    root = write(tmp_path / "photos", {"cat": 30, "dog": 20})
    with pytest.warns(RuntimeWarning, match="there is no test part: "):
        dataset = read(root)
    n = len(dataset.test)
    assert dataset.notes == (
        f"there is no test part: {n} of 50 images, chosen by the names of the images and data.split_seed 0, are the "
        "test images and are not trained on",
    )
    assert 4 <= n <= 18
    assert len(dataset.train) + len(dataset.validation) + n == 50
    assert dataset.source == f"folder of classes {root}"


def test_the_split_does_not_depend_on_where_the_folder_lies(tmp_path):
    root = write(tmp_path / "photos", {"cat": 30, "dog": 20})
    shutil.copytree(root, tmp_path / "elsewhere" / "pictures")
    assert names_of(scan(root).test) == names_of(scan(tmp_path / "elsewhere" / "pictures").test)
    assert names_of(scan(root).test) != names_of(scan(root, split_seed=1).test)


def test_other_files_are_counted_and_hidden_folders_left_alone(tmp_path):
    root = write(tmp_path / "photos", {"cat": 30, "dog": 20, ".trash": 2})
    (root / "README.md").write_text("")
    (root / "cat" / "notes.txt").write_text("")
    (root / "dog" / "more").mkdir()
    (root / "dog" / "more" / "a.png").write_bytes(encoded("pixel.png"))
    parts = scan(root)
    assert len(parts.train) + len(parts.test) == 51
    assert parts.classes == ("cat", "dog")
    assert parts.notes[0] == "2 files are passed over: 1 .md (photos/README.md), 1 .txt (cat/notes.txt)"


@pytest.mark.parametrize("name", ["Train", "testing", "valid", "VAL"])
def test_a_folder_that_is_called_like_a_part_is_no_class(tmp_path, name):
    root = write(tmp_path / "photos", {"cat": 3, name: 3})
    assert f"{root / name} looks like a part of the data set, not a class" in failure(root)


def test_folders_of_folders_of_classes_are_refused(tmp_path):
    root = tmp_path / "photos"
    write(root / "2023", {"cat": 3, "dog": 3})
    assert f"give the folder whose subfolders are the classes, such as --data.path {root / '2023'}" in failure(root)
    write(root / "2024", {"cat": 3, "emu": 3})
    assert "holds no image, but folders (cat, dog)" in failure(root)
    write(root, {"2023": 1})
    assert scan(root).classes == ("2023", "2024")


def test_a_class_without_images_and_an_image_without_a_class_are_refused(tmp_path):
    root = write(tmp_path / "photos", {"cat": 8, "dog": 8})
    (root / "emu").mkdir()
    assert f"{root / 'emu'} holds no image" in failure(root)
    (root / "emu").rmdir()
    (root / "stray.png").write_bytes(encoded("pixel.png"))
    assert f"{root / 'stray.png'} lies in no class folder" in failure(root)


def test_too_few_images_for_a_test_part_are_refused_and_a_class_without_test_images_is_said(tmp_path):
    root = write(tmp_path / "photos", {"cat": 40, "dog": 1})
    parts = scan(root, split_seed=next(seed for seed in range(9) if not are_held_out(["dog/000.png"], seed)[0]))
    assert parts.notes[-1] == "no test image of 1 of 2 classes: dog"
    small = write(tmp_path / "small", {"cat": 1, "dog": 1})
    names = ["cat/000.png", "dog/000.png"]
    with pytest.raises(InputError, match="its 2 images are too few to choose one"):
        scan(small, split_seed=next(seed for seed in range(9) if not are_held_out(names, seed).any()))


def test_a_class_of_which_every_image_would_be_a_test_image_is_refused(tmp_path):
    root = write(tmp_path / "photos", {"cat": 40, "dog": 1})
    refused = []
    for seed in range(30):
        try:
            scan(root, split_seed=seed)
        except InputError as error:
            refused.append(str(error))
    assert 1 <= len(refused) <= 15
    assert "leaves no training image of class 'dog', of which there are 1" in refused[0]


def test_an_evaluation_takes_the_test_images_of_the_training_alone(tmp_path):
    root = write(tmp_path / "photos", {"cat": 30, "dog": 20})
    settings = DataConfig(path=root, cache=tmp_path / "cache")
    trained, evaluated = load(settings), load(settings, needs_train=False)
    assert trained.test.fingerprint() == evaluated.test.fingerprint()
    assert torch.equal(trained.test.labels, evaluated.test.labels)

"""CSV files of paths and classes."""

import csv
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_files import encoded

from nuat.config import DataConfig
from nuat.data import Dataset, load, memory
from nuat.data.image_lists import scan
from nuat.data.samples import FileSamples, Samples
from nuat.errors import InputError

PIXEL = encoded("pixel.png")


def images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PIXEL)
    return root


def write(file: Path, *rows: str, encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(rows) + "\n", encoding=encoding)
    return file


def found(samples: Samples) -> dict[str, int]:
    """Return the label of each image, by its name."""
    assert isinstance(samples, FileSamples)
    return {samples.names[row]: int(samples.all_labels[row]) for row in samples.rows.tolist()}


def read(path: Path, **settings: object) -> Dataset:
    return load(DataConfig(path=path, cache=path.parent / "cache", **settings))


def failure(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).isprintable()
    assert not (path.parent / "cache").exists(), "a refusal writes nothing"
    return str(caught.value)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return images(tmp_path / "photos", *(f"{i:02d}.png" for i in range(40)))


ROWS = [f"{i:02d}.png,{'cat' if i % 2 else 'dog'}" for i in range(40)]
LABELS = {f"{i:02d}.png": (0 if i % 2 else 1) for i in range(40)}


@pytest.mark.parametrize("header", ["path,label", "file_name,class", "Image,Category", " filepath , target ", None])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_header_is_found_or_missed(photos, header, encoding):
    file = write(photos / "any.csv", *([] if header is None else [header]), *ROWS, encoding=encoding)
    parts = scan(file)
    assert parts.classes == ("cat", "dog")
    assert {**found(parts.train), **found(parts.test)} == LABELS
    assert not found(parts.train).keys() & found(parts.test).keys()
    assert "chosen by the paths of the images and data.split_seed 0" in parts.notes[-1]
    assert parts.description == f"list {file}"


def test_columns_may_be_in_any_order_and_separated_by_semicolons_or_tabs(photos):
    for delimiter, suffix in ((";", "csv"), ("\t", "tsv")):
        rows = [delimiter.join((f"{i}", *reversed(row.split(",")))) for i, row in enumerate(ROWS)]
        file = write(photos / f"list.{suffix}", delimiter.join(("id", "label", "path")), *rows)
        parts = scan(file)
        assert {**found(parts.train), **found(parts.test)} == LABELS
    swapped = write(photos / "swapped.csv", *(",".join(reversed(row.split(","))) for row in ROWS))
    assert scan(swapped).classes == ("cat", "dog")


@given(
    st.lists(
        st.text(st.sampled_from("ab ,\"'\u00e9;"), min_size=1, max_size=5).map(str.strip).filter(bool),
        unique=True,
        min_size=40,
        max_size=50,
    ),
    st.permutations(["cat", "dog, small", 'a "b"', "\u732b"]),
)
def test_any_paths_and_class_names_are_read_as_written(names, classes):
    labels = {f"{name}.png": classes[i % 4] for i, name in enumerate(names)}
    with tempfile.TemporaryDirectory() as folder:
        root = images(Path(folder), *labels)
        with (root / "a.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *labels.items()])
        parts = scan(root / "a.csv")
    assert list(parts.classes) == sorted(classes)
    read_back = {**found(parts.train), **found(parts.test)}
    assert {name: parts.classes[label] for name, label in read_back.items()} == labels


def test_integers_are_sorted_as_numbers_and_keep_their_names(photos):
    rows = [f"{i:02d}.png,{(2, 10, 100)[i % 3]}" for i in range(40)]
    parts = scan(write(photos / "a.csv", "path,label", *rows))
    assert parts.classes == ("2", "10", "100")
    assert scan(write(photos / "b.csv", "path,label", *rows, "00.png,2")).classes == ("2", "10", "100")
    mixed = [row.replace(",100", ",x") for row in rows]
    assert scan(write(photos / "c.csv", "path,label", *mixed)).classes == ("10", "2", "x")


def test_a_folder_of_lists_has_the_parts_that_they_are_called_by(tmp_path):
    root = images(tmp_path, "img/a.png", "img/b.png", "img/c.png", "img/d.png", "img/e.png", "img/left.png")
    write(root / "train.csv", "path,label", "img/a.png,cat", "img/b.png,dog")
    write(root / "val.csv", "path,label", "img/c.png,cat")
    parts = scan(root)
    assert (found(parts.train), found(parts.test)) == ({"img/a.png": 0, "img/b.png": 1}, {"img/c.png": 0})
    assert parts.notes == (
        "3 images are in no row and are passed over: img/d.png, img/e.png, img/left.png",
        "val has no image of 1 of 2 classes: dog",
        "there is no test/, so val/ holds the test images",
    )
    write(root / "test.csv", "path,label", "img/d.png,dog", "img/e.png,cat")
    parts = scan(root)
    assert parts.validation is not None
    assert (found(parts.validation), found(parts.test)) == ({"img/c.png": 0}, {"img/d.png": 1, "img/e.png": 0})
    assert parts.classes == ("cat", "dog")


def test_labels_csv_in_a_folder_lists_all_its_images_and_a_column_names_the_parts(photos):
    rows = [f"{row},{'test' if i < 10 else 'Training'}" for i, row in enumerate(ROWS[:-1])]
    write(photos / "labels.csv", "path,label,split", *rows)
    dataset = read(photos, validation=2)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (27, 2, 10)
    assert dataset.notes == ("1 images are in no row and are passed over: 39.png",)


def test_paths_are_relative_to_the_list_and_full_paths_inside_are_the_same(photos, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    relative = scan(write(Path("photos/a.csv"), *ROWS))
    full = scan(write(photos / "b.csv", *(f"{photos}/./{row}" for row in ROWS)))
    assert found(relative.test) == found(full.test)
    write(tmp_path / "lists" / "c.csv", *(f"../photos/{row}" for row in ROWS))
    assert len(read(Path("lists/c.csv")).test) > 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["00.png,cat", "x.png,dog"], "a.csv, row 3: 'x.png' cannot be read (No such file or directory)"),
        (["00.png,cat", "", "x.png,dog", "y.png,dog"], "And so for 1 more of 3 rows"),
        (["00.png,cat", "..,dog"], "row 3: '..' is no file"),
        (["00.png,cat", "00.png,\x1b"], "row 3: '00.png' has the class '\\x1b', but 'cat' in "),
        (["00.png,cat", "a\0b.png,dog"], "row 3: 'a\\x00b.png' cannot"),
        (["00.png,", "01.png,dog"], "row 2: has no class"),
        (["00.png,cat", ",dog"], "row 3: has no path"),
        (["00.png,cat", "01.png"], "row 3: has 1 cells"),
        (["00.png,cat", "01.png,dog", "./00.png,dog"], "row 4: '00.png' has the class 'dog', but 'cat' in "),
        (["00.png,\x1b[31m", "x\n.png,dog"], "row 3: has 1 cells"),
    ],
)
def test_a_wrong_row_is_named_by_its_number(photos, rows, message):
    assert message in failure(write(photos / "a.csv", "path,label", *rows))


def test_repeated_rows_are_counted_and_passed_over(photos):
    parts = scan(write(photos / "a.csv", "path,label", *ROWS, "00.png,dog", "./01.png,cat"))
    assert len(parts.train) + len(parts.test) == 40
    assert parts.notes[0] == (
        "2 rows repeat an earlier row and are passed over: a.csv, row 42 (00.png), a.csv, row 43 (01.png)"
    )


def test_an_image_in_two_parts_and_a_class_that_training_lacks_are_refused(photos):
    write(photos / "train.csv", "path,label", "00.png,cat", "01.png,dog")
    write(photos / "test.csv", "path,label", "02.png,cat", "00.png,cat")
    assert f"{photos / 'test.csv'}, row 3: '00.png' has the part 'test', but 'train' in" in failure(photos)
    write(photos / "test.csv", "path,label", "02.png,cat", "03.png,emu")
    assert f"{photos / 'test.csv'}, row 3: the class 'emu' has no training image" in failure(photos)
    (photos / "test.csv").unlink()
    assert f"{photos} lists no image of the part test (or val); found train" in failure(photos)


def test_an_evaluation_needs_a_test_list_alone(photos):
    write(photos / "test.csv", "path,label", "02.png,cat", "00.png,dog")
    assert "lists no image of the part train; found test" in failure(photos)
    parts = scan(photos, needs_train=False)
    assert (len(parts.train), found(parts.test), parts.classes) == (0, {"02.png": 0, "00.png": 1}, ("cat", "dog"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,s\x1b\n1,2\n", "its first row is 'id, s\\x1b'; expected a header with the columns path and label"),
        (b"00.png,cat,3\n", "its first row is '00.png, cat, 3'; expected"),
        (b"path,label\n\xff\xfe,cat\n", "is not UTF-8 text"),
        (b"path,label\n", "lists no image"),
        (b"", "lists no image"),
        (b'path,label\n00.png,"' + b"a" * 200_000, "cannot be read as CSV (field larger than field limit"),
        (b"path,label,split\n00.png,cat,t\x1b\n", "row 2: the split 't\\x1b' is none of train, val, test"),
    ],
)
def test_what_is_no_list_is_refused(photos, content, message):
    (photos / "a.csv").write_bytes(content)
    assert message in failure(photos / "a.csv")


def test_an_image_that_moves_to_the_next_part_is_decoded_as_its_images_are(tmp_path):
    """With eval_resize, training and test images are cut out differently, so a cache of one is wrong for the other."""
    root = tmp_path / "photos"
    for i in range(4):
        (root / f"{i}.jpg").parent.mkdir(exist_ok=True)
        (root / f"{i}.jpg").write_bytes(encoded("rgb.jpg", seed=i))
    seen = []
    for parts in ("train,train,test,test", "train,train,train,test"):
        rows = [f"{i}.jpg,{i % 2},{part}" for i, part in enumerate(parts.split(","))]
        write(root / "labels.csv", "path,label,split", *rows)
        dataset = read(root, image_size=8, eval_resize=16, validation=0)
        seen.append(dataset.test.select(torch.arange(len(dataset.test))).images[-1])
        trained = dataset.train.select(torch.arange(len(dataset.train))).images
        alone = memory.decode_evaluated(scan(root).train, 3, 8, None).images
        assert torch.equal(trained, alone)
    assert torch.equal(seen[0], seen[1])

"""Parquet files and data sets saved by Hugging Face's ``datasets``, written here as that package writes them."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.table_files import CLASSES, parquet, save_to_disk, table
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded

from nuat.config import DataConfig
from nuat.data import Dataset, load
from nuat.data.samples import Samples
from nuat.data.tables import scan
from nuat.errors import InputError


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow", reason="the parquet extra is not installed")


def read(path: Path, **settings: Any) -> Dataset:
    return load(DataConfig(path=path, cache=path.parent / "cache", **{"image_size": 16, **settings}))


def brightness(samples: Samples) -> list[int]:
    """Return the class that each image shows."""
    from nuat.data.decoding import decode

    return [
        round((float(decode(samples.read(i), samples.name(i), None).mean()) - 40) / 80) for i in range(len(samples))
    ]


def failure(path: Path, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **settings)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.slow
@settings(max_examples=12)
@given(
    st.sampled_from(["", "data", "plain_text"]),
    st.sampled_from([("train", "test"), ("train", "validation"), ("train", "validation", "test")]),
    st.integers(1, 3),
    st.booleans(),
)
def test_the_shards_of_the_hub_in_any_folder(folder, splits, shards, in_folders):
    pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "set"
        for split in splits:
            for shard in range(shards):
                made = table(6, start=6 * shard + len(split))
                name = f"{shard:04d}" if in_folders else f"{split}-{shard:05d}-of-{shards:05d}"
                parquet(root / folder / (split if in_folders else "") / f"{name}.parquet", made)
        (root / "README.md").write_text("")
        parts = scan(root, Path(place) / "cache")
        assert parts.classes == CLASSES
        assert len(parts.train) == 6 * shards
        assert (parts.validation is not None) == (len(splits) == 3)
        for part in parts.all:
            assert brightness(part) == part.labels.tolist()
        own = ("there is no test/, so val/ holds the test images",) if "test" not in splits else ()
        assert parts.notes == own


def test_it_is_read_streamed_or_not_and_the_second_time_from_the_cache(arrow, tmp_path, monkeypatch):
    parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", table(30))
    parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", table(9, start=100))
    first = read(tmp_path / "set")
    assert (len(first.train), len(first.validation), len(first.test)) == (27, 3, 9)
    streamed = read(tmp_path / "set", loading="stream", workers=0)
    everything = torch.arange(9)
    assert torch.equal(streamed.test.select(everything).images, first.test.select(everything).images)
    monkeypatch.setattr("nuat.data.table_file._rows", lambda *_: pytest.fail("read again"))
    assert torch.equal(read(tmp_path / "set").test.labels, first.test.labels)


@pytest.mark.parametrize("form", ["file", "saved", "train alone"])
def test_without_a_test_part_the_content_of_the_images_chooses_it(arrow, tmp_path, form):
    made = table(60)
    if form == "file":
        path, grown = parquet(tmp_path / "a.parquet", made), parquet(tmp_path / "b.parquet", table(70))
    elif form == "saved":
        path, grown = save_to_disk(tmp_path / "a", made, 2), save_to_disk(tmp_path / "b", table(70), 3)
    else:
        path, grown = tmp_path / "a", tmp_path / "b"
        parquet(path / "train-00000-of-00001.parquet", made)
        parquet(grown / "train-00000-of-00001.parquet", table(70))
    before, after = (scan(one, tmp_path / "cache") for one in (path, grown))
    contents = [
        {part.read(i) for i in range(len(part))} for part in (before.train, before.test, after.train, after.test)
    ]
    assert contents[0] <= contents[2]
    assert contents[1] <= contents[3]
    assert len(before.test) + len(before.train) == 60
    assert 3 <= len(before.test) <= 24
    assert "chosen by the content of the images and data.split_seed 0" in before.notes[-1]


def test_a_saved_dictionary_of_data_sets(arrow, tmp_path):
    root = tmp_path / "saved"
    save_to_disk(root / "train", table(12), 2)
    save_to_disk(root / "test", table(6, start=50))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    parts = scan(root, tmp_path / "cache")
    assert (len(parts.train), len(parts.test), parts.classes) == (12, 6, CLASSES)
    assert brightness(parts.test) == parts.test.labels.tolist()
    assert parts.description == f"saved data set {root}"
    (root / "train" / "data-00001-of-00002.arrow").unlink()
    assert "data-00001-of-00002.arrow: no such table" in failure(root)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "o\nd"]}))
    assert "has the splits train, o\\nd; expected train and test or validation" in failure(root)
    (root / "dataset_dict.json").write_text("[")
    assert "dataset_dict.json is not JSON" in failure(root)
    (root / "dataset_dict.json").write_text("[]")
    assert "dataset_dict.json holds no JSON object; save the data set again" in failure(root)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["dog", "cat", "emu"] * 4, ("cat", "dog", "emu")),
        ([10, 2, 100] * 4, ("2", "10", "100")),
        ([0, 1, 2] * 4, ("0", "1", "2")),
    ],
)
def test_without_the_notes_of_datasets_classes_are_the_values(arrow, tmp_path, labels, classes):
    for part in ("train", "test"):
        made = table(12, labels=labels, classes=None, image="img", label="target")
        parquet(tmp_path / "set" / f"{part}.parquet", made)
    parts = scan(tmp_path / "set", tmp_path / "cache")
    assert parts.classes == classes
    assert [parts.classes[label] for label in parts.train.labels] == [str(label) for label in labels]


def test_bytes_alone_are_images_too(arrow, tmp_path):
    pictures = [encoded("rgb.jpg", label=i % 3, seed=i) for i in range(12)]
    for part in ("train", "test"):
        parquet(tmp_path / "set" / f"{part}.parquet", table(12, rows=pictures, classes=None))
    assert brightness(scan(tmp_path / "set", tmp_path / "cache").train) == [i % 3 for i in range(12)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0, 1, None] * 2}, "row 2: None is no class"),
        ({"labels": [0, -1, 1] * 2}, "row 1: -1 is no class"),
        ({"labels": [0, 1, 3] * 2}, "row 2: 3 is none of the 3 classes"),
        ({"labels": [0.5] * 6}, "row 0: 0.5 is no class"),
        (
            {"rows": [{"bytes": None, "path": "a\n.jpg"}] * 6},
            "row 0: image holds no encoded image but the path 'a\\n.jpg'",
        ),
        ({"rows": [1] * 6, "classes": None}, "row 0: image holds no encoded image; save the images"),
        ({"image": "p\n", "classes": None}, "has no column of images; keep one, called image. Its columns: p\\n"),
        ({"label": "score", "classes": None}, "has no column of classes; keep one, called label"),
        ({"classes": ("cat", "cat")}, "the names of its classes are no list of different names"),
    ],
)
def test_a_wrong_row_or_column_is_named(arrow, tmp_path, changed, message):
    parquet(tmp_path / "set" / "train.parquet", table(6, **changed))
    parquet(tmp_path / "set" / "test.parquet", table(6))
    told = failure(tmp_path / "set")
    assert message in told
    assert "cannot be read as a table" not in told
    assert len(list((tmp_path / "cache").rglob("*.bin"))) <= 1, "of the good file alone"


def test_a_file_without_rows_is_named(arrow, tmp_path):
    parquet(tmp_path / "set" / "train.parquet", table(6).slice(0, 0))
    parquet(tmp_path / "set" / "test.parquet", table(6))
    assert "train.parquet has no rows; write it again, or remove it" in failure(tmp_path / "set")


def test_of_several_columns_of_classes_the_one_called_label_is_taken(arrow, tmp_path):
    import pyarrow

    for label, message in (("label", None), ("fine_label", "several columns of classes (coarse_label, fine_label)")):
        made = table(6, label=label)
        features = {
            "image": {"_type": "Image"},
            "coarse_label": {"names": ["a"], "_type": "ClassLabel"},
            label: {"names": list(CLASSES), "_type": "ClassLabel"},
        }
        made = made.append_column("coarse_label", pyarrow.array([0] * 6))
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        root = tmp_path / label
        for part in ("train", "test"):
            parquet(root / f"{part}.parquet", made)
        if message is None:
            assert scan(root, tmp_path / "cache").classes == CLASSES
        else:
            assert message in failure(root)


def test_missing_shards_other_splits_and_several_data_sets(arrow, tmp_path):
    root = tmp_path / "set"
    parquet(root / "train-00000-of-00002.parquet", table(6))
    parquet(root / "test-00000-of-00001.parquet", table(6))
    assert f"{root}: file 1 (from 0) of 2 like train-00000-of-00002.parquet is missing" in failure(root)
    parquet(root / "train-00001-of-00002.parquet", table(6))
    parquet(root / "unsupervised-00000-of-00001.parquet", table(6))
    notes = scan(root, tmp_path / "cache").notes
    assert notes == ("1 files are passed over: 1 .parquet (unsupervised-00000-of-00001.parquet)",)
    for twice in ("train-00000-of-00001.parquet", "train-00000-of-00002-0123456789abcdef.parquet"):
        parquet(root / twice, table(6))
        assert "holds a part in two versions (train-00000-of-0000" in failure(root)
        (root / twice).unlink()
    parquet(root / "other" / "train-00000-of-00001.parquet", table(6))
    assert "holds Parquet files of several data sets (., other); give one of their folders" in failure(root)


def test_parts_with_other_classes_are_refused(arrow, tmp_path):
    root = tmp_path / "set"
    parquet(root / "train.parquet", table(6))
    parquet(root / "test.parquet", table(6, classes=("dog", "cat", "emu")))
    assert f"{root / 'test.parquet'} has other classes than the training part" in failure(root)
    parquet(root / "train.parquet", table(6, labels=["a", "b"] * 3, classes=None))
    parquet(root / "test.parquet", table(6, labels=["a", "c\x1b"] * 3, classes=None))
    assert f"{root / 'test.parquet'}, row 1: the class 'c\\x1b' has no training image" in failure(root)


def test_a_test_part_alone_is_enough_to_evaluate(arrow, tmp_path):
    parquet(tmp_path / "set" / "test.parquet", table(6))
    assert "has the part test but no train" in failure(tmp_path / "set")
    parts = scan(tmp_path / "set", tmp_path / "cache", needs_train=False)
    assert (len(parts.train), len(parts.test), parts.classes) == (0, 6, CLASSES)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_a_damaged_file_is_one_line(arrow, tmp_path, damage, form):
    if form == "parquet":
        path = file = parquet(tmp_path / "a.parquet", table(30))
    else:
        path = save_to_disk(tmp_path / "a", table(30))
        file = path / "data-00000-of-00001.arrow"
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "text": b"no table at all, but text", "empty": b""}[damage])
    assert f"{file} cannot be read as a table" in failure(path) or "has no rows" in failure(path)


@pytest.mark.parametrize("damage", ["copy", "index"])
def test_a_damaged_cache_is_made_again(arrow, tmp_path, damage):
    path = parquet(tmp_path / "a.parquet", table(30))
    before = scan(path, tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "tables").glob("*.bin" if damage == "copy" else "*.npz")
    file.write_bytes(file.read_bytes()[:100])
    after = scan(path, tmp_path / "cache")
    assert [after.test.read(i) for i in range(len(after.test))] == [
        before.test.read(i) for i in range(len(before.test))
    ]


def test_without_pyarrow_a_line_says_how_to_install_it(tmp_path, monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet", "pyarrow.ipc"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a.parquet").write_bytes(b"")
    message = failure(tmp_path / "a.parquet")
    assert f"{tmp_path / 'a.parquet'} holds Parquet or Arrow files, which need pyarrow" in message
    assert message.endswith("install it with: pip install 'nuat[parquet]'")


def test_what_pillow_cannot_read_is_named_by_its_row(arrow, tmp_path):
    rows = [
        {"bytes": b"no image", "path": None} if i == 7 else {"bytes": encoded("rgb.jpg", seed=i), "path": None}
        for i in range(12)
    ]
    for part in ("train", "test"):
        parquet(tmp_path / "set" / f"{part}.parquet", table(12, rows=rows))
    assert f"{tmp_path}/set/train.parquet: row 7 cannot be read as an image" in failure(tmp_path / "set")
    with pytest.warns(RuntimeWarning, match="2 of 24 images cannot be decoded and are left out"):
        dataset = read(tmp_path / "set", on_bad="skip", validation=0)
    assert np.array([len(dataset.train), len(dataset.test)]).tolist() == [11, 11]

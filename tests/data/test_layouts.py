"""Which layout a path has, and what is said where it has none."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, write_folder, write_shards

from nuat.config import DataConfig
from nuat.data import load
from nuat.data.layouts import FOLDERS, LAYOUTS, find, scan
from nuat.errors import InputError


def failure(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        find(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def example(path: Path) -> str:
    layout = find(path)
    assert layout is not None
    return layout.example


def test_every_layout_is_known_by_its_files(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 6, "test": 3})
    parts = write_folder(tmp_path / "parts", {"train": 6, "test": 3})
    flat = tmp_path / "flat"
    shutil.copytree(parts / "train", flat)
    lists = tmp_path / "lists"
    shutil.copytree(flat, lists)
    (lists / "labels.csv").write_text("path,label\na/0000.jpg,a\n")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "train.parquet").write_bytes(b"")
    layouts = [find(path) for path in (shards, parts, lists, tmp_path / "tables", flat)]
    assert layouts == list(LAYOUTS)
    assert find(lists / "labels.csv") is LAYOUTS[2]
    np.savez(tmp_path / "a.npz", x_train=np.zeros(1))
    assert find(tmp_path / "a.npz") is None


def test_lists_next_to_class_folders_in_parts_are_not_taken_for_the_data(tmp_path):
    root = write_folder(tmp_path / "set", {"train": 6, "test": 3})
    (root / "labels.csv").write_text("path,label\n")
    (root / "train.csv").write_text("path,label\n")
    assert find(root) is FOLDERS


def test_parts_of_images_that_lists_name_are_lists(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for i in range(2):
            (tmp_path / part / f"{i}.png").write_bytes(encoded("pixel.png"))
        (tmp_path / f"{part}.csv").write_text(f"path,label\n{part}/0.png,a\n{part}/1.png,b\n")
    dataset = load(DataConfig(path=tmp_path, cache=tmp_path.parent / "cache", validation=0))
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (2, 2, ("a", "b"))


def test_a_table_among_the_images_of_a_class_is_no_data_set(tmp_path):
    root = tmp_path / "flat"
    shutil.copytree(write_folder(tmp_path / "parts", {"train": 6, "test": 3}) / "train", root)
    (root / "a" / "features.parquet").write_bytes(b"")
    assert find(root) is LAYOUTS[-1]


def test_a_folder_without_a_layout_lists_all_of_them(tmp_path):
    message = failure(tmp_path)
    assert "found nothing" in message
    for layout in LAYOUTS:
        assert layout.example in message
    (tmp_path / "annotations.csv").write_text("")
    assert f"To take annotations.csv, give --data.path {tmp_path / 'annotations.csv'}." in failure(tmp_path)


def test_a_part_that_is_missing_is_said_by_the_layout_of_parts(tmp_path):
    root = write_folder(tmp_path / "set", {"train": 6})
    with pytest.raises(InputError, match=r"or have nuat choose some: --data\.path .*set/train\."):
        scan(root, DataConfig(path=root), tmp_path / "cache")


def test_a_subset_has_no_effect_elsewhere(tmp_path):
    root = write_shards(tmp_path / "set", {"train": 6, "val": 3})
    with pytest.raises(InputError, match=r"data\.subset=imagenet100 has no effect on .*set"):
        load(DataConfig(path=root, cache=tmp_path / "cache", subset="imagenet100"))

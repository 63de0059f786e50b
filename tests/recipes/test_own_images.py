"""The recipes for images of a user's own read every layout, and a run's record finds them from any folder."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.cli_runs import Ended, draw_nothing
from data import table_files
from image_files import encoded, write_folder, write_shards

from nuat import cli
from nuat.data import load
from nuat.recipes import RECIPES
from nuat.records.settings import read_data_config

CLASSES = ("a", "b", "c")
KINDS = ("rgb.jpg", "grey.jpg", "turned.jpg")


def parts(root: Path) -> Path:
    return write_folder(root, {"train": 30, "test": 9}, kinds=KINDS)


def parts_with_val(root: Path) -> Path:
    return write_folder(root, {"train": 30, "val": 9}, kinds=KINDS)


def flat(root: Path) -> Path:
    shutil.copytree(write_folder(root.with_name("parts"), {"train": 60}, kinds=KINDS) / "train", root)
    return root


def csv(root: Path) -> Path:
    files = [file.relative_to(root) for file in sorted(flat(root).rglob("*.jpg"))]
    (root / "labels.csv").write_text("path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in files))
    return root / "labels.csv"


def shards(root: Path) -> Path:
    write_shards(root, {"train": 30, "test": 9}, kinds=KINDS)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def npz(root: Path) -> Path:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (30, 20, 24, 3), dtype=np.uint8), np.arange(30) % 3
    np.savez(root.with_suffix(".npz"), x_train=x, y_train=y, x_test=x[:9], y_test=y[:9], classes=np.array(CLASSES))
    return root.with_suffix(".npz")


def parquet(root: Path) -> Path:
    pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    for part, n in (("train", 30), ("test", 9)):
        table_files.parquet(root / "data" / f"{part}-00000-of-00001.parquet", table_files.table(n, classes=CLASSES))
    return root


def saved(root: Path) -> Path:
    pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    return table_files.save_to_disk(root, table_files.table(60, classes=CLASSES))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["finetune-folder", "robust-folder"])
@pytest.mark.parametrize("layout", [parts, parts_with_val, flat, csv, shards, npz, parquet, saved])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_layout_is_read(recipe: str, layout: Callable[[Path], Path], tmp_path: Path) -> None:
    config = RECIPES[recipe]().data
    dataset = load(replace(config, path=layout(tmp_path / "set"), cache=tmp_path / "cache"))
    assert dataset.classes == CLASSES
    assert dataset.image_size == (config.image_size, config.image_size)
    whole = len(dataset.train) + len(dataset.validation) + len(dataset.test)
    assert whole == (60 if layout in (flat, csv, saved) else 39)
    held_out = len(dataset.validation) / (len(dataset.train) + len(dataset.validation))
    assert 0.05 < held_out < 0.15, "a tenth of the training images, which thirty images can pay"
    assert set(dataset.validation.labels.tolist()) == {0, 1, 2}


@pytest.mark.slow
def test_a_run_on_a_relative_path_is_evaluated_and_resumed_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nuat(*words: object) -> Ended:
        code = cli.main([str(word) for word in words])
        return Ended(code, *capsys.readouterr())

    draw_nothing(monkeypatch)
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "cache"))
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    flat(home / "photos")
    shutil.rmtree(home / "parts")
    monkeypatch.chdir(home)
    command = [
        *(
            "train",
            "robust-folder",
            "--data.path",
            "photos",
            "--out",
            "run",
            "--data.image-size",
            "16",
            "--epochs",
            "2",
        ),
        *("--model.name", "small-cnn", "--model.variant", "plain", "--model.width", "4", "--batch-size", "12"),
        *("--evaluation.attacks", "clean,pgd-2", "--device", "cpu", "--precision", "fp32"),
    ]
    with pytest.warns(RuntimeWarning, match="there is no test part"):
        ended = nuat(*command)
    assert ended.code == 0, ended.err
    run = home / "run"
    assert json.loads((run / "config.json").read_text())["config"]["data"]["path"] == str(home / "photos")
    assert read_data_config(run / "config.json").path == home / "photos"
    monkeypatch.chdir(elsewhere)
    with pytest.warns(RuntimeWarning, match="there is no test part"):
        ended = nuat("evaluate", "../home/run", "--attacks", "clean,pgd-2", "--json", "again.json")
    assert ended.code == 0, ended.err
    first, again = (json.loads(file.read_text()) for file in (run / "evaluation.json", elsewhere / "again.json"))
    assert first["images_sha256"] == again["images_sha256"]
    assert [one["correct"] for one in first["results"]] == [one["correct"] for one in again["results"]]

    # the folder moves: a repeated command finds the same images under their new place, and other images are refused
    monkeypatch.chdir(tmp_path)
    shutil.move(home / "photos", elsewhere / "photos")
    moved = [*command[:3], "elsewhere/photos", "--out", "home/run", *command[6:], "--auto-resume", "true"]
    with pytest.warns(RuntimeWarning, match="there is no test part"):
        ended = nuat(*moved)
    assert ended.code == 0, ended.err
    for i in range(9):
        (elsewhere / "photos" / "a" / f"new-{i}.jpg").write_bytes(encoded("rgb.jpg", seed=i))
    with pytest.warns(RuntimeWarning, match="there is no test part"):
        ended = nuat(*moved)
    assert ended.code == 2
    assert "was begun with other training images than" in ended.err
    assert ended.err.count("\n") <= 2


def damaged_csv(root: Path) -> Path:
    (csv(root).parent / "labels.csv").write_text("path,label\nmissing.jpg,a\n")
    return root


def folders_of_folders(root: Path) -> Path:
    return parts(root / "photos").parent


def called_like_a_part(root: Path) -> Path:
    (flat(root) / "a").rename(root / "Training")
    return root


def unknown(root: Path) -> Path:
    root.mkdir()
    return root


def damaged_parquet(root: Path) -> Path:
    pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    root.with_suffix(".parquet").write_bytes(b"no table")
    return root.with_suffix(".parquet")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (damaged_csv, "row 2: 'missing.jpg' cannot be read"),
        (folders_of_folders, "give the folder whose subfolders are the classes"),
        (called_like_a_part, "Training looks like a part of the data set, not a class"),
        (unknown, "holds no images in classes: expected train/<class>/*.jpg"),
        (damaged_parquet, "cannot be read as a table"),
    ],
)
def test_a_refusal_is_one_line_before_anything_is_written(
    layout: Callable[[Path], Path],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = layout(tmp_path / "set")
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "cache"))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    words = ["train", "robust-folder", "--data.path", str(path), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert not (tmp_path / "run").exists()

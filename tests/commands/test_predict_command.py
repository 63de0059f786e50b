"""``nuat predict`` and ``nuat models`` from the command line."""

import csv
import io
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nuat
from nuat.attacks import PGD
from nuat.cli import main
from nuat.config import DataConfig
from nuat.data import load as load_data


@pytest.fixture(scope="module")
def digits() -> Any:
    return load_data(DataConfig(validation=200)).test


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Any) -> Path:
    """Five digits in a folder with a folder, a hidden file and a text; the current folder is the one above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    folder = Path("photos")
    (folder / "more").mkdir(parents=True)
    for i in range(5):
        where = folder / "more" if i > 2 else folder
        Image.fromarray(digits.images[i, 0].numpy()).save(where / f"{i}.png")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["predict", *map(str, words)])
    return code, *capsys.readouterr()


def answers(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    code, out, err = run(capsys, *words, "--json", "-")
    assert (code, err) == (0, "")
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_answers_are_those_of_the_model(photos: Path, capsys: pytest.CaptureFixture[str], digits: Any) -> None:
    found = answers(capsys, "quickstart", photos, "--top", "3", "--batch-size", "2")
    assert [one["image"] for one in found] == [
        *(f"photos/{i}.png" for i in range(3)), "photos/more/3.png", "photos/more/4.png",
    ]  # fmt: skip
    model = nuat.load("quickstart")
    with torch.no_grad():
        probabilities = model(digits.images[:5].float() / 255).softmax(dim=1)
    for one, row in zip(found, probabilities, strict=True):
        values, labels = row.topk(3)
        assert one["label"] == str(int(labels[0]))
        assert list(one["top"]) == [str(int(label)) for label in labels]
        assert list(one["top"].values()) == pytest.approx(values.tolist(), abs=1e-6)
        assert one["attacked"] is None


def test_files_patterns_and_standard_input_give_the_same(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_folder = answers(capsys, "quickstart", photos)
    by_pattern = answers(capsys, "quickstart", "photos/**/*.png")
    assert [one["label"] for one in by_pattern] == [one["label"] for one in by_folder]
    content = io.BytesIO((photos / "1.png").read_bytes())
    monkeypatch.setattr("sys.stdin", type("Standard", (), {"buffer": content}))
    (piped,) = answers(capsys, "quickstart", "-")
    assert (piped["image"], piped["label"]) == ("-", by_folder[1]["label"])
    assert piped["probability"] == pytest.approx(by_folder[1]["probability"], abs=1e-5)
    assert len(answers(capsys, "quickstart", photos / "1.png", photos / "1.png")) == 2


def test_the_table_shows_each_image(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "quickstart", photos, "--top", "2")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["image", "class", "probability"]
    assert [row[0] for row in rows if row[0].startswith("photos")] == [
        *(f"photos/{i}.png" for i in range(3)), "photos/more/3.png", "photos/more/4.png",
    ]  # fmt: skip
    assert len(rows) == 1 + 2 * 5


def test_an_attack_says_which_answers_it_changes(photos: Path, capsys: pytest.CaptureFixture[str], digits: Any) -> None:
    found = answers(capsys, "quickstart", photos, "--certainty", "attack", "--eps", "0.6", "--steps", "10")
    changed = [one["attacked"] != one["label"] for one in found]
    assert any(changed)
    kept = answers(capsys, "quickstart", photos, "--certainty", "attack", "--eps", "1/255", "--steps", "2")
    assert all(one["attacked"] == one["label"] for one in kept)
    model = nuat.load("quickstart")
    y = torch.tensor([int(one["label"]) for one in found])
    x = digits.images[:5].float() / 255
    pgd = PGD(model, eps=0.6, alpha=0.02, steps=10, generator=torch.Generator().manual_seed(0))
    assert [one["attacked"] for one in found] == [str(int(label)) for label in model(pgd(x, y)).argmax(dim=1)]
    code, out, _ = run(capsys, "quickstart", photos, "--certainty", "attack", "--eps", "0.6", "--steps", "10")
    assert code == 0
    assert f"{5 - sum(changed)} of 5 answers withstand PGD-10 at Linf eps 0.6" in out


def test_csv_has_no_formulas(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(photos / "0.png", "=cmd.png")
    code, out, err = run(capsys, "quickstart", "=cmd.png", photos / "1.png", "--top", "2", "--csv", "-")
    assert (code, err) == (0, "")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["image", "label", "probability", "label_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == ["'=cmd.png", "photos/1.png"]
    run(capsys, "quickstart", "=cmd.png", photos / "1.png", "--top", "2", "--csv", "out.csv")
    assert Path("out.csv").read_text() == out


def test_names_of_files_have_no_control_characters(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = Path(os.fsdecode(b"a\x1b[31m\nb\xff.png"))
    shutil.copy(photos / "0.png", strange)
    code, out, err = run(capsys, "quickstart", strange, "--csv", "-")
    assert (code, err) == (0, "")
    head, row = out.splitlines()
    assert head == "image,label,probability"
    assert row.startswith("a\\x1b[31m\\nb\\udcff.png,")
    _, row = run(capsys, "quickstart", strange)[1].splitlines()
    assert row.startswith("a\\x1b[31m\\nb\\udcff.png ")


def test_files_that_are_no_images_are_named_and_the_rest_is_answered(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "notes.txt").write_text("no image")
    code, out, err = run(capsys, "quickstart", photos)
    assert (code, err) == (1, "")
    assert "warning: photos/notes.txt cannot be read as an image" in out
    assert "warning: 1 of 6 files left out" in out
    assert "photos/more/4.png" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("quickstrt", "photos"), "quickstrt: no such run or weights file. Did you mean 'quickstart'?"),
        (("quickstart",), "give the images, too: nuat predict RUN IMAGES...."),
        (("quickstart", "nowhere"), "nowhere: no such file or folder"),
        (("quickstart", "x" * 300), "the name is too long"),
        (("quickstart", "empty"), "empty: no files in this folder"),
        (("quickstart", "empty/.hidden"), "none of the images can be read"),
        (("quickstart", "photos", "--top", "0"), "--top 0: expected at least 1."),
        (("quickstart", "photos", "--eps", "0.1"), "--eps and --steps have no effect without --certainty attack"),
        (("quickstart", "photos", "--certainty", "attack", "--eps", "8"), "--eps=8"),
        (("quickstart", "photos", "--json", "-", "--csv", "-"), "only one of them can go to standard output"),
        (("quickstart", "photos", "--json", "photos"), "--json photos: is a folder"),
        (("quickstart", "photos", "--certainly", "attack"), "--certain"),
        (("model.py:make", "photos"), "model.py:make does not say which classes"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], told: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("empty/.hidden").write_text("")
    code, out, err = run(capsys, *words)
    assert code == 2
    assert err.startswith("nuat: error: ")
    assert err.count("\n") == 1
    assert told in err
    assert "probability" not in out


def test_what_is_neither_file_nor_folder_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as neither:
        neither.bind("a-socket")
        code, _, err = run(capsys, "quickstart", "a-socket")
    assert code == 2
    assert "a-socket: no such file or folder" in err


def test_help_and_models_name_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "predict RUN|WEIGHTS IMAGES..." in out
    assert "\n  models " in out
    assert main(["predict", "--help"]) == 0
    assert "--certainty" in capsys.readouterr().out
    assert main(["models", "quickstart"]) == 2
    assert "quickstart" in capsys.readouterr().err
    assert main(["models"]) == 0
    assert "quickstart" in capsys.readouterr().out


def test_a_model_by_name_is_evaluated_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "quickstart", "--attacks", "clean", "--n", "50"]) == 0
    assert "written to evaluation-" in capsys.readouterr().out
    (file,) = tmp_path.iterdir()
    accuracy = json.loads(file.read_text())["results"][0]["accuracy"]
    assert accuracy > 0.8
    assert np.isfinite(accuracy)

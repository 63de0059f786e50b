"""The settings of data: which of them cannot be together, and the image size by epoch."""

import json
from pathlib import Path

import pytest

from nuat.config import DataConfig
from nuat.config.arguments import parse
from nuat.errors import InputError
from nuat.records.settings import from_json, to_json

FOLDER = {"path": Path("pets"), "image_size": 224}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loading": "stream", "image_size": 8}, ("data.loading=stream has no effect on mnist-sample", "data.path")),
        ({"on_bad": "skip"}, ("data.on_bad=skip has no effect on mnist-sample",)),
        ({"subset": "imagenet100", "name": "mnist"}, ("data.subset=imagenet100 has no effect on mnist",)),
        ({"path": Path("pets"), "loading": "stream"}, ("data.loading=stream", "give data.image_size")),
        ({**FOLDER, "workers": 2}, ("data.workers=2 has no effect on data.loading=memory",)),
        ({**FOLDER, "loading": "stream", "workers": -1}, ("data.workers=-1", "at least 0")),
        ({**FOLDER, "eval_resize": 223}, ("data.eval_resize=223", "data.image_size=224", "at least as large")),
        ({"path": Path("pets"), "eval_resize": 256}, ("data.eval_resize=256", "data.image_size=None")),
        ({"cutmix": 0.0}, ("data.cutmix=0", "> 0, such as 1")),
        ({"cutmix": float("nan")}, ("data.cutmix=nan",)),
        ({"validation": -1}, ("data.validation=-1", "at least 0")),
        ({"crop_padding": -1}, ("data.crop_padding=-1", "at least 0")),
        ({"train_limit": 1}, ("data.train_limit=1", "at least 2")),
        ({"path": Path("pets"), "image_size": 0}, ("data.image_size=0", "at least 1")),
        ({"validation": 0.0}, ("data.validation=0: expected a fraction in (0, 1)", "a whole number of images")),
        ({"validation": 200.0}, ("data.validation=200: expected a fraction in (0, 1)",)),
        ({"validation": float("nan")}, ("data.validation=nan",)),
        ({"progressive_sizes": (8, 16)}, ("progressive_sizes has 2 values", "progressive_from 0")),
        ({"progressive_from": (0.0,)}, ("progressive_sizes has 0 values", "progressive_from 1")),
        ({"progressive_sizes": (0,), "progressive_from": (0.0,)}, ("progressive_sizes=0", "at least 1")),
        ({"progressive_sizes": (8, 9), "progressive_from": (0.1, 0.5)}, ("progressive_from=0.1,0.5", "the first 0")),
        ({"progressive_sizes": (8, 9), "progressive_from": (0.0, 1.0)}, ("progressive_from=0,1", "last below 1")),
        ({"progressive_sizes": (8, 9), "progressive_from": (0.0, 0.0)}, ("progressive_from=0,0", "increasing")),
        (
            {"progressive_sizes": (8, 9), "progressive_from": (0.0, float("nan"))},
            ("progressive_from=0,nan", "increasing"),
        ),
    ],
)
def test_settings_that_cannot_be_are_named(settings, words):
    with pytest.raises(InputError) as caught:
        DataConfig(**settings)
    for word in words:
        assert word in str(caught.value)


def test_settings_that_can_be():
    DataConfig(**FOLDER, loading="stream", workers=0, on_bad="skip", eval_resize=224, subset="imagenet100")


def test_the_size_of_each_epoch():
    config = DataConfig(progressive_sizes=(128, 224, 288), progressive_from=(0.0, 0.4, 0.8))
    assert [config.size_at(epoch, 15) for epoch in range(15)] == [128] * 6 + [224] * 6 + [288] * 3
    # fractions that are no whole epochs begin with the next one
    assert [config.size_at(epoch, 4) for epoch in range(4)] == [128, 128, 224, 224]
    assert DataConfig().size_at(3, 10) is None


def test_a_fraction_that_floating_point_rounds_up_begins_in_its_epoch():
    config = DataConfig(progressive_sizes=(1, 2), progressive_from=(0.0, 0.1))
    assert [config.size_at(epoch, 30) for epoch in (2, 3)] == [1, 2]


def test_placed_settings_name_the_same_files_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert DataConfig(path=Path("pets"), cache=Path("~/c")).placed() == DataConfig(
        path=tmp_path / "pets", cache=Path("/home/me/c")
    )
    assert DataConfig().placed() == DataConfig()
    once = DataConfig(path=Path("../pets")).placed()
    assert once.path is not None
    assert once.path.is_absolute()
    assert once.placed() == once


@pytest.mark.parametrize(
    ("word", "value"), [("200", 200), ("0", 0), ("0.1", 0.1), ("1/10", 0.1), ("1e-2", 0.01), ("none", None)]
)
def test_the_command_line_takes_a_number_or_a_fraction_of_validation_images(word, value):
    found = parse(DataConfig, ["--validation", word], prog="nuat train").validation
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("word", ["1.5", "200.0", "-0.1", "-3", "some"])
def test_neither_is_refused_in_one_line(word):
    with pytest.raises(InputError) as caught:
        parse(DataConfig, [f"--validation={word}"], prog="nuat train")
    assert "validation" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "parsing DataConfig" not in str(caught.value)


@pytest.mark.parametrize("value", [200, 0, 0.1, None])
def test_it_comes_back_from_a_record(value):
    config = DataConfig(validation=value)
    found = from_json(DataConfig(validation=7), json.loads(json.dumps(to_json(config))), "config.json")
    assert found == config
    assert type(found.validation) is type(value)


def test_by_default_named_sets_keep_their_number_and_images_of_your_own_give_a_tenth():
    assert DataConfig().validation_size == 500
    assert DataConfig(path=Path("pets")).validation_size == 0.1
    assert DataConfig(path=Path("pets"), validation=3).validation_size == 3

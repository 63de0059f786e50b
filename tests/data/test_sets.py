"""The table of named data sets: its facts are right, and a new row is all that a new set needs."""

from dataclasses import replace

import pytest
import torch

from nuat import campaign
from nuat.config import DataConfig
from nuat.data import SETS, ImageSet, check_name, load
from nuat.data.images import UnsplitData
from nuat.data.sets import NamedSet
from nuat.errors import InputError
from nuat.plan.image_facts import image_facts
from nuat.report.page.groups import Setting


def toy(cache, download) -> UnsplitData:
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 5, 5).contiguous()
    part = ImageSet(images, torch.arange(12) % 3)
    return UnsplitData(part, part, ("a", "b", "c"), f"toy, download {download}")


def test_the_row_of_the_sample_says_what_is_read():
    row, dataset = SETS["mnist-sample"], load(DataConfig(validation=0))
    assert (row.train, row.test) == (len(dataset.train), len(dataset.test))
    assert (row.channels, (row.size, row.size)) == (dataset.channels, dataset.image_size)
    assert row.classes == len(dataset.classes)


def test_a_new_row_is_read_planned_and_called_by_its_title(monkeypatch):
    monkeypatch.setitem(SETS, "toy", NamedSet(title="Toy", train=12, test=12, channels=1, size=5, classes=3, read=toy))
    config = DataConfig(name="toy", validation=3, download=False)
    dataset = load(config)
    assert (dataset.source, len(dataset.train), len(dataset.test)) == ("toy, download False", 9, 12)
    planned = image_facts(config)
    assert (planned.train, planned.test, planned.channels, planned.classes) == (9, 12, 1, 3)
    setting = Setting(campaign=None, dataset="toy", network="small-cnn", norm="Linf", eps=None)
    assert setting.title == "Toy, small-cnn"


@pytest.mark.parametrize(
    ("name", "words"),
    [("cifra10", ("Did you mean 'cifar10'?", "mnist-sample")), ("imagenet", ("ImageNet", "--data.path"))],
)
def test_a_name_without_a_reader_is_refused_everywhere(name, words, tmp_path):
    def campaign_of(name: str) -> None:
        (tmp_path / "c.toml").write_text(f'[set]\n"data.name" = "{name}"\n{CAMPAIGN}')
        campaign.load(str(tmp_path / "c.toml"))

    for call in (check_name, lambda name: load(DataConfig(name=name)), plan_for, campaign_of):
        with pytest.raises(InputError) as caught:
            call(name)
        assert all(word in str(caught.value) for word in ("data.name=", *words))


CAMPAIGN = """
[[suite]]
name = "main"
attacks = ["clean"]

[[row]]
recipe = "quickstart"
"""


def plan_for(name: str) -> None:
    image_facts(replace(DataConfig(), name=name))

"""Settings in a run's config.json that cannot be: one line that names the file and the setting."""

import json
from pathlib import Path
from typing import Any

import pytest

from nuat.errors import InputError
from nuat.recipes import RECIPES
from nuat.records.settings import read_config, read_data_config, write_config


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    write_config(path, RECIPES["quickstart"](), "quickstart")
    return path


def change(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text())
    values["config"].update(changes)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": "many"}, "epochs: "),
        ({"epochs": 0}, "epochs=0"),
        ({"channels_last": 1}, "channels_last: "),
        ({"defense": {"class": "Shield"}}, "holds a Shield, which this version of nuat does not have"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes: dict[str, Any], says: str, written: Path) -> None:
    change(written, **changes)
    with pytest.raises(InputError, match=rf"config\.json: {says}"):
        read_config(written)


@pytest.mark.parametrize("data", [None, 3])
def test_damaged_data_settings_are_refused(data: object, written: Path) -> None:
    assert read_data_config(written) == RECIPES["quickstart"]().data.placed()
    change(written, data=data)
    with pytest.raises(InputError, match=r"config\.json: damaged; it does not hold the settings of a run"):
        read_data_config(written)

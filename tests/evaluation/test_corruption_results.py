"""Results on corrupted images: means over what was there, intervals over images, JSON and back, the table."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from corrupted_files import RESULTS as N
from corrupted_files import flags, results

from nuat.core.intervals import clustered_interval, wilson_interval
from nuat.data.corruptions import CORRUPTIONS
from nuat.errors import InputError
from nuat.evaluation.comparison import compare_corruptions, paired_interval
from nuat.evaluation.corruption_results import CorruptionResults


def test_means_are_plain_means() -> None:
    found = results()
    one = [float(found.correct[name].double().mean()) for name in CORRUPTIONS]
    assert found.accuracy("fog") == one[CORRUPTIONS.index("fog")]
    assert math.isclose(found.accuracy(), sum(one) / 15)
    assert math.isclose(found.accuracy("blur"), sum(one[3:7]) / 4)
    assert found.accuracy("fog", 2) == float(found.correct["fog"][1].double().mean())
    at_two = [float(found.correct[name][1].double().mean()) for name in CORRUPTIONS]
    assert math.isclose(found.accuracy("mean", 2), sum(at_two) / 15)
    assert found.accuracy("clean") == float(found.clean.double().mean())


def test_a_mean_of_some_is_not_called_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # nothing is folded
    whole, part = results(), results(("fog", "snow")[::-1])
    assert (whole.missing, whole.mean_name) == ((), "mean of 15")
    assert len(part.missing) == 13
    assert part.mean_name == "mean of 2 found, of 15"
    assert part.categories == {"weather": ("snow", "fog")}
    text = str(part)
    assert part.mean_name in text
    assert "weather (2 of 4)" in text
    assert "(13 of 15)" in text
    assert part.to_json()["mean"]["of"] == 2
    with pytest.raises(InputError, match=r"no corruption 'frost'. There are: clean, mean, weather, snow, fog"):
        part.accuracy("frost")


def test_unknown_names_and_severities() -> None:
    with pytest.raises(InputError, match=r"no corruption 'fogg'. Did you mean 'fog'\?"):
        results().accuracy("fogg")
    with pytest.raises(InputError, match="severity=6: expected 1 to 5"):
        results().accuracy("fog", 6)
    with pytest.raises(InputError, match="no corruption 'clean'"):
        results().accuracy("clean", 1)


def test_one_verdict_an_image_has_wilsons_interval() -> None:
    for right in (0, 1, 17, N):
        verdicts = (torch.arange(N) < right)[None]
        expected = wilson_interval(right, N)
        assert clustered_interval(verdicts) == pytest.approx(expected, abs=1e-12)
        assert clustered_interval(verdicts.expand(75, N)) == pytest.approx(expected, abs=1e-12)  # no news


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Five verdicts of images with a skill of their own, many times."""
    draw = torch.Generator().manual_seed(0)
    skill = torch.rand(400, 60, generator=draw) ** 0.5  # mean 2/3
    verdicts = torch.rand(400, 5, 60, generator=draw) < skill[:, None]
    held = sum(low <= 2 / 3 <= high for low, high in map(clustered_interval, verdicts))
    assert 0.92 * 400 <= held <= 0.98 * 400


def test_independent_verdicts_count_each() -> None:
    low, high = clustered_interval(flags(75, 400, share=0.5))
    one, other = wilson_interval(0.5 * 75 * 400, 75 * 400)
    assert high - low == pytest.approx(other - one, rel=0.15)


def test_json_and_back(tmp_path: Path) -> None:
    found = results(seed=3, warnings=("beware",))
    found.save(tmp_path / "corruptions.json")
    values = json.loads((tmp_path / "corruptions.json").read_text())
    again = CorruptionResults.from_json(values)
    assert again.to_json() == found.to_json() == values
    assert values["corruptions"][0]["severities"][4]["severity"] == 5
    with pytest.raises(InputError, match="format 9"):
        CorruptionResults.from_json({**values, "format": 9})


def test_the_table_has_every_row_within_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = str(results())
    for word in (*CORRUPTIONS, "no corruption", "noise", "blur", "weather", "digital", "mean of 15", "files of <x>"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    html = results()._repr_html_()
    assert "&lt;x&gt;" in html
    assert html.count("<tbody>") == 6


def test_text_of_strangers_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = str(replace(results(), hardware="[bold]a\x1b", source="[bold]b\x1b"))
    assert r"[bold]a\x1b" in text
    assert r"[bold]b\x1b" in text


def test_a_paired_comparison() -> None:
    a, b = results(share=0.7), results(share=0.6, seed=50)
    found = {one.attack: one for one in compare_corruptions(a, b)}
    assert list(found) == ["clean", *CORRUPTIONS, "mean of 15"]
    each = (a.verdicts("fog").double() - b.verdicts("fog").double()).mean(dim=0)
    fog = found["fog"]
    assert fog.accuracy_a - fog.accuracy_b == pytest.approx(float(each.mean()))
    assert (fog.only_a, fog.only_b) == (int((each > 0).sum()), int((each < 0).sum()))
    mean = found["mean of 15"]
    assert mean.is_real
    assert mean.interval[0] > 0
    assert found["clean"].p_value == 1.0


def test_with_one_verdict_an_image_the_interval_is_that_of_paired_proportions() -> None:
    a, b = flags(N, share=0.8), flags(N, share=0.5, seed=1)
    same = {"clean": a}
    one = results(("fog",), **same | {"correct": {"fog": a.expand(5, N)}})
    other = results(("fog",), **same | {"correct": {"fog": b.expand(5, N)}})
    fog = compare_corruptions(one, other)[1]
    assert fog.interval == pytest.approx(paired_interval(int((a & ~b).sum()), int((b & ~a).sum()), N), abs=1e-12)


def test_equal_models_do_not_differ() -> None:
    found = compare_corruptions(results(), results())
    assert {one.p_value for one in found} == {1.0}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": "b" * 64}, "of different images"),
        ({"source": "other files"}, "files of <x>, seed None; 15 corruptions, other files, seed None"),
        ({"names": ("fog",)}, "15 corruptions, files of <x>, seed None; 1 corruptions"),
        ({"seed": 1}, "corrupted in different ways"),
    ],
)
def test_what_cannot_be_compared(changes: dict[str, Any], told: str) -> None:
    other = CorruptionResults(**vars(results()) | changes) if "seed" in changes else results(**changes)
    with pytest.raises(InputError, match=told):
        compare_corruptions(results(), other)

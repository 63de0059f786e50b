"""The figure of corruptions: the numbers of the results, small multiples, and models that do not belong together."""

from pathlib import Path

import pytest
from corrupted_files import results
from figure_models import write_row
from figures.figure_records import RECORDS, drawn, texts

from nuat.cli import main
from nuat.data.corruptions import CORRUPTIONS
from nuat.errors import InputError
from nuat.figures.catalogue import draw
from nuat.figures.corruption_curves import CorruptionCurves, corruption_curves


def test_the_points_are_those_of_the_results() -> None:
    found = results()
    (curve,) = corruption_curves([("A", found)]).models
    assert list(curve.points) == [*CORRUPTIONS, "mean"]
    assert curve.points["fog"][2][0] == pytest.approx(found.accuracy("fog", 3), abs=1e-6)
    assert curve.points["mean"][4][1:] == pytest.approx(found.interval("mean", 5), abs=1e-6)
    assert curve.clean[0] == pytest.approx(found.accuracy("clean"), abs=1e-6)


@pytest.mark.slow
def test_a_panel_for_each_corruption_and_the_mean() -> None:
    figure, axes = drawn("corruptions")
    assert len(axes) == 16
    told = texts(figure)
    for word in ("gaussian noise", "jpeg", "mean of 15", "noise", "severity", "40 test images"):
        assert word in told
    line = axes[0].lines[0]
    record = RECORDS["corruptions"]
    assert isinstance(record, CorruptionCurves)
    expected = [100 * record.models[0].clean[0], *(100 * p[0] for p in record.models[0].points["gaussian_noise"])]
    assert list(line.get_ydata()) == pytest.approx(expected)


@pytest.mark.slow
def test_missing_corruptions_are_said_to_be() -> None:
    told = texts(draw([corruption_curves([("A", results(("snow", "fog")))])]))
    assert told.count("not there") == 13
    assert "mean of 2" in told


def test_models_on_other_images_do_not_belong_together() -> None:
    a = results()
    for other, told in (
        (results(images="b" * 64), "different images"),
        (results(source="made"), "different sources of the corrupted images"),
        (results(("fog",)), "different corruptions"),
    ):
        with pytest.raises(InputError, match=f"A and B have {told}"):
            corruption_curves([("A", a), ("B", other)])
    with pytest.raises(InputError, match="cannot share a figure"):
        draw([corruption_curves([("A", a)]), corruption_curves([("A", results(("fog",)))])])
    with pytest.raises(InputError, match="name 1 to 8"):
        corruption_curves([("A", a)] * 9)


@pytest.mark.slow
def test_the_command_takes_runs_and_results_from_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_row(tmp_path / "run", "ours")
    assert main(["analyse", "corruptions", str(run)]) == 2
    assert f"nuat evaluate {run} --suite corruptions" in capsys.readouterr().err
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    results().save(run / "corruptions-1.json")
    results(seed=9).save(theirs / "corruptions.json")
    assert main(["analyse", "corruptions", str(run), str(theirs), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "gaussian_noise" in told
    assert (tmp_path / "out" / "analysis-corruptions.svg").is_file()
    written = (tmp_path / "out" / "analysis-corruptions.json").read_text()
    assert '"name": "ours"' in written
    assert '"name": "theirs"' in written

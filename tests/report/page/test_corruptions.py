"""Results on corrupted images in the overview and on the page."""

from pathlib import Path

import pytest
from corrupted_files import results
from figure_models import write_row

from nuat.records.search import find_runs
from nuat.report.page.figure_selection import of_page
from nuat.report.page.groups import group
from nuat.report.page.overview import overviews
from nuat.report.page.text import markdown


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two methods; the first has results on all corruptions, the second on two of them."""
    results(share=0.8).save(write_row(tmp_path / "a", "A", recipe="r") / "corruptions.json")
    results(("snow", "fog")).save(write_row(tmp_path / "b", "B", recipe="r") / "corruptions.json")
    return tmp_path


def test_the_overview_has_the_mean_of_all_and_of_no_fewer(two: Path) -> None:
    (table,) = overviews(group(find_runs([two]).runs))
    cells = [row.cells[[column.head for column in table.columns].index("Corruptions")] for row in table.rows]
    assert cells[0].value == pytest.approx(100 * results(share=0.8).accuracy())
    assert cells[1].title == "not measured"
    text = markdown([table])
    assert f"{100 * results(share=0.8).accuracy():.1f}" in text
    assert "mean over 15 common corruptions" in text


@pytest.mark.slow
def test_the_page_has_small_multiples_or_says_why_not(two: Path) -> None:
    found = find_runs([two])
    (picture,) = [one for one in of_page(found, group(found.runs)) if one.title.startswith("Common corruptions")]
    assert picture.drawing is None
    assert "A and B have different corruptions" in picture.caption
    results().save(two / "b" / "corruptions-2.json")
    found = find_runs([two])
    (picture,) = [one for one in of_page(found, group(found.runs)) if one.title.startswith("Common corruptions")]
    assert picture.drawing is not None
    assert "jpeg" in picture.drawing


def test_runs_without_results_have_no_column(tmp_path: Path) -> None:
    write_row(tmp_path / "a", "A")
    assert overviews(group(find_runs([tmp_path]).runs)) == ()

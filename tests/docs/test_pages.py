"""The pages name files that exist, and rooms in the order of their floors."""

import re
from pathlib import Path

import pytest
from test_architecture import FLOORS

from nuat.attacks.catalogue import SUITES
from nuat.campaign import built_in, load
from nuat.defenses import DEFENSES
from nuat.figures.catalogue import FIGURES

ROOT = Path(__file__).parents[2]
# docs/extend names files that its reader writes
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
_PATH = re.compile(r"`((?:src|tests|docs|results|examples|benchmarks|\.ci)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_files_that_exist(page: Path) -> None:
    named = _PATH.findall(page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_is_short() -> None:
    assert 600 <= len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_the_architecture_lists_every_room_in_the_order_of_the_floors() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("| room | holds |")[2].partition("\n\n")[0]
    rooms = [
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert rooms == list(FLOORS)


@pytest.mark.parametrize(
    ("page", "names"),
    [("compare.md", {**built_in(), **DEFENSES}), ("evaluate.md", SUITES), ("reports.md", FIGURES)],
)
def test_a_table_has_a_row_for_every_name(page: str, names: dict[str, object]) -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in names if name not in rows] == []


def test_the_campaign_of_the_page_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    (tmp_path / "my.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    campaign = load(str(tmp_path / "my.toml"))
    assert [(row.label, row.seed) for row in campaign.rows][:4] == [
        ("NuAT", 0),
        ("NuAT", 1),
        ("NuAT", 2),
        ("NuAT, lambda 3", 0),
    ]

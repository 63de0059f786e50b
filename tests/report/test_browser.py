"""The page in a real browser: silent, offline, everything drawn, sortable, and readable in a narrow window."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report.report_runs import campaign_row, run

from nuat.records.search import find_runs
from nuat.report.page.html import render

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install -e '.[dev]'")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,  # starts a browser
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here; Debian's package is called chromium"),
]

SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 180_000
"""Milliseconds; a busy machine takes its time."""


@dataclass
class Opened:
    """A page with what it asked for and what it complained of."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def column(self, place: int) -> list[str]:
        """Return the cells of the first table's column, from above, as people read them."""
        script = (
            "place => [...document.querySelector('table.sortable').tBodies[0].rows].map(r => r.cells[place].innerText)"
        )
        cells: list[str] = self.page.evaluate(script, place)
        return [cell.split("\n")[0] for cell in cells]

    def head(self, name: str) -> Any:
        """Return the head of the first table's column of that name, and its place."""
        return self.page.locator("table.sortable").first.locator("thead th[data-column]", has_text=name).first


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=BROWSER, args=list(SWITCHES), timeout=PATIENCE)
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for label, recipe, correct, forwards in (
        ("NuAT", "nuat-mnist-small-cnn", {"clean": 95, "pgd-100": 9, "gama-100": 8}, 1_000_000),
        ("GAT <b>", "gat-mnist-small-cnn", {"clean": 90, "pgd-100": 100, "gama-100": 70}, 2_000_000),
        ("AWP " + "long-name-" * 12, "awp-mnist-small-cnn", {"clean": 92}, 9_000_000),
        ("FBF", "fbf-mnist-small-cnn", {"clean": 97, "pgd-100": 20, "gama-100": 10}, 700_000),
    ):
        folder = campaign_row(root / "c", recipe, label=label, correct=correct, forwards=forwards)
        Image.effect_noise((900, 300), 60).save(folder / "examples.png")
    run(root / "wa", recipe="nuat-wa-cifar10-resnet18", settings={"epochs": 3})
    path = root / "report.html"
    path.write_text(render(find_runs([root])))
    return path


def look(browser: Any, file: Path, *, width: int = 1400, scheme: str = "light") -> Opened:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    opened = Opened(context.new_page())
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.goto(file.as_uri(), timeout=PATIENCE)
    return opened


def unfold(opened: Opened) -> None:
    opened.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_is_silent_offline_and_drawn_and_fits(browser: Any, file: Path, width: int, scheme: str) -> None:
    opened = look(browser, file, width=width, scheme=scheme)
    for _ in range(2):  # folded, then unfolded
        sides = opened.page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")
        assert max(sides[:2]) <= sides[2], "the page is wider than its window"
        unfold(opened)
    sizes = opened.page.evaluate(
        "[...document.querySelectorAll('img, svg')].map(one => { const r = one.getBoundingClientRect();"
        " return [one.tagName, r.width, r.height, one.tagName != 'IMG' || (one.complete && one.naturalWidth > 0)] })"
    )
    assert {tag for tag, *_ in sizes} == {"IMG", "svg"}
    assert len(sizes) >= 4 + 1 + 5  # pictures, costs, curves
    assert all(wide > 20 and high > 10 and loaded for _, wide, high, loaded in sizes), sizes
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [file.as_uri()]
    ink, paper = opened.page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    bright = [sum(map(int, colour.strip("rgb()").split(","))) for colour in (ink, paper)]
    assert (bright[0] > bright[1]) == (scheme == "dark")
    opened.page.context.close()


def test_columns_sort_by_click_and_by_keyboard(browser: Any, file: Path) -> None:
    opened = look(browser, file)
    head = opened.head("PGD-100")
    place = int(head.get_attribute("data-column"))
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert opened.column(place) == ["100.00", "20.00", "9.00", "\u2013"]  # as numbers, and what is missing last
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").focus()
    opened.page.keyboard.press("Enter")
    assert opened.column(place) == ["9.00", "20.00", "100.00", "\u2013"]
    assert head.get_attribute("aria-sort") == "ascending"
    opened.page.keyboard.press("Space")
    assert opened.column(place)[0] == "100.00"
    other = opened.head("Method")
    other.locator("button").click()
    names = opened.column(0)
    assert [name[:3] for name in names] == ["AWP", "FBF", "GAT", "NuA"]
    assert (head.get_attribute("aria-sort"), other.get_attribute("aria-sort")) == ("none", "ascending")
    assert opened.column(place) == ["\u2013", "20.00", "100.00", "9.00"]  # rows move whole
    assert opened.complaints == []
    opened.page.context.close()


def test_two_storeys_of_heads_sort_the_right_column(browser: Any, file: Path) -> None:
    """A paper's column stands under a shared head; its place is not that of its head."""
    opened = look(browser, file)
    table = opened.page.locator("table.sortable").nth(1)
    heads = table.locator("thead th[data-column]")
    places = sorted(int(heads.nth(i).get_attribute("data-column")) for i in range(heads.count()))
    assert places == list(range(table.locator("tbody tr").first.locator("th, td").count()))
    opened.page.context.close()


def test_a_link_to_a_run_unfolds_it(browser: Any, file: Path) -> None:
    opened = look(browser, file)
    assert opened.page.locator("details.run[open]").count() == 0
    opened.page.locator("table.sortable tbody th a").first.click()
    opened.page.wait_for_function("document.querySelectorAll('details.run[open]').length == 1")
    assert opened.page.locator("details.run[open] .name").inner_text() == opened.column(0)[0]
    opened.page.context.close()


def test_it_works_without_scripts(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri(), timeout=PATIENCE)
    assert page.locator("table.sortable thead button").count() == 0  # no button that does nothing
    assert "In the worst case of all attacks" in page.locator("body").inner_text()
    context.close()

"""Tables in LaTeX: sound without LaTeX, and compiled where there is one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report.report_runs import campaign_row, marked_table, run

from nuat.records.search import find_runs
from nuat.report.page.groups import group
from nuat.report.page.latex import latex
from nuat.report.page.table import Table, decimals, tabulate

RESULTS = Path(__file__).parents[3] / "results"


def tables(*places: Path) -> list[Table]:
    return [tabulate(one) for one in group(find_runs(list(places)).runs)]


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of the body by the method."""
    body = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.DOTALL)
    lines = [line.removesuffix(r" \\").split(" & ") for part in body for line in part.splitlines()]
    return {cells[0]: cells for cells in lines}


@pytest.mark.parametrize(
    ("n", "digits"), [(1, 0), (50, 0), (100, 0), (101, 1), (200, 1), (300, 1), (1000, 1), (1001, 2), (10_000, 2)]
)  # fmt: skip
def test_decimals_tell_one_image_from_the_next_and_no_more(n: int, digits: int) -> None:
    assert decimals(n) == digits
    assert len({f"{100 * k / n:.{digits}f}" for k in range(n + 1)}) == n + 1
    assert digits == 0 or len({f"{100 * k / n:.{digits - 1}f}" for k in range(n + 1)}) < n + 1


@pytest.mark.parametrize(("n", "shown"), [(100, "60"), (200, "60.5"), (1000, "60.1"), (10_000, "60.01")])
def test_accuracies_have_the_decimals_that_n_carries(n: int, shown: str, tmp_path: Path) -> None:
    correct = {"clean": n, "autoattack": 6 * n // 10 + (n > 100)}
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT", correct=correct, n=n)
    text = latex(tables(tmp_path))
    assert f" {shown} {{\\scriptsize (" in text


def test_the_best_is_bold_and_so_are_its_equals(tmp_path: Path) -> None:
    for label, recipe, clean, robust in (
        ("First", "nuat-mnist-small-cnn", 990, 600),
        ("Equal", "gat-mnist-small-cnn", 980, 600),
        ("Worse", "fgsm-at-mnist-small-cnn", 970, 10),
    ):
        campaign_row(tmp_path, recipe, label=label, correct={"clean": clean, "autoattack": robust}, n=1000)
    text = latex(tables(tmp_path))
    bold = {name: [cell for cell in cells if r"\textbf" in cell] for name, cells in rows(text).items()}
    assert [cell.split()[0] for cell in bold["First"]] == [r"\textbf{99.0}", r"\textbf{60.0}"]
    assert [cell.split()[0] for cell in bold["Equal"]] == [r"\textbf{60.0}"]
    assert bold["Worse"] == []
    assert "Bold: the best in its column" in text


def test_only_rows_of_as_many_images_are_compared(tmp_path: Path) -> None:
    for label, recipe, n, robust in (
        ("Many", "nuat-mnist-small-cnn", 1000, 600),
        ("Also many", "gat-mnist-small-cnn", 1000, 500),
        ("Few", "fgsm-at-mnist-small-cnn", 200, 180),
    ):
        campaign_row(tmp_path, recipe, label=label, correct={"clean": n, "autoattack": robust}, n=n)
    found = rows(latex(tables(tmp_path)))
    assert any(cell.startswith(r"\textbf{60.0}") for cell in found["Many"])
    assert not any(r"\textbf" in cell for cell in found["Few"])  # alone with its n


def test_a_lone_row_has_nothing_bold(tmp_path: Path) -> None:
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT")
    text = latex(tables(tmp_path))
    assert r"\textbf" not in text
    assert "Bold:" not in text


def test_a_table_has_a_short_caption_a_label_and_its_notes_below() -> None:
    text = latex(tables(RESULTS / "mnist-small", RESULTS / "quickstart"))
    captions = re.findall(r"^\\caption\{(.*)\}$", text, re.MULTILINE)
    labels = re.findall(r"^\\label\{(.*)\}$", text, re.MULTILINE)
    assert len(captions) == len(labels) == text.count(r"\begin{table}") > 1
    assert all(len(caption) < 120 for caption in captions)
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels)
    for one in text.split(r"\begin{table}")[1:]:
        caption, label, tabular, notes = (
            one.index(part) for part in (r"\caption", r"\label", r"\begin{tabular}", r"\begin{minipage}")
        )
        assert caption < label < tabular < notes
        assert "Accuracy in \\%" in one[notes:]


def test_no_text_of_strangers_is_markup(tmp_path: Path) -> None:
    table = marked_table(tmp_path, "a_b")
    text = latex([table])
    assert not re.search(r"(?<!\\)_", text)
    first, rule, second = re.search(r"\\toprule\n(.*)\n(.*)\n(.*)\n\\midrule", text).groups()  # type: ignore[union-attr]
    assert first.startswith(r"\multicolumn{2}{c}{a\_b shared} & a\_b ")
    assert rule == r"\cmidrule(lr){1-2}"
    sides = ["r" if column.numeric else "l" for column in table.columns]
    assert second == " & ".join(rf"\shortstack[{side}]{{paper\\a\_b}}" for side in sides) + r" \\"
    assert text.count(r"a\_b {\scriptsize (a\_b)}") == len(table.columns)
    assert r"a\_b: a\_b.\par" in text
    assert r"a\_b differs from its recipe in model.weights a\_b" in text


def test_two_tables_of_one_heading_have_two_labels(tmp_path: Path) -> None:
    for campaign in ("a b", "a-b"):
        campaign_row(tmp_path / campaign, "nuat-mnist-small-cnn", label="NuAT", campaign=campaign)
    labels = re.findall(r"\\label\{(.*)\}", latex(tables(tmp_path)))
    assert len(set(labels)) == 2


def test_the_structure_is_sound() -> None:
    text = latex(tables(RESULTS / "mnist-small", RESULTS / "quickstart"))
    opened: list[str] = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    plain = re.sub(r"\\[{}\\]", "", text)
    assert plain.count("{") == plain.count("}")
    for one in text.split(r"\begin{table}")[1:]:
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", one)[1])  # type: ignore[index]
        inside = one.split(r"\toprule")[1].split(r"\bottomrule")[0]
        for line in inside.splitlines():
            if line.endswith(r"\\"):
                spanned = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
                assert len(re.split(r"(?<!\\)&", line)) + spanned == columns


def test_it_compiles_where_there_is_a_latex(tmp_path: Path) -> None:
    found = shutil.which("kpsewhich") and subprocess.run(["kpsewhich", "booktabs.sty"], check=False).returncode == 0
    tex = shutil.which("tectonic") or (shutil.which("pdflatex") if found else None)
    if tex is None:
        pytest.skip("neither tectonic nor pdflatex with booktabs is installed")
    run(tmp_path / "odd", settings={"data.path": "a_b & 50 % #x {y}.npz"})
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    body = latex(tables(RESULTS / "mnist-small", RESULTS / "quickstart", tmp_path / "odd"))
    (tmp_path / "tables.tex").write_text(f"{head}{body}\\end{{document}}\n")
    options = [] if "tectonic" in tex else ["-interaction=nonstopmode", "-halt-on-error"]
    ended = subprocess.run([tex, *options, "tables.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 1000

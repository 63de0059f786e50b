"""Each character that means something in LaTeX, Markdown or a spreadsheet."""

import re

import pytest

from nuat.report.escaping import csv_cell, escape_latex, escape_markdown

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "[": "{[}", "\u00b1": r"$\pm$", "\u2013": "--", "\u2265": r"$\geq$",
    "\u2264": r"$\leq$",
}  # fmt: skip


@pytest.mark.parametrize("character", LATEX)
def test_latex_prints_every_character(character: str) -> None:
    assert escape_latex(f"a{character}b") == f"a{LATEX[character]}b"


@pytest.mark.parametrize("character", "\\`*_[]<>|#~$&")
def test_markdown_shows_every_character(character: str) -> None:
    assert escape_markdown(f"a{character}b") == f"a\\{character}b"


@pytest.mark.parametrize("escape", [escape_latex, escape_markdown])
def test_text_is_one_line(escape) -> None:
    assert escape("a\n\n  b\t\rc") == "a b c"


@pytest.mark.parametrize("first", ["=", "+", "-", "@"])
def test_a_cell_is_no_formula(first: str) -> None:
    assert csv_cell(f"{first}1") == f"'{first}1"
    assert csv_cell(f"a{first}1") == f"a{first}1"


@pytest.mark.parametrize(("first", "escape"), [("\t", r"\t"), ("\r", r"\r"), ("\n", r"\n"), ("\x1b", r"\x1b")])
def test_a_cell_has_no_control_characters(first: str, escape: str) -> None:
    assert csv_cell(f"{first}=1") == f"{escape}=1"
    assert csv_cell(f"a{first}1") == f"a{escape}1"


@pytest.mark.parametrize(("escape", "shown"), [(escape_latex, r"\textbackslash{}x1b"), (escape_markdown, r"\\x1b")])
def test_text_has_no_control_characters(escape, shown: str) -> None:
    assert escape("a\x1bb") == f"a{shown}b"


def test_numbers_stay_numbers() -> None:
    assert (csv_cell(-1), csv_cell(100 * 842 / 1000), csv_cell(None)) == (-1, 84.2, "")
    assert re.fullmatch(r"-0\.5", str(csv_cell(-0.5)))

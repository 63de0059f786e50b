"""Text of strangers in Markdown, LaTeX and CSV: names and paths never become markup or formulas."""

import re

from nuat.errors import printable

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a line's end it would begin an argument
    "±": r"$\pm$",
    "\u2013": "--",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in printable(" ".join(text.split())))


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", printable(" ".join(text.split())))


def csv_cell(value: object) -> object:
    """Return a value as a cell: numbers to nine decimals, None as nothing, text without control characters.

    A spreadsheet takes text that begins with =, +, - or @ for a formula; a quote before it says that it is text.
    """
    if isinstance(value, float):
        return round(value, 9)  # 100 * 842 / 1000 is 84.2, and not 84.19999999999999
    if isinstance(value, str):
        text = printable(value)  # a terminal shows the CSV, too
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
    return "" if value is None else value

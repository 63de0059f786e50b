"""Files of figures and their small print."""

from pathlib import Path

import pytest
from figures.figure_records import RECORDS

from nuat.figures import style
from nuat.figures.catalogue import draw


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_files_are_written_in_each_format(suffix: str, tmp_path: Path) -> None:
    begins = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    files = [tmp_path / f"{name}.{suffix}" for name in ("a", "b")]
    for file in files:
        style.save(draw([RECORDS["lambda-sweep"]]), file)
    assert files[0].read_bytes().startswith(begins[suffix])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_small_print_keeps_its_words() -> None:
    lines = style.wrapped(["one two three " * 20, "short"], 2.0)
    assert " ".join(lines).split() == ["one", "two", "three"] * 20 + ["short"]
    assert len(lines) > 5
    assert style.wrapped(["a line of its own", ""], 7.0) == ["a line of its own", ""]

"""How text on the command line becomes settings."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli.cli_runs import FAST, CommandLine
from hypothesis import example, given
from hypothesis import strategies as st

from nuat.config.arguments import parse, parse_number
from nuat.errors import InputError

DIGITS = st.integers(0, 10**9)


@given(DIGITS, st.integers(1, 10**9))
@example(8, 255)
def test_a_fraction_is_the_quotient(a: int, b: int) -> None:
    assert parse_number(f"{a}/{b}") == a / b
    assert parse_number(f"-{a}/{b}") == -a / b
    assert parse_number(f"  {a}/{b}\n") == a / b


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_can_be_written(number: float) -> None:
    assert parse_number(repr(number)) == number
    assert parse_number(f"{number:+.17e}") == number


@given(DIGITS, DIGITS, st.integers(-30, 30), st.sampled_from("eE"))
def test_decimals_and_exponents(whole: int, part: int, exponent: int, letter: str) -> None:
    for text in (f"{whole}.{part}", f".{part}", f"{whole}.", f"{whole}.{part}{letter}{exponent}", f"+{whole}"):
        assert parse_number(text) == float(text)
    assert parse_number(f"1e-3/{whole + 1}.5") == 1e-3 / (whole + 1.5)


@pytest.mark.slow
@given(
    st.one_of(
        st.text(max_size=12),
        st.text("0123456789.eE+-/ _xnaif*()", max_size=12),
        st.from_regex(r"[0-9]{1,3}/[0-9eE.+-]{0,6}", fullmatch=True),
    )
)
def test_anything_else_is_refused(text: str) -> None:
    """A number that is taken is finite, and the quotient of Python's numbers on the sides of at most one slash."""
    try:
        number = parse_number(text)
    except ValueError:
        return
    assert math.isfinite(number)
    parts = text.split("/")
    assert len(parts) <= 2
    assert "_" not in text
    assert number == float(parts[0]) / float(parts[1] if len(parts) == 2 else 1)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "/",
            "8/",
            "/255",
            "8//255",
            "8/255/1",
            "8 / 255",
            "8,5",
            "1_000",
            "0x10",
            "1e",
            "e5",
            ".",
            "+",
            "--1",
        ),
        *(
            "nan",
            "NaN",
            "inf",
            "-inf",
            "infinity",
            "1e999",
            "-1e999",
            "1e200/1e-200",
            "8/0",
            "8/0.0",
            "8/-0",
            "8/1e-999",
        ),
        *("2**3", "8/255#", "(8)/255", "1+1", "__import__('os').system('x')", "exit()", "[].__class__", "0.3;0.2", "ε"),
    ],
)
def test_garbage(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number") as refused:
        parse_number(text)
    assert str(refused.value) == f"{text!r} is not a number; write 0.031 or 8/255"


def test_nothing_is_evaluated() -> None:
    source = Path(parse.__code__.co_filename).parents[1]
    files = sorted(source.rglob("*.py"))
    assert len(files) > 40
    for path in files:
        assert not re.search(r"(?<![.\w])(eval|exec)\(", path.read_text()), path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of every kind that ours have."""

    flag: bool = False
    """A flag."""
    number: float = 0.5
    """A number."""
    perhaps: float | None = 0.25
    """A number or none."""
    count: int | None = 3
    """A count or none."""
    words: tuple[str, ...] = ("a",)
    """Words."""
    numbers: tuple[float, ...] | None = None
    """Numbers or none."""
    knots: tuple[float, ...] = (0.5, 0.75)
    """Numbers."""
    path: Path | None = None
    """A file or none."""


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        *((["--flag", text], "flag", True) for text in ("true", "True", "TRUE", "yes", "on", "1")),
        *((["--flag", text], "flag", False) for text in ("false", "False", "no", "off", "0")),
        (["--number", "8/255"], "number", 8 / 255),
        (["--number=8/255"], "number", 8 / 255),
        (["--number", "-1e-3"], "number", -1e-3),
        (["--number", "2"], "number", 2.0),
        *((["--perhaps", text], "perhaps", None) for text in ("none", "None", "NONE")),
        (["--perhaps", "1/4"], "perhaps", 0.25),
        (["--count", "none"], "count", None),
        (["--count", "7"], "count", 7),
        (["--words", "clean,pgd-20"], "words", ("clean", "pgd-20")),
        (["--words", "clean, pgd-20,"], "words", ("clean", "pgd-20")),
        (["--words", "clean"], "words", ("clean",)),
        (["--words", ""], "words", ()),
        (["--numbers", "0.5,1/4,1e-3"], "numbers", (0.5, 0.25, 1e-3)),
        (["--numbers", "none"], "numbers", None),
        (["--knots", "0.1,1/5"], "knots", (0.1, 0.2)),
        (["--path", "none"], "path", None),
        (["--path", "a b/c.npz"], "path", Path("a b/c.npz")),
    ],
)
def test_spellings(typed: list[str], name: str, value: object) -> None:
    for default in (None, Settings(flag=value is False, numbers=(1.0,))):
        read = getattr(parse(Settings, typed, prog="x", default=default), name)
        assert read == value
        assert type(read) is type(value)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--flag", "maybe"], "'maybe' is neither true nor false"),
        (["--flag"], "--flag"),
        (["--no-flag"], "--no-flag"),
        (["--number", "8/"], "'8/' is not a number; write 0.031 or 8/255"),
        (["--number", "none"], "'none' is not a number"),
        (["--perhaps", "nothing"], "nothing"),
        (["--count", "1.5"], "1.5"),
        (["--numbers", "0.1,x"], "x"),
        (["--knots", "0.1", "0.2"], "0.2"),
        (["--nummber", "1"], "Did you mean --number?"),
        (["stray"], "stray"),
    ],
)
def test_refusals_are_one_line(typed: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError) as refused:
        parse(Settings, typed, prog="nuat test")
    message = str(refused.value)
    assert expected in message
    assert "\n" not in message
    assert "'nuat test --help' shows every setting" in message
    assert capsys.readouterr() == ("", "")


def test_where_the_parser_ends_the_command_itself_it_stays_ended() -> None:
    with pytest.raises(SystemExit) as end:
        parse(Settings, ["--tyro-print-completion", "bash"], prog="nuat test")
    assert not end.value.code


@pytest.mark.slow
def test_what_is_typed_reaches_the_run(nuat: CommandLine, images: Path) -> None:
    nuat.done(
        *("train", "nuat-wa-cifar10-resnet18", *FAST[:-1], "clean, fgsm", "--epochs", 1, "--data.path", images),
        *(
            "--model.name",
            "small-cnn",
            "--model.variant",
            "plain",
            "--threat.eps",
            "8/255",
            "--threat.pgd-alpha",
            "2/255",
            "--averaging.tau",
            "none",
        ),
        *("--data.flip", "no", "--data.crop-padding", 0, "--data.download", "false", "--evaluation.n", "none"),
        *("--model.mean", "0.5", "--model.std", "1/4", "--precision", "fp32", "--out", "run"),
    )
    config = json.loads(Path("run/config.json").read_text())["config"]
    assert config["threat"] == {"norm": "Linf", "eps": 8 / 255, "also": None, "pgd_alpha": 2 / 255}
    assert config["evaluation"]["attacks"] == ["clean", "fgsm"]
    assert config["evaluation"]["n"] is None
    assert config["averaging"]["tau"] is None
    assert (config["data"]["flip"], config["data"]["download"]) == (False, False)
    assert (config["model"]["mean"], config["model"]["std"]) == ([0.5], [0.25])
    assert config["data"]["path"] == str(images.absolute())

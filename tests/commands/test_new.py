"""``nuat new``: the files that it writes work, pass the linter, and are never written over others."""

import subprocess
from pathlib import Path

import pytest
from cli.cli_runs import CommandLine, draw_nothing

from nuat.own_code.running import run_file


@pytest.fixture
def nuat(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return CommandLine(capsys)


@pytest.mark.parametrize("what", ["defense", "attack"])
def test_what_it_writes_passes_its_own_test_and_the_linter(what: str, nuat: CommandLine) -> None:
    nuat.done("new", what, f"My{what}")
    for rules in (
        [
            "check",
            "--select",
            "E,F,W,UP,B,A,C4,PT,RET,SIM,RUF,D,I",
            "--ignore",
            "D105",
            "--config",
            'lint.pydocstyle.convention="google"',
        ],
        ["format", "--check"],
    ):
        done = subprocess.run(
            ["ruff", *rules, "--isolated", "--line-length", "120", "."], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
    tests = run_file(Path(f"test_my{what}.py")).module
    names = [name for name in vars(tests) if name.startswith("test_")]
    assert len(names) >= 4
    for name in names:
        vars(tests)[name]()


@pytest.mark.parametrize(
    ("name", "module", "kind"),
    [
        ("my-defense", "my_defense", "MyDefense"),
        ("ALP", "alp", "ALP"),
        ("NuAT3", "nu_at3", "NuAT3"),
        ("a_b", "a_b", "AB"),
    ],
)
def test_names(name: str, module: str, kind: str, nuat: CommandLine) -> None:
    said = nuat.done("new", "defense", name, "--out", "mine").out
    assert f"nuat train mine/{module}.py:recipe" in said
    assert f"python -m pytest mine/test_{module}.py" in said  # tests/docs/test_extend.py follows it
    said = nuat.done("new", "defense", name, "--out", "our $x").out
    assert f"nuat train 'our $x/{module}.py':recipe" in said
    assert f"python -m pytest 'our $x/test_{module}.py'" in said
    assert f"class {kind}(AdversarialTraining)" in Path(f"mine/{module}.py").read_text()
    assert Path(f"mine/test_{module}.py").is_file()


@pytest.mark.slow
def test_what_it_suggests_is_a_command_that_runs(nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    for what in ("attack", "defense"):
        said = nuat.done("new", what, what + "_x").out
        (line,) = [line for line in said.splitlines() if line.startswith("next:")]
        words = line.split()[1:]
        assert words[0] == "nuat"
        more = {
            "attack": ("--n", "10", "--json", "out.json"),
            "defense": ("--epochs", "1", "--data.train-limit", "64", "--data.validation", "0", "--evaluation.n", "10",
                        "--evaluation.attacks", "clean", "--out", "run"),
        }[what]  # fmt: skip
        assert nuat(*words[1:], *more).code == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("3d", "expected letters, digits, _ and -"),
        ("a b", "expected letters, digits, _ and -"),
        ("class", "is a word of Python"),
        ("random", "Python has a module random already"),
    ],
)
def test_names_that_cannot_be(name: str, told: str, nuat: CommandLine) -> None:
    assert told in nuat.refused("new", "defense", name)


def test_nothing_is_written_over(nuat: CommandLine) -> None:
    Path("test_mine.py").write_text("mine")
    assert "test_mine.py: exists and is not overwritten" in nuat.refused("new", "defense", "mine")
    assert not Path("mine.py").exists()
    assert "--out" in nuat.refused("new", "defense", "other", "--out", "test_mine.py")

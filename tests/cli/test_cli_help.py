"""Help: everyday options first, everything on request, defaults that say what happens."""

import re

import pytest
from cli.cli_runs import CommandLine

from nuat import cli


def options(text: str) -> list[str]:
    return re.findall(r"^  (--[\w.-]+)", text, re.MULTILINE)


@pytest.mark.parametrize("words", [("train", "quickstart"), ("plan", "quickstart")])
def test_help_shows_everyday_options_and_help_all_the_rest(words: tuple[str, ...], nuat: CommandLine) -> None:
    few, everything = nuat.done(*words, "--help").out, nuat.done(*words, "--help-all").out
    assert 8 < len(options(few)) < 25 < len(options(everything))
    assert set(options(few)) <= set(options(everything))
    assert len(options(everything)) == len(set(options(everything)))
    assert f"'nuat {' '.join(words)} --help-all' shows all {len(options(everything))} options." in few
    assert options(few)[0] in ("--out", "--devices")


@pytest.mark.parametrize("columns", ["100", "300"])
def test_help_fits_the_terminal(columns: str, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for words in (("train", "--help-all"), ("evaluate", "--help"), ("predict", "--help"), ("campaign", "--help")):
        assert max(map(len, nuat.done(*words).out.splitlines())) <= min(int(columns), 100)


def test_a_default_of_none_says_what_it_means(nuat: CommandLine) -> None:
    out = " ".join(nuat.done("train", "--help").out.split())
    assert "(default: runs/<recipe>-<time> in the current folder)" in out
    assert "(default: no average)" in " ".join(nuat.done("train", "quickstart-standard", "--help").out.split())
    assert "(default: those that the campaign names)" in " ".join(nuat.done("campaign", "--help").out.split())
    predict = " ".join(nuat.done("predict", "--help").out.split())
    assert "Radius of that attack, such as 8/255. (default: the one that the model was trained for)" in predict


def test_short_names_stand_beside_the_full_ones(nuat: CommandLine) -> None:
    out = nuat.done("train", "--help").out
    for short, full in (("lr", "optimizer.lr.peak"), ("eps", "threat.eps"), ("lam", "defense.lam.peak")):
        assert f"  --{full}, --{short} NUMBER" in out
    assert "usage: nuat predict MODEL IMAGES... [OPTIONS]" in nuat.done("predict", "--help").out


@pytest.mark.parametrize(
    ("option", "meant"),
    [("--learning-rate", "--lr"), ("--epsilon", "--eps"), ("--imgsz", "--data.image-size"), ("--gpus", "--devices")],
)
def test_the_usual_names_of_other_tools_get_a_hint(option: str, meant: str, nuat: CommandLine) -> None:
    message = nuat.refused("train", option, "1")
    assert f"Did you mean {meant}?" in message
    assert "'nuat train quickstart --help-all' shows every setting" in message


COMMANDS = [
    *(["train"], ["train", "--help-all"], ["evaluate"], ["evaluate", "--help-all"], ["predict"], ["diagnose"]),
    *(["diagnose", "--help-all"], ["compare"], ["analyse"], ["analyse", "cost"], ["analyse", "loss-surface"]),
    *(["report"], ["export"], ["plan"], ["campaign"], ["recipes"], ["models"], ["completion"]),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_fits_80_columns(words: list[str], nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = nuat.done(*words, *(["--help"] if words[-1] != "--help-all" else [])).out.splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_the_first_help_fits_80_columns_and_names_every_command(nuat: CommandLine) -> None:
    out = nuat.done("--help").out
    assert max(map(len, out.splitlines())) <= 80
    assert {line.split()[0] for line in out.splitlines() if re.match(r"  [a-z]", line)} == set(cli._COMMANDS)


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_a_default_is_the_runs_or_else_a_number_as_people_write_it(command: str, nuat: CommandLine) -> None:
    out = " ".join(nuat.done(command, "--help-all").out.split())
    assert "(default: the run's eps; other models need it)" in out
    assert "(default: the run's, in proportion to eps; else eps / 4 in Linf, and eps / 10 in L2 and L1)" in out
    assert "(default: the run's; other models need it, or --data.path)" in out
    assert "(default: the run's n," not in out
    assert "''" not in out


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_everyday_options_come_first(command: str, nuat: CommandLine) -> None:
    few, everything = (options(nuat.done(command, word).out) for word in ("--help", "--help-all"))
    assert set(few) < set(everything)
    assert len(few) < 20 < len(everything)
    assert {"--n", "--eps", "--data.path"} <= set(few)


@pytest.mark.parametrize("words", [["recipes"], ["recipes", "--table", "1a"], ["models"]], ids=" ".join)
def test_every_list_fits_80_columns(words: list[str], nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert [line for line in nuat.done(*words).out.splitlines() if len(line.rstrip()) > 80] == []

"""``nuat diagnose`` on the command line: exit codes, the file, what it says, and what it leaves behind."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostics.masked_models import bars, shorten

from nuat.attacks import FGSM
from nuat.attacks.catalogue import CATALOGUE
from nuat.cli import main
from nuat.commands import diagnose as command
from nuat.commands.evaluate import Evaluate
from nuat.diagnostics import strength

MODEL = """
import torch
from torch import nn


class Bars(nn.Module):
    def __init__(self, scale=10.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 1, 8, 8))
        for label in range(4):
            self.weight.data[label, :, :, 2 * label : 2 * label + 2] = scale / 16

    def forward(self, x):
        return torch.einsum("bchw,nchw->bn", x, self.weight)


class Rounded(Bars):
    def forward(self, x):
        return super().forward((32 * x).round() / 32)


class Elsewhere(Bars):
    def forward(self, x):
        return super().forward((x - 100).clamp(0))


class Wrong(Bars):
    def forward(self, x):
        return super().forward(x[:, :, :4])


honest, rounded, elsewhere, wrong = Bars, Rounded, Elsewhere, Wrong
"""
ALL = strength.COMPARISONS
COMMON = ("--data.path", "images.npz", "--eps", "0.25", "--pgd-alpha", "0.125", "--device", "cpu")


@pytest.fixture(autouse=True)
def _prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    images = bars(40)
    x, y = images.images.permute(0, 2, 3, 1).numpy(), images.labels.numpy()
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "theirs.py").write_text(MODEL)
    shorten(monkeypatch)
    few = tuple(c for c in strength.COMPARISONS if c.stronger == ("pgd-10",) and "fgsm" in c.weaker)
    assert len(few) == 1
    monkeypatch.setattr(strength, "COMPARISONS", few)
    monkeypatch.setattr(strength, "ATTACKS", ("clean", "fgsm", "pgd-10"))


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["diagnose", *words])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, " ".join(out.split()), err


@pytest.mark.slow
def test_an_honest_model_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name for path in Path().iterdir()}
    code, out, err = call(capsys, "theirs.py:honest", *COMMON)
    assert (code, err) == (0, "")
    values = json.loads(Path("diagnosis.json").read_text())
    assert values["counts"]["FAIL"] == 0
    assert len(values["verdicts"]) == 7
    assert values["evaluation"]["n"] == 40  # fewer than the default: all that there are
    counts = values["counts"]
    told = f"({counts['PASS']} pass, 0 FAIL, {counts['INCONCLUSIVE']} cannot judge; 40 images)"
    assert told in out
    assert "measurements and meanings: diagnosis.json" in out
    assert re.search(r"examining 40 images: about [\d.]+ (s|min) at most; --quick takes about a tenth", out)
    assert out.index("examining 40 images") < out.index("Verdict: ") < out.index("check measured verdict")
    assert "warning" not in out
    assert {path.name for path in Path().iterdir()} - before <= {"diagnosis.json", "cache", "__pycache__"}


@pytest.mark.slow
def test_a_masked_model_is_1_and_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "theirs.py:rounded", *COMMON, "--json", "deep/er/found.json")
    assert (code, err) == (1, "")
    values = json.loads(Path("deep/er/found.json").read_text())
    assert next(v["check"] for v in values["verdicts"] if v["status"] == "FAIL").startswith("gradients")
    assert "warning: the gradient of the loss in the image is exactly 0 for 100% of 40 images" in out
    assert not Path("diagnosis.json").exists()
    assert not list(Path().rglob("*.partial.json"))


def carried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command ask about transfer alone."""
    fewer = tuple(c for c in ALL if c.check == "transfer finds nothing new")
    assert len(fewer) == 1
    monkeypatch.setattr(strength, "COMPARISONS", (dataclasses.replace(fewer[0], stronger=("pgd-10",)),))


@pytest.mark.slow
@pytest.mark.parametrize(("words", "source"), [((), "answers"), (("--surrogate", "theirs.py:honest"), "theirs.py")])
def test_a_masked_model_falls_to_a_surrogate(
    words: tuple[str, ...], source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one that is named, or to one that is trained on the training images of the data."""
    carried(monkeypatch)
    assert call(capsys, "theirs.py:rounded", *COMMON, *words)[0] == 1
    verdicts = {v["check"]: v for v in json.loads(Path("diagnosis.json").read_text())["verdicts"]}
    transfer = verdicts["transfer finds nothing new"]
    assert transfer["status"] == "FAIL"
    assert source in transfer["measured"]["surrogate"]
    assert transfer["measured"]["agreement"] > 0.9


@pytest.mark.slow
def test_what_l2_does_not_have_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FGSM, "norms", ("Linf",))
    words = ("--data.path", "images.npz", "--norm", "L2", "--eps", "2", "--pgd-alpha", "0.5", "--device", "cpu")
    code, out, err = call(capsys, "theirs.py:honest", *words)
    assert (code, err) == (0, "")
    values = json.loads(Path("diagnosis.json").read_text())
    assert values["evaluation"]["norm"] == "L2"
    assert len(values["verdicts"]) == 6
    assert [line.split()[0] for line in values["left_out"]] == ["without", "iterative"]
    for line in values["left_out"]:
        assert f"left out: {line}" in out


@pytest.mark.slow
def test_another_scaling_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert "after pixels from 0 to 255" in call(capsys, "theirs.py:elsewhere", *COMMON)[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("theirs.py:honest", "--eps", "0.1"), "--data.name or --data.path"),
        (("theirs.py:honest", "--data.path", "images.npz"), "give --eps 8/255"),
        (("theirs.py:hones", *COMMON), "Did you mean 'honest'?"),
        (("theirs.py:wrong", *COMMON), "the model fails on images of 1 x 8 x 8 (channels, height, width)"),
        (("theirs.py:honest", *COMMON, "--n", "41"), "n=41: expected 1 to 40"),
        (("theirs.py:honest", *COMMON, "--json", "."), "is a folder"),
        (("--n", "3"), "say first what to examine"),
        (("nowhere.safetensors", *COMMON), "nowhere.safetensors"),
        (("theirs.py:honest", *COMMON, "--attacks", "clean"), "--attacks"),
        (("theirs.py:honest", *COMMON, "--surrogate", "theirs.py:hones"), "Did you mean 'honest'?"),
        (("theirs.py:honest", *COMMON, "--surrogate", "theirs.py:wrong"), "surrogate theirs.py:wrong cannot stand in"),
        (("theirs.py:honest", *COMMON, "--surrogate", "nowhere.safetensors"), "nowhere.safetensors"),
        (("theirs.py:honest", *COMMON, "--norm", "L3"), "--norm"),
        (("theirs.py:honest", *COMMON, "--also", "L2"), "threat.also=L2: expected balls such as"),
    ],
)
def test_mistakes_are_2(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, *words)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert says in err
    assert not Path("diagnosis.json").exists()


@pytest.mark.slow
def test_a_diagnosis_that_is_cut_off_writes_nothing_half(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def cut(*arguments: object, **keywords: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(command, "examine", cut)
        assert call(capsys, "theirs.py:honest", *COMMON)[0] == 130
    assert not Path("diagnosis.json").exists()
    old = '{"counts": {}, "verdicts": [], "evaluation": {}}'
    Path("diagnosis.json").write_text(old)
    monkeypatch.setattr("nuat.files.os.replace", cut)
    assert call(capsys, "theirs.py:honest", *COMMON)[0] == 130
    assert Path("diagnosis.json").read_text() == old


@pytest.mark.slow
@pytest.mark.parametrize("resume", [True, False])
def test_an_interruption_says_what_is_kept_and_the_same_command_goes_on(
    resume: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("theirs.py:honest", *COMMON, "--batch-size", "15")
    real = command.examine

    def cut(*arguments: Any, **keywords: Any) -> None:
        def stop(name: str, done: float, total: int, step: str = "", /) -> None:
            if name == "fgsm" and done == 30:
                raise KeyboardInterrupt

        real(*arguments, **{**keywords, "progress": stop})

    with monkeypatch.context() as patch:
        patch.setattr(command, "examine", cut)
        code, _, err = call(capsys, *words)
    state = Path("diagnose-0.25-0.partial.json")
    assert state in Path().glob("diagnose-*.partial.*")
    assert code == 130
    assert re.search(r"\d finished parts are kept in \.\. Continue with: the same command", " ".join(err.split()))

    there: list[bool] = []

    def watched(*arguments: Any, **keywords: Any) -> Any:
        there.append(state.exists())
        return real(*arguments, **keywords)

    Path("other.partial.json").write_text("another's")
    monkeypatch.setattr(command, "examine", watched)
    assert call(capsys, *words, "--resume", str(resume).lower())[0] == 0
    assert there == [resume]
    assert not list(Path().glob("diagnose-*.partial.*"))
    assert Path("other.partial.json").exists()


def test_an_interruption_without_resuming_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "examine", cut)
    code, _, err = call(capsys, "theirs.py:honest", *COMMON, "--resume", "false")
    assert code == 130
    assert "stopped; nothing is kept. Continue with: the same command, but --resume true" in " ".join(err.split())


@pytest.mark.parametrize("words", [(), ("--help",), ("theirs.py:honest", "--help")])
def test_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *words)
    assert code == 0
    for option in (
        "--n",
        "--json",
        "--surrogate",
        "--norm",
        "--seed",
        "--batch-size",
        "--resume",
        "--device",
        "--eps",
        "--data.path",
    ):
        assert option in out, option


def test_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "diagnose MODEL" in capsys.readouterr().out
    assert main(["diagnos"]) == 2
    assert "Did you mean 'diagnose'?" in capsys.readouterr().err


def test_the_help_of_evaluate_lists_every_attack(capsys: pytest.CaptureFixture[str]) -> None:
    """Families of a number by their name up to it."""
    assert Evaluate.__dataclass_fields__["attacks"].default == ()
    main(["evaluate", "--help"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    words = set(told.replace(",", " ").replace(".", " ").replace(":", " ").replace(";", " ").split())
    for name in CATALOGUE:
        assert name in words or name.partition("<")[0] in words, name


@pytest.mark.slow
def test_a_quick_diagnosis_is_partial_and_leaves_the_whole_one_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("diagnosis.json").write_text("the whole one")
    Path("diagnose-0.25-0.partial.json").write_text("under way")
    code, out, err = call(capsys, "theirs.py:honest", *COMMON, "--quick")
    assert (code, err) == (0, "")
    assert Path("diagnosis.json").read_text() == "the whole one"
    assert Path("diagnose-0.25-0.partial.json").read_text() == "under way"
    assert json.loads(Path("diagnosis-quick.json").read_text())["counts"]["FAIL"] == 0
    assert "--quick takes" not in out


@pytest.mark.slow
def test_a_quick_diagnosis_says_what_it_leaves_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (check,) = strength.COMPARISONS
    left = dataclasses.replace(check, check="a slow check", quick=False)
    monkeypatch.setattr(strength, "COMPARISONS", (check, left))
    _, out, _ = call(capsys, "theirs.py:honest", *COMMON, "--quick", "--json", "quick.json")
    assert "Partial verdict, 7 of 8 checks: " in out
    assert "left out by --quick: a slow check" in out
    assert json.loads(Path("quick.json").read_text())["left_out"] == ["a slow check: left out of a quick examination"]


@pytest.mark.slow
def test_prose_comes_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    prose = "one step finds no more than many"
    assert prose not in call(capsys, "theirs.py:honest", *COMMON)[1]
    told = call(capsys, "theirs.py:honest", *COMMON, "--verbose")[1]
    assert "FGSM breaks no" in told
    assert "what it means" in told


@pytest.mark.slow
def test_each_ball_of_a_union_counts(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("theirs.py:rounded", *COMMON, "--json", "found.json")
    _, alone, _ = call(capsys, *words, "--n", "20")
    code, union, _ = call(capsys, *words, "--n", "20", "--also", "L2:1")
    verdicts = json.loads(Path("found.json").read_text())["verdicts"]
    norms = [verdict["check"].partition(": ")[0] for verdict in verdicts]
    assert norms == sorted(norms, reverse=True)
    assert set(norms) == {"Linf", "L2"}
    assert code == 1
    assert "L2: accuracy falls with eps" in union
    failed = [verdict["status"] for verdict in verdicts].count("FAIL")
    assert f"{failed} FAIL" in union
    assert int(re.findall(r"(\d+) FAIL", alone)[0]) < failed


def test_a_file_of_the_users_is_refused_before_the_images_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.json").write_text("{}")
    words = ("diagnose", "theirs.py:honest", "--data.path", "nowhere.npz", "--eps", "0.25", "--json", "mine.json")
    assert main([*words]) == 2
    assert "exists and was not written by this command" in capsys.readouterr().err

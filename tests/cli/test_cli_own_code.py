"""The user's own code on the command line: recipes, defenses, attacks and networks in a file, and what may run when."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cli.cli_runs import CommandLine
from torch import nn

from nuat.records.checkpoints import read_info, read_tensors, save_weights
from nuat.records.folder import RunFolder
from nuat.records.runs import read_run

MY = '''
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from nuat.attacks import Attack
from nuat.config import DataConfig, TrainConfig
from nuat.core.losses import cross_entropy
from nuat.core.schedules import Ramp
from nuat.defenses import BatchLoss, Defense
from nuat.recipes import find

with Path("ran.txt").open("a") as file:
    file.write("x")


@dataclass(frozen=True, kw_only=True)
class Mine(Defense):
    """A defense of mine."""

    weight: float = 1.0
    """Weight of the loss."""
    lam: Ramp = Ramp(peak=2.0)

    def loss(self, model, x, y, step, state):
        clean = self.weight * cross_entropy(model(x), y)
        return BatchLoss(clean, {"clean_loss": clean.detach()})


@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """Noise at the corners of the ball."""

    steps: int = 1

    def perturb(self, x, y):
        return self.threat.bounds(x).project(x + self.eps * torch.sign(torch.randn(x.shape, generator=self.generator)))


def darken(model, x, y, eps):
    return (x - 0.99 * eps).clamp(min=0)


def outside(model, x, y):
    return x + 1


def loses_an_image(model, x, y):
    return x[1:]


@dataclass(frozen=True, kw_only=True)
class NoDefault(Attack):
    steps: int

    def perturb(self, x, y):
        return x


def leaves(model, x, y):
    raise SystemExit(0)


def make_net(channels, classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size[0] * image_size[1], classes))


def fixed_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))


def recipe():
    return replace(find("quickstart")(), defense=Mine(weight=0.5))


def with_net():
    """Settings with a network of this file, which is named from its folder."""
    config = recipe()
    return replace(config, defense=find("quickstart-standard")().defense,
                   model=replace(config.model, name="my.py:make_net"), eps_warmup=0.0)


def number():
    return 3


NOT_A_FUNCTION = 3
'''
SHORT = (
    "--data.validation", "12", "--epochs", "1", "--batch-size", "12", "--threat.eps", "0.1", "--evaluation.attacks",
    "clean,fgsm",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))


@pytest.fixture
def my(tmp_path: Path, images: Path) -> Path:
    Path("my.py").write_text(MY)
    return Path("my.py")


@pytest.fixture
def trained_mine(my: Path, images: Path, nuat: CommandLine) -> Path:
    """A run with a recipe and a defense of the user's own."""
    nuat.done("train", "my.py:recipe", *SHORT, "--data.path", images, "--model.width", 4, "--out", "mine")
    return Path("mine")


@pytest.fixture
def trained_net(my: Path, images: Path, nuat: CommandLine) -> Path:
    """A run with a network of the user's own."""
    nuat.done("train", "my.py:with_net", *SHORT, "--data.path", images, "--out", "net")
    return Path("net")


def config_of(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "config.json").read_text())
    return values


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a process of somebody who has named no code on this machine."""
    monkeypatch.setattr("nuat.own_code.running.process.files", [])
    monkeypatch.setenv("XDG_STATE_HOME", str(Path.cwd() / "another-home"))
    Path("ran.txt").unlink(missing_ok=True)


def restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another process of the same user."""
    monkeypatch.setattr("nuat.own_code.running.process.files", [])


@pytest.mark.slow
def test_a_recipe_trains_and_the_record_keeps_its_code(trained_mine: Path, run: Path, nuat: CommandLine) -> None:
    values = config_of(trained_mine)
    assert values["recipe"].startswith("my.py:recipe@")
    assert values["config"]["defense"]["class"].startswith("my.py:Mine@")
    assert values["config"]["defense"]["weight"] == 0.5
    (code,) = values["code"].values()
    assert code["path"] == str(Path("my.py").resolve())
    digest = code["sha256"][:8]
    assert values["recipe"].endswith(f"@{digest}")
    assert (trained_mine / "code" / digest / "my.py").read_text() == MY
    Path("my.py").unlink()  # records are read without code
    assert nuat("report", trained_mine, "--out", "page.html").code == 0
    assert "my.py:recipe" in Path("page.html").read_text()
    nuat.done("evaluate", trained_mine, "--attacks", "clean,pgd-2", "--json", "other.json")
    nuat.done("compare", trained_mine, run)
    nuat.done("export", trained_mine, "--format", "safetensors", "--out", "copy.safetensors")


def test_a_resumed_run_takes_the_code_that_was_named(
    trained_mine: Path, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trained_mine / "evaluation.json").unlink()
    restart(monkeypatch)
    nuat.done("train", "--resume", trained_mine)
    assert (trained_mine / "evaluation.json").is_file()
    assert "code" in [line for line in RunFolder(trained_mine).read_metrics() if line["kind"] == "resume"][-1]


def test_changed_code_is_refused_until_it_is_asked_for(
    trained_mine: Path, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = config_of(trained_mine)
    digest = before["recipe"].rpartition("@")[2]
    Path("my.py").write_text(MY.replace("weight: float = 1.0", "weight: float = 2.0"))
    restart(monkeypatch)
    said = nuat.refused("train", "--resume", trained_mine)
    assert "was changed or moved since" in said
    assert "code/" in said
    assert "--code FILE.py" in said
    nuat.done("train", "--resume", trained_mine, "--code", trained_mine / "code" / digest / "my.py")
    assert config_of(trained_mine) == before
    with pytest.warns(RuntimeWarning, match=r"--code my\.py: is other code than my\.py:"):
        nuat.done("train", "--resume", trained_mine, "--code", "my.py")
    after = config_of(trained_mine)
    assert after["recipe"] != before["recipe"]
    assert after["config"]["defense"]["weight"] == 0.5
    lines = [line for line in RunFolder(trained_mine).read_metrics() if line["kind"] == "resume"]
    assert after["recipe"] in lines[-1]["code"]
    assert len(list((trained_mine / "code").iterdir())) == 2


def test_a_run_does_not_go_on_by_itself_with_other_code(trained_mine: Path, my: Path, nuat: CommandLine) -> None:
    my.write_text(MY + "\n# changed\n")
    words = (*SHORT, "--data.path", "images.npz", "--model.width", 4, "--out", trained_mine)
    said = nuat("train", "my.py:recipe", *words, "--auto-resume", "true").err
    assert "was begun with other code, my.py:Mine@" in said
    assert "Put the file back, or start a new run" in said


def test_the_code_of_a_strangers_run_does_not_run(
    trained_net: Path, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither from its record, nor from its folder, nor from where the record says that it was."""
    forget(monkeypatch)
    for command in (
        ("evaluate", trained_net),
        ("evaluate", trained_net / "best.safetensors"),
        ("export", trained_net, "--format", "safetensors"),
        ("predict", trained_net, "images.npz"),
        ("diagnose", trained_net),
        ("train", "--resume", trained_net),
    ):
        assert "is code that you have not run on this machine" in nuat.refused(*command)
    assert not Path("ran.txt").exists()
    (code,) = (trained_net / "code").iterdir()
    nuat.done("evaluate", trained_net, "--attacks", "clean", "--code", code / "my.py")
    assert Path("ran.txt").exists()


def test_a_record_cannot_name_code_that_runs(
    trained_net: Path, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name without a digest is one that a user types."""
    values = config_of(trained_net)
    values["config"]["model"]["name"] = "my.py:make_net"
    values["recipe"] = "my.py:recipe"
    (trained_net / "config.json").write_text(json.dumps(values))
    forget(monkeypatch)
    assert "names code" in nuat.refused("train", "--resume", trained_net)
    assert "a file of settings runs none" in nuat.refused("train", "--config", trained_net / "config.json")
    Path("other.toml").write_text('recipe = "my.py:recipe"\n')
    assert "recipe names code, my.py:recipe" in nuat.refused("train", "--config", "other.toml")
    Path("other.toml").write_text('[evaluation]\nattacks = ["clean", "my.py:Noise"]\n')
    assert "evaluation.attacks names code, my.py:Noise" in nuat.refused("train", "--config", "other.toml")
    assert not Path("ran.txt").exists()


def test_weights_cannot_name_code_that_runs(
    trained_net: Path, images: Path, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = read_info(trained_net / "best.safetensors")
    info = replace(info, model=replace(info.model, name="my.py:make_net"))
    save_weights(Path("theirs.safetensors"), read_tensors(trained_net / "best.safetensors"), info)
    forget(monkeypatch)
    assert "names code" in nuat.refused("evaluate", "theirs.safetensors", "--data.path", images)
    assert "is a Python file" in nuat.refused("evaluate", "my.py", "--data.path", images, "--eps", "0.1")
    assert not Path("ran.txt").exists()


def test_a_network_is_built_again_and_takes_part_in_everything(
    trained_net: Path, images: Path, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    restart(monkeypatch)
    found = read_run(trained_net)
    assert found.weights is not None
    assert found.weights.model.name.startswith("my.py:make_net@")
    nuat.done("evaluate", trained_net, "--attacks", "clean,pgd-2", "--json", "other.json")
    nuat.done("export", trained_net, "--format", "safetensors", "--out", "copy.safetensors")
    nuat.done("evaluate", "copy.safetensors", "--data.path", images, "--attacks", "clean")
    Path("my.py").write_text(MY + "\n# changed\n")
    restart(monkeypatch)
    assert "was changed or moved since" in nuat.refused("evaluate", trained_net)
    with pytest.warns(RuntimeWarning, match=r"--code my\.py: is other code than my\.py:make_net"):
        nuat.done("evaluate", trained_net, "--attacks", "clean", "--code", "my.py")


def test_settings_of_a_run_with_own_code_work_again(trained_mine: Path, nuat: CommandLine) -> None:
    words = ("--config", trained_mine / "config.json", "--seed", 1, "--out", "again")
    nuat.done("train", *words)
    assert config_of(Path("again"))["config"]["defense"] == config_of(trained_mine)["config"]["defense"]
    nuat.done("train", "my.py:recipe", *words[:-1], "third")
    assert config_of(Path("third"))["recipe"] == config_of(trained_mine)["recipe"]


def test_a_defense_and_a_network_of_a_file_in_a_recipe_of_ours(my: Path, images: Path, nuat: CommandLine) -> None:
    nuat.done(
        "train", "quickstart", *SHORT, "--data.path", images, "--defense", "my.py:Mine", "--defense.weight", 0.25,
        "--model", "my.py:make_net", "--out", "run",
    )  # fmt: skip
    config = config_of(Path("run"))["config"]
    assert config["defense"]["weight"] == 0.25
    assert config["defense"]["lam"]["peak"] == 3.0  # shared with the recipe's defense
    assert config["model"]["name"].startswith("my.py:make_net@")
    help_text = nuat("train", "quickstart", "--defense", "my.py:Mine", "--help-all").out
    assert "--defense.weight" in help_text
    assert "Weight of the loss." in help_text


def test_attacks_of_a_file(run: Path, my: Path, nuat: CommandLine) -> None:
    ended = nuat.done("evaluate", run, "--attacks", "clean,my.py:Noise,my.py:darken", "--json", "own.json")
    assert "my.py:Noise" in ended.out
    results = json.loads(Path("own.json").read_text())["results"]
    assert [result["name"].partition("@")[0] for result in results] == ["clean", "my.py:Noise", "my.py:darken"]
    assert results[1]["settings"] == {"steps": 1}
    assert "an example lies outside the ball" in nuat("evaluate", run, "--attacks", "my.py:outside").err
    for name, told in (
        ("loses_an_image", "it returned another thing"),
        ("NoDefault", "its setting 'steps' has no default; give it one"),
    ):
        assert told in nuat("evaluate", run, "--attacks", f"my.py:{name}").err
    ended = nuat("evaluate", run, "--attacks", "my.py:leaves")
    assert (ended.code, "SystemExit: 0" in ended.err) == (2, True)
    assert "expected a class that is derived from nuat.attacks.Attack" in nuat.refused(
        "evaluate", run, "--attacks", "my.py:NOT_A_FUNCTION"
    )
    nuat.done("report", run, "--format", "markdown")


def test_a_network_of_a_file_takes_somebodys_weights(my: Path, images: Path, nuat: CommandLine) -> None:
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).state_dict(), "theirs.pth")
    words = ("evaluate", "theirs.pth", "--data.path", images, "--eps", "0.1", "--attacks", "clean,fgsm")
    ended = nuat(*words, "--model", "my.py:make_net")
    assert (ended.code, ended.err) == (0, "")
    assert "theirs.pth: my.py:make_net" in " ".join(ended.out.split())


def test_a_plan_of_a_recipe(my: Path, nuat: CommandLine) -> None:
    ended = nuat("plan", "my.py:with_net", "--steps", 1, "--timed-batch", 4, "--batch-size", 4)
    assert ended.code == 0, ended.err
    assert "my.py:with_net" in ended.out


@pytest.mark.parametrize(
    ("text", "words", "told"),
    [
        (MY, ("my.py:recip",), "the file has no 'recip'. Did you mean 'recipe'?"),
        (MY, ("my.py",), "my.py: names a file; name what is in it, too, such as my.py:recipe"),
        (MY, ("my.py:",), "my.py:: the file has no ''. It defines Mine, Noise, "),
        (MY, ("my.py:number",), "returned a int; expected a nuat.config.TrainConfig"),
        (MY, ("my.py:NOT_A_FUNCTION",), "is a int; expected a function"),
        (MY, ("none.py:recipe",), "none.py: no such file"),
        ("\nimport nothing_like_it\n", ("my.py:recipe",), "my.py, line 2: ModuleNotFoundError: No module"),
        ("x = (\n", ("my.py:recipe",), "my.py, line 1: SyntaxError: '(' was never closed"),
        ("def recipe():\n    return 1 / 0\n", ("my.py:recipe",), "my.py, line 2: ZeroDivisionError: division by zero"),
        (MY.replace("weight=0.5", "wait=0.5"), ("my.py:recipe",), "TypeError: Mine.__init__() got an unexpected"),
        (
            MY.replace("clean = self.weight", "clean = self.wait"),
            ("my.py:recipe",),
            ": AttributeError: 'Mine' object has no attribute 'wait'",
        ),
        (MY, ("--defense", "my.py:Mina"), "the file has no 'Mina'. Did you mean 'Mine'?"),
        (MY, ("--defense", "my.py:Noise"), "is not a class that is derived from nuat.defenses.Defense"),
        (MY.replace("def loss(", "def los("), ("--defense", "my.py:Mine"), "defines no loss("),
        (MY.replace("def loss(", "def los("), ("my.py:recipe",), "defines no loss("),
        (
            MY.replace("@dataclass(frozen=True, kw_only=True)\nclass Mine", "class Mine"),
            ("--defense", "my.py:Mine"),
            "put @dataclass(frozen=True, kw_only=True) before the class",
        ),
        (
            MY.replace("weight: float = 1.0", "weight: float"),
            ("--defense", "my.py:Mine"),
            "its setting 'weight' has no default",
        ),
        (MY, ("--model", "my.py:fixed_net"), "is [1, 7]; expected logits [1, 3]"),
        (MY, ("--model", "my.py:number"), "returned a int; expected a torch.nn.Module"),
        (MY, ("--model", "my.py:make_net", "--model.width", 4), "model.width has no effect on my.py:make_net"),
        (MY, ("--evaluation.attacks", "my.py:Nose"), "the file has no 'Nose'. Did you mean 'Noise'?"),
    ],
)
def test_mistakes_are_one_line(
    text: str, words: tuple[object, ...], told: str, images: Path, nuat: CommandLine
) -> None:
    Path("my.py").write_text(text)
    width = () if "--model" in words else ("--model.width", 4)
    recipe = words[:1] if not str(words[0]).startswith("-") else ()
    options = (*SHORT, "--data.path", images, *width, *words[len(recipe) :], "--out", "broken")
    ended = nuat("train", *recipe, *options)
    assert ended.code == 2, ended
    (line,) = ended.err.splitlines()
    assert told in line


def test_code_that_is_of_no_use_is_said(run: Path, my: Path, nuat: CommandLine) -> None:
    ended = nuat("evaluate", run, "--attacks", "clean", "--code", my)
    assert (ended.code, ended.err) == (0, "nuat: warning: --code my.py had no effect: no record here names it.\n")
    my.rename("m\x1by.py")
    assert "--code m\\x1by.py had no effect" in nuat("evaluate", run, "--attacks", "clean", "--code", "m\x1by.py").err
    assert "--code nowhere.py: no such file" in nuat.refused("evaluate", run, "--code", "nowhere.py")
    assert "--code: needs a file" in nuat.refused("evaluate", run, "--code")

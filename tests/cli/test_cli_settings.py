"""Settings from a file, by short names, and another defense."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli.cli_runs import FAST, CommandLine

from nuat.commands import train as command
from nuat.config import TrainConfig
from nuat.core.schedules import Ramp
from nuat.defenses import DEFENSES, TRADES, NuAT
from nuat.errors import InputError
from nuat.recipes import RECIPES


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, nuat: CommandLine) -> Any:
    """A function of words that returns the recipe and the settings that a training would begin with."""

    def asked(*words: object) -> tuple[str, TrainConfig]:
        recipe, options = command._new([str(word) for word in words])
        return recipe, options.config

    return asked


def test_short_names_are_those_settings(settings: Any) -> None:
    _, config = settings("--lr", "0.02", "--eps=8/255", "--lam", "1.5", "--model", "mnist-cnn")
    assert config.optimizer.lr.peak == 0.02
    assert config.threat.eps == 8 / 255
    assert config.defense.lam.peak == 1.5
    assert config.model.name == "mnist-cnn"


def test_a_decay_or_several_and_the_attack_of_the_validation(settings: Any) -> None:
    assert settings("quickstart", "--averaging.tau", "9/10")[1].averaging.tau == 0.9
    _, config = settings("quickstart", "--averaging.tau", "0.999,0.9995", "--validate-attack", "gama-20")
    assert config.averaging.tau == (0.999, 0.9995)
    assert config.validate_attack == "gama-20"
    for word, ours in (("--validation.attack", "--validate-attack"), ("--label-smoothing", "--defense.smoothing")):
        with pytest.raises(InputError, match=rf"Did you mean {ours}\?"):
            settings("quickstart", word, "1")


@pytest.mark.parametrize(
    ("words", "variant"),
    [
        (["--model", "small-cnn"], "plain"),
        (["--model=torchvision:resnet18"], "plain"),
        (["--model", "resnet34"], "nuat"),
        (["--model", "small-cnn", "--model.variant", "nuat"], "nuat"),  # refused, since the user asked for it
    ],
)
def test_another_network_drops_the_variant_of_the_recipes_network(
    words: list[str], variant: str, settings: Any
) -> None:
    assert settings("nuat-wa-cifar10-resnet18", *words)[1].model.variant == variant


def test_another_defense_keeps_the_settings_that_both_have(settings: Any) -> None:
    _, config = settings("quickstart", "--defense", "nuat2", "--lam", "2")
    assert config.defense == DEFENSES["nuat2"](lam=Ramp(peak=2.0), alpha=0.3)
    _, config = settings("quickstart", "--defense=trades", "--defense.beta", "3")
    assert config.defense == TRADES(beta=3.0)
    assert config.epochs == RECIPES["quickstart"]().epochs


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_has_its_name(name: str, settings: Any) -> None:
    assert type(settings("--defense", name)[1].defense) is DEFENSES[name]


def test_a_file_changes_the_recipe_and_the_command_line_changes_the_file(settings: Any, tmp_path: Path) -> None:
    Path("run.toml").write_text(
        'recipe = "nuat-mnist"\nepochs = 7\nbatch_size = 32\n[optimizer.lr]\npeak = 0.2\n'
        '[threat]\neps = "8/255"\n[evaluation]\nattacks = ["clean", "fgsm"]\n[data]\nflip = true\n'
    )
    recipe, config = settings("--config", "run.toml", "--epochs", "3")
    assert recipe == "nuat-mnist"
    assert (config.epochs, config.batch_size, config.optimizer.lr.peak, config.threat.eps) == (3, 32, 0.2, 8 / 255)
    assert config.evaluation.attacks == ("clean", "fgsm")
    assert config.data.flip
    assert config.averaging == RECIPES["nuat-mnist"]().averaging
    without = {"averaging.tau": None, "averaging.warmup": False}
    Path("run.json").write_text(json.dumps({"defense": "trades", "defense.beta": 2} | without))
    recipe, config = settings("quickstart", "--config=run.json")
    assert recipe == "quickstart"
    assert config.defense == TRADES(beta=2.0)
    assert config.averaging.tau is None


def test_what_a_run_wrote_works_again(settings: Any, run: Path) -> None:
    recipe, config = settings("--config", run / "config.json", "--epochs", "2")
    written = json.loads((run / "config.json").read_text())
    assert recipe == written["recipe"]
    assert config.epochs == 2
    assert config.threat.eps == written["config"]["threat"]["eps"]
    assert isinstance(config.defense, NuAT)


@pytest.mark.slow
def test_a_run_with_another_defense_is_recorded_and_resumed(nuat: CommandLine, images: Path) -> None:
    words = (*FAST, "--epochs", "1", "--defense", "fgsm-at", "--data.path", images, "--out", "other")
    nuat.done("train", *words)
    assert json.loads(Path("other/config.json").read_text())["config"]["defense"]["class"] == "FGSMAT"
    Path("other/evaluation.json").unlink()
    nuat.done("train", "--resume", "other")
    assert Path("other/evaluation.json").is_file()


@pytest.mark.parametrize(
    ("text", "words", "told"),
    [
        ("epochs = [", (), "--config run.toml: not TOML"),
        ("epochz = 3", (), "run.toml: Unrecognized options: --epochz"),
        ("epochs = 0", (), "run.toml: epochs=0"),
        ('epochs = "x"', (), "run.toml: "),
        ('recipe = "quickstrt"', (), "Did you mean 'quickstart'?"),
        ('recipe = "nuat-mnist"', ("quickstart",), "is of the recipe 'nuat-mnist', not 'quickstart'"),
        ('defense = "nuat3"', (), "no such defense. Did you mean 'nuat'?"),
        ("", ("--defense", "trade"), "no such defense. Did you mean 'trades'?"),
        ("", ("--defense",), "--defense: needs a value"),
    ],
)
def test_mistakes_are_one_line(text: str, words: tuple[str, ...], told: str, nuat: CommandLine) -> None:
    Path("run.toml").write_text(text)
    recipe, rest = (words[:1], words[1:]) if words[:1] == ("quickstart",) else ((), words)
    assert told in nuat.refused("train", *recipe, "--config", "run.toml", *rest)


def test_a_file_that_is_not_there_is_said(nuat: CommandLine) -> None:
    assert "--config nowhere.toml: cannot be read" in nuat.refused("train", "--config", "nowhere.toml")

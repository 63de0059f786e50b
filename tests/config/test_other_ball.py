"""Recipes in another ball than their own."""

from dataclasses import replace

import pytest

from nuat.campaign import definition
from nuat.commands import train
from nuat.config import TrainConfig
from nuat.config.other_ball import in_asked_ball
from nuat.defenses import GAT, PGDAT, NuAT
from nuat.errors import InputError
from nuat.recipes import find


def of_command(*words: str) -> TrainConfig:
    return train._new(["quickstart", *words])[1].config


def alpha(config: TrainConfig) -> float | None:
    assert isinstance(config.defense, NuAT | GAT)
    return config.defense.alpha


def test_sizes_keep_their_ratio_to_the_radius_on_the_command_line() -> None:
    own = find("quickstart")()
    assert (own.threat.eps, alpha(own)) == (0.3, 0.3)
    for words in (
        ("--threat.norm", "L1", "--threat.eps", "10"),
        ("--threat.norm=L1", "--eps=10"),
        ("--eps", "10", "--threat.norm", "L1"),
    ):
        asked = of_command(*words)
        assert (asked.threat.norm, asked.threat.eps, asked.threat.pgd_alpha) == ("L1", 10.0, 1.0)
        assert alpha(asked) == pytest.approx(10.0)
    assert of_command() == own
    assert alpha(of_command("--threat.eps", "0.3")) == 0.3


def test_sizes_keep_their_ratio_to_another_radius_of_the_norm() -> None:
    asked = of_command("--eps", "0.15")
    assert (asked.threat.norm, asked.threat.eps) == ("Linf", 0.15)
    assert (asked.threat.pgd_alpha, alpha(asked)) == (pytest.approx(0.005), pytest.approx(0.15))


def test_sizes_that_are_given_stay() -> None:
    words = ("--threat.norm", "L2", "--threat.eps", "30/20", "--defense.alpha", "0.7", "--threat.pgd-alpha", "0.2")
    asked = of_command(*words)
    assert (asked.threat.eps, asked.threat.pgd_alpha, alpha(asked)) == (1.5, 0.2, 0.7)


def test_sizes_of_a_file_are_scaled_from_its_norm(tmp_path) -> None:
    file = tmp_path / "l2.toml"
    file.write_text('"threat.norm" = "L2"\n"threat.eps" = 2.0\n"defense.alpha" = 1.0\n')
    asked = of_command("--config", str(file))
    assert (asked.threat.pgd_alpha, alpha(asked)) == (0.2, 1.0)
    asked = of_command("--config", str(file), "--threat.norm", "L1", "--threat.eps", "12")
    assert (asked.threat.norm, asked.threat.pgd_alpha) == ("L1", pytest.approx(1.2))
    assert alpha(asked) == pytest.approx(6.0)


def test_a_row_of_a_campaign_does_the_same(tmp_path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[[suite]]\nname = "main"\nattacks = ["clean"]\nn = 10\n'
        '[[row]]\nrecipe = "quickstart"\nset = { "threat.norm" = "L2", "threat.eps" = 1.5 }\n'
    )
    (row,) = definition.load(str(file)).rows
    assert row.config.threat.pgd_alpha == pytest.approx(0.15)
    assert alpha(row.config) == pytest.approx(1.5)


def test_back_to_linf_a_recipe_of_l1_trains() -> None:
    asked = train._new(["nuat-mnist-small-cnn-l1", "--threat.norm", "Linf", "--threat.eps", "0.3"])[1].config
    assert alpha(asked) == pytest.approx(0.3)


def test_sizes_that_a_defense_derives_itself_stay_none() -> None:
    own = replace(find("quickstart")(), defense=NuAT(alpha=None))
    asked = in_asked_ball(own, ["--threat.norm", "L2", "--threat.eps", "1.5"])
    assert alpha(asked) is None
    asked = in_asked_ball(replace(own, defense=PGDAT()), ["--threat.norm", "L2", "--threat.eps", "1.5"])
    assert asked.threat.norm == "L2"


def test_another_norm_needs_its_radius() -> None:
    with pytest.raises(InputError, match=r"--threat.norm L1: give its radius, too, such as --threat.eps 12"):
        of_command("--threat.norm", "L1")


def test_options_without_a_meaning_are_left_to_their_reader() -> None:
    for words, refusal in (
        (("--threat.norm", "L7", "--eps", "1"), "L7"),
        (("--threat.norm", "L2", "--eps", "one"), "one"),
        (("--threat.norm", "L2", "--eps", "-1"), "-1"),
        (("--threat.norm", "L2", "--eps", "128"), r"Did you mean 128/255\?"),
        (("--threat.norm", "L2", "--eps", "0.03"), "hardly changes an image"),
    ):
        with pytest.raises(InputError, match=refusal):
            of_command(*words)


def test_the_l2_recipe_is_the_linf_one_but_for_the_ball() -> None:
    linf, l2 = find("robust-cifar10-resnet18")(), find("robust-cifar10-resnet18-l2")()
    assert (l2.threat.norm, l2.threat.eps) == ("L2", 0.5)
    assert replace(l2, threat=linf.threat) == linf

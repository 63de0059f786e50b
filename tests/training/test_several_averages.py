"""Several weight averages in one run: each is what it would be alone, and the best is shipped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training.small_runs import (
    BATCH_NORM,
    Watcher,
    assert_equal,
    assert_same_run,
    averaged,
    interrupt,
    metrics,
    remembered,
    small_config,
    train,
    write_images,
)

import nuat
from nuat.config import AveragingConfig, TrainConfig
from nuat.errors import InputError
from nuat.records.checkpoints import read_info, read_tensors
from nuat.records.runs import read_run
from nuat.records.settings import from_json, to_json
from nuat.training.signals import Interrupted

TAUS = (0.5, 0.8, 0.98)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def several(images: Path, **changes: Any) -> TrainConfig:
    return small_config(images, model=BATCH_NORM, averaging=AveragingConfig(tau=TAUS, warmup=True), **changes)


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("several") / "run"
    train(several(images), out)
    return out


@pytest.mark.slow
def test_each_average_is_what_it_is_alone(images: Path, whole: Path, tmp_path: Path) -> None:
    state, lines = remembered(whole), metrics(whole, "epoch")
    for tau, average in zip(TAUS, state["average"], strict=True):
        out = tmp_path / str(tau)
        train(replace(several(images), averaging=averaged(tau, warmup=True)), out)
        alone = remembered(out)
        assert_equal(average, alone["average"])
        assert_equal(state["model"], alone["model"])
        for ours, theirs in zip(lines, metrics(out, "epoch"), strict=True):
            assert ours["validation"]["live"] == theirs["validation"]["live"]
            assert ours["validation"][f"averaged-{tau}"] == theirs["validation"]["averaged"]


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 6])
def test_resume_is_bit_for_bit(at: int, images: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(several(images), tmp_path / "run", {at: interrupt})
    train(several(images), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_the_best_of_all_epochs_and_averages_is_shipped(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By epoch: the live weights, which count for nothing, and an accuracy of each average."""
    accuracies = iter([0.9, 0.1, 0.3, 0.2, 0.9, 0.2, 0.1, 0.5, 0.9, 0.4, 0.4, 0.3])

    def validate(*arguments: Any, **settings: Any) -> dict[str, float]:
        return {"clean_loss": 0.1, "clean": 0.9, "fgsm": 0.5, "pgd": next(accuracies)}

    monkeypatch.setattr("nuat.training.validation.validate", validate)
    watcher, out = Watcher(), tmp_path / "run"
    run = nuat.run(several(images, epochs=3), out=out, reporter=watcher)
    chosen = [line["validation"]["averaged"] for line in metrics(out, "epoch")]
    assert [(one["pgd"], one["tau"]) for one in chosen] == [(0.3, 0.8), (0.5, 0.98), (0.4, 0.5)]  # the first of equals
    assert [list(line["validation"])[-1] for line in metrics(out, "epoch")] == ["averaged"] * 3
    assert (run.summary["best_epoch"], run.summary["best_validation"], run.summary["best_tau"]) == (2, 0.5, 0.98)
    info = read_info(out / "best.safetensors")
    assert (info.averaged, info.tau, info.epoch) == (True, 0.98, 2)
    # the last weights are of the decay that was best
    last, kept = read_tensors(out / "last.safetensors"), remembered(out)["average"][2]
    assert all(torch.equal(last[name], kept[name]) for name in kept)
    assert read_info(out / "last.safetensors").tau == 0.98
    assert read_run(out).averaging == "decay 0.98, the best of 0.5, 0.8, 0.98"
    lines = [text.split() for text in watcher.messages]
    assert [words[-2:] for words in lines if words[0] in ("1/3", "2/3")] == [["0.8", "best"], ["0.98", "best"]]
    assert any("of the best average, whose decay ends the line, on 20 validation images" in m for m in watcher.messages)


def test_one_decay_is_recorded_as_ever(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = train(small_config(images, averaging=averaged()), out)
    assert to_json(averaged())["tau"] == 0.8
    assert isinstance(remembered(out)["average"], dict)
    assert set(metrics(out, "epoch")[0]["validation"]["averaged"]) == {"clean_loss", "clean", "fgsm", "pgd"}
    assert "best_tau" not in run.summary
    assert read_info(out / "best.safetensors").tau == 0.8
    assert read_run(out).averaging == "decay 0.8"


def test_settings_of_several_decays(images: Path) -> None:
    config = several(images)
    assert from_json(several(images), to_json(config), "config") == config
    assert (config.averaging.taus, averaged().taus, AveragingConfig().taus) == (TAUS, (0.8,), ())
    for tau, told in (((0.9,), "0.9"), ((0.9, 0.9), "0.9,0.9"), ((), "")):
        with pytest.raises(
            InputError, match=rf"^averaging.tau={told}: expected one decay, or several different ones\.$"
        ):
            AveragingConfig(tau=tau)
    with pytest.raises(InputError, match=r"averaging.tau=1: "):
        AveragingConfig(tau=(0.9, 1.0))
    with pytest.raises(InputError, match="validation chooses between several decays"):
        replace(config, data=replace(config.data, validation=0))

"""``nuat analyse`` on the command line: what it writes, prints and refuses. Its line in the dispatch is not needed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from figure_models import write_row, write_run

from nuat import models
from nuat.commands.analyse import analyse
from nuat.config import DataConfig, ModelConfig, ThreatConfig, TrainConfig
from nuat.defenses.standard import Standard
from nuat.errors import InputError
from nuat.figures.catalogue import FIGURES, read
from nuat.figures.confusion import Confusion
from nuat.figures.cost import Cost
from nuat.figures.eps_curve import EpsCurve
from nuat.figures.figure_record import FigureRecord
from nuat.figures.loss_surface import LossSurface
from nuat.figures.steps_curve import StepsCurve
from nuat.records.checkpoints import WeightsInfo, save_weights
from nuat.records.settings import write_config

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


def soft():
    return Bars(1.0)


class Flat(Bars):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


bars, flat = Bars, Flat
"""
SMALL = {"x": np.zeros((8, 4, 4, 1), np.uint8), "y": np.arange(8) % 4}
COMMON = ("--data.path", "images.npz", "--eps", "0.1", "--device", "cpu", "--out", "found")
NAMES = ("--names", "[/b],[red]\n\x1b")


@pytest.fixture(autouse=True)
def _prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    y = np.arange(20) % 4
    x = np.random.default_rng(0).integers(0, 60, (20, 8, 8, 1))
    for label in range(4):
        x[y == label, :, 2 * label : 2 * label + 2] += 100
    np.savez("images.npz", x_train=x.astype(np.uint8), y_train=y, x_test=x.astype(np.uint8), y_test=y)
    Path("theirs.py").write_text(MODEL)


def record(name: str) -> FigureRecord:
    return read(Path("found") / f"analysis-{name}.json")


def call(*words: str) -> None:
    assert analyse(list(words)) == 0


def test_help_names_every_analysis(capsys: pytest.CaptureFixture[str]) -> None:
    assert analyse([]) == 2
    assert analyse(["--help"]) == 0
    told = capsys.readouterr().out
    for name in [*FIGURES, "redraw"]:
        assert f"  {name} " in told
    assert max(map(len, told.splitlines())) <= 120


@pytest.mark.parametrize("name", [*FIGURES, "redraw"])
def test_each_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        analyse([name, "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: nuat analyse {name}" in told
    assert told.count("usage: ") == 1


@pytest.mark.slow
def test_a_loss_surface_of_two_models(capsys: pytest.CaptureFixture[str]) -> None:
    call("loss-surface", "theirs.py:bars", "theirs.py:soft", *COMMON, "--images", "2", "--resolution", "3")
    found = record("loss-surface")
    assert isinstance(found, LossSurface)
    assert [model.subject.name for model in found.models] == ["theirs.py:bars", "theirs.py:soft"]
    assert (found.n, found.eps, len(found.distances), found.clip) == (2, 0.1, 3, False)
    assert found.models[0].subject.weights_sha256 != found.models[1].subject.weights_sha256
    assert Path("found/analysis-loss-surface.svg").read_text().startswith("<?xml")
    assert "written to found/analysis-loss-surface.json" in capsys.readouterr().out


@pytest.mark.slow
def test_a_confusion_beside_the_papers_entropies(capsys: pytest.CaptureFixture[str]) -> None:
    call("confusion", "theirs.py:bars", *COMMON, "--batch-size", "5", "--suffix", "plain", "--format", "png")
    found = record("confusion-plain")
    assert isinstance(found, Confusion)
    assert (found.n, found.batch_size, found.alpha, found.clean_accuracy) == (20, 5, 0.05, 1.0)
    assert found.classes == ("0", "1", "2", "3")
    told = capsys.readouterr().out
    assert "0.97" in told
    assert "0.87" in told
    assert Path("found/analysis-confusion-plain.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nuclear-profile", ("--steps", "2", "--batch-size", "3", "--batches", "2")),
        ("eps-curve", ("--steps", "2", "--radii", "0,0.1")),
        ("steps-curve", ("--steps", "0,2", "--names", "mine")),
    ],
)
def test_the_others_are_written_and_drawn_again(
    name: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    call(name, "theirs.py:bars", *COMMON, *options)
    found = record(name)
    assert found.to_json()["n"] == 20
    figure = Path(f"found/analysis-{name}.svg")
    before = figure.read_bytes()
    figure.unlink()
    capsys.readouterr()
    call("redraw", f"found/analysis-{name}.json")
    assert f"written to found/analysis-{name}.svg" in capsys.readouterr().out
    assert figure.read_bytes() == before


def test_more_runs_than_a_figure_holds_are_refused() -> None:
    runs = [f"runs/{i}" for i in range(13)]
    for run in runs:
        write_run(Path(run), accuracies={})
    with pytest.raises(InputError, match="13 runs do not fit into one figure; name at most 12"):
        analyse(["training", *runs, "--out", "found"])


@pytest.mark.slow
def test_runs_need_no_model() -> None:
    for name, lam in (("a", 1.0), ("b", 2.0)):
        write_run(Path(name), recipe=name, lam=lam, accuracies={"clean": 0.9, "gama-100": 0.5})
    for name in ("cost", "lambda-sweep", "training"):
        call(name, "a", "b", "--out", "found")
    found = record("cost")
    assert isinstance(found, Cost)
    assert [point.method for point in found.points] == ["a", "b"]
    call("cost", "a")
    assert Path("a/analysis-cost.json").is_file()
    call("redraw", "a/analysis-cost.json", "found/analysis-cost.json", "--together", "true", "--out", "both")
    assert [path.name for path in Path("both").iterdir()] == ["analysis-cost.svg"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("loss-surface", ("--images", "2", "--resolution", "3")),
        ("nuclear-profile", ("--steps", "1", "--batch-size", "3", "--batches", "2")),
        ("eps-curve", ("--steps", "1", "--radii", "0.1")),
        ("steps-curve", ("--steps", "2")),
    ],
)
def test_names_that_look_like_markup_are_printed(
    name: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    call(name, "theirs.py:bars", "theirs.py:soft", *COMMON[:-1], "[/b]", *NAMES, *options)
    told = capsys.readouterr().out
    assert "[/b]" in told
    assert r"[red]\n\x1b" in told
    assert f"written to [/b]/analysis-{name}.json" in told


def test_the_record_is_kept_where_nothing_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("nuat.commands.analyse.draw", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        call("eps-curve", "theirs.py:bars", *COMMON, "--steps", "1", "--radii", "0.1")
    assert isinstance(record("eps-curve"), EpsCurve)


@pytest.mark.slow
def test_too_few_steps_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    call("steps-curve", "theirs.py:bars", *COMMON, "--pgd-alpha", "0.04", "--steps", "1,2")
    assert "warning: 2 steps move at most 0.08 from their start, less than eps 0.1" in capsys.readouterr().out
    call("steps-curve", "theirs.py:bars", *COMMON, "--pgd-alpha", "0.05", "--steps", "1,2")
    assert "warning" not in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_cost_leaves_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    write_row(Path("rows/a"), "[/b]")
    suites = {"tuning": {"images": "validation", "n": 100, "accuracies": {"pgd-100": 0.9}}}
    write_row(Path("rows/b"), "B", suites=suites)
    call("cost", "rows", "--out", "found")
    told = capsys.readouterr().out
    assert "left out: 1 of 2 runs, attacked on validation images alone" in told
    assert "[/b]" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("loss-surfaces",), "Did you mean 'loss-surface'"),
        (("loss-surface",), "needs at least one model"),
        (("cost",), "needs at least one run"),
        (("redraw",), "needs at least one record"),
        (("confusion", "theirs.py:bars", "theirs.py:soft", *COMMON), "takes one model, got 2"),
        (
            ("confusion", "theirs.py:bars", *COMMON),
            "class '0' has 5 test images, too few for a same-class batch of 100",
        ),
        (("eps-curve", "theirs.py:bars", *COMMON, "--n", "21"), "--n 21: expected 1 to 20"),
        (("eps-curve", "theirs.py:bars", *COMMON, "--names", "a,b"), "one name for each of 1 models, got 2"),
        (("eps-curve", "theirs.py:bars", *COMMON, "--batch-size", "0"), "--batch-size 0"),
        (("eps-curve", "theirs.py:bars", *COMMON, "--suffix", "../x"), "--suffix ../x"),
        (("eps-curve", "theirs.py:bars", "--data.path", "images.npz"), "give --eps"),
        (("eps-curve", "theirs.py:flat", *COMMON), "theirs.py:flat: the loss has no gradient in the image at all"),
        (("steps-curve", "theirs.py:bars", "theirs.py:flat", *COMMON), "--black-box true' does not"),
        (("eps-curve", "nowhere", *COMMON), "nowhere: no such run or weights file"),
        (("loss-surface", "theirs.py:bars", *COMMON, "--index", "3", "--images", "2"), "--images has no effect"),
        (("loss-surface", "theirs.py:bars", *COMMON, "--index", "3", "--images=10"), "--images has no effect"),
        (("eps-curve", "theirs.py:bars", *COMMON, "--norm", "L2"), "--norm L2"),
        (("loss-surface", "theirs.py:bars", *COMMON, "--norm", "L2"), "--norm L2"),
        (
            ("eps-curve", "theirs.py:bars", *COMMON, "--also", "L2:0.5"),
            "curve' measures within one ball",
        ),
        (("loss-surface", "theirs.py:bars", *COMMON, "--pgd-alpha", "0.1"), "--pgd-alpha has no effect"),
        (("confusion", "theirs.py:bars", *COMMON, "--pgd_alpha=0.1"), "--pgd-alpha has no effect"),
        (("eps-curve", "theirs.py:bars", *COMMON, "--pgd-alpha", "0.1"), "--pgd-alpha has no effect"),
        (("confusion", "theirs.py:bars", *COMMON, "--alpha", "0.2"), "alpha=0.2 is more than eps=0.1"),
        (("loss-surface", "theirs.py:bars", *COMMON, "--index", "20"), "--index 20: expected 0 to 19"),
        (("loss-surface", "theirs.py:bars", *COMMON, "--images", "21"), "--images 21: expected 1 to 20"),
        (("loss-surface", "theirs.py:bars", *COMMON[:-1], "images.npz"), "images.npz is a file, not a folder"),
        (("redraw", "images.npz"), "images.npz: not"),
        (("redraw", "none.json"), "none.json: no such file"),
        (("redraw", "none.json", "--suffix", "a"), "--suffix has no effect"),
        (("cost", "theirs.py"), "not the folder of a run"),
        (("training", "."), "neither the folder of a run nor that of a campaign"),
    ],
)
def test_mistakes_are_said_and_nothing_is_written(words: tuple[str, ...], told: str) -> None:
    before = {path for path in Path().rglob("*") if "__pycache__" not in path.parts}
    with pytest.raises(InputError) as refused:
        analyse(list(words))
    assert told in str(refused.value)
    assert {path for path in Path().rglob("*") if "__pycache__" not in path.parts} == before


def test_the_record_says_what_was_measured() -> None:
    call("eps-curve", "theirs.py:bars", *COMMON, "--steps", "1", "--radii", "0.1", "--seed", "4")
    values = json.loads(Path("found/analysis-eps-curve.json").read_text())
    assert (values["seed"], values["n"], values["kind"]) == (4, 20, "eps-curve")
    assert values["versions"]["torch"]
    assert len(values["images_sha256"]) == len(values["models"][0]["subject"]["weights_sha256"]) == 64


def weights(
    path: Path, *, eps: float = 0.1, seed: int = 0, recipe: str = "ours", data: str | None = None, **ball: Any
) -> str:
    """Write untrained weights for the images here, in a run that was trained on ``data`` where it is given."""
    info = WeightsInfo(
        model=ModelConfig(width=2), channels=1, image_size=(8, 8), classes=("0", "1", "2", "3"),
        threat=ThreatConfig(eps=eps, pgd_alpha=0.05, **ball), recipe=recipe, epoch=1, averaged=False, data="bars",
    )  # fmt: skip
    torch.manual_seed(seed)
    model = models.build(info.model, channels=1, classes=4, image_size=(8, 8))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, model.state_dict(), info)
    if data is not None:
        write_config(
            path.parent / "config.json", TrainConfig(defense=Standard(), data=DataConfig(path=Path(data))), recipe
        )
    return str(path)


@pytest.mark.slow
def test_runs_give_names_eps_images_and_the_place() -> None:
    one = Path(weights(Path("one/best.safetensors"), data="images.npz")).parent
    two = weights(Path("two/best.safetensors"), seed=1, data="images.npz")
    call("eps-curve", str(one), two, "--steps", "1", "--radii", "0.1", "--device", "cpu")
    found = read(one / "analysis-eps-curve.json")
    assert isinstance(found, EpsCurve)
    assert found.eps == 0.1
    assert [curve.subject.name for curve in found.models] == ["ours (one)", "ours (two)"]
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (f"{one}/best.safetensors", two)]
    assert [curve.subject.weights_sha256 for curve in found.models] == digests
    (one / "row.json").write_text(json.dumps({"recipe": "ours", "label": "NuAT | <b>"}))
    call("steps-curve", str(one), "--steps", "1", "--device", "cpu", "--data.path", "images.npz")
    told = read(one / "analysis-steps-curve.json")
    assert isinstance(told, StepsCurve)
    assert told.models[0].subject.name == "NuAT | <b>"


def test_models_that_do_not_go_together_are_refused() -> None:
    one = weights(Path("one/best.safetensors"), data="images.npz")
    wider = weights(Path("two/best.safetensors"), eps=0.3, data="images.npz")
    with pytest.raises(InputError, match=r"different balls \(.* eps 0\.1.* eps 0\.3\), .* give --norm Linf and"):
        analyse(["eps-curve", one, wider])
    other_norm = weights(Path("l2/best.safetensors"), norm="L2", data="images.npz")
    with pytest.raises(InputError, match=r"different balls \(.*Linf eps 0\.1.*L2 eps 0\.1\)"):
        analyse(["eps-curve", one, other_norm])
    for words in ([], ["--eps", "0.1"]):
        with pytest.raises(InputError, match=r"--norm L2: 'nuat analyse' measures within Linf balls only"):
            analyse(["eps-curve", other_norm, *words])
    union = weights(Path("union/best.safetensors"), also="L2:0.5", data="images.npz")
    with pytest.raises(InputError, match=r"a union of balls \(.*Linf eps 0\.1 and L2 0\.5\), .* give --norm Linf and"):
        analyse(["eps-curve", union])
    other = weights(Path("three/best.safetensors"), data="others.npz")
    with pytest.raises(InputError, match=r"different data \(.*images\.npz.*others\.npz\); give --data\.path"):
        analyse(["eps-curve", one, other])
    np.savez("small.npz", **{f"{name}_{part}": made for part in ("train", "test") for name, made in SMALL.items()})
    with pytest.raises(InputError, match="takes 1 x"):
        analyse(["eps-curve", one, "--data.path", "small.npz"])
    assert not list(Path().rglob("analysis-*"))

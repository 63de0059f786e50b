"""Attacks search in the arithmetic that is asked for; verdicts are those of fp32 whatever the search thinks."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from evaluation_models import THREAT, evaluate, tiny_case
from oracles import TinyConv
from torch import Tensor, nn

import nuat
from nuat import data, own_code
from nuat.config import DataConfig
from nuat.errors import InputError
from nuat.evaluation.result_table import as_text
from nuat.evaluation.results import Evaluation
from nuat.evaluation.search_precision import Bf16Forward, settled

CPU = torch.device("cpu")


class Watched(nn.Module):
    """A model that notes in which arithmetic it is asked; under autocast it calls every image wrong if ``lies``."""

    def __init__(self, model: nn.Module, *, lies: bool = False) -> None:
        super().__init__()
        self.model, self.lies = model, lies
        self.narrow: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        narrow = torch.is_autocast_enabled("cpu")
        self.narrow.append(narrow)
        logits: Tensor = self.model(x)
        return -logits if narrow and self.lies else logits


def test_auto_is_fp32_on_a_cpu_and_tf32_on_a_gpu() -> None:
    assert settled("auto", CPU) == "fp32"
    assert settled("auto", torch.device("cuda")) == "tf32"
    assert [settled(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="tf32 exists on CUDA GPUs alone"):
        settled("tf32", CPU)
    with pytest.raises(InputError, match=r"'bf61': expected one of .* 'bf16'"):
        settled("bf61", CPU)


@pytest.mark.parametrize("attack", ["pgd-3", "gama-3", "square-5", "cr"])
def test_a_success_counts_only_if_fp32_confirms_it(attack: str) -> None:
    model, images = tiny_case()
    lying = Watched(model, lies=True)
    plain = evaluate(model, images, (attack,), threat=THREAT)
    found = evaluate(lying, images, (attack,), threat=THREAT, search_precision="bf16")
    assert True in lying.narrow
    assert False in lying.narrow
    # the search calls every start a success, so only what is searched for again in fp32 can be broken
    assert int(found.results[0].correct.sum()) >= int(plain.results[0].correct.sum()) - 1
    assert found.search_precision == "bf16"


@pytest.mark.parametrize("attack", ["pgd-3", "gama-3"])
def test_an_image_that_bf16_came_near_to_breaking_is_attacked_in_fp32(
    monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    model, images = tiny_case()
    plain, lying = evaluate(model, images, (attack,), threat=THREAT), Watched(model, lies=True)
    standing = []
    for near in (0.0, 1e6):
        monkeypatch.setattr("nuat.evaluation.job_runner._NEAR", near)
        standing.append(evaluate(lying, images, (attack,), threat=THREAT, search_precision="bf16").accuracy(attack))
    assert standing[0] > plain.accuracy(attack) + 0.1  # the search goes the wrong way
    assert standing[1] == pytest.approx(plain.accuracy(attack), abs=0.05)  # from other starts


def test_an_attack_that_stops_at_a_success_of_the_search_goes_on_in_fp32() -> None:
    model, images = tiny_case()
    plain = evaluate(model, images, ("square-200",), threat=THREAT)
    lying = Watched(model, lies=True)
    found = evaluate(lying, images, ("square-200",), threat=THREAT, search_precision="bf16")
    assert torch.equal(found.results[0].correct, plain.results[0].correct)
    assert not bool(plain.results[0].correct.all())


def test_an_image_that_the_search_takes_for_lost_is_attacked_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with TF32: the arithmetic of the search is a setting of torch's, not a part of the copy."""
    narrow = False

    class Rounding(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.model(x)
            return -logits if narrow else logits

    @contextlib.contextmanager
    def rounding(precision: str) -> Iterator[None]:
        nonlocal narrow
        narrow = precision == "tf32"
        yield
        narrow = False

    model, images = tiny_case()
    plain = evaluate(model, images, ("square-200",), threat=THREAT)
    monkeypatch.setattr("nuat.evaluation.evaluate.settled", lambda *_: "tf32")
    monkeypatch.setattr("nuat.evaluation.job_runner.computing_in", rounding)
    found = evaluate(Rounding(model), images, ("square-200",), threat=THREAT)
    assert found.search_precision == "tf32"
    assert torch.equal(found.results[0].correct, plain.results[0].correct)


def test_an_own_attack_may_stop_at_a_success_so_it_searches_on_the_model(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from nuat.core.threat import Linf\n\n"
        "def stops(model, x, y, eps):\n"
        "    moved = Linf(eps).bounds(x).project(x - eps)\n"
        "    lost = model(x).argmax(dim=1) != y\n"
        "    return x.where(lost[:, None, None, None], moved)\n"
    )
    name = own_code.pin(f"{tmp_path / 'mine.py'}:stops")
    model, images = tiny_case()
    plain = evaluate(model, images, ("clean", name), threat=THREAT)
    assert plain.accuracy(name) < plain.accuracy("clean")
    found = evaluate(Watched(model, lies=True), images, (name,), threat=THREAT, search_precision="bf16")
    assert torch.equal(found.results[0].correct, plain.results[1].correct)


def test_a_job_on_the_model_itself_runs_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    @contextlib.contextmanager
    def listening(precision: str) -> Iterator[None]:
        heard.append(precision)
        yield

    monkeypatch.setattr("nuat.evaluation.job_runner.computing_in", listening)
    model, images = tiny_case()
    evaluate(model, images, ("clean",), threat=THREAT, search_precision="bf16")
    assert set(heard) == {"fp32"}
    evaluate(model, images, ("pgd-3",), threat=THREAT, search_precision="bf16")
    assert set(heard) == {"fp32", "bf16"}


def test_logits_of_a_search_in_bf16_are_in_float32() -> None:
    x = torch.rand(2, 3, 6, 6)
    with torch.no_grad():
        assert Bf16Forward(TinyConv(3, 4))(x).dtype == torch.float32


def test_without_it_nothing_runs_in_bf16() -> None:
    model, images = tiny_case()
    watched = Watched(model)
    assert evaluate(watched, images, ("pgd-3",), threat=THREAT).search_precision == "fp32"
    assert not any(watched.narrow)


def test_the_record_and_the_table_name_it(tmp_path: Path) -> None:
    model, images = tiny_case()
    found = evaluate(model, images, ("fgsm",), threat=THREAT, search_precision="bf16")
    found.save(tmp_path / "e.json")
    values = json.loads((tmp_path / "e.json").read_text())
    assert values["search_precision"] == "bf16"
    assert Evaluation.from_json(values).search_precision == "bf16"
    assert "attacks searched in bf16; every success was confirmed in fp32" in as_text(found)
    del values["search_precision"]
    older = Evaluation.from_json(values)
    assert older.search_precision == "fp32"
    assert "searched" not in as_text(older)


@pytest.mark.slow
def test_bf16_finds_what_fp32_finds_on_the_shipped_model() -> None:
    model, digits = nuat.load("quickstart"), data.load(DataConfig()).test
    found = [
        nuat.evaluate(model, digits, ["pgd-20", "gama-20"], eps=0.3, n=200, search_precision=precision)
        for precision in ("fp32", "bf16")
    ]
    for name in ("pgd-20", "gama-20"):
        fp32, bf16 = (next(r.correct for r in one.results if r.name == name) for one in found)
        assert int((fp32 != bf16).sum()) <= 8  # signs of small gradients differ, both ways
        assert int(bf16.sum()) <= int(fp32.sum()) + 4


def test_other_arithmetic_is_another_evaluation_to_resume() -> None:
    from nuat.evaluation.partial_results import results_key

    model, images = TinyConv(1, 3).eval(), tiny_case()[1]
    logits = torch.zeros(1, 3)
    keys = {results_key(model, images, logits, THREAT, 0, 250, None, precision, 1.0) for precision in ("fp32", "bf16")}
    assert len(keys) == 2

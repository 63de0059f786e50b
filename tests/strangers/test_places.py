"""Files and folders of results, radii that were meant in 1/255, and arguments that are no model or no images."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_models import THREAT, tiny_case
from strangers.three_ways import Outcome, Theirs, ThreeWays, case
from torch import Tensor, nn

import nuat
from nuat.commands.subject import settle_threat
from nuat.config import ThreatConfig
from nuat.data import ImageSet
from nuat.diagnostics import examine
from nuat.errors import InputError


@pytest.fixture
def plain() -> Theirs:
    return Theirs(lambda model, x: model(x))


def refused(three_ways: ThreeWays, name: str, model: Theirs, *options: str, out: str = "out.json") -> str:
    """Return why a command is refused; empty: it is not."""
    attacks = ("--attacks", "clean") if name == "evaluate" else ()
    outcome: Outcome = three_ways.command(name, model, case(), *attacks, *options, out=out)
    return outcome.error


@pytest.mark.parametrize("name", ["evaluate", "diagnose"])
@pytest.mark.parametrize(
    "content",
    [b"\x00\x01weights", b"{}", b"[1, 2]", b"", b'{"format": 1}', b'{"a":' * 100_000, b'{"rows": 3, "results": []}'],
)
def test_json_replaces_results_alone(name: str, content: bytes, plain: Theirs, three_ways: ThreeWays) -> None:
    Path("best.safetensors").write_bytes(content)
    attacks = ("--attacks", "clean") if name == "evaluate" else ()
    outcome = three_ways.command(name, plain, case(), *attacks, out="best.safetensors")
    assert "exists and was not written by this command" in outcome.error
    assert "the results are in" not in outcome.error + outcome.said  # it is refused before the work
    assert outcome.said == ""
    assert Path("best.safetensors").read_bytes() == content


@pytest.mark.parametrize("name", ["evaluate", "diagnose"])
def test_json_replaces_no_pipe_or_device(name: str, plain: Theirs, three_ways: ThreeWays) -> None:
    """A pipe here: without the guard, a test as root would replace /dev/null by a file."""
    os.mkfifo("pipe")
    assert "is no regular file" in refused(three_ways, name, plain, out="pipe")
    assert Path("pipe").is_fifo()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluate", "diagnose"])
def test_json_replaces_results_of_its_own_kind(name: str, plain: Theirs, three_ways: ThreeWays) -> None:
    other = {"evaluate": "diagnose", "diagnose": "evaluate"}[name]
    assert refused(three_ways, name, plain, out="again.json") == ""
    first = json.loads(Path("again.json").read_text())
    assert refused(three_ways, name, plain, out="again.json") == ""
    assert json.loads(Path("again.json").read_text()).keys() == first.keys()
    assert "was not written by this command" in refused(three_ways, other, plain, out="again.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluate", "diagnose"])
def test_a_folder_that_cannot_be_written_is_no_reason_to_end(
    name: str, plain: Theirs, three_ways: ThreeWays, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and Path(path) != Path())
    attacks = ("--attacks", "clean,pgd-5") if name == "evaluate" else ()
    outcome = three_ways.command(name, plain, case(), *attacks)
    assert outcome.accuracy("pgd-5") < 0.3
    assert ". cannot be written: an" in outcome.said
    assert not list(Path().glob("*.partial.json"))


@pytest.mark.parametrize("eps", ["128", "16", "255"])
@pytest.mark.parametrize("name", ["evaluate", "diagnose"])
def test_an_l2_radius_in_levels_of_255_gets_its_hint(name: str, eps: str, plain: Theirs, three_ways: ThreeWays) -> None:
    assert f"Did you mean {eps}/255?" in refused(three_ways, name, plain, "--norm", "L2", "--eps", eps)


def test_large_images_get_the_hint_too() -> None:
    """The library cannot know: in images of 224 x 224 pixels an L2 radius of 128 is possible."""
    for eps in (16.0, 128.0):
        asked = ThreatConfig(norm="L2", eps=eps, pgd_alpha=1.0)
        with pytest.raises(InputError, match=rf"--eps={eps:g}: .* Did you mean {eps:g}/255\?"):
            settle_threat(asked, ThreatConfig(), ["--norm", "L2", "--eps", f"{eps:g}"])
    fine = ThreatConfig(norm="L2", eps=3.0, pgd_alpha=1.0)
    assert settle_threat(fine, ThreatConfig(), ["--norm", "L2", "--eps", "3"]).eps == 3.0


def test_the_library_hints_at_an_l2_radius_beyond_every_image() -> None:
    model, images = tiny_case(12)
    with pytest.raises(InputError, match=r"at most 10.39 apart in L2. Did you mean 128/255\?"):
        nuat.evaluate(model, images, ("clean",), threat=ThreatConfig(norm="L2", eps=128.0, pgd_alpha=1.0))
    nuat.evaluate(model, images, ("clean",), threat=ThreatConfig(norm="L2", eps=10.0, pgd_alpha=1.0))


def test_arguments_that_are_no_images_or_no_model_say_what_is_expected() -> None:
    model, images = tiny_case(12)
    for pair in ((images.images, images.labels), images.images, None):
        with pytest.raises(
            InputError, match=r"x: expected images with labels; got a|y: a Tensor of images needs its labels"
        ):
            nuat.evaluate(model, pair, threat=THREAT)
    with pytest.raises(InputError, match=r"model: expected a torch\.nn\.Module; got a function"):
        nuat.evaluate(lambda x: torch.zeros(len(x), 4), images, threat=THREAT)


def test_an_examination_says_so_too() -> None:
    model, images = tiny_case(12)
    for given in ((images.images, images.labels), images.images, None):
        with pytest.raises(InputError, match=r"images: expected a set of images with labels; got a .*data\.ImageSet\("):
            examine(model, given, threat=THREAT)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"model: expected a torch\.nn\.Module; got a function"):
        examine(lambda x: torch.zeros(len(x), 4), images, threat=THREAT)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [nuat.evaluate, examine])
def test_images_that_lost_their_greys_are_refused(way: Callable[..., Any]) -> None:
    """Pixels in [0, 1] that were converted to uint8 without scaling."""
    model, images = tiny_case(12)
    lost = ImageSet((images.images > 128).to(torch.uint8), images.labels)
    with pytest.raises(InputError, match=r"^images: the values are 0 and 1 only, .* \(255 \* x\)\.round\(\)\.$"):
        way(model, lost, threat=THREAT)


def test_a_folder_that_is_removed_during_an_evaluation_is_not_made_anew(three_ways: ThreeWays, tmp_path: Path) -> None:
    """The results go to a temporary folder."""
    folder = tmp_path / "results"
    folder.mkdir()

    def removes(model: nn.Module, x: Tensor) -> Tensor:
        shutil.rmtree(folder, ignore_errors=True)
        return model(x)

    error = refused(three_ways, "evaluate", Theirs(removes), out="results/out.json")
    assert "--json results/out.json: could not be written" in error
    assert not folder.exists()
    assert json.loads(Path(error.rpartition("are in ")[2].rstrip(".")).read_text())["n"] == 60
    assert "out.json: could not be written (No such file or directory); see the verdicts above" in refused(
        three_ways, "diagnose", Theirs(removes), out="results/out.json"
    )
    assert not folder.exists()


@pytest.mark.parametrize("name", ["evaluate", "diagnose"])
def test_a_file_that_came_into_being_meanwhile_is_not_replaced(name: str, three_ways: ThreeWays) -> None:
    def writes(model: nn.Module, x: Tensor) -> Tensor:
        Path("new.json").write_text("{}")
        return model(x)

    assert "exists and was not written by this command" in refused(three_ways, name, Theirs(writes), out="new.json")
    assert Path("new.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["evaluate", "diagnose"])
def test_a_folder_of_results_is_made(name: str, plain: Theirs, three_ways: ThreeWays) -> None:
    assert refused(three_ways, name, plain, out="new/folder/out.json") == ""

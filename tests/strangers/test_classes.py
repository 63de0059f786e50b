"""Classes in another order, by name or not, of another number, and labels that nothing predicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diagnostics.masked_models import Bars, bars
from hypothesis import given, settings
from hypothesis import strategies as st
from strangers.three_ways import ThreeWays, library, write_files
from torch import Tensor, nn

from nuat.cli import main
from nuat.commands.subject import class_names
from nuat.config import ModelConfig
from nuat.data import ImageSet
from nuat.errors import InputError
from nuat.models import build
from nuat.models.folding import folded

ORDER = "labels and predictions match nearly one to one, but in another order"


class Reordered(nn.Module):
    """A perfect classifier whose logit ``order[i]`` is class i of the images, among ``logits`` in all."""

    def __init__(self, order: tuple[int, ...], logits: int | None = None, names: list[str] | None = None) -> None:
        super().__init__()
        self.bars = Bars(len(order))
        self.order = order
        self.width = logits or len(order)
        if names is not None:
            self.classes = names

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.bars(x)
        logits = torch.full((len(x), self.width), -5.0) + 0.0 * found[:, :1]
        return logits.index_copy(1, torch.tensor(self.order), found)


def without_the_last() -> ImageSet:
    """Images of the first three of four classes, two of which look like the fourth."""
    images = bars(80, classes=4)
    kept = torch.cat([(images.labels < 3).nonzero().squeeze(1), (images.labels == 3).nonzero().squeeze(1)[:2]])
    return ImageSet(images.images[kept], images.labels[kept].clamp(max=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "--attacks", "clean"),
        ("diagnose", "--quick", "--n", "20"),
        ("analyse", "eps-curve", "--steps", "2"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_class_that_is_known_may_be_absent_from_the_test_images(
    command: tuple[str, ...],
    known: bool,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(Bars(4), without_the_last(), bars(80, classes=4) if known else None)
    name, *options = command
    words = [name, *([options.pop(0)] if name == "analyse" else []), "theirs.py:make", *options]
    assert main([*words, "--data.path", "images.npz", "--eps", "0.05"]) in (0, 1)
    said = " ".join("".join(capsys.readouterr()).split())
    assert ("the model returns 4 logits, but the images have 3 classes" in said) == (not known)


@pytest.mark.parametrize("known", [False, True])
def test_the_library_takes_the_names_of_classes_that_are_absent(known: bool) -> None:
    names = {"classes": ("a", "b", "c", "d")} if known else {}
    said = library(Bars(4), without_the_last(), ("clean",), **names).said
    assert ("the images have 3 classes" in said) == (not known)


def test_a_single_class_is_not_chance() -> None:
    images = bars(200, classes=4)
    alone = ImageSet(images.images[images.labels == 0], images.labels[images.labels == 0])
    assert library(Bars(4), alone, ("clean",)).said == ""


def plain(classes: int) -> Any:
    return library(Bars(classes), bars(80, classes=classes), ("clean", "fgsm", "pgd-5"))


orders = st.sampled_from([2, 4, 8]).flatmap(lambda n: st.permutations(range(n))).map(tuple)


@pytest.mark.slow
@settings(max_examples=12)
@given(orders)
def test_classes_in_another_order_are_found_and_the_map_that_is_named_mends_it(order: tuple[int, ...]) -> None:
    classes, images = len(order), bars(80, classes=len(order))
    found = library(Reordered(order), images)
    if order == tuple(range(classes)):
        assert ORDER not in found.said
        return
    assert ORDER in found.said
    named = found.said.partition("--class-map ")[2].rstrip(".")
    assert named == ",".join(map(str, order))
    mended = library(Reordered(order), images, class_map=order)
    assert mended.said == ""
    assert mended.verdicts == plain(classes).verdicts


@pytest.mark.slow
def test_the_map_also_holds_for_the_folded_copy_that_attacks_search_on() -> None:
    torch.manual_seed(1)
    model = build(ModelConfig(name="resnet18", width=4), channels=1, classes=4, image_size=(8, 8)).eval()
    images = bars(40)
    with torch.no_grad():
        labels = model(images.images / 255).argmax(dim=1)
    order = torch.tensor([2, 0, 3, 1])
    renamed = order.argsort()[labels]  # the class whose logit is the label
    attacks, most = ("clean", "pgd-5", "gama-5"), {"inspected": True}
    plain = library(model, ImageSet(images.images, labels), attacks, **most)
    mapped = library(model, ImageSet(images.images, renamed), attacks, class_map=order.tolist(), **most)
    assert folded(model, images.images / 255, labels) is not model
    assert mapped.verdicts == plain.verdicts


def test_the_inspection_looks_at_every_class() -> None:
    """Images that come sorted by class, as from folders."""
    images = bars(400)
    order = images.labels.argsort(stable=True)
    assert "--class-map 2,0,3,1" in library(Reordered((2, 0, 3, 1)), images.select(order), ("clean",)).said


@pytest.mark.slow
def test_every_way_takes_the_map(three_ways: ThreeWays) -> None:
    order, images = (2, 0, 3, 1), bars(80)
    for outcome in three_ways(Reordered(order), images):
        assert ORDER in outcome.said
        assert outcome.accuracy("clean") == 0.0
    expected = plain(4)
    for outcome in three_ways(Reordered(order), images, options=("--class-map", "2,0,3,1"), class_map=order):
        assert ORDER not in outcome.said
        assert outcome.verdicts["clean"] == expected.verdicts["clean"]
        assert outcome.verdicts["pgd-5"] == expected.verdicts["pgd-5"]


@pytest.mark.slow
def test_more_logits_than_classes_name_the_map(three_ways: ThreeWays) -> None:
    order = (217, 482, 491, 900)
    for outcome in three_ways(Reordered(order, 1000), bars(80)):
        assert outcome.accuracy("clean") == 0.0
        assert "--class-map 217,482,491,900" in outcome.said
    for outcome in three_ways(
        Reordered(order, 1000), bars(80), options=("--class-map", "217,482,491,900"), class_map=order
    ):
        assert outcome.accuracy("clean") == 1.0


def test_predictions_of_classes_that_the_images_do_not_have() -> None:
    class Elsewhere(Bars):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return torch.cat([logits, logits.amax(dim=1, keepdim=True) + 1.0], dim=1)

    said = library(Elsewhere(), bars(80), ("clean",)).said
    assert "returns 5 logits, but the images have 4 classes: 100% of the predictions" in said


@pytest.mark.slow
def test_labels_that_nothing_predicts_are_called_chance(three_ways: ThreeWays) -> None:
    images = ImageSet(bars(80).images, torch.arange(80) // 20)
    for outcome in three_ways(Bars(), images):
        assert "no better than chance" in outcome.said
        assert ORDER not in outcome.said


@pytest.mark.parametrize(
    ("order", "message"),
    [((0, 0, 1, 2), "give each logit once"), ((0, 1, 2, 4), "names logit 4"), ((-1, 0, 1, 2), "counted from 0")],
)
def test_maps_that_cannot_be(order: tuple[int, ...], message: str) -> None:
    assert message in library(Bars(), bars(80), class_map=order).error


NAMES = ["ant", "bee", "cat", "dog"]


def named(three_ways: ThreeWays, model: nn.Module, names: list[str], *options: str) -> Any:
    """Evaluate images whose classes have names."""
    images = bars(80)

    def with_names(path: str, **arrays: Any) -> None:
        real(path, **arrays, classes=np.array(names))

    real = np.savez
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("strangers.three_ways.np.savez", with_names)
        return [three_ways.command(name, model, images, *options) for name in ("evaluate", "diagnose")]


@pytest.mark.slow
def test_classes_are_matched_by_name(three_ways: ThreeWays) -> None:
    order = (2, 0, 3, 1)
    theirs = [NAMES[order.index(logit)] for logit in range(4)]
    for outcome in named(three_ways, Reordered(order, names=theirs), NAMES):
        assert "classes matched by name" in outcome.said
        assert outcome.accuracy("clean") == 1.0
    Path("names.txt").write_text("\ufeff" + "\n".join(theirs) + "\n")
    for given_names in (",".join(theirs), "names.txt"):
        for outcome in named(three_ways, Reordered(order), NAMES, "--class-map", given_names):
            assert outcome.accuracy("clean") == 1.0


@pytest.mark.slow
def test_numbers_for_names_are_matched_in_the_order_of_folders(three_ways: ThreeWays) -> None:
    for outcome in named(three_ways, Reordered((0, 1, 3, 2), names=["0", "1", "2", "3"]), ["0", "1", "3", "2"]):
        assert outcome.accuracy("clean") == 1.0


@pytest.mark.slow
def test_an_unknown_name_is_refused(three_ways: ThreeWays) -> None:
    for outcome in named(three_ways, Reordered((0, 1, 2, 3), names=NAMES), ["ant", "bee", "cat", "doge"]):
        assert "has classes that theirs.py:make does not have: 'doge'" in outcome.error
        assert "--class-map" in outcome.error
    for outcome in named(
        three_ways, Reordered((0, 1, 2, 3), names=NAMES), ["ant", "bee", "cat", "doge"], "--class-map", "0,1,2,3"
    ):
        assert outcome.accuracy("clean") == 1.0


def test_a_map_of_another_length_is_refused(three_ways: ThreeWays) -> None:
    (outcome, _) = named(three_ways, Bars(), NAMES, "--class-map", "0,1,2")
    assert "--class-map names 3 logits" in outcome.error
    assert main(["evaluate", "--help"]) == 0


@pytest.mark.parametrize("given_map", ["0,1,2,x", "no-such-file.txt", "ant,bee,cat,doge"])
def test_a_map_that_is_neither_logits_nor_names_is_refused(given_map: str, three_ways: ThreeWays) -> None:
    """It would be ignored otherwise, and the classes taken as they come."""
    for outcome in named(three_ways, Reordered((2, 0, 3, 1)), NAMES, "--class-map", given_map):
        assert f"--class-map {given_map}: it is neither" in outcome.error


def test_a_file_of_names_that_is_no_text_is_refused(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"--class-map .*names\.txt"):
        class_names((str(names),), "--class-map")

"""nuat.evaluate in a researcher's hands: images in any form, attacks by suite or name, the ball by its radius."""

from typing import Any

import pytest
import torch
from evaluation_models import THREAT, tiny_case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nuat
from nuat.attacks.catalogue import SUITES
from nuat.config import ThreatConfig
from nuat.data import ImageSet, to_float
from nuat.errors import InputError
from nuat.evaluation.arguments import classes_of, line_up, settled_threat
from nuat.evaluation.results import Evaluation
from nuat.models import adapt

MODEL, IMAGES = tiny_case(24)
X, Y = to_float(IMAGES.images), IMAGES.labels


def verdicts(found: Evaluation) -> dict[str, list[bool]]:
    return {result.name: result.correct.tolist() for result in found.results}


def test_every_form_of_the_same_images_has_the_same_verdicts() -> None:
    expected = verdicts(nuat.evaluate(MODEL, IMAGES, ("clean", "pgd-3"), threat=THREAT))
    assert {flag for flags in expected.values() for flag in flags} == {True, False}
    forms: list[tuple[Any, ...]] = [
        (X, Y),
        (IMAGES.images, Y),
        (X.numpy(), Y.numpy()),
        (X.permute(0, 2, 3, 1).numpy().astype("float64"), Y.tolist()),
        (DataLoader(TensorDataset(X, Y), batch_size=7),),
        (TensorDataset(X, Y),),
        (IMAGES,),
    ]
    for form in forms:
        found = nuat.evaluate(MODEL, *form, attacks=["clean", "pgd-3"], threat=THREAT)
        assert verdicts(found) == expected
        assert found.images == IMAGES.fingerprint()


def test_floats_between_the_levels_are_attacked_as_they_are() -> None:
    """A model of a threshold between two levels: rounding the images would turn its verdicts."""

    class Threshold(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = x.mean(dim=(1, 2, 3)) - 100.3 / 255
            return torch.stack([-z, z], dim=1)

    x = torch.full((8, 1, 4, 4), 100.4 / 255)
    found = nuat.evaluate(
        Threshold(), x, torch.ones(8).long(), eps=0.05 / 255, attacks=["clean", "pgd-10"], inspected=True
    )
    assert found.accuracy("clean") == found.accuracy("pgd-10") == 1.0
    found = nuat.evaluate(Threshold(), x, torch.ones(8).long(), eps=0.2 / 255, attacks=["pgd-10"], inspected=True)
    assert found.accuracy("pgd-10") == 0.0


def test_a_name_is_that_set_and_its_classes_are_matched_by_name() -> None:
    model = nuat.load("quickstart")
    found = nuat.evaluate(model, "mnist-sample", eps=0.3, attacks=["clean"], n=100)
    assert found.accuracy("clean") > 0.9

    class Turned(nn.Module):
        classes = tuple(reversed("0123456789"))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model(x).flip(1)  # type: ignore[no-any-return]

    for turned in (Turned(), adapt(Turned(), mean=(0.0,), std=(1.0,))):
        with pytest.warns(UserWarning, match="the classes are matched by name"):
            again = nuat.evaluate(turned, "mnist-sample", eps=0.3, attacks=["clean"], n=100)
        assert verdicts(again) == verdicts(found)
    assert classes_of(nn.Identity()) == ()


def test_the_standard_suite_takes_its_radius() -> None:
    found = nuat.evaluate(MODEL, X[:4], Y[:4], eps=8 / 255, attacks="standard", inspected=True)
    assert [result.name for result in found.results] == ["clean", "autoattack"]
    assert found.eps == 8 / 255
    assert found.accuracy("autoattack") <= found.accuracy("clean")


def test_suites_names_and_lists() -> None:
    for suite, names in SUITES.items():
        assert line_up(suite, ["Linf"]) == (names, ())
    assert line_up(None, ["Linf"])[0] == SUITES["quick"]
    assert line_up("pgd-20", ["Linf"]) == (("pgd-20",), ())
    assert line_up(["pgd-20", "clean"], ["L2"]) == (("pgd-20", "clean"), ())
    assert line_up("quick", ["L1"]) == (SUITES["quick"], ())
    there, left_out = line_up("full", ["L2"])
    assert left_out == ("mi-fgsm-100",)
    assert (*there, *left_out) != SUITES["full"]
    assert set(there) | set(left_out) == set(SUITES["full"])
    assert line_up("standard", ["L2", "L1"])[0] == ("clean", "autoattack", "L1:autoattack")
    assert line_up(["clean", "L1:pgd-5"], ["L2", "L1"])[0] == ("clean", "L1:pgd-5")
    with pytest.raises(InputError, match=r"attacks='standart': no such suite or attack. Did you mean 'standard'\?"):
        line_up("standart", ["Linf"])


def test_what_a_suite_leaves_out_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "quick", ("clean", "pgd-5", "mi-fgsm-10"))
    with pytest.warns(UserWarning, match="not defined for L2, so left out: mi-fgsm-10"):
        found = nuat.evaluate(MODEL, X[:4], Y[:4], norm="L2", eps=0.1, attacks="quick", inspected=True)
    assert "not defined for L2, so left out: mi-fgsm-10." in found.warnings


def test_images_that_a_loader_drops_are_a_warning() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=20, drop_last=True)
    with pytest.warns(UserWarning, match="gives 20 of the 24 images"):
        nuat.evaluate(MODEL, loader, attacks=["clean"], inspected=True)


def test_the_ball_is_that_of_the_command_line() -> None:
    assert settled_threat(None, None, "Linf") == ThreatConfig()
    assert settled_threat(None, 8 / 255, "Linf") == ThreatConfig()
    assert settled_threat(None, 0.5, "L2") == ThreatConfig(norm="L2", eps=0.5, pgd_alpha=0.05)
    assert settled_threat(THREAT, None, "Linf") is THREAT
    for threat, eps, norm, message in (
        (None, None, "L2", r"eps: an L2 evaluation needs its radius, such as eps=0.5"),
        (None, None, "L1", r"eps: an L1 evaluation needs its radius, such as eps=12"),
        (None, 8.0, "Linf", r"^eps=8: .* Did you mean 8/255\?"),
        (None, 8 / 255, "L2", r"^eps=0\.03137: a usual radius in Linf, but in L2 it hardly changes"),
        (THREAT, 0.1, "Linf", r"threat has a norm and a radius; leave eps and norm out"),
        (THREAT, None, "L2", r"threat has a norm and a radius"),
    ):
        with pytest.raises(InputError, match=message):
            settled_threat(threat, eps, norm)  # type: ignore[arg-type]


def test_attacks_after_labels_are_named() -> None:
    with pytest.raises(InputError, match=r"y: expected integer labels"):
        nuat.evaluate(MODEL, X, ["clean"], threat=THREAT)
    with pytest.raises(InputError, match=r"y has no effect: a ImageSet brings its labels"):
        nuat.evaluate(MODEL, IMAGES, Y, ["clean"], threat=THREAT)
    assert nuat.evaluate(MODEL, X, Y, ["clean"], threat=THREAT).n == 24
    assert nuat.evaluate(MODEL, ImageSet(IMAGES.images, Y), "pgd-1", threat=THREAT).n == 24


@pytest.mark.parametrize(
    "name", ["parameters", "named_parameters", "named_modules", "state_dict", "classes", "__hash__"]
)
def test_a_model_whose_weights_cannot_be_read_is_refused(name: str) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise RuntimeError("nothing\nhere")

    model, images = tiny_case(12)
    method = property(fails) if name == "classes" else fails
    model.__class__ = type("Theirs", (type(model),), {name: method})
    with pytest.raises(InputError, match=r"classes of a Theirs fails \(RuntimeError: nothing here\); mend it"):
        nuat.evaluate(model, images, "clean", threat=THREAT)


def test_weights_without_values_are_refused() -> None:
    model, images = tiny_case(12)
    with pytest.raises(InputError, match="its weights are on the device meta, without values; load them first"):
        nuat.evaluate(model.to("meta"), images, "clean", threat=THREAT)

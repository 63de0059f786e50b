"""evaluate() claims nothing that a fresh forward pass of the model denies, whatever the images, the ball, the attack.

Each attack's images are kept as it returns them; an untouched copy of the model and arithmetic of our own then say
what the verdicts must be.
"""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_models import THREAT, evaluate, planted, timeless, tiny_case, verdicts
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import TinyConv, images, shorten_autoattack
from torch import Tensor, nn

from nuat.attacks import catalogue
from nuat.attacks.catalogue import defined
from nuat.attacks.jobs import Job
from nuat.attacks.planned_jobs import jobs
from nuat.config import ThreatConfig
from nuat.core.threat import Norm
from nuat.data import ImageSet, to_float
from nuat.errors import InputError
from nuat.evaluation.results import Evaluation
from nuat.models import WideResNet, adapt
from nuat.models.folding import folded

OURS = (
    *("clean", "fgsm", "rfgsm", "pgd-1", "pgd-3", "margin-pgd-2", "targeted-2", "targeted-random-2"),
    *("multi-targeted-2", "mi-fgsm-2", "gama-3", "gama-fw-3", "gama-mt-3", "noise-5", "nuclear", "nuclear-2"),
    *("adaptive-2", "adaptive-same-class-2", "adaptive-eot-2", "adaptive-nuclear-2", "adaptive-logit-2"),
)
ENDS = ("autoattack-quick", "autoattack", "autoattack-alone")
STANDING = ("autoattack", "autoattack-fast", "autoattack-quick")
Kept = dict[str, list[tuple[Tensor, Tensor]]]
"""(x, x_adv), each [B, C, H, W], of every batch of every attack."""


@contextmanager
def keeping() -> Iterator[Kept]:
    """Keep what the attacks of evaluate() return."""
    kept: Kept = {}

    def watched(job: Job) -> Job:
        def run(x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
            made = job.run(x, y, seed)
            for name, x_adv in made.items():
                kept.setdefault(name, []).append((x.clone(), x_adv.clone()))
            return made

        return dataclasses.replace(job, run=run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nuat.evaluation.evaluate.jobs", lambda *a, **k: [*map(watched, jobs(*a, **k))])
        yield kept


def inside(x: Tensor, x_adv: Tensor, norm: Norm, eps: float) -> Tensor:
    """Return, bool [B], whether each image is in the box and in the ball of its original, measured in float64."""
    delta = (x_adv.double() - x.double()).flatten(1)
    size = delta.abs().amax(dim=1) if norm == "Linf" else delta.square().sum(dim=1).sqrt()
    pixels = x_adv.flatten(1)
    return (size <= eps) & (pixels >= 0).all(dim=1) & (pixels <= 1).all(dim=1)


def confirm(model: nn.Module, data: ImageSet, found: Evaluation, kept: Kept) -> None:
    """The verdicts of ``found`` are those of fresh fp32 passes of ``model`` on the images that the attacks returned."""
    model = copy.deepcopy(model).eval()
    x = to_float(data.images)
    clean = kept["clean"]
    with torch.no_grad():
        standing = correct = torch.cat([model(a).argmax(dim=1) for _, a in clean]) == data.labels
    for result in found.results:
        assert all(a.dtype == torch.float32 for _, a in kept.get(result.name, []))
        takes = {"clean": torch.ones_like(correct), **dict.fromkeys(STANDING, standing)}
        taken = takes.get(result.name, correct).nonzero().squeeze(1)
        expected, at = torch.zeros(len(data), dtype=torch.bool), 0
        for batch, x_adv in kept.get(result.name, []):
            part = taken[at : at + len(batch)]
            at += len(batch)
            assert torch.equal(batch, x[part])
            within = inside(batch, x_adv, found.norm, found.eps)
            assert bool(within.all()), result.name
            with torch.no_grad():
                expected[part] = (model(x_adv).argmax(dim=1) == data.labels[part]) | ~within
        assert at == len(taken), result.name
        assert result.correct.tolist() == expected.tolist(), result.name
        standing = standing & expected


class Wide(nn.Module):
    """Computes in float64."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.double()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.double())
        return logits


def network(channels: int, classes: int, kind: str, seed: int = 0) -> nn.Module:
    """A small network; ``ours`` is searched on a folded copy."""
    if kind == "ours":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = WideResNet(10, 1, channels, classes).eval()
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.normal_(module.running_mean, std=0.2)
            with torch.no_grad():  # no class has all images
                net.fc.weight.mul_(20)
                net.fc.bias.sub_(net(images(40, channels, 8, seed=seed)).mean(dim=0))
            return adapt(net)
    model = TinyConv(channels, classes, dropout=0.0, seed=seed)
    return Wide(model) if kind == "float64" else model


def labelled(model: nn.Module, n: int, channels: int, height: int, width: int, classes: int, seed: int) -> ImageSet:
    """Images that hit the box's borders, mostly labelled as the model sees them."""
    pixels = (255 * images(n, channels, 12, seed=seed)).round().to(torch.uint8)[:, :, :height, :width].contiguous()
    with torch.no_grad():
        y = model.eval()(to_float(pixels)).argmax(dim=1)
    return ImageSet(pixels, torch.where(torch.arange(n) % 5 == 4, (y + 1) % classes, y))


sides = st.integers(4, 12)
sizes = st.floats(-4, 0).map(lambda power: 10.0**power) | st.sampled_from([1e-4, 8 / 255, 1.0])


@st.composite
def cases(draw: st.DrawFn) -> tuple[nn.Module, ImageSet]:
    channels, classes = draw(st.sampled_from([1, 3])), draw(st.sampled_from([2, 3, 4, 10, 1000]))
    seed = draw(st.integers(0, 1000))
    model = network(channels, classes, draw(st.sampled_from(["ours", "theirs", "float64"])), seed)
    return model, labelled(model, draw(st.integers(1, 7)), channels, draw(sides), draw(sides), classes, seed)


@pytest.mark.slow
@settings(max_examples=12)
@given(case=cases(), eps=sizes, batch_size=st.integers(2, 5), seed=st.integers(0, 99))
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_every_verdict_is_that_of_a_fresh_pass(
    norm: Norm, case: tuple[nn.Module, ImageSet], eps: float, batch_size: int, seed: int
) -> None:
    model, data = case
    threat = ThreatConfig(norm=norm, eps=eps, pgd_alpha=eps / 2)
    with keeping() as kept:
        found = evaluate(model, data, defined(OURS, [norm]), threat=threat, batch_size=batch_size, seed=seed)
    confirm(model, data, found, kept)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("classes", [2, 3, 4, 1000])
def test_autoattacks_line_up_with_few_and_many_classes(
    classes: int, norm: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven images of 1 x 7 x 10 in batches of three: every verdict is a fresh pass's, and images do fall."""
    shorten_autoattack(monkeypatch)
    model = network(1, classes, "ours")
    data = labelled(model, 7, 1, 7, 10, classes, 0)
    threat = ThreatConfig(norm=norm, eps=0.3 if norm == "Linf" else 3.0, pgd_alpha=0.01)
    with keeping() as kept:
        found = evaluate(model, data, ("clean", "pgd-1", *defined(ENDS, [norm])), threat=threat, batch_size=3)
    confirm(model, data, found, kept)
    by_name = {result.name: result for result in found.results}
    middle = {2: [], 3: ["apgd-dlr"]}.get(classes, ["apgd-t"])
    assert by_name["autoattack"].settings["line_up"] == ["apgd-ce", *middle, "fab-t", "square"]
    assert found.accuracy("autoattack-alone") < found.accuracy("clean")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_the_fast_line_up_has_an_answer_for_few_classes(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """APGD-T needs four classes; with fewer something else that is defined takes its place, as in the full line-up."""
    shorten_autoattack(monkeypatch)
    wide = ThreatConfig(eps=0.3, pgd_alpha=0.1)
    model = network(1, classes, "ours")
    data = labelled(model, 7, 1, 7, 10, classes, 0)
    with keeping() as kept:
        found = evaluate(model, data, ("clean", "autoattack-fast"), threat=wide, batch_size=3)
    confirm(model, data, found, kept)
    assert found.accuracy("autoattack-fast") < found.accuracy("clean")


class Sensitive(nn.Module):
    """Sees class 0 in the images that it knows, to the last bit, and class 1 in all others."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known = known

    def forward(self, x: Tensor) -> Tensor:
        seen = (x[:, None] == self.known).flatten(2).all(dim=2).any(dim=1).float()
        return torch.stack([seen, 1 - seen], dim=1)


def strays(x: Tensor, norm: Norm, eps: float, seed: int) -> Tensor:
    """Images [B, C, H, W] that are as they were, in the ball, on its edge, and one float32 past it or the box."""
    generator = torch.Generator().manual_seed(seed)
    x_adv, up = x.clone(), torch.full_like(x, 2.0)
    kind = torch.randint(0, 6, (len(x),), generator=generator)
    sign = 2.0 * torch.randint(0, 2, (len(x),), generator=generator) - 1.0
    for image, (k, s) in enumerate(zip(kind.tolist(), sign.tolist(), strict=True)):
        pixel = x_adv[image, 0, 1]  # a row, which one of the moves changes in its second pixel
        edge = (x[image, 0, 1, 1].double() + s * eps).float()
        if k == 1:
            pixel[1] = (x[image, 0, 1, 1] + 0.5 * s * eps).clamp(0, 1)
        elif k == 2:
            pixel[1] = edge
        elif k == 3:
            pixel[1] = torch.nextafter(edge, s * up[0, 0, 0, 0])
        elif k == 4:
            pixel[1] = torch.nextafter(torch.ones(()), up[0, 0, 0, 0]) if s > 0 else torch.tensor(-1e-45)
        elif k == 5:
            x_adv[image] = 1.0 - x[image]
    return x_adv


@pytest.mark.slow
@settings(max_examples=40)
@given(eps=sizes, seed=st.integers(0, 10_000), n=st.integers(1, 9), batch_size=st.integers(1, 5))
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_planted_attack_that_leaves_the_ball_or_the_box_ends_the_evaluation(
    norm: Norm, eps: float, seed: int, n: int, batch_size: int
) -> None:
    pixels = torch.randint(0, 256, (n, 1, 4, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    data = ImageSet(pixels, torch.zeros(n, dtype=torch.int64))
    model = Sensitive(to_float(pixels))
    plant = planted(lambda x, seed: strays(x, norm, eps, seed))
    threat = ThreatConfig(norm=norm, eps=eps, pgd_alpha=eps)
    with pytest.MonkeyPatch.context() as patch, keeping() as kept:
        patch.setattr(catalogue, "CATALOGUE", catalogue.CATALOGUE | plant)
        try:
            found = evaluate(model, data, ("clean", "planted"), threat=threat, batch_size=batch_size)
        except RuntimeError:  # of all of them only the last batch may leave
            found = None
    left = [not bool(inside(x, x_adv, norm, eps).all()) for x, x_adv in kept.get("planted", [])]
    if found is None:
        assert left[-1]
        assert not any(left[:-1])
    else:
        confirm(model, data, found, kept)


def test_the_planted_images_are_of_every_kind() -> None:
    """Otherwise the test above would show nothing."""
    x = to_float(torch.randint(1, 255, (200, 1, 4, 5), dtype=torch.uint8))
    x_adv = strays(x, "Linf", 0.1, 0)
    moved = (x_adv != x).flatten(1).any(dim=1)
    within = inside(x, x_adv, "Linf", 0.1)
    for kind in (~moved, moved & within, moved & ~within):
        assert int(kind.sum()) > 20


def test_a_break_that_only_the_folded_copy_sees_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacks search on a copy; were it wrong altogether, the model would still say what counts."""
    model = adapt(TinyConv(3, 4, dropout=0.0))
    data = labelled(model, 9, 3, 6, 6, 4, 0)
    other = adapt(TinyConv(3, 4, dropout=0.0, seed=5)).eval()
    monkeypatch.setattr("nuat.evaluation.evaluate.folded", lambda *a: other)
    with keeping() as kept:
        found = evaluate(model, data, ("clean", "pgd-3", "gama-3"), threat=THREAT, batch_size=4)
    confirm(model, data, found, kept)


def shaped(*changes: Any) -> dict[str, Any]:
    return dict(zip(("n", "channels", "height", "width", "classes"), changes, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [shaped(5, 1, 4, 9, 2), shaped(7, 3, 5, 4, 2), shaped(7, 1, 6, 6, 1000), shaped(5, 3, 8, 5, 1000)]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_channels_classes_and_label_types(shape: dict[str, int], dtype: torch.dtype) -> None:
    """Batches of three divide neither 5 nor 7; labels of any type give what int64 gives."""
    model = network(shape["channels"], shape["classes"], "ours")
    data = labelled(model, seed=0, **shape)
    if int(data.labels.max()) > torch.iinfo(dtype).max:
        data = ImageSet(data.images, data.labels % 256)
    found = []
    for labels in (data.labels.to(dtype), data.labels):
        with keeping() as kept:
            found.append(
                evaluate(model, ImageSet(data.images, labels), ("clean", "pgd-2"), threat=THREAT, batch_size=3)
            )
        confirm(model, data, found[-1], kept)
    assert verdicts(found[0]) == verdicts(found[1])


def test_the_search_does_run_on_a_folded_copy_here() -> None:
    """Or the cases above would test one path alone."""
    _, data = tiny_case(8)
    ours, theirs = (network(3, 4, kind).eval() for kind in ("ours", "theirs"))
    assert folded(ours, to_float(data.images), data.labels) is not ours
    assert folded(theirs, to_float(data.images), data.labels) is theirs


def test_no_images_are_refused() -> None:
    model, data = tiny_case(4)
    with pytest.raises(InputError, match="no images"):
        evaluate(model, ImageSet(data.images[:0], data.labels[:0]), ("clean", "fgsm"), threat=THREAT)


@pytest.mark.slow
@pytest.mark.parametrize("then", [("clean", "autoattack"), ("clean", "fgsm", "pgd-8", "autoattack"), ("autoattack",)])
def test_what_autoattack_had_finished_after_other_attacks_is_not_taken_for_these_images(
    then: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After other attacks other images stand, so that its batches are of other images."""
    shorten_autoattack(monkeypatch)
    model, data = tiny_case(40)
    state = tmp_path / "partial.json"

    def cut(name: str, done: float, of: int, step: str = "", /) -> None:
        if name == "autoattack":
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"threat": THREAT, "batch_size": 10}
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, data, ("clean", "pgd-3", "autoattack"), state_path=state, progress=cut, **settings)
    assert state.is_file()
    found = evaluate(model, data, then, state_path=state, **settings)
    assert timeless(found) == timeless(evaluate(model, data, then, **settings))

"""The contract of every attack in tests/cases.py."""

from typing import Any

import pytest
import torch
from cases import ATTACKS, CLASSES, RADIUS
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import TinyConv, assert_inside, assert_unchanged, images, labels, shorten_autoattack, snapshot
from torch import Tensor, nn

from nuat.attacks import CR, MIFGSM, Attack, eval_mode
from nuat.errors import InputError

OFFICIAL = {name for name, case in ATTACKS.items() if case.official}
OURS = [name for name in ATTACKS if name not in OFFICIAL]
EVERY = pytest.mark.parametrize("name", ATTACKS)


@pytest.fixture(autouse=True)
def _few_queries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """AutoAttack's budget is thousands of passes; nothing that is asked here depends on it."""
    if request.node.callspec.params.get("name") in OFFICIAL:
        shorten_autoattack(monkeypatch)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixed_model(channels: int = 3, dtype: torch.dtype = torch.float32) -> TinyConv:
    """In training mode but for one batch norm, frozen; and a dropout that would show."""
    model = TinyConv(channels, CLASSES, dropout=0.5).to(dtype).train()
    model.norm1.eval()
    return model


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def batch(model: nn.Module, size: int, channels: int, eps: float, dtype: torch.dtype = torch.float32):
    """Images, and the labels that the model gives them, so that there is something to attack."""
    x = images(size, channels, 4, dtype, eps)
    with torch.no_grad(), eval_mode(model):
        return x, model(x).argmax(1)


def attacked(name: str, model: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int = 0) -> Tensor:
    """Return what an attack makes of images, once it is seen to be inside the ball and the box to the last bit."""
    attack = ATTACKS[name].make(model, eps, seeded(seed))
    x_adv = attack(x, y)
    assert_inside(x_adv, x, attack.eps, attack.norm)
    return x_adv


@pytest.mark.parametrize(("size", "channels", "eps"), [(1, 1, 8 / 255), (4, 3, 8 / 255), (7, 3, 0.3)])
@EVERY
def test_inside_ball_and_box_exactly_and_detached(name: str, size: int, channels: int, eps: float) -> None:
    model = mixed_model(channels)
    x, y = batch(model, size, channels, eps)
    before = x.clone()
    x_adv = attacked(name, model, x, y, eps)
    assert x_adv.device == x.device
    assert not x_adv.requires_grad
    assert x_adv.is_leaf
    assert torch.equal(x, before)
    if ATTACKS[name].finds_all:
        norm = ATTACKS[name].norm
        order = {"Linf": torch.inf, "L2": 2, "L1": 1}[norm]
        radius = torch.linalg.vector_norm((x_adv - x).flatten(1), ord=order, dim=1)
        assert float(radius.max()) > (0.9 * min(eps, 0.25) if norm == "Linf" else 0.2 * RADIUS[norm] * eps)


sides = st.integers(4, 12)
sizes = st.floats(-4, 0).map(lambda power: 10.0**power) | st.sampled_from([1e-4, 8 / 255, 1.0])
every_class = st.sampled_from([2, 3, 4, 10, 1000])


def inside_for(
    name: str, *, eps: float, seed: int, batch: int, channels: int, height: int, width: int, classes: int,
    dtype: torch.dtype = torch.float32,
) -> None:  # fmt: skip
    if name.startswith(("multi-targeted", "gama-mt")):  # a run for each class, for 1000 of them too long
        classes = min(classes, 10)
    model = TinyConv(channels, classes, seed=seed).to(dtype)
    x = images(batch, channels, 12, dtype, eps, seed)[:, :, :height, :width]
    attacked(name, model, x, labels(batch, classes, seed), eps, seed)


@settings(max_examples=10)
@given(
    eps=sizes, seed=st.integers(0, 1000), batch=st.integers(1, 5), channels=st.sampled_from([1, 3]), height=sides,
    width=sides, classes=every_class, dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
@pytest.mark.parametrize("name", OURS)
def test_inside_for_any_eps_shape_and_number_of_classes(name: str, **case: Any) -> None:
    inside_for(name, **case)


@pytest.mark.parametrize("eps", [1e-4, 1.0])
@pytest.mark.parametrize(
    ("channels", "height", "width", "classes"), [(1, 5, 9, 2), (3, 8, 5, 3), (1, 12, 7, 4), (3, 6, 6, 1000)]
)
@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_the_official_ones_are_inside_too(
    name: str, eps: float, channels: int, height: int, width: int, classes: int
) -> None:
    inside_for(name, eps=eps, seed=0, batch=3, channels=channels, height=height, width=width, classes=classes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", OURS)
def test_the_dtype_of_the_images_is_kept(name: str, dtype: torch.dtype) -> None:
    model = mixed_model(dtype=dtype)
    x, y = batch(model, 2, 3, 0.1, dtype)
    attacked(name, model, x, y, 0.1)


@EVERY
def test_no_images(name: str) -> None:
    model = mixed_model()
    before = modes(model)
    x, y = images(0), labels(0, CLASSES)
    attacked(name, model, x, y, 0.1)
    assert modes(model) == before


@EVERY
def test_the_model_is_left_as_it_was(name: str) -> None:
    model = mixed_model()
    x, y = batch(model, 3, 3, 0.1)
    x.requires_grad_()
    model.conv1.weight.requires_grad_(False)
    before, mode = snapshot(model), modes(model)
    seen: list[bool] = []
    handle = model.norm2.register_forward_hook(lambda module, *_: seen.append(module.training))
    ATTACKS[name].make(model, 0.1, seeded())(x, y)
    handle.remove()
    assert seen
    assert not any(seen)  # attacked in evaluation mode
    assert modes(model) == mode
    assert mode["norm2"]
    assert not mode["norm1"]
    assert_unchanged(model, before)
    assert all(p.grad is None for p in model.parameters())
    assert [key for key, p in model.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert x.grad is None
    assert x.requires_grad
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


@EVERY
def test_gradients_that_are_already_there_stay(name: str) -> None:
    model = mixed_model()
    x, y = batch(model, 3, 3, 0.1)
    for p in model.parameters():
        p.grad = torch.full_like(p, 0.5)
    ATTACKS[name].make(model, 0.1, seeded())(x, y)
    assert all(bool((p.grad == 0.5).all()) for p in model.parameters())


class FullError(RuntimeError):
    """A pass that fails."""


@pytest.mark.parametrize("call", [1, 2])
@EVERY
def test_modes_are_restored_when_the_forward_raises(name: str, call: int) -> None:
    model = mixed_model()
    x, y = batch(model, 3, 3, 0.1)
    mode, calls = modes(model), []

    def fail(module: nn.Module, inputs: object) -> None:
        calls.append(1)
        if len(calls) == call:
            raise FullError

    model.linear.register_forward_pre_hook(fail)
    failed = False
    try:
        ATTACKS[name].make(model, 0.1, seeded())(x, y)
    except FullError:
        failed = True
    assert failed or (call == 2 and ATTACKS[name].single_pass)  # one pass is all they need
    assert modes(model) == mode
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@EVERY
def test_the_same_under_no_grad(name: str) -> None:
    model = mixed_model()
    x, y = batch(model, 3, 3, 0.1)
    outside = ATTACKS[name].make(model, 0.3, seeded())(x, y)
    with torch.no_grad():
        inside = ATTACKS[name].make(model, 0.3, seeded())(x, y)
        assert not torch.is_grad_enabled()
    assert torch.equal(inside, outside)
    assert not torch.equal(outside, x)
    assert torch.is_grad_enabled()


@EVERY
def test_the_same_seed_gives_the_same_attack(name: str) -> None:
    model = mixed_model()
    x, y = batch(model, 3, 3, 0.1)
    before = torch.get_rng_state()
    first = ATTACKS[name].make(model, 0.1, seeded(1))(x, y)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator took no part
    torch.rand(7)
    assert torch.equal(ATTACKS[name].make(model, 0.1, seeded(1))(x, y), first)
    if ATTACKS[name].shows_draws:
        assert not torch.equal(ATTACKS[name].make(model, 0.1, seeded(2))(x, y), first)


@pytest.mark.parametrize("name", OURS)
def test_the_attack_raises_the_loss(name: str) -> None:
    model = TinyConv(classes=CLASSES, dropout=0.0).eval()
    x, y = batch(model, 16, 3, 0.3)
    with torch.no_grad():
        clean = nn.functional.cross_entropy(model(x), y)
        attacked = nn.functional.cross_entropy(model(ATTACKS[name].make(model, 0.3, seeded())(x, y)), y)
    assert attacked > clean + 0.1


REFUSED = [
    (torch.rand(2, 4, 4), torch.zeros(2).long(), r"images \[B, C, H, W\]; got \[2, 4, 4\]"),
    (torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8), torch.zeros(2).long(), "torch.uint8"),
    (255 * torch.rand(2, 3, 4, 4), torch.zeros(2).long(), r"pixels in \[0, 1\].*Divide uint8 images by 255"),
    (torch.rand(2, 3, 4, 4) - 0.5, torch.zeros(2).long(), r"pixels in \[0, 1\].*normalisation into the model"),
    (torch.full((2, 3, 4, 4), float("nan")), torch.zeros(2).long(), r"pixels in \[0, 1\]; got values from nan"),
    (torch.rand(2, 3, 4, 4), torch.zeros(3).long(), r"expected 2 integer labels; got \[3\]"),
    (torch.rand(2, 3, 4, 4), torch.zeros(2, 4).long(), r"expected 2 integer labels; got \[2, 4\]"),
    (torch.rand(2, 3, 4, 4), torch.zeros(2), r"expected 2 integer labels; got \[2\] of torch.float32"),
]


@EVERY
def test_images_and_labels_that_cannot_be_are_refused(name: str) -> None:
    model = mixed_model()
    before = modes(model)
    for x, y, message in REFUSED:
        with pytest.raises(InputError, match=message):
            ATTACKS[name].make(model, 0.1, seeded())(x, y)
        assert modes(model) == before, message


@EVERY
def test_labels_of_any_integer_type(name: str) -> None:
    model = mixed_model()
    x, y = batch(model, 3, 3, 0.1)
    expected = ATTACKS[name].make(model, 0.1, seeded())(x, y)
    for dtype in (torch.int32, torch.uint8):  # torch indexes with the one and takes the other for a mask
        assert torch.equal(ATTACKS[name].make(model, 0.1, seeded())(x, y.to(dtype)), expected), dtype


@pytest.mark.parametrize("name", [name for name, case in ATTACKS.items() if case.norm == "Linf"])
def test_an_eps_in_255ths_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"eps=8.*Did you mean 8/255\?"):
        ATTACKS[name].make(mixed_model(), 8, None)


@pytest.mark.parametrize("name", [name for name, case in ATTACKS.items() if case.norm != "Linf"])
def test_an_l2_or_l1_eps_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"eps=-(3|10): expected an L[12] size > 0"):
        ATTACKS[name].make(mixed_model(), -1.0, None)


@pytest.mark.parametrize("kind", [MIFGSM, CR])
def test_a_norm_that_an_attack_does_not_have_is_refused(kind: type[Attack]) -> None:
    with pytest.raises(InputError, match=f"norm='L2': {kind.__name__} is defined for Linf"):
        kind(mixed_model(), eps=0.1, norm="L2")


@EVERY
def test_two_classes(name: str) -> None:
    model = TinyConv(1, 2, dropout=0.0).eval()
    x, y = images(6, 1), labels(6, 2)
    attacked(name, model, x, y, 0.1)

"""CR against its description, slowly, and against the worst case of a linear model."""

import pytest
import torch
from oracles import TinyConv, images, labels
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from nuat.attacks import CR
from nuat.errors import InputError

EPS = 0.06
CLASSES = 4


def slow(model: nn.Module, x: Tensor, y: int, generator: Generator, targets: int, restarts: int) -> tuple[Tensor, bool]:
    """CR on one image [1, C, H, W], step by step; returns the example and whether it fools the model."""

    class DoneError(Exception):
        pass

    found = x

    def clamp(z: Tensor, radius: float) -> Tensor:
        return torch.maximum(torch.minimum(z, x + radius), x - radius).clamp(0.0, 1.0)

    def noise(radius: float) -> Tensor:
        return (2.0 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1.0) * radius

    def logits(z: Tensor) -> Tensor:
        with torch.no_grad():
            return model(z)[0]

    def test(z: Tensor) -> None:
        nonlocal found
        if int(logits(z).argmax()) != y:
            found = z
            raise DoneError

    def sign(z: Tensor, objective) -> Tensor:
        z = z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(model(z)[0]), z)
        return gradient.sign()

    least: dict[int, float] = {}
    try:
        test(x)
        z = clamp(x + noise(EPS), EPS)
        for step in range(10):
            test(z)
            size = EPS / 2 if step < 9 else EPS / 4
            z = clamp(z + size * sign(z, lambda out: F.cross_entropy(out[None], torch.tensor([y]))), EPS)
        test(z)
        likely = [int(c) for c in logits(z).argsort(descending=True) if int(c) != y][:targets]
        for start in range(1 + restarts):
            for t in likely:
                if start > 0 and not least[t] < 0.05:
                    continue
                lowest = float("inf")

                def watch(z: Tensor, t: int = t) -> float:
                    nonlocal lowest
                    test(z)
                    margin = float(logits(z)[y] - logits(z)[t])
                    lowest = min(lowest, margin)
                    return margin

                given_up = False
                z = x + noise(EPS)
                for r in range(5):
                    s = max(0.5 ** (r + 1), 0.05)
                    for part in range(3):
                        radius = (1 + s) * EPS if part == 0 else EPS
                        for _ in range(10):
                            z = clamp(z, radius)
                            watch(clamp(z, EPS))
                            z = clamp(z + s * EPS * sign(z, lambda out, t=t: out[t] - out[y]), radius)
                        if part == 1:
                            if watch(clamp(z, EPS)) > s:
                                given_up = True
                                break
                            z = clamp(z, (1 - s) * EPS) + noise(s * EPS)
                    if given_up:
                        break
                if not given_up:
                    watch(clamp(z, EPS))
                least.setdefault(t, lowest)
    except DoneError:
        return found, True
    return x, False


@pytest.mark.slow
def test_every_image_is_attacked_as_described() -> None:
    """Alone and in float64, so that its draws are those of the slow version."""
    model = TinyConv(classes=CLASSES, dropout=0.0).double().eval()
    x, y = images(12, 3, 6, torch.float64, EPS, 3), None
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    outcomes = []
    for i in range(len(x)):
        ours, theirs = Generator().manual_seed(i), Generator().manual_seed(i)
        x_adv = CR(model, eps=EPS, targets=2, restarts=2, generator=ours)(x[i : i + 1], y[i : i + 1])
        expected, broken = slow(model, x[i : i + 1], int(y[i]), theirs, targets=2, restarts=2)
        torch.testing.assert_close(x_adv, expected, rtol=0.0, atol=1e-12)
        assert torch.equal(ours.get_state(), theirs.get_state())  # the same draws, so the same runs and restarts
        outcomes.append(broken)
    assert 0 < sum(outcomes) < len(outcomes)


@pytest.mark.slow
def test_a_linear_model_is_broken_exactly_where_it_can_be() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES)).double()
    x = 0.3 + 0.4 * torch.rand(60, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        out = net(x)
        y = out.argmax(dim=1)
        weight = net[1].weight
        reach = EPS * (weight[y][:, None] - weight[None]).abs().sum(dim=2)
        slack = (out.gather(1, y[:, None]) - out - reach).scatter(1, y[:, None], float("inf")).amin(dim=1)
    x_adv = CR(net, eps=EPS)(x, y)
    with torch.no_grad():
        broken = net(x_adv).argmax(dim=1) != y
    clear = slack.abs() > 1e-9
    assert torch.equal(broken[clear], (slack < 0)[clear])
    assert 0 < int(broken.sum()) < len(x)
    assert torch.equal(x_adv[~broken], x[~broken])


def test_an_image_that_is_wrong_already_is_left_alone() -> None:
    model = TinyConv(classes=CLASSES, dropout=0.0).eval()
    x, y = images(6, 3, 6, torch.float32, EPS, 1), labels(6, CLASSES, 1)
    with torch.no_grad():
        wrong = model(x).argmax(dim=1) != y
    assert int(wrong.sum()) > 0
    assert torch.equal(CR(model, eps=EPS, restarts=0)(x, y)[wrong], x[wrong])


@pytest.mark.parametrize(("settings", "message"), [({"targets": 0}, "targets=0"), ({"restarts": -1}, "restarts=-1")])
def test_settings_that_cannot_be_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CR(nn.Flatten(), eps=EPS, **settings)

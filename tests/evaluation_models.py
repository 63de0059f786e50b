"""Models for the tests of evaluation: two classes with a known worst case, and models that count or misbehave."""

from collections.abc import Callable
from typing import Any

import torch
from oracles import Linear, TinyConv
from torch import Tensor, nn

from nuat.attacks.jobs import Job, JobRequest, NamedAttack
from nuat.config import ModelConfig, ThreatConfig
from nuat.data import ImageSet, to_float
from nuat.evaluation.evaluate import evaluate as inspect_and_evaluate
from nuat.evaluation.results import Evaluation
from nuat.models import build

EPS = 0.1
WIDE = ThreatConfig(eps=EPS, pgd_alpha=EPS / 4)
"""For the linear model."""
THREAT = ThreatConfig(eps=0.03, pgd_alpha=0.0075)
"""For the small network: attacks of different strength break different images."""


def random_images(n: int, *, classes: int = 2, channels: int = 1, size: int = 4, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(n) % classes)


def linear_case(n: int = 40, channels: int = 1, size: int = 4) -> tuple[Linear, ImageSet, Tensor]:
    """Two classes under EPS: the model, images, and which of them no attack can break, in closed form, bool [n].

    Some images are misclassified, some can be broken, some cannot.
    """
    model = Linear(2, channels, size, seed=2)
    direction = (model.weight[1] - model.weight[0]).detach().sign()
    grey = torch.full((), 0.5).expand_as(direction)
    generator = torch.Generator().manual_seed(0)
    along = torch.rand(n, 1, 1, 1, generator=generator) * 0.6 - 0.3  # across the boundary, up to three times EPS away
    noise = torch.rand(n, *direction.shape, generator=generator) * 0.4 - 0.2
    pixels = (255 * (grey + along * direction + noise)).round().to(torch.uint8)
    x = to_float(pixels)
    with torch.no_grad():
        model.bias.copy_(torch.stack([model(grey[None])[0].diff().squeeze(), torch.zeros(())]))
        predicted = model(x).argmax(dim=1)
    labels = torch.where(torch.arange(n) % 8 == 0, 1 - predicted, predicted)
    images = ImageSet(pixels, labels)
    margins = model.worst_margins(x, labels, EPS)
    assert margins.abs().min() > 1e-4  # no verdict hangs on a rounding
    withstands = margins > 0
    assert 0.3 * n < predicted.sum() < 0.7 * n
    assert 0.1 * n < withstands.sum() < (predicted == labels).sum() < n
    return model, images, withstands


def tiny_case(n: int = 60, channels: int = 3, seed: int = 0) -> tuple[TinyConv, ImageSet]:
    """A small network and images of four classes, which it mostly predicts as labelled."""
    model = TinyConv(channels, 4, seed=seed)
    images = random_images(n, classes=4, channels=channels, size=6)
    with torch.no_grad():
        many = to_float(random_images(200, channels=channels, size=6, seed=9).images)
        model.linear.bias -= model.eval()(many).mean(dim=0)
        predicted = model(to_float(images.images)).argmax(dim=1)
    assert n < 20 or torch.bincount(predicted, minlength=4).min() > n / 10  # no class has them all
    return model, ImageSet(images.images, torch.where(torch.arange(n) % 10 == 0, images.labels, predicted))


NETWORKS = {"resnet18": 4, "resnet50": 2, "wrn-10-1": None, "wrn-16-1": None}
"""Networks that can be folded, by name, to a small width."""


def randomise_batch_norm(model: nn.Module) -> None:
    """Statistics and affine values that a wrong order or a missing layer would show up in."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def trained_like(
    name: str, *, channels: int = 3, stem: Any = None, size: int = 12, normalised: bool = False, **settings: Any
) -> nn.Module:
    """A network of ours whose batch norms do something, in evaluation mode."""
    torch.manual_seed(0)
    statistics = {"mean": (0.4,) * channels, "std": (0.3,) * channels} if normalised else {}
    config = ModelConfig(name=name, width=NETWORKS.get(name), stem=stem, **statistics, **settings)
    model = build(config, channels=channels, classes=5, image_size=(size, size))
    randomise_batch_norm(model)
    return model.eval()


class Answering(nn.Module):
    """A model that answers by a function of the images."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


class Watched(nn.Module):
    """Passes images on to a model; keeps what passed; before a forward pass calls ``at`` with its number, from 1."""

    def __init__(self, model: nn.Module, at: Callable[[int], Any] | None = None) -> None:
        super().__init__()
        self.model = model
        self.at = at
        self.calls = 0
        self.images = 0
        self.dtypes: set[torch.dtype] = set()
        self.training_modes: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.images += len(x)
        if self.at is not None:
            self.at(self.calls)
        logits: Tensor = self.model(x)
        self.dtypes |= {x.dtype, logits.dtype}
        self.training_modes |= {module.training for module in self.modules()}
        return logits


def evaluate(*arguments: Any, **settings: Any) -> Evaluation:
    """Evaluate a model that the test vouches for: it is not inspected, so that its passes can be counted."""
    return inspect_and_evaluate(*arguments, inspected=True, **settings)


def planted(result: Callable[[Tensor, int], Tensor]) -> dict[str, NamedAttack]:
    """Return a row of the catalogue: an attack called "planted" that returns ``result(x, seed)``."""

    def job(request: JobRequest) -> Job:
        return Job((request.name,), {}, lambda x, y, seed: {request.name: result(x, seed)})

    return {"planted": NamedAttack(name="planted", label="Planted", kind=None, job=job, passes=1)}


def correct(model: nn.Module, images: ImageSet) -> int:
    """The images that are classified correctly as they are: only these are attacked."""
    with torch.no_grad():
        return int((model(to_float(images.images)).argmax(dim=1) == images.labels).sum())


def verdicts(evaluation: Evaluation) -> dict[str, list[bool]]:
    return {result.name: result.correct.tolist() for result in evaluation.results}


def timeless(evaluation: Evaluation) -> dict[str, Any]:
    """Everything an evaluation says but the clock."""
    values = evaluation.to_json()
    for row in values["results"]:
        row["seconds"] = row["seconds"] is None
    return values

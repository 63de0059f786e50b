"""A step of NuAT as the published code takes it, and ours from the same weights with the same noise.

Plain: eager, contiguous images, fp32, two clean passes, an attack whose backward pass goes through the weights too, and
torch's own nuclear norm. Ours is the step of ``nuat train``: its update, with the defaults of the library.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nuat import hardware, models
from nuat.config import ModelConfig, OptimizerConfig, ThreatConfig, TrainConfig
from nuat.core.schedules import Constant, Ramp
from nuat.data import Batch
from nuat.defenses import NuAT
from nuat.distributed.world import ALONE
from nuat.training import compiling
from nuat.training.graph import recorded_updates
from nuat.training.state import TrainingState
from nuat.training.update import Updater

RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
LAM = Ramp(peak=4.0)
EPOCH, EPOCHS = 1, 2  # lambda is 2


@dataclass(frozen=True)
class Case:
    """Inputs of a step."""

    model: str = "resnet18"
    batch: int = 64
    width: int | None = None
    classes: int = 10
    size: int = 32
    channels: int = 3
    eps: float = 8 / 255

    def images(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return random images [B, C, H, W] and labels [B]."""
        draw = torch.Generator().manual_seed(1)
        x = torch.rand((self.batch, self.channels, self.size, self.size), generator=draw)
        return x.to(device), torch.randint(self.classes, (self.batch,), generator=draw).to(device)

    def network(self, device: torch.device) -> nn.Module:
        """Return the network in training mode, always of the same weights."""
        torch.manual_seed(0)
        config = ModelConfig(name=self.model, width=self.width)
        size = (self.size, self.size)
        return models.build(config, channels=self.channels, classes=self.classes, image_size=size).to(device).train()


CASES = {"resnet18": Case(), "mnist-cnn": Case(model="mnist-cnn", size=28, channels=1, eps=0.3)}


@contextlib.contextmanager
def tf32_set(enabled: bool) -> Iterator[None]:
    """Let a GPU multiply float32 in TF32, or not, in products and convolutions alike; torch's defaults are mixed."""
    backends: Any = torch.backends
    before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = before


class Plain:
    """The step as published."""

    def __init__(self, case: Case, device: torch.device, *, channels_last: bool = False, tf32: bool = False) -> None:
        self.case, self.tf32 = case, tf32
        self.model = case.network(device)
        self.x, self.y = case.images(device)
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        self.generator = torch.Generator(device).manual_seed(0)
        self.batch = 0

    def __call__(self) -> Tensor:
        """Do a step and return its loss."""
        with tf32_set(self.tf32):
            return self._step()

    def _step(self) -> Tensor:
        model, x, y, eps = self.model, self.x, self.y, self.case.eps
        lam, m = LAM(EPOCH, EPOCHS), len(x)
        out = model(x)
        coin = torch.randint(0, 2, x.shape, generator=self.generator, device=x.device, dtype=torch.int8)
        adv = (x + (eps * coin - eps / 2)).clamp(0.0, 1.0).detach().requires_grad_()
        model.eval()
        logits = model(adv)
        loss = F.cross_entropy(logits, y)
        if self.batch % 2 == 1:
            loss = loss + lam * torch.linalg.matrix_norm(logits - out.detach(), "nuc") / m
        self.optimizer.zero_grad()
        loss.backward()
        assert adv.grad is not None
        adv = adv.detach() + eps * adv.grad.sign()
        adv = torch.min(torch.max(adv, x - eps), x + eps).clamp(0.0, 1.0)
        model.train()
        self.optimizer.zero_grad()
        adv_out, out = model(adv), model(x)
        loss = F.cross_entropy(out, y) + lam * torch.linalg.matrix_norm(adv_out - out, "nuc") / m
        loss.backward()
        self.optimizer.step()
        self.batch += 1
        return loss.detach()


class Ours:
    """The step of ``nuat train``."""

    def __init__(
        self,
        case: Case,
        device: torch.device,
        *,
        precision: Any = "fp32",
        passes: Any = "one",
        compiled: bool = False,
        tf32: bool = False,
        graph: bool = False,
    ) -> None:
        self.tf32, self.device = tf32, device
        config = TrainConfig(
            defense=NuAT(lam=LAM, passes=passes),
            model=ModelConfig(name=case.model, width=case.width),
            threat=ThreatConfig(eps=case.eps),
            optimizer=OptimizerConfig(lr=Constant(peak=RATE), momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
            epochs=EPOCHS,
            batch_size=case.batch,
            precision=precision,
            graph="on" if graph else "off",
        )
        self.model = case.network(device).to(memory_format=torch.channels_last)
        if compiled:
            compiling.compile_network(self.model, device)
        self.state = TrainingState.start(config, self.model, device)
        self.state.epoch = EPOCH
        updater = Updater(config, self.state, ALONE, steps=1000, batches=500)
        self.updater = recorded_updates(config, self.state, updater, ALONE, tell=print) or updater
        x, y = case.images(device)
        self.batch = Batch(
            x=x.contiguous(memory_format=torch.channels_last), y=y, index=torch.arange(len(y), device=device)
        )

    def __call__(self) -> Tensor:
        """Do a step and return its loss."""
        with tf32_set(self.tf32), hardware.autotuned(self.device):
            (terms,) = self.updater.update([self.batch])
        self.state.batch += 1
        self.state.step += 1
        return terms.loss.detach()

"""The ball of each batch, where a model is to withstand several: drawn at random, or the worst for the batch."""

import torch
from torch import nn

from nuat.attacks import eval_mode
from nuat.attacks.base import input_gradient
from nuat.config import TrainConfig
from nuat.core.losses import cross_entropy_sum
from nuat.core.random import seed_from
from nuat.core.threat import L1, L2, Linf
from nuat.data import Batch
from nuat.distributed.world import World

_REMEMBERED = 64
"""Batches whose ball is kept: an update asks for it several times."""


class BallChoice:
    """The balls of a run, and which of them a batch is attacked in; all processes choose alike."""

    def __init__(self, config: TrainConfig, model: nn.Module, world: World) -> None:
        self._balls = config.threat.balls
        self._seed, self._worst = config.seed, config.worst_ball
        self._model, self._world = model, world
        self._found: dict[tuple[int, int], int] = {}

    def of(self, batch: Batch, where: tuple[int, int]) -> Linf | L2 | L1:
        """Return the ball of a batch, at full size, for its epoch and its place in the epoch."""
        if len(self._balls) == 1:
            return self._balls[0]
        if not self._worst:
            return self._balls[seed_from("ball", self._seed, *where) % len(self._balls)]
        if where not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[where] = self._worst_for(batch)
        return self._balls[self._found[where]]

    def _worst_for(self, batch: Batch) -> int:
        """Return the ball whose step of FGSM gives the highest loss on all images of the batch together."""
        model, x, y = self._model, batch.x, self._world.rows(batch.y)
        with eval_mode(model):
            gradient = input_gradient(lambda z: cross_entropy_sum(model(z), y), x)
            with torch.no_grad():
                moved = (ball.bounds(x).project(x + ball.ascent(gradient, ball.eps, x)) for ball in self._balls)
                losses = torch.stack([cross_entropy_sum(model(x_adv), y) for x_adv in moved])
        return int(self._world.sum([losses])[0].argmax())

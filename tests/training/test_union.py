"""Training in other norms and in unions: runs, their resumption, the choice of the ball, and refusals."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.small_runs import (
    BATCHES,
    assert_same_run,
    interrupt,
    metrics,
    remembered,
    small_config,
    train,
    write_images,
)

from nuat.attacks import PGD
from nuat.config import ThreatConfig, TrainConfig
from nuat.core.losses import cross_entropy
from nuat.core.threat import Norm
from nuat.data import Batch
from nuat.defenses import FGSMAT, BatchLoss, Defense, NuAT, Standard, State, Step
from nuat.defenses.nuat import start
from nuat.distributed.world import ALONE
from nuat.errors import InputError
from nuat.records.checkpoints import read_info
from nuat.training import validation
from nuat.training.signals import Interrupted
from nuat.training.union import BallChoice

UNION = ThreatConfig(eps=0.1, pgd_alpha=0.025, also="L2:0.5,L1:2")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.slow
@pytest.mark.parametrize("worst", [False, True])
def test_a_union_is_trained_for_and_resumed_bit_for_bit(
    worst: bool, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    of = BallChoice.of

    def watched(self: BallChoice, *arguments: Any) -> Any:
        ball = of(self, *arguments)
        chosen.append(ball.norm)
        return ball

    monkeypatch.setattr(BallChoice, "of", watched)
    config = small_config(images, defense=NuAT(), threat=UNION, worst_ball=worst)
    train(config, tmp_path / "whole")
    assert set(chosen) <= {"Linf", "L2", "L1"}
    assert worst or len(set(chosen)) == 3
    assert read_info(tmp_path / "whole" / "best.safetensors").threat == UNION
    assert metrics(tmp_path / "whole", "epoch")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {BATCHES + 2: interrupt})
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@dataclass(frozen=True, kw_only=True)
class Seeing(Defense):
    """Writes down the length of NuAT's start in the norm of the ball, and the ball's radius."""

    def init_state(self, model: nn.Module) -> State:
        return {norm: torch.zeros(0, 2) for norm in ("Linf", "L2", "L1")}

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        noise = start(torch.full_like(x[:1], 0.5), step, alpha=0.025) - 0.5
        length = torch.linalg.vector_norm(noise, {"Linf": float("inf"), "L2": 2, "L1": 1}[step.threat.norm])
        state[step.threat.norm] = torch.cat([state[step.threat.norm], torch.tensor([[length, step.threat.eps]])])
        return BatchLoss(cross_entropy(model(x), y))


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_a_start_is_the_same_share_of_every_ball(warmup: float, images: Path, tmp_path: Path) -> None:
    """alpha is a size in the first ball: 0.025 of Linf 0.1 is 0.125 of L2 0.5 and 0.5 of L1 2."""
    train(small_config(images, defense=Seeing(), threat=UNION, eps_warmup=warmup, epochs=4), tmp_path / "run")
    seen = remembered(tmp_path / "run")["defense"]
    for ball in UNION.balls:
        lengths, radii = seen[ball.norm].T
        assert len(radii) > 0
        torch.testing.assert_close(lengths, radii / 4)
        assert float(radii[-1]) == pytest.approx(ball.eps)


@pytest.mark.parametrize(("norm", "eps"), [("L2", 0.5), ("L1", 2.0)])
def test_a_run_in_another_norm_validates_in_it(norm: Norm, eps: float, images: Path, tmp_path: Path) -> None:
    seen: set[tuple[str, float]] = set()

    class Seeing(PGD):
        def perturb(self, x: Tensor, y: Tensor) -> Tensor:
            seen.add((self.norm, self.eps))
            return super().perturb(x, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "PGD", Seeing)
        config = small_config(images, defense=FGSMAT(), threat=ThreatConfig(norm=norm, eps=eps), epochs=1)
        train(config, tmp_path / "run")
    assert seen == {(norm, eps)}
    assert config.threat.pgd_alpha == eps / 10
    assert read_info(tmp_path / "run" / "best.safetensors").threat == config.threat


def test_the_worst_ball_has_the_highest_loss_after_one_step() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    batch = Batch(x=torch.rand(6, 1, 4, 4), y=torch.arange(6) % 3, index=torch.arange(6))
    for also, worst in (("L2:0.1,L1:1", "Linf"), ("L2:4,L1:1", "L2"), ("L2:0.1,L1:16", "L1")):
        threat = ThreatConfig(eps=0.3, also=also) if worst == "Linf" else ThreatConfig(eps=0.01, also=also)
        config = replace(TrainConfig(defense=FGSMAT()), threat=threat, worst_ball=True)
        assert BallChoice(config, model, ALONE).of(batch, (0, 0)).norm == worst


def test_settings_of_other_norms_and_unions_that_cannot_be_are_refused() -> None:
    linf, l2 = ThreatConfig(), ThreatConfig(norm="L2", eps=0.5)
    for settings, said in (
        ({"threat": ThreatConfig(norm="L2", eps=8 / 255)}, r"threat\.eps=0\.03137: a usual radius in Linf"),
        ({"threat": replace(linf, also="L1:0.3")}, r"threat\.also=0\.3: a usual radius in Linf"),
        ({"threat": l2, "worst_ball": True}, "worst_ball has no effect on a single ball"),
        ({"threat": UNION, "worst_ball": True, "defense": Standard()}, "worst_ball has no effect on a defense that"),
        ({"threat": UNION, "defense": NuAT(alpha=8.0)}, r"defense\.alpha"),
    ):
        with pytest.raises(InputError, match=said):
            TrainConfig(**{"defense": FGSMAT(), **settings})

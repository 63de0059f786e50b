"""Training in other norms and in unions: runs, their resumption, the choice of the ball, and refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training.small_runs import BATCHES, assert_same_run, interrupt, metrics, small_config, train, write_images

from nuat.attacks import PGD
from nuat.config import ThreatConfig, TrainConfig
from nuat.core.threat import Norm
from nuat.data import Batch
from nuat.defenses import FGSMAT, NuAT, Standard
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
    for also, worst in (("L2:0.1,L1:0.5", "Linf"), ("L2:4,L1:0.5", "L2"), ("L2:0.1,L1:16", "L1")):
        threat = ThreatConfig(eps=0.1, also=also) if worst == "Linf" else ThreatConfig(eps=0.01, also=also)
        config = replace(TrainConfig(defense=FGSMAT()), threat=threat, worst_ball=True)
        assert BallChoice(config, model, ALONE).of(batch, (0, 0)).norm == worst


def test_settings_of_other_norms_and_unions_that_cannot_be_are_refused() -> None:
    linf, l2 = ThreatConfig(), ThreatConfig(norm="L2", eps=0.5)
    for settings, said in (
        ({"threat": ThreatConfig(norm="L2", eps=8 / 255)}, r"threat\.eps=0\.03137: a usual radius in Linf"),
        ({"threat": replace(linf, also="L1:0.3")}, r"threat\.also=0\.3: a usual radius in Linf"),
        ({"threat": l2, "worst_ball": True}, "worst_ball has no effect on a single ball"),
        ({"threat": UNION, "worst_ball": True, "defense": Standard()}, "worst_ball has no effect on a defense that"),
        ({"threat": UNION, "defense": NuAT(alpha=0.1)}, r"defense\.alpha=0\.1: is of one norm"),
    ):
        with pytest.raises(InputError, match=said):
            TrainConfig(**{"defense": FGSMAT(), **settings})

"""A defense of your own against NuAT: two recipes and two seeds under the same attacks, and their table.

    python examples/own_defense.py

No file of nuat is edited. The campaign names the recipes of this file; `nuat train examples/own_defense.py:paired`
trains one of them alone.
"""

import contextlib
import io
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from nuat.attacks import RFGSM
from nuat.attacks.base import Forward
from nuat.cli import main as nuat
from nuat.config import TrainConfig
from nuat.core.losses import cross_entropy, squared_distance
from nuat.core.schedules import Ramp
from nuat.defenses import AdversarialTraining, BatchLoss, NuAT, Step
from nuat.recipes import find


@dataclass(frozen=True, kw_only=True)
class LogitPairing(AdversarialTraining):
    """CE on the R-FGSM example + weight * ||f(x_adv) - f(x)||_2^2, means over the batch."""

    weight: float = 0.05
    """Weight of the distance between the logits."""

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        ball = step.threat
        return RFGSM(model, eps=ball.eps, norm=ball.norm, generator=step.generator).perturb(x, y)

    def objective(self, forward: Forward, x: Tensor, x_adv: Tensor, y: Tensor) -> BatchLoss:
        logits, logits_adv = forward(x), forward(x_adv)
        distance = squared_distance(logits_adv, logits)
        return BatchLoss(
            cross_entropy(logits_adv, y) + self.weight * distance,
            {"clean_loss": cross_entropy(logits, y).detach(), "distance": distance.detach()},
        )


def paired() -> TrainConfig:
    """Return the settings of the quickstart with this defense, on few images."""
    config = find("quickstart")()
    return replace(
        config,
        defense=LogitPairing(),
        threat=replace(config.threat, eps=0.1),
        epochs=3,
        data=replace(config.data, train_limit=2000, validation=100),
        evaluation=replace(config.evaluation, attacks=("clean",)),
    )


def baseline() -> TrainConfig:
    """Return the same settings with NuAT."""
    return replace(paired(), defense=NuAT(lam=Ramp(peak=1.0), alpha=0.1))


CAMPAIGN = f"""
seeds = [0, 1]

[[suite]]
name = "main"
attacks = ["clean", "pgd-20"]
n = 200

[[row]]
recipe = '{Path(__file__).resolve()}:paired'
label = "logit pairing"

[[row]]
recipe = '{Path(__file__).resolve()}:baseline'
label = "NuAT"
"""


def run(command: str, folder: Path) -> str:
    """Run a command of nuat in this process, and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = nuat([word.replace("FOLDER", str(folder)) for word in command.split()])
    assert code == 0, printed.getvalue()
    return printed.getvalue()


def main() -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "two.toml").write_text(CAMPAIGN)
        run("campaign FOLDER/two.toml --out FOLDER/two", folder)
        rows = [json.loads(row.read_text()) for row in (folder / "two").glob("*/seed-*/row.json")]
        assert [row["status"] for row in rows] == ["done"] * 4
        assert all(row["suites"]["main"]["accuracies"]["pgd-20"] > 0.4 for row in rows)
        config = json.loads(next((folder / "two").glob("*-paired/seed-0/config.json")).read_text())
        assert config["config"]["defense"]["class"].startswith("own_defense.py:LogitPairing@")
        kept = folder.glob("two/*-paired/seed-0/code/*/own_defense.py")
        assert next(kept).read_text() == Path(__file__).read_text()
        run("campaign FOLDER/two.toml --out FOLDER/two", folder)  # nothing is left to do
        run("report FOLDER/two --out FOLDER/two.html", folder)
        assert "logit pairing" in (folder / "two.html").read_text()
        table = (folder / "two" / "table.md").read_text()
    assert "logit pairing" in table
    assert "NuAT" in table
    return table


if __name__ == "__main__":
    print(main())

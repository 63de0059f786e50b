"""The way from the command line to the nuclear norm, counted while a tiny run takes it."""

import sys
import traceback
from pathlib import Path

import pytest
from cli.cli_runs import draw_nothing
from torch import Tensor
from training.small_runs import write_images

import nuat
from nuat.cli import main
from nuat.core import nuclear

SOURCE = str(Path(nuat.__file__).parent)


@pytest.mark.slow
def test_the_way_to_the_nuclear_norm_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From ``nuat train`` to Eq. 2 (the loss) and to Eq. 1 (the attack), every function of nuat counted."""
    ways: set[tuple[tuple[str, str], ...]] = set()
    decompose = nuclear._by_eigh

    def watched(a: Tensor) -> tuple[Tensor, Tensor]:
        stack = [(f.f_code.co_filename, f.f_code.co_qualname) for f, _ in traceback.walk_stack(sys._getframe(1))]
        ways.add(
            ((nuclear.__file__, decompose.__name__), *((file, name) for file, name in stack if file.startswith(SOURCE)))
        )
        return decompose(a)

    monkeypatch.setattr(nuclear, "_by_eigh", watched)
    draw_nothing(monkeypatch)
    settings = {"epochs": 2, "data.path": write_images(tmp_path), "data.validation": 0, "evaluation.attacks": "clean"}
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert main(["train", "quickstart", *options, "--model.width", "2", "--out", str(tmp_path / "run")]) == 0
    loss, attack = sorted(ways, key=len)
    assert len(loss) <= 12, loss
    assert len({file for file, _ in loss}) <= 6, loss
    assert len(attack) <= 15, attack
    assert len({file for file, _ in attack}) <= 8, attack
    assert all(way[-1] == (f"{SOURCE}/cli.py", "main") for way in ways)

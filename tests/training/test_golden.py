"""Two tiny runs whose losses, step by step, are committed: no change of the numbers goes unnoticed.

Where a change is meant, write them anew and say why in the commit:

    OMP_NUM_THREADS=1 python tests/training/test_golden.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from training.small_runs import BATCH_NORM, BATCHES, SMALL_CNN, Watcher, averaged, metrics, small_config, write_digits

import nuat

GOLDEN = Path(__file__).parent.parent / "golden" / "nuat_tiny.json"
# no longer than this: a step along a gradient's sign makes rounding grow, and batch norm makes it grow faster. Other
# instruction sets (ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default) change these losses by less than 1e-5.
RUNS: dict[str, dict[str, Any]] = {
    "batch-norm": {"model": BATCH_NORM, "epochs": 2},
    "small-cnn": {"model": SMALL_CNN, "epochs": 4},
}


def losses(name: str, folder: Path) -> dict[str, list[float]]:
    """Return the terms of the loss of every step, and the losses of the live and the averaged weights after epochs."""
    config = small_config(write_digits(folder), averaging=averaged(), **RUNS[name])
    watcher = Watcher()
    nuat.run(config, out=folder / "run", reporter=watcher)
    found = {term: [step[term] for step in watcher.metrics] for term in ("clean_loss", "nuclear", "lam")}
    for weights in ("live", "averaged"):
        epochs = metrics(folder / "run", "epoch")
        found[f"validation_{weights}"] = [epoch["validation"][weights]["clean_loss"] for epoch in epochs]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_losses_are_the_committed_ones(name: str, tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())[name]
    found = losses(name, tmp_path)
    assert found.keys() == golden.keys()
    for term, values in golden.items():
        # processors round differently; a change of the mathematics is larger by orders of magnitude
        assert found[term] == pytest.approx(values, rel=1e-4, abs=1e-7), term


@pytest.mark.parametrize("name", RUNS)
def test_the_committed_run_has_both_attacks_and_a_ramp(name: str) -> None:
    golden, epochs = json.loads(GOLDEN.read_text())[name], RUNS[name]["epochs"]
    assert len(golden["clean_loss"]) == len(golden["nuclear"]) == BATCHES * epochs
    assert golden["lam"] == pytest.approx([6.0 * epoch / epochs for epoch in range(epochs) for _ in range(BATCHES)])
    assert all(value > 0 for value in golden["nuclear"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    made: dict[str, Any] = {"made_with": f"torch {torch.__version__}"}
    for run in RUNS:
        with tempfile.TemporaryDirectory() as temporary:
            made[run] = losses(run, Path(temporary))
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(made, indent=1) + "\n")
    print(f"written to {GOLDEN}")

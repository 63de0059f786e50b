"""A program of torch.export: the same function in plain PyTorch, or no file."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from export.export_runs import NETWORKS, left, make_run

import nuat
from nuat.errors import InputError
from nuat.export import find_model, to_torch, torch_file
from nuat.records.checkpoints import read_info


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet18", "mnist-cnn"])
def test_the_program_gives_the_logits_of_the_model(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, channels = NETWORKS[network]
    run = make_run(tmp_path / "run", model, channels=channels)
    said = to_torch(find_model(run), tmp_path / "out" / "model.pt2")
    extra = {"nuat.json": ""}
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "nuat"]:
            patch.setitem(sys.modules, name, None)  # it runs where nuat is not installed
        program = torch.export.load(tmp_path / "out" / "model.pt2", extra_files=extra).module()
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert {operator.namespace for operator in called if isinstance(operator, torch._ops.OpOverload)} == {"aten"}
    for size in (1, 3, 20):
        x = torch.rand(size, channels, 8, 8)
        with torch.no_grad():
            ours = nuat.load(run)(x)
            assert torch.allclose(program(x), ours, rtol=0, atol=1e-5 * float(ours.abs().max()))
    assert json.loads(extra["nuat.json"]) == json.loads(json.dumps(asdict(read_info(run / "best.safetensors"))))
    assert left(tmp_path / "out") == {"model.pt2"}
    assert "35 test images" in said
    content = (tmp_path / "out" / "model.pt2").read_bytes()
    assert str(Path(nuat.__file__).parent).encode() not in content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda logits: logits + 0.01 * logits.abs().max(), "differs by"),
        (lambda logits: logits.roll(1, dims=1), "predicts other classes in batches of 1"),
        (lambda logits: logits * torch.nan, "predicts other classes|differs by nan"),
    ],
)
def test_a_program_that_fails_a_check_is_not_kept(
    change: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = make_run(tmp_path / "run"), torch_file.logits
    before = left(tmp_path)
    monkeypatch.setattr(torch_file, "logits", lambda model, x: change(real(model, x)))
    with pytest.raises(InputError, match=f"was not kept: .*({reason})"):
        to_torch(find_model(run), tmp_path / "new" / "model.pt2")
    assert left(tmp_path) == before


def test_another_suffix_and_a_file_that_exists_are_refused(tmp_path: Path) -> None:
    run = find_model(make_run(tmp_path / "run"))
    with pytest.raises(InputError, match=r"end the name in \.pt2"):
        to_torch(run, tmp_path / "model.pt")
    (tmp_path / "model.pt2").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        to_torch(run, tmp_path / "model.pt2")

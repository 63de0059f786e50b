"""The code of the page and of the model card that uses a model without nuat runs, and predicts what nuat predicts."""

import ast
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.export_runs import make_run
from PIL import Image

import nuat
from nuat.config import ModelConfig
from nuat.export import find_model, to_onnx, to_torch
from nuat.records.search import find_runs
from nuat.report.page.card import model_card

ROOT = Path(__file__).parents[2]
NETWORK = ModelConfig(name="small-cnn", width=2)


def blocks(text: str) -> str:
    """Return the Python blocks of a text, one after the other."""
    return "\n".join(re.findall(r"^`{3,}python\n(.*?)^`{3,}", text, re.MULTILINE | re.DOTALL))


def run_without_nuat(code: str) -> tuple[list[str], dict[str, Any]]:
    """Run code that imports nothing of nuat; return the lines that it prints, and its variables."""
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [getattr(node, "module", None) or node.names[0].name for node in imports]
    assert not [name for name in names if name.startswith("nuat")]
    variables: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), variables)
    return printed.getvalue().splitlines(), variables


def written(folder: Path, channels: int, resize: int | None, onnx: str, torch: str) -> Any:
    """Write a run, both exports and a photo into the folder; return the run's model."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="the export extra is not installed")
    run = make_run(folder / "run", NETWORK, channels=channels, resize=resize)
    to_onnx(find_model(run), folder / onnx)
    to_torch(find_model(run), folder / torch)
    pixels = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    return nuat.load(run)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "resize"), [(3, None), (1, 11)])
def test_the_page_and_the_card_predict_as_nuat_does(
    channels: int, resize: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = written(tmp_path, channels, resize, "mine.onnx", "mine.pt2")
    (prediction,) = model.predict(Path("photo.jpg"))
    page = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
    section = page.partition("## Use it without nuat")[2].partition("\n## ")[0]
    lines, variables = run_without_nuat(blocks(section))
    assert lines == [prediction.label] * 2
    ours = model(model.transform("photo.jpg")[None])[0].detach().numpy()
    assert (
        np.abs(variables["prepare"]("photo.jpg", variables["facts"])[0] - model.transform("photo.jpg").numpy()).max()
        < 1e-6
    )
    assert np.abs(variables["logits"].detach().numpy()[0] - ours).max() < 1e-4

    card = model_card(find_runs([Path("run")]).runs[0])
    assert "nuat export run --format torch --out model.pt2" in card
    for ending in ("onnx", "pt2"):
        Path(f"mine.{ending}").rename(f"model.{ending}")
    lines, variables = run_without_nuat(blocks(card.partition("Without nuat")[2]))
    assert lines == [prediction.label] * 2
    assert np.abs(variables["x"][0] - model.transform("photo.jpg").numpy()).max() < 1e-6

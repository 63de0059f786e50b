"""From a folder of photos to predictions, in nuat and without it, as ``nuat`` on the command line does it.

    python examples/own_photos.py

draws five classes of small pictures, trains a robust model on them, predicts, exports to ONNX and predicts in
onnxruntime. ``pip install 'nuat[export]'`` brings onnxruntime.
"""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps

from nuat.cli import main as nuat

CLASSES = ("circle", "cross", "ring", "square", "triangle")


def draw(name: str, random: np.random.Generator) -> Image.Image:
    """Return a picture of a shape, of any colours, size and place."""
    dark, bright = random.integers(0, 90, 3), random.integers(150, 256, 3)
    width, height = random.integers(36, 60, 2)
    image = Image.new("RGB", (int(width), int(height)), tuple(dark.tolist()))
    paint, colour = ImageDraw.Draw(image), tuple(bright.tolist())
    r = random.uniform(0.3, 0.45) * min(width, height)
    x, y = width / 2 + random.uniform(-3, 3), height / 2 + random.uniform(-3, 3)
    box = (x - r, y - r, x + r, y + r)
    match name:
        case "circle":
            paint.ellipse(box, fill=colour)
        case "ring":
            paint.ellipse(box, outline=colour, width=max(3, int(r / 3)))
        case "square":
            paint.rectangle(box, fill=colour)
        case "cross":
            paint.line((x - r, y - r, x + r, y + r), fill=colour, width=6)
            paint.line((x - r, y + r, x + r, y - r), fill=colour, width=6)
        case "triangle":
            corners = [
                (x + r * math.sin(turn), y - r * math.cos(turn)) for turn in (0, 2 * math.pi / 3, 4 * math.pi / 3)
            ]
            paint.polygon(corners, fill=colour)
    noise = random.normal(0, 8, (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def draw_folder(folder: Path, each: int, seed: int) -> list[Path]:
    """Write ``each`` pictures of every class into FOLDER/CLASS/ and return their paths."""
    random = np.random.default_rng(seed)
    files = [folder / name / f"{i:03d}.png" for name in CLASSES for i in range(each)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        draw(file.parent.name, random).save(file)
    return files


def predict_without_nuat(model: Path, files: list[Path]) -> list[tuple[str, float]]:
    """Return class and probability of each picture, with what the ONNX file says about itself."""
    session = onnxruntime.InferenceSession(str(model))
    facts = json.loads(session.get_modelmeta().custom_metadata_map["nuat"])
    height, width = facts["image_size"]
    images = [ImageOps.fit(Image.open(file), (width, height), Image.Resampling.BICUBIC) for file in files]
    x = np.stack([np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255 for image in images])
    (logits,) = session.run(["logits"], {"images": x})
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return [(facts["classes"][row.argmax()], float(row.max())) for row in probabilities]


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        draw_folder(root / "photos", each=60, seed=0)
        new = draw_folder(root / "new", each=8, seed=1)
        run, onnx, answers = root / "run", root / "model.onnx", root / "answers.json"

        train = ["train", "robust-folder", "--data.path", str(root / "photos"), "--out", str(run)]
        # a small network and small images, since this runs on a processor; without these lines it is a ResNet-18
        train += ["--model.name", "small-cnn", "--model.variant", "plain", "--data.image-size", "32"]
        train += ["--data.crop-padding", "2", "--epochs", "20", "--batch-size", "16", "--lr", "0.05", "--eps", "4/255"]
        train += ["--device", "cpu", "--precision", "fp32", "--data.cache", str(root / "cache")]
        train += ["--evaluation.attacks", "clean,pgd-20"]
        assert nuat(train) == 0
        assert nuat(["predict", str(run), *map(str, new), "--json", str(answers)]) == 0
        assert nuat(["export", str(run), "--format", "onnx", "--out", str(onnx)]) == 0

        ours = [(one["label"], one["probability"]) for one in json.loads(answers.read_text())]
        theirs = predict_without_nuat(onnx, new)
        right = sum(label == file.parent.name for (label, _), file in zip(ours, new, strict=True))
        assert [label for label, _ in theirs] == [label for label, _ in ours]
        assert max(abs(a - b) for (_, a), (_, b) in zip(ours, theirs, strict=True)) < 1e-4
        assert right >= 0.8 * len(new), f"only {right} of {len(new)} new pictures are classified rightly"
        tested = json.loads((run / "evaluation.json").read_text())["results"]
        robust = {one["name"]: np.mean([bit == "1" for bit in one["correct"]]) for one in tested}
        assert robust["pgd-20"] >= 0.5, robust
        print(f"{right} of {len(new)} new pictures right; onnxruntime gives the same answers without nuat")


if __name__ == "__main__":
    main()

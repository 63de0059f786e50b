"""Write a model card from a run's records: facts for the user of its weights."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from nuat.attacks.catalogue import WORST_CASE, attack_name, attack_strength
from nuat.core.eps import eps_text, threat_text
from nuat.data import SETS
from nuat.evaluation.per_class import MOST_ROWS, class_results, shown, worst_class_text, worst_first
from nuat.evaluation.result_table import calibration_text
from nuat.evaluation.results import Evaluation
from nuat.progress import duration
from nuat.records.checkpoints import WeightsInfo
from nuat.records.evaluations import Measurement
from nuat.records.methods import setting_text, without_folder
from nuat.records.runs import RunRecord
from nuat.report.escaping import escape_markdown as plain
from nuat.report.page.changes import changes, commands
from nuat.report.page.table import interval_text


def model_card(run: RunRecord) -> str:
    """Return a run's model card in Markdown; it names the facts that were not recorded."""
    parts = [
        f"# Model card: {plain(run.label or run.recipe)}",
        _what(run),
        "## Intended use",
        _purpose(run),
        "## Data",
        _data(run),
        "## Threat model",
        _threat(run),
        "## Training",
        _training(run),
        "## Results",
        *_results(run),
        "## Limits",
        _limits(run),
        "## How to load it",
        _loading(run),
        "## How to reproduce it",
        _again(run),
    ]
    return "\n\n".join(parts) + "\n"


def _what(run: RunRecord) -> str:
    network = "network" if run.network is None else f"`{_code(run.network)}`"
    defense = (run.config.get("defense") or {}).get("class")
    said = f"An image classifier ({network}), trained with the recipe `{_code(run.recipe)}`"
    said += f" (defense {plain(str(defense))})" if defense else ""
    said += " to keep its predictions when an image changes a little."
    if run.weights is not None:
        info = run.weights
        height, width = info.image_size
        said += (
            f" It takes images of {info.channels} x {height} x {width} with pixels in [0, 1] (normalisation is a "
            f"layer of the network) and returns {len(info.classes)} logits, for the classes "
            f"{', '.join(plain(name) for name in info.classes[:20])}{' ...' if len(info.classes) > 20 else ''}."
        )
    if run.state != "done":
        said += f" **Its training did not end as planned: {plain(run.failure or run.state)}.**"
    return said


def _purpose(run: RunRecord) -> str:
    """Return the intended use, as far as the records support it."""
    threat = "" if run.eps is None else f" under changes within {threat_text(run.norm, run.eps, run.also)}"
    return (
        f"To classify images like those of its data{threat}, to compare defenses, and to try attacks on. Where a wrong "
        "answer does harm, the accuracies below, not the word robust, say how often it gives one."
    )


def _data(run: RunRecord) -> str:
    if not run.config:
        return "Not recorded."
    data, source = run.config["data"], run.source
    name = source.get("source") or data.get("path") or data["name"]
    said = f"Trained on {plain(without_folder(str(name)))}"
    count = source.get("train") or data.get("train_limit")
    said += f", {count:,} training images" if count else ""
    held_out = source.get("validation", data.get("validation"))  # recorded settings may hold a fraction
    said += f"; {held_out:,} images held out of them chose the best epoch." if held_out else "."
    own = data.get("path") and not str(data["path"]).rsplit("/", 1)[-1].startswith(str(data["name"]))
    known = None if own else SETS.get(str(data["name"]))
    licence = None if known is None else known.licence
    if source.get("test"):
        said += f" There are {source['test']:,} test images, none of them trained on."
    return said + "\n\nLicence of the data: " + (licence or "that of the images given; it is not recorded.")


def _threat(run: RunRecord) -> str:
    if run.eps is None:
        return "Not recorded."
    change = (
        "every pixel may change by up to" if run.norm == "Linf" else f"the image may change in {run.norm} norm by up to"
    )
    further = "" if run.also is None else f" Or, in other norms: {run.also.replace(':', ' ').replace(',', ', ')}."
    return (
        f"White box, {run.norm}: {change} {eps_text(run.eps, run.norm)} (pixels in [0, 1]), within the box.{further} "
        "Other changes (larger ones, other norms, rotations, patches, other images than these) were not trained for."
    )


def _training(run: RunRecord) -> str:
    lines = []
    config, end, environment = run.config, run.end, run.environment
    if config:
        lines.append(f"- {config['epochs']} epochs, batches of {config.get('batch_size', 'unknown')}, seed {run.seed}")
        averaged = "as trained" if run.averaging is None else f"their running average, {run.averaging}"
        lines.append(f"- weights: {averaged}")
    if end:
        lines.append(
            f"- {duration(end['seconds'])} of training, {end['forwards']:,} images forward and {end['backwards']:,} "
            f"backward; the weights are of epoch {end['best_epoch']}, the best on validation images"
        )
    if environment:
        packages = environment.get("packages") or {}
        versions = f"nuat {environment.get('nuat')}, torch {packages.get('torch')}, git {environment.get('git')}"
        lines.append(f"- on {plain(str(environment.get('hardware')))}; {plain(versions)}")
    changed = [
        f"`{_code(change.name)}` {plain(change.value)} (recipe: {plain(change.default)})" for change in changes(run)
    ]
    if changed:
        lines.append(f"- differs from its recipe in {', '.join(changed)}")
    lines += [
        f"- alarm in epoch {alarm['epoch']}: {plain(str(alarm.get('message', alarm['monitor'])))}"
        for alarm in run.alarms
    ]
    return "\n".join(lines) or "Not recorded."


def _results(run: RunRecord) -> list[str]:
    if not run.measurements:
        return ["Not attacked: nothing is known of its robustness."]
    lines = [
        "| attack | accuracy % | 95 % interval | n | ball | images | hardware |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    # a worst case in the ball of the training that is part of a wider evaluation
    further = [m for m in run.own_measurements if m.attack == WORST_CASE and m not in run.measurements]
    told: dict[object, Measurement] = {}
    for found in (*run.measurements, *further):
        # every evaluation has the clean images; list the same result once
        images = found.evaluation and found.evaluation.images
        clean = found.attack == "clean"
        told.setdefault((found.correct, found.n, found.ball, found.part, images) if clean else id(found), found)
    rows = told.values()
    for found in rows:
        hardware = found.evaluation.hardware if found.evaluation else "not recorded"
        cells = [
            found.label,
            f"{found.percent:.2f}",
            interval_text(found),
            f"{found.n:,}",
            found.ball,
            found.part,
            hardware,
        ]
        lines.append(f"| {' | '.join(plain(cell) for cell in cells)} |")
    worst = dict.fromkeys((found.label, found.ball, found.over) for found in rows if found.attack == WORST_CASE)
    said = ["\n".join(lines)]
    said += [
        plain(f"{label} ({ball}): images that are right without an attack and under each of {over}.")
        for label, ball, over in worst
    ]
    said += [plain(f"{caveat}.") for caveat in run.caveats]
    said += _classes(run)
    if run.diagnosis is not None:
        counts = ", ".join(f"{run.diagnosis.count(status)} {status}" for status in ("PASS", "FAIL", "INCONCLUSIVE"))
        checks = [
            f"- {plain(check.check)}: {check.status}. {plain(check.meaning)}"
            for check in run.diagnosis.checks
            if check.status != "PASS"
        ]
        said.append(f"`nuat diagnose` on {run.diagnosis.n:,} images: {counts}.")
        said += ["\n".join(checks)] if checks else []
    else:
        said.append("It was not examined with `nuat diagnose`, which looks for signs of gradient masking.")
    return said


def _classes(run: RunRecord) -> list[str]:
    """Return the classes under the strongest attack in the ball of the training, the worst one, and the calibration."""
    found = _strongest_answered(run)
    if found is None:
        return []
    attack, evaluation = found
    results = class_results(evaluation, attack)
    few = len(results) <= MOST_ROWS
    which = "each class" if few else f"the worst {MOST_ROWS} of {len(results):,} classes"
    lines = [
        "| class | clean % | accuracy % | 95 % interval | n | most often taken for |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in results if few else worst_first(results):
        low, high = (100 * end for end in one.interval)
        clean = "-" if one.clean is None else f"{100 * one.clean / one.n:.1f}"
        cells = [shown(one.name), clean, f"{100 * one.accuracy:.1f}", f"{low:.1f}\u2013{high:.1f}", f"{one.n:,}"]
        lines.append(f"| {' | '.join(plain(cell) for cell in (*cells, shown(one.taken_for)))} |")
    told = [worst_class_text(evaluation, attack), calibration_text(evaluation)]
    return [
        f"Within {threat_text(*run.threat)}: {attack_name(attack, None if run.also is None else run.norm)}, {which}:",
        "\n".join(lines),
        *(plain(f"{text[0].upper()}{text[1:]}.") for text in told if text),
    ]


def _strongest_answered(run: RunRecord) -> tuple[str, Evaluation] | None:
    """Return the strongest attack in a run's own ball whose evaluation kept its predictions, over the most images."""
    known = [found for found in run.own_measurements if found.part == "test"]
    # in a union the worst case comes first: an attack is in one of the balls alone
    union = {WORST_CASE} if run.also is not None else {}
    for found in sorted(known, key=lambda m: (m.attack in union, attack_strength(m.attack), m.n), reverse=True):
        if found.evaluation is not None and found.evaluation.per_class(found.attack):
            return found.attack, found.evaluation
    return None


def _limits(run: RunRecord) -> str:
    attacks = {found.attack for found in run.measurements}
    said = ["- An accuracy under attack is an upper bound: a stronger attack may find more. It is no certificate."]
    if not any(name.startswith("autoattack") for name in attacks):
        said.append("- AutoAttack, the field's standard, was not run.")
    few = [found.n for found in run.measurements if found.part == "test"]
    if few and min(few) < 1000:
        said.append(f"- Some results rest on as few as {min(few):,} images; see their intervals.")
    if not few:
        said.append("- No result is on test images.")
    else:
        said.append(
            "- Whether settings of the recipe were chosen by accuracies on these test images is not recorded; where "
            "they were, the accuracies are a little optimistic."
        )
    said.append("- One training run: how much the numbers change with the seed is not in this card.")
    said.append("- Nothing is known of images unlike those of the data above.")
    return "\n".join(said)


def _loading(run: RunRecord) -> str:
    if run.weights is None:
        return "The weights are not in this folder; to train it again, see below."
    path = str(PurePath(run.called) / "best.safetensors")
    return (
        "```python\nimport nuat\n\n# a torch.nn.Module in evaluation mode; no pickle is read\n"
        f"model = nuat.load({json.dumps(path, ensure_ascii=False)})\n"
        "logits = model(x)  # x: float32 [B, C, H, W] in [0, 1]\n```\n\n" + _without_nuat(run.called, run.weights)
    )


def _without_nuat(called: str, info: WeightsInfo) -> str:
    """Return how the model is used in other programs, from one image file."""
    height, width = info.image_size
    mode, axes = ("RGB", "np.moveaxis(pixels, 2, 0)") if info.channels == 3 else ("L", "pixels[None]")
    prepare = [f"image = ImageOps.fit(image, ({width}, {height}), Image.Resampling.BICUBIC)"]
    if info.resize is not None:
        prepare = [
            f"sides = [int({info.resize} * side / min(image.size)) for side in image.size]",
            "image = image.resize(sides, Image.Resampling.BICUBIC)",
            f"left, top = round((sides[0] - {width}) / 2), round((sides[1] - {height}) / 2)",
            f"image = image.crop((left, top, left + {width}, top + {height}))",
        ]
    exported = [
        f"nuat export {shlex.quote(called)} --format {form} --out model{ending}"
        for form, ending in (("onnx", ".onnx"), ("torch", ".pt2"))
    ]
    code = [
        "import json",
        "",
        "import numpy as np",
        "import onnxruntime",
        "import torch",
        "from PIL import Image, ImageOps",
        "",
        f'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")',
        *prepare,
        "pixels = np.asarray(image, dtype=np.float32) / 255",
        f"x = np.ascontiguousarray({axes}[None])",
        "",
        'session = onnxruntime.InferenceSession("model.onnx")',
        '(logits,) = session.run(["logits"], {"images": x})',
        'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
        "print(classes[logits[0].argmax()])",
        "",
        'model = torch.export.load("model.pt2").module()',
        "print(classes[model(torch.from_numpy(x))[0].argmax()])",
    ]
    return f"Without nuat, once it is exported:\n\n{_fenced(exported)}\n\n{_fenced(code, 'python')}"


def _again(run: RunRecord) -> str:
    lines = [f"# {name}\n{command}" for name, command in commands(run)]
    return _fenced(lines) if lines else "Not recorded."


def _fenced(lines: Sequence[str], language: str = "") -> str:
    """Return lines as a block of code."""
    # a fence longer than any in the lines cannot be closed by them
    fence = "`" * max(4, 1 + max(map(len, re.findall("`+", "\n".join(lines))), default=0))
    return "\n".join([f"{fence}{language}", *lines, fence])


def _code(text: object) -> str:
    """Return text that may stand between backticks."""
    return str(setting_text(text)).replace("`", "'").replace("\n", " ")

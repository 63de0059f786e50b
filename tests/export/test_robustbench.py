"""The folder for RobustBench: the numbers of one evaluation, the weights that it was given to, and what departs."""

import dataclasses
import errno
import importlib.util
import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from export.export_runs import NETWORKS, TEST, evaluation, failing, left, make_run
from torch import nn

import nuat
from nuat.config import DataConfig, ModelConfig, ThreatConfig
from nuat.core import digest
from nuat.defenses import Standard
from nuat.errors import InputError
from nuat.export import Submission, find_model, to_robustbench
from nuat.models import WideResNet

KEYS = [
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture", "eps"),
    *("clean_acc", "reported", "autoattack_acc", "footnote", "unreliable"),
]
CIFAR = Submission(dataset="cifar10")


def verdicts(run: Path) -> torch.Tensor:
    """Return which test images the weights classify correctly: bool [TEST]."""
    source = find_model(run)
    assert source.test is not None
    with torch.no_grad():
        return nuat.load(run)(source.probe(TEST)).argmax(dim=1) == source.test.labels


def evaluated(folder: Path, model: ModelConfig = NETWORKS["small-cnn"][0], **settings: Any) -> Path:
    """Return a run with an evaluation of it."""
    run = make_run(folder, model, **settings)
    evaluation(verdicts(run)).save(run / "evaluation.json")
    return run


def export(run: Path, out: Path, submission: Submission = CIFAR) -> tuple[str, dict[str, Any], str]:
    """Return what is said, the model_info and the form."""
    said = to_robustbench(find_model(run), out, submission)
    (info,) = out.rglob("model_info/*/*/*.json")
    return said, json.loads(info.read_text()), (out / "submission.md").read_text()


def test_the_claim_has_the_numbers_of_the_evaluation(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    correct = int(verdicts(run).sum())
    robust = int((verdicts(run) & (torch.arange(TEST) % 2 == 0)).sum())
    assert 0 < robust < correct < TEST
    _, info, form = export(run, tmp_path / "out")
    assert list(info) == KEYS
    assert (info["clean_acc"], info["autoattack_acc"]) == (f"{100 * correct / TEST:.2f}", f"{100 * robust / TEST:.2f}")
    assert info["reported"] == info["autoattack_acc"]
    assert (info["dataset"], info["eps"], info["number_forward_passes"]) == ("cifar10", "8/255", 1)
    assert (info["additional_data"], info["unreliable"]) == (False, False)
    assert (info["architecture"], info["venue"]) == ("small-cnn (width 2)", "NeurIPS 2021")
    assert f"- **Clean accuracy**: {info['clean_acc']}%\n" in form
    assert f"- **Robust accuracy**: {info['autoattack_acc']}%\n" in form
    assert "- [x] I use an architecture that is **not**" in form
    assert "weight average of epoch 7; neither code nor weights are those of the paper's authors." in info["footnote"]
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert kept == json.loads((run / "evaluation.json").read_text())


def test_the_folder_has_what_a_submission_needs(tmp_path: Path) -> None:
    export(evaluated(tmp_path / "run"), tmp_path / "out")
    key = "Sriramanan2021Towards_SMALL-CNN"
    files = {f"model_info/cifar10/Linf/{key}.json", f"{key}.pt", f"{key}.py", "evaluation.json"}
    folders = {"model_info", "model_info/cifar10", "model_info/cifar10/Linf"}
    assert left(tmp_path / "out") == files | folders | {"autoattack.txt", "submission.md"}
    log = (tmp_path / "out" / "autoattack.txt").read_text()
    for said in (
        "apgd-ce, apgd-t, fab-t, square",
        "images: 40 ",
        "seed 3",
        "pyautoattack 0.2.0",
        "4,000 images forward",
    ):
        assert said in log


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["nuat", "authors", "timm", "torchvision", "torchvision, imagenet stem", "robustbench"]
)
def test_the_definition_takes_the_checkpoint(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stranger would load them: the module by its path, the checkpoint as plain tensors."""
    scaling: Any = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25)}
    model, channels, size = {
        "nuat": (ModelConfig(name="wrn-10-1", activation="silu", **scaling), 3, 32),
        "authors": (ModelConfig(name="wrn-10-1", variant="nuat"), 3, 32),
        "timm": (NETWORKS["timm vit"][0], 3, 8),
        "torchvision": (ModelConfig(name="resnet18", **scaling), 3, 8),
        "torchvision, imagenet stem": (ModelConfig(name="resnet18", stem="imagenet"), 1, 8),
        "robustbench": (ModelConfig(name="wrn-10-1"), 3, 32),
    }[kind]
    if kind == "robustbench":
        # its WideResNet has our names and function; the keywords are what matters here
        theirs = types.ModuleType("robustbench.model_zoo.architectures.wide_resnet")
        theirs.WideResNet = lambda *, depth, widen_factor, num_classes: WideResNet(  # type: ignore[attr-defined]
            depth, widen_factor, classes=num_classes
        )
        for name in ("robustbench", "robustbench.model_zoo", "robustbench.model_zoo.architectures"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, theirs.__name__, theirs)
    run = evaluated(tmp_path / "run", model, channels=channels, size=size)
    export(run, tmp_path / "out", Submission(dataset="cifar10", key="Some-2026_Key"))
    spec = importlib.util.spec_from_file_location("definition", tmp_path / "out" / "Some-2026_Key.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net: nn.Module = module.Some_2026_KeyNet().eval()
    net.load_state_dict(torch.load(tmp_path / "out" / "Some-2026_Key.pt", weights_only=True))
    x = torch.rand(3, channels, size, size)
    with torch.no_grad():
        assert torch.equal(net(x), nuat.load(run)(x))
    imports = {"nuat": "nuat", "authors": "nuat", "timm": "nuat", "robustbench": "robustbench"}.get(kind, "torchvision")
    found = re.findall(r"^from (\w+)[. ]", (tmp_path / "out" / "Some-2026_Key.py").read_text(), flags=re.MULTILINE)
    assert set(found) == {"torch", imports}
    ticked = "[x] I use an architecture that is **not** included" in (tmp_path / "out" / "submission.md").read_text()
    assert ticked == (imports == "nuat")


def test_what_departs_from_the_leaderboard_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    evaluation(verdicts(run), eps=0.1).save(run / "evaluation.json")
    said, info, form = export(run, tmp_path / "out")
    for text in (said, info["footnote"], form):
        assert "Evaluated at eps 0.1; the leaderboard's is 8/255." in text
        assert "AutoAttack ran on 40 images, on the leaderboard on 10,000" in text
    assert info["eps"] == "0.1"
    _, info, _ = export(run, tmp_path / "mnist", Submission(dataset="mnist"))
    assert "no Linf leaderboard of mnist" in info["footnote"]


def test_an_evaluation_by_the_rules_departs_in_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    evaluation(torch.ones(10_000, dtype=torch.bool)).save(run / "evaluation.json")
    said, info, _ = export(run, tmp_path / "out")
    assert "leaderboard" not in info["footnote"]
    assert "not on this machine: not checked" in said  # there are 40 test images here
    assert (info["clean_acc"], info["autoattack_acc"]) == ("100.00", "50.00")


def test_stronger_attacks_and_other_line_ups_are_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    values = evaluation(verdicts(run)).to_json()
    values["results"][1]["settings"]["line_up"] = ["apgd-ce", "fab-t", "square"]
    values["results"].append(dict(values["results"][1], name="gama-100", correct="0" * TEST, accuracy=0.0))
    (run / "evaluation.json").write_text(json.dumps(values))
    _, info, _ = export(run, tmp_path / "out")
    assert "Together with gama-100 the robust accuracy is 0.00" in info["footnote"]
    assert "AutoAttack ran apgd-ce, fab-t, square, not its standard" in info["footnote"]


def test_the_best_suited_evaluation_is_taken(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    right = verdicts(run)
    evaluation(right, eps=0.3).save(run / "evaluation-z.json")  # of most images, at another eps
    evaluation(right[:30]).save(run / "evaluation-a.json")
    evaluation(right[:20]).save(run / "evaluation-b.json")
    evaluation(right, clean=False).save(run / "evaluation-c.json")
    evaluation(right, name="autoattack-v1").save(run / "evaluation-d.json")
    dataclasses.replace(evaluation(right), norm="L2").save(run / "evaluation-e.json")
    (run / "evaluation.partial.json").write_text("{}")
    said, info, _ = export(run, tmp_path / "out")
    assert "evaluation-a.json" in said
    assert "ran on 30 images" in info["footnote"]
    said, _, _ = export(run, tmp_path / "other", Submission(dataset="cifar10", evaluation=run / "evaluation-b.json"))
    assert "evaluation-b.json" in said


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (None, "no evaluation"),
        ({"name": "autoattack-v1"}, "autoattack-v1, clean"),
        ({"clean": False}, "clean and autoattack are not in one evaluation"),
    ],
)
def test_without_autoattack_the_command_is_said(given: dict[str, Any] | None, held: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a run")
    if given is not None:
        evaluation(verdicts(run), **given).save(run / "evaluation.json")
    before = left(tmp_path)
    with pytest.raises(InputError, match=held) as refused:
        export(run, tmp_path / "new" / "out")
    assert f"Run: nuat evaluate '{run}' --suite standard --n none" in str(refused.value)
    assert left(tmp_path) == before


def test_an_evaluation_of_other_weights_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    right = verdicts(run)
    right[:2] = ~right[:2]  # two of 40
    evaluation(right).save(run / "evaluation.json")
    with pytest.raises(InputError, match="differ on 2 of 40 clean images"):
        export(run, tmp_path / "out")


def test_damaged_evaluations_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "evaluation.json").write_text('{"format": 2}')
    with pytest.raises(InputError, match=r"evaluation\.json: does not hold an evaluation"):
        export(run, tmp_path / "out")
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        export(run, tmp_path / "out", Submission(dataset="cifar10", evaluation=tmp_path / "nowhere.json"))


def test_a_run_of_another_defense_has_no_paper_until_it_is_given_one(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", defense=Standard(), recipe="normal-tiny")
    _, info, form = export(run, tmp_path / "out")
    assert [info[name] for name in ("link", "name", "authors", "venue")] == [None] * 4
    assert "fill in the paper's title" in form
    assert "- **Paper URL**: (to fill in)" in form
    assert "authors" not in info["footnote"]
    assert (tmp_path / "out" / "normal-tiny.pt").is_file()
    paper = Submission(dataset="cifar10", title="On <b> Nets", authors="Ann Example, Bob Other", venue="ICML 2026")
    _, info, form = export(run, tmp_path / "known", paper)
    assert [info["name"], info["link"]] == ["On <b> Nets", None]
    assert (tmp_path / "known" / "Example2026On_SMALL-CNN.py").is_file()
    assert "fill in the paper's title" not in form


def test_the_data_set_is_the_run_s(tmp_path: Path) -> None:
    named = make_run(tmp_path / "named", data=DataConfig(name="cifar100", cache=tmp_path / "no cache"))
    evaluation(torch.ones(5, dtype=torch.bool)).save(named / "evaluation.json")
    assert export(named, tmp_path / "a", Submission())[1]["dataset"] == "cifar100"
    assert export(evaluated(tmp_path / "run"), tmp_path / "b", Submission())[1]["dataset"] == "run-images"
    (named / "config.json").unlink()
    with pytest.raises(InputError, match=r"--robustbench\.dataset"):
        export(named, tmp_path / "c", Submission())


def campaign_files(run: Path, clean: torch.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return clean verdicts on all images, and AutoAttack's on some: two evaluations, as a campaign has them."""
    source = find_model(run)
    assert source.test is not None
    some = torch.cat((clean.nonzero()[:6, 0], (~clean).nonzero()[:4, 0])).sort().values
    part = source.test.select(some)
    all_of = digest.of_tensors(source.test.images, source.test.labels)
    main = dataclasses.replace(evaluation(clean), images=all_of)
    main = dataclasses.replace(main, results=main.results[:1])
    attack = evaluation(clean[some], clean=False, robust=clean[some] & (torch.arange(len(some)) % 2 == 0))
    attack = dataclasses.replace(attack, indices=some, images=digest.of_tensors(part.images, part.labels))
    return main.to_json(), attack.to_json()


def test_clean_verdicts_of_another_file_are_taken_for_the_same_images(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ru\nn")
    clean = verdicts(run)
    main, attack = campaign_files(run, clean)
    (run / "evaluation-main.json").write_text(json.dumps(main))
    (run / "evaluation-autoattack.json").write_text(json.dumps(attack))
    said, info, _ = export(run, tmp_path / "out")
    assert "clean of the same images from evaluation-main.json" in said
    assert r"ru\nn/evaluation-autoattack.json" in said
    assert int(clean[:10].sum()) != 6  # the first images would say otherwise
    assert info["clean_acc"] == "60.00"
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert kept["n"] == 10
    assert [row["name"] for row in kept["results"]] == ["clean", "autoattack"]
    chosen = Submission(dataset="cifar10", evaluation=run / "evaluation-autoattack.json")
    assert export(run, tmp_path / "chosen", chosen)[1] == info


@pytest.mark.parametrize("why", ["missing", "others", "validation", "contradicts"])
def test_clean_verdicts_of_other_images_are_not_taken(why: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    clean = verdicts(run)
    main, attack = campaign_files(run, ~clean if why == "contradicts" else clean)
    attack = campaign_files(run, clean)[1]
    if why == "others":
        main["images_sha256"] = "0" * 64
    if why == "validation":
        suites = {"main": {"images": "validation"}, "autoattack": {"images": "test"}}
        suites = {name: {**suite, "n": TEST, "accuracies": {}} for name, suite in suites.items()}
        row = {"eps": 0.1, "epochs": 1, "best_epoch": 1, "forwards": 1, "backwards": 1, "seconds": {"training": 1.0}}
        row |= {"recipe": "quickstart", "status": "done", "hardware": "here", "suites": suites}
        (run / "row.json").write_text(json.dumps(row))
    if why != "missing":
        (run / "evaluation-main.json").write_text(json.dumps(main))
    (run / "evaluation-autoattack.json").write_text(json.dumps(attack))
    with pytest.raises(InputError, match="clean and autoattack are not in one evaluation, and clean of these images"):
        export(run, tmp_path / "out")


@pytest.mark.parametrize("failure", ["disk", "checkpoint"])
def test_a_failure_leaves_nothing(failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = evaluated(tmp_path / "run")
    before = left(tmp_path)
    if failure == "disk":
        monkeypatch.setattr(os, "fsync", failing(OSError(errno.ENOSPC, "No space left on device")))
    else:
        zeros = {name: torch.zeros_like(tensor) for name, tensor in nuat.load(run).state_dict().items()}
        monkeypatch.setattr("nuat.records.checkpoints.read_torch", lambda path: zeros)
    with pytest.raises((OSError, InputError), match=r"No space left|nothing was kept"):
        export(run, tmp_path / "new" / "out")
    assert left(tmp_path) == before


@pytest.mark.parametrize("wrong", [{"key": "2026/Key"}, {"key": "../key"}, {"dataset": "a/b"}])
def test_names_that_cannot_be_files_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"robustbench\.(key|dataset)="):
        Submission(**wrong)  # type: ignore[arg-type]


def test_the_images_of_the_run_are_told_from_others(tmp_path: Path) -> None:
    """The digest in the evaluation is that of nuat.evaluate."""
    run = make_run(tmp_path / "run")
    source = find_model(run)
    assert source.test is not None
    real = nuat.evaluate(nuat.load(run), source.test, ("clean",), threat=ThreatConfig(), n=None)
    values = evaluation(verdicts(run)).to_json()
    for sha256, checked in ((real.images, True), ("0" * 64, False)):
        (run / "evaluation.json").write_text(json.dumps(values | {"images_sha256": sha256}))
        said, _, _ = export(run, tmp_path / f"out-{checked}")
        assert ("Evaluated on other images than the run's" not in said) is checked

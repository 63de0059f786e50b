"""A user's mistake: exit code 2, one line that names it, no traceback, nothing half-written."""

import errno
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from cli.cli_runs import FAST, SIZE, TEST, TRAIN, CommandLine, arrays, files, write_npz
from PIL import Image
from safetensors import safe_open

from nuat.recipes import RECIPES
from nuat.training.monitors import Alarm, RunStopped


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("trian",), "unknown command 'trian'. Did you mean 'train'?"),
        (("eval",), "unknown command 'eval'"),
        (("recipe",), "Did you mean 'recipes'?"),
        (("xyz",), "unknown command 'xyz'. 'nuat --help' shows the commands."),
        (("--verion",), "unknown command '--verion'"),
        (("train", "quickstrt"), "unknown recipe 'quickstrt'. Did you mean 'quickstart'?"),
        (("train", "nuat-cifar10"), "Did you mean 'nuat-"),
        (("train", "xyz"), "unknown recipe 'xyz'. 'nuat recipes' lists them."),
        (("train", "--epoch", "3"), "Did you mean --epochs?"),
        (("train", "nuat-mnist", "--treat.eps", "0.1"), "Did you mean --threat.eps?"),
        (("train", "--epochs", "3", "quickstart"), "quickstart"),
        (("train", "quickstart", "nuat-mnist"), "nuat-mnist"),
        (("train", "--epochs"), "--epochs"),
        (("train", "--epochs", "many"), "'many'"),
        (("train", "--epochs", "0"), "epochs=0: expected at least 1"),
        (("train", "--batch-size", "1"), "batch_size=1"),
        (("train", "--precision", "fp16"), "'fp32', 'bf16'"),
        (("train", "--data.name", "cifra10"), "'cifar10'"),
        (("train", "--data.flip", "perhaps"), "'perhaps' is neither true nor false"),
        (("train", "--model.name", "resnet"), "did you mean resnet50?"),
        (("train", "--model.width", "wide"), "'wide'"),
        (("train", "--model", "resnet"), "model.name='resnet' is not a known network; did you mean resnet50?"),
        (("train", "--model=torchvision:resnet51"), "model.name=torchvision:resnet51: torchvision "),
        (("train", "--model.weights", "pretrained"), "nuat has no weights of small-cnn to download"),
        (("train", "--model.weights", "nowhere"), "model.weights: nowhere: no such run or weights file"),
        (("train", "--model.options", "patch_size=4"), "model.options=patch_size=4 has no effect on small-cnn"),
        (("train", "--evaluation.attacks", "clean,pgd10"), "unknown attack 'pgd10'. Did you mean 'pgd-100'?"),
        (("train", "--evaluation.attacks", ""), "give at least one attack"),
        (("train", "--evaluation.attacks", "clean,clean"), "each once"),
        (("train", "--averaging.tau", "none"), "averaging.warmup has no effect without averaging.tau"),
        (("train", "--seed", "99999999999999999999999"), "seed=99999999999999999999999"),
        (("train", "--seed", "-1"), "seed=-1"),
        (("train", "--data.split-seed", "99999999999999999999999"), "split_seed=99999999999999999999999"),
        (("train", "--optimizer.weight-decay", "1e999"), "'1e999' is not a number"),
        (("train", "--optimizer.lr.peak", "nan"), "'nan' is not a number"),
        (("train", "--device", "gpu"), "device='gpu': expected auto, cpu, cuda or cuda:<index>"),
        (("train", "--resume", "nowhere"), "nowhere/config.json: no such file"),
        (("train", "--resume"), "--resume"),
        (("evaluate", "nowhere"), "nowhere: no such run or weights file"),
        (("evaluate", "--attacks", "clean"), "nuat evaluate RUN|WEIGHTS"),
        (("recipes", "all"), "all"),
        (("models", "all"), "all"),
        (("train", "--validate-attack", "square", "--data.path", "nowhere"), "validate_attack=square"),
        (("recipes", "--table", "2-mnst"), "unknown table '2-mnst'. Did you mean '2-mnist'?"),
        (("recipes", "--table", "3"), "unknown table '3'. Tables: 1a, 1b, 2-cifar10, 2-imagenet100, 2-mnist."),
        (("recipes", "--table"), "--table"),
        (("train", "--data.crop-scale", "0"), "data.crop_scale=0: expected a fraction of the area in (0, 1)"),
        (("train", "--data.crop-scale", "1"), "data.crop_scale=1"),
        (("train", "--data.crop-scale", "0.3", "--data.crop-padding", "4"), "one crop or the other"),
    ],
)
def test_typing_mistakes(typed: tuple[str, ...], expected: str, nuat: CommandLine) -> None:
    assert expected in nuat.refused(*typed)


def test_the_nearest_of_all_recipes_is_found(nuat: CommandLine) -> None:
    for name in RECIPES:
        assert f"Did you mean {name!r}?" in nuat.refused("train", name + "x")


@pytest.mark.parametrize("width", ["20", "80", "300"])
def test_the_message_does_not_depend_on_the_width_of_the_terminal(
    width: str, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    message = nuat.refused("train", "--defense.lamm.peak", "3")
    assert "--defense.lamm.peak" in message
    assert "--defense.lam.peak" in message.replace("lamm", "")
    assert not set(message) & set("│─╭╰╮╯")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("8", "Did you mean 8/255?"),
        ("2.5", "Did you mean 2.5/255?"),
        ("nan", "'nan' is not a number; write 0.031 or 8/255"),
        ("inf", "'inf' is not a number"),
        ("0", "threat.eps=0: expected a perturbation size in (0, 1]"),
        ("0/255", "threat.eps=0"),
        ("-0.1", "threat.eps=-0.1"),
        ("-8/255", "(0, 1]"),
        ("256", "(0, 1]"),
        ("8/0", "'8/0' is not a number"),
        ("8/255/2", "is not a number"),
        ("2**-5", "is not a number"),
        ("__import__('os').system('touch owned')", "is not a number"),
        ("", "is not a number"),
    ],
)
@pytest.mark.parametrize("option", ["--threat.eps", "--threat.pgd-alpha"])
def test_a_size_that_cannot_be(option: str, typed: str, expected: str, nuat: CommandLine) -> None:
    message = nuat.refused("train", f"{option}={typed}")
    assert expected.replace("threat.eps", option[2:].replace("-", "_")) in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate", "quickstart", "--n", "abc"), "--n: 'abc' is not none or a whole number ("),
        (("train", "--epochs", "x"), "--epochs: 'x' is not a whole number ("),
        (("train", "--model.stem", "4x"), "--model.stem: '4x' is not none or {cifar,imagenet} ("),
        (("compare", "quickstart"), "nuat compare needs another word: The run or file of the other model ("),
        (("train", "--norm", "L2"), "Did you mean --threat.norm?"),
        (("evaluate", "quickstart", "--threat", "L2:2"), "Did you mean --norm, --eps or --also?"),
    ],
)
def test_the_parser_speaks_as_people_do(words: tuple[str, ...], message: str, nuat: CommandLine) -> None:
    assert message in nuat.refused(*words)


def test_a_size_in_pixels_of_255_is_refused_in_these_words(nuat: CommandLine) -> None:
    assert nuat.refused("train", "--threat.eps", "8") == (
        "nuat: error: threat.eps=8: pixels are in [0, 1], so this is larger than any image. Did you mean 8/255?"
    )


def test_a_size_that_cannot_be_in_evaluate(nuat: CommandLine, run: Path) -> None:
    assert "Did you mean 8/255?" in nuat.refused("evaluate", run, "--eps", "8")
    assert "(0, 1]" in nuat.refused("evaluate", run, "--eps", "0")


def test_evaluate_refuses_attacks_it_does_not_know(nuat: CommandLine, run: Path) -> None:
    assert "Did you mean 'pgd-100'?" in nuat.refused("evaluate", run, "--attacks", "clean,pgd100")
    assert "gama-0" in nuat.refused("evaluate", run, "--attacks", "gama-0")
    assert "each once" in nuat.refused("evaluate", run, "--attacks", "clean,clean")
    assert "pgd-20" in nuat.refused("evaluate", run, "--attacks", "clean", "pgd-20")
    assert "batch_size=0" in nuat.refused("evaluate", run, "--attacks", "clean", "--batch-size", "0")


def pixels(**changes: Any) -> dict[str, Any]:
    return {name: array for name, array in (arrays() | changes).items() if array is not None}


def spoiled(name: str, place: tuple[int, ...], value: float) -> dict[str, Any]:
    array = arrays()[name].astype(np.float64) / 255
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"y_test": None}, "has no array y_test (found: x_train, y_train, x_test)"),
        ({"x_train": None, "images": arrays()["x_train"]}, "has no array x_train"),
        ({"x_train": arrays()["x_train"][..., 0, 0]}, "x_train has shape [72, 8]"),
        ({"x_test": arrays(size=9)["x_test"]}, "make them the same size"),
        ({"x_train": arrays()["x_train"].astype(np.int64)}, "x_train is int64; expected uint8"),
        ({"x_train": arrays()["x_train"][:0], "y_train": arrays()["y_train"][:0]}, "x_train is empty"),
        ({"y_train": arrays()["y_train"][:-1]}, "y_train has 71 labels for 72 images"),
        ({"y_train": arrays()["y_train"] / 1}, "y_train is float64"),
        ({"y_train": np.eye(3, dtype=int)[arrays()["y_train"]]}, "one-hot labels"),
        ({"y_train": arrays()["y_train"] - 1}, "the label -1 at index 0"),
        ({"y_test": arrays()["y_test"] + 1}, "y_test holds the label 3 at index 2; expected 0..2"),
        ({"y_train": arrays()["y_train"] * 2}, "no image of class 1"),
        ({"y_train": arrays()["y_train"] * 0, "y_test": arrays()["y_test"] * 0}, "single class"),
        (spoiled("x_train", (7, 1, 2, 0), 1.5), "x_train holds 1.5 in image 7; expected floats in [0, 1]"),
        (spoiled("x_test", (9, 1, 2, 0), -0.25), "x_test holds -0.25 in image 9"),
        (spoiled("x_train", (3, 0, 0, 0), float("nan")), "x_train holds nan in image 3"),
        (spoiled("x_test", (3, 0, 0, 0), float("inf")), "x_test holds inf in image 3"),
        ({"x_train": np.array([object()] * TRAIN)}, "x_train cannot be read"),
    ],
)
def test_arrays_that_cannot_be(changes: dict[str, Any], expected: str, nuat: CommandLine) -> None:
    np.savez("bad.npz", **pixels(**changes))
    message = nuat.refused("train", *FAST, "--data.path", "bad.npz")
    assert expected in message
    assert "bad.npz" in message


@pytest.mark.slow
def test_files_that_cannot_be(nuat: CommandLine, images: Path) -> None:
    whole = images.read_bytes()
    Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    Path("empty.npz").write_bytes(b"")
    Path("text.npz").write_text("no arrays")
    np.save("single.npy", arrays()["x_train"])
    Path("folder").mkdir()
    for path, expected in (
        ("missing.npz", "missing.npz does not exist"),
        ("cut.npz", "cut.npz is not a readable .npz file"),
        ("empty.npz", "empty.npz is not a readable .npz file"),
        ("text.npz", "text.npz is not a readable .npz file"),
        ("single.npy", "single.npy holds a single array"),
        ("folder", "folder holds no images in classes"),
    ):
        assert expected in nuat.refused("train", *FAST, "--data.path", path)


@pytest.mark.slow
def test_settings_that_the_data_do_not_allow(nuat: CommandLine, images: Path) -> None:
    train = ("train", *FAST, "--data.path", images)
    assert "only 72 training images" in nuat.refused(*train, "--data.validation", "72")
    assert "only 60 training images" in nuat.refused(*train, "--data.train-limit", "61")
    assert "data.image_size=8 has no effect on mnist-sample" in nuat.refused("train", *FAST, "--data.image-size", "8")
    assert "give one value per channel" in nuat.refused(*train, "--model.mean", "0.1,0.2,0.3", "--model.std", "1,1,1")
    assert "go together" in nuat.refused(*train, "--model.mean", "0.1")
    assert "no effect on small-cnn" in nuat.refused(*train, "--model.stem", "cifar")


@pytest.mark.slow
def test_a_batch_of_one_with_batch_norm(nuat: CommandLine, images: Path) -> None:
    train = ("train", *FAST, "--data.path", images, "--model.name", "wrn-10-1", "--model.width", "none")
    assert "try batch_size=60" in nuat.refused(*train, "--batch-size", "59")
    nuat.done("train", *FAST, "--data.path", images, "--batch-size", "59", "--epochs", 1, "--out", "no-batch-norm")


def write_folder(folder: Path, *, classes: tuple[str, ...] = ("cat", "dog"), per_class: int = 8) -> Path:
    images = arrays()["x_train"]
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for i in range(per_class):
                Image.fromarray(images[label + 3 * i, :, :, 0]).save(folder / part / name / f"{i}.png")
    return folder


@pytest.mark.slow
def test_image_folders_that_cannot_be(nuat: CommandLine) -> None:
    train = ("train", *FAST, "--data.validation", "2", "--batch-size", "4", "--epochs", "1", "--data.path")
    folder = write_folder(Path("photos"))
    nuat.done(*train, folder, "--out", "good")
    (folder / "train/eel").mkdir()
    assert "eel" in nuat.refused(*train, folder)
    (folder / "test/eel").mkdir()
    assert "photos/train/eel holds no image" in nuat.refused(*train, folder)
    shutil.rmtree(folder / "train/eel")
    assert "test/eel is not in train" in nuat.refused(*train, folder)
    shutil.rmtree(folder / "test/eel")
    image = folder / "train/dog/3.png"
    whole = image.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no image"):
        image.write_bytes(damaged)
        assert "photos/train/dog/3.png" in nuat.refused(*train, folder)
    Image.new("L", (9, 8)).save(image)
    message = nuat.refused(*train, folder)
    assert "photos/train/dog/3.png is 9x8" in message
    assert "--data.image-size" in message
    shutil.rmtree(folder / "test")
    assert "found train" in nuat.refused(*train, folder)


@pytest.mark.slow
def test_a_named_source_that_is_not_there_and_may_not_be_downloaded(nuat: CommandLine) -> None:
    for spelling in ("false", "no", "0", "False"):
        message = nuat.refused("train", "nuat-mnist", "--data.download", spelling)
        assert "mnist was not found whole" in message


@pytest.mark.slow
def test_a_run_directory_that_exists(nuat: CommandLine, run: Path, images: Path) -> None:
    message = nuat.refused("train", *FAST, "--data.path", images, "--out", run)
    assert f"{run}: exists and is not empty" in message
    assert "--resume" in message
    for out in (images, images / "below"):
        message = nuat.refused("train", *FAST, "--data.path", images, "--out", out)
        assert f"{out}: " in message
        assert "file" in message
        assert "choose another --out" in message
    assert "is a file, not a folder" in nuat.refused("train", *FAST, "--data.path", images, "--out", images)
    Path("empty").mkdir()
    nuat.done("train", *FAST, "--epochs", "1", "--data.path", images, "--out", "empty")


def test_a_run_that_a_monitor_ended_is_one_line(
    nuat: CommandLine, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise RunStopped(Alarm(monitor="nonfinite", message="the loss is NaN; lower the rate.", stop=True))

    monkeypatch.setattr("nuat.commands.train.run", stopped)
    ended = nuat("train", *FAST, "--data.path", images, "--out", "ended")
    assert (ended.code, ended.err) == (2, "nuat: error: the run was ended: the loss is NaN; lower the rate.\n")


def test_resume_takes_no_other_settings(nuat: CommandLine, run: Path) -> None:
    message = nuat.refused("train", "--resume", run, "--epochs", "5")
    assert message.startswith("nuat: error: --epochs: a resumed run keeps its own settings")
    assert "nuat-mnist" in nuat.refused("train", "nuat-mnist", "--resume", run)


@pytest.mark.slow
def test_a_gpu_that_is_not_there(nuat: CommandLine, run: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:1"):
        for command in (("evaluate", run), ("train", *FAST, "--data.path", images)):
            assert f"device={name}: no CUDA GPU is available here" in nuat.refused(*command, "--device", name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "2 GPU(s), counted from 0" in nuat.refused("evaluate", run, "--device", "cuda:2")


def test_weights_of_another_architecture_than_the_data(nuat: CommandLine, run: Path) -> None:
    write_npz(Path("colour.npz"), **arrays(channels=3))
    write_npz(Path("larger.npz"), **arrays(size=12))
    write_npz(Path("more.npz"), **arrays(classes=4))
    evaluate = ("evaluate", run, "--attacks", "clean", "--data.path")
    assert f"takes 1 x ({SIZE}, {SIZE}) images" in nuat.refused(*evaluate, "colour.npz")
    assert "has 1 x (12, 12)" in nuat.refused(*evaluate, "larger.npz")
    assert "has 3 classes, but file more.npz has 4" in nuat.refused(*evaluate, "more.npz")
    missing = ("--data.path", "none", "--data.name", "mnist", "--data.download", "false")
    assert "mnist was not found whole" in nuat.refused(*evaluate[:-1], *missing)


def test_a_set_that_is_named_is_not_replaced_by_the_images_of_the_run(nuat: CommandLine, run: Path) -> None:
    values = json.loads((run / "config.json").read_text())
    for settings in ({}, {"loading": "stream", "workers": 0, "image_size": SIZE}):
        values["config"]["data"].update(settings)
        (run / "config.json").write_text(json.dumps(values))
        for command in (["evaluate"], ["diagnose"], ["analyse", "confusion"]):
            said = nuat.refused(*command, run, "--data.name", "mnist-sample")
            assert f"takes 1 x ({SIZE}, {SIZE}) images (channels, size), but mnist-sample" in said


def test_a_set_that_is_named_beside_the_images_of_the_settings_is_refused(nuat: CommandLine, images: Path) -> None:
    Path("settings.toml").write_text(f'"data.path" = "{images}"\n')
    words = ("train", *FAST, "--config", "settings.toml", "--data.name", "mnist-sample")
    assert "--data.name: has no effect on the images of data.path=images.npz" in nuat.refused(*words)
    assert "mnist-sample" in nuat.refused(*words, "--data.path", "none", "--data.image-size", SIZE)  # as far as this


def with_metadata(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite a weights file with changed metadata, without the checksums that older versions did not write."""
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["nuat"])
    del values["checksums"]
    tensors = safetensors.torch.load_file(path)
    path.write_bytes(safetensors.torch.save(tensors, {"nuat": json.dumps(change(values))}))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda values: values | {"model": values["model"] | {"width": 8}}, "the weights do not fit the model"),
        (lambda values: values | {"model": values["model"] | {"name": "mnist-cnn"}}, "do not fit the model"),
        (lambda values: values | {"format": 99}, "another format"),
        (lambda values: {}, "another format"),
        (lambda values: [], "expected a JSON object"),
        (lambda values: values | {"surprise": 1}, "'surprise' is unknown to this version"),
        (lambda values: values | {"model": 3}, "metadata: model: expected"),
        (lambda values: values | {"threat": {"eps": 8}}, "Did you mean 8/255?"),
    ],
)
def test_weights_whose_metadata_lie(
    change: Callable[[dict[str, Any]], Any], expected: str, nuat: CommandLine, run: Path
) -> None:
    with_metadata(run / "best.safetensors", change)
    assert expected in nuat.refused("evaluate", run, "--attacks", "clean")


class Hostile:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch owned",)


def test_truncated_and_hostile_weights(nuat: CommandLine, run: Path) -> None:
    weights = run / "best.safetensors"
    whole = weights.read_bytes()
    for damaged in (
        b"",
        whole[:7],
        whole[:500],
        whole[:-1],
        whole + b"more",
        b"\xff" * 8 + whole[8:],
        pickle.dumps(Hostile()),
        pickle.dumps(Hostile(), protocol=4),
    ):
        weights.write_bytes(damaged)
        assert "best.safetensors: not a readable safetensors file, or cut off" in nuat.refused(
            "evaluate", run, "--attacks", "clean"
        )
    weights.write_bytes(safetensors.torch.save({"weight": torch.zeros(2)}))
    assert "was not written by nuat" in nuat.refused("evaluate", run)
    weights.unlink()
    assert "no best.safetensors in this folder" in nuat.refused("evaluate", run)
    assert f"is the checkpoint of a run, to resume from; name the run, {run}" in nuat.refused(
        "evaluate", run / "checkpoint.pt"
    )
    assert not Path("owned").exists()


def changed_checkpoint(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    torch.save(change(torch.load(path, weights_only=True)), path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state: {name: state[name] for name in ("format", "epoch")}, "it lacks average"),
        (lambda state: state | {"format": 99}, "not a checkpoint that this version of nuat reads"),
        (lambda state: [state], "expected a dictionary"),
        (lambda state: state | {"model": dict(list(state["model"].items())[1:])}, "of another architecture"),
        (lambda state: state | {"average": None}, "of another defense or averaging"),
        (lambda state: state | {"model": None}, "damaged"),
        (lambda state: state | {"optimizer": {}}, "damaged"),
        (lambda state: state | {"generator": torch.zeros(3)}, "damaged"),
        (lambda state: state | {"defense": 3}, "damaged"),
    ],
    ids=["few", "format", "list", "model", "average", "no model", "optimizer", "generator", "defense"],
)
def test_checkpoints_of_another_form(
    change: Callable[[dict[str, Any]], Any], expected: str, nuat: CommandLine, run: Path
) -> None:
    changed_checkpoint(run / "checkpoint.pt", change)
    message = nuat.refused("train", "--resume", run)
    assert "checkpoint.pt" in message
    assert expected in message


def test_an_average_that_the_settings_do_not_have(nuat: CommandLine, run: Path) -> None:
    values = json.loads((run / "config.json").read_text())
    values["config"]["averaging"] = {"tau": None, "warmup": False}
    (run / "config.json").write_text(json.dumps(values))
    assert "of another defense or averaging" in nuat.refused("train", "--resume", run)


def test_truncated_and_hostile_checkpoints(nuat: CommandLine, run: Path) -> None:
    checkpoint = run / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    torch.save({"format": 1, "model": Hostile()}, "hostile.pt")
    hostile = Path("hostile.pt").read_bytes()
    for damaged in (
        b"",
        whole[: len(whole) // 2],
        whole[:-1],
        hostile,
        pickle.dumps(Hostile()),
        pickle.dumps(Hostile(), protocol=5),
    ):
        checkpoint.write_bytes(damaged)
        message = nuat.refused("train", "--resume", run)
        assert "checkpoint.pt: " in message
        assert (
            "could run code; not loaded" if damaged == hostile else "more than plain tensors; not loaded"
        ) in message
        assert "weights_only" not in message  # torch advises to load it all the same
    checkpoint.unlink()
    assert "checkpoint.pt: no such file" in nuat.refused("train", "--resume", run)
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "damaged"),
        ('{"recipe": "quick', "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"recipe": "quickstart", "config": {}}', "another version of nuat"),
        ('{"recipe": "quickstart", "config": 3}', "config.json: "),
    ],
)
def test_settings_files_of_another_form(content: str, expected: str, nuat: CommandLine, run: Path) -> None:
    (run / "config.json").write_text(content)
    message = nuat.refused("train", "--resume", run)
    assert expected in message
    assert "config.json" in message
    assert "config.json: damaged" in nuat.refused("evaluate", run, "--attacks", "clean")


def test_a_run_of_a_recipe_that_is_not_ours_is_evaluated_and_resumed(nuat: CommandLine, run: Path) -> None:
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(values | {"recipe": "mine"}))
    assert nuat.done("train", "--resume", run).out.startswith("mine: 8 epochs")
    nuat.done("evaluate", run, "--attacks", "clean")


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the disk be full at the ``after``-th file that is written whole."""
    written = 0

    def fsync(handle: int) -> None:
        nonlocal written
        written += 1
        if written > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 3, 8])
def test_no_space_left_in_training(
    after: int, nuat: CommandLine, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        full_disk(patch, after)
        ended = nuat("train", *FAST, "--data.path", images, "--out", "run")
    assert ended.code == 2
    assert "Traceback" not in ended.err
    remedy = "nuat train --resume run" if after == 8 else "start again with another --out"  # is there a checkpoint?
    assert re.fullmatch(rf"nuat: error: .*no space left .*{remedy}\.?\n", ended.err)
    assert not [name for name in files(Path("run")) if name.endswith(".tmp")]
    if after == 8:  # a checkpoint had been written
        nuat.done("train", "--resume", "run")
        nuat.done("train", *FAST, "--data.path", images, "--out", "undisturbed")
        weights = [Path(folder, "best.safetensors").read_bytes() for folder in ("run", "undisturbed")]
        assert weights[0] == weights[1]


def test_no_space_left_in_evaluation(nuat: CommandLine, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch, 0)
    message = nuat.refused("evaluate", run, "--attacks", "clean", "--json", "result.json")
    assert "no space left" in message


def test_nan_weights_are_not_evaluated(nuat: CommandLine, run: Path) -> None:
    weights = run / "best.safetensors"
    with safe_open(weights, framework="pt") as file:
        values = json.loads(file.metadata()["nuat"])
    del values["checksums"]
    tensors = {name: tensor * float("nan") for name, tensor in safetensors.torch.load_file(weights).items()}
    weights.write_bytes(safetensors.torch.save(tensors, {"nuat": json.dumps(values)}))
    assert "infinite or NaN" in nuat.refused("evaluate", run, "--attacks", "clean", "--n", str(TEST))

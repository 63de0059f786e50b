"""Files of a run: settings read back unchanged, numbers that agree wherever they are written."""

import dataclasses
import json
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from cases import RECIPES_BY_KIND
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.small_runs import (
    BATCHES,
    CLASSES,
    TRAIN,
    VALIDATION,
    PowerCut,
    Watcher,
    averaged,
    cut,
    interrupt,
    metrics,
    small_config,
    train,
    write_images,
)

import nuat
from nuat import data
from nuat.config import DataConfig, ModelConfig, ThreatConfig
from nuat.core.schedules import Ramp
from nuat.defenses import NuATHybrid
from nuat.errors import InputError, printable
from nuat.recipes import RECIPES
from nuat.records.checkpoints import load, read_info
from nuat.records.folder import RunFolder
from nuat.records.methods import method_key
from nuat.records.settings import (
    check_same_config,
    from_json,
    images_name,
    images_source,
    read_config,
    read_data_config,
    to_json,
    write_config,
)
from nuat.training.signals import Interrupted


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    train(small_config(images, averaging=averaged()), out)
    return out


# settings


@pytest.mark.slow
def test_every_recipe_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for name, make in RECIPES.items():
        write_config(path, make(), name)
        placed = dataclasses.replace(make(), data=make().data.placed())
        assert read_config(path) == (name, placed)
        check_same_config(path, make())


def test_a_relative_path_is_recorded_as_an_absolute_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = RECIPES["robust-folder"]()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=Path("pets"), cache=Path("c")))
    write_config(tmp_path / "config.json", config, "robust-folder")
    monkeypatch.chdir("/")
    data = read_data_config(tmp_path / "config.json")
    assert (data.path, data.cache) == (tmp_path / "pets", tmp_path / "c")


@pytest.mark.parametrize("theirs", ["pets", "data/pets", "/data/pets", "~/pets"])
@pytest.mark.parametrize("ours", ["pets", "/elsewhere/pets", "/elsewhere/dogs"])
def test_the_images_of_a_run_may_move_but_not_be_called_otherwise(theirs: str, ours: str, tmp_path: Path) -> None:
    """Their content is compared when the run goes on; older records hold the path as it was given."""
    path = altered("robust-folder", tmp_path, "data", "path", value=theirs)
    config = RECIPES["robust-folder"]()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=Path(ours), cache=Path("/c")))
    if ours.endswith("pets"):
        check_same_config(path, config)
    else:
        with pytest.raises(InputError, match=r"was begun with data\.path=.*pets, not /elsewhere/dogs"):
            check_same_config(path, config)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=None, image_size=None))
    with pytest.raises(InputError, match="was begun with"):
        check_same_config(path, config)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("mnist.npz", "mnist.npz"),
        ("/a/photos", "photos"),
        ("/a/photos/labels.csv", "photos/labels.csv"),
        ("b/../c", "c"),
    ],
)
def test_images_are_known_by_the_end_of_their_path(path: str, name: str) -> None:
    """Two lists called labels.csv are not the same images."""
    assert images_name(path) == name


@pytest.mark.parametrize(
    "path", ["images.npz", "sets/images.npz", "../images.npz", "/sets/images.npz", "/a\x1b/images.npz"]
)
def test_a_source_of_images_does_not_say_where_they_lie(path: str) -> None:
    assert images_source(printable(f"file {path}"), DataConfig(path=Path(path))) == "file images.npz"
    assert images_source("digits", DataConfig()) == "digits"


def test_where_the_images_lie_is_no_part_of_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        write_config(tmp_path / place / "config.json", RECIPES["robust-folder"](), "robust-folder")
        keys.add(method_key(json.loads((tmp_path / place / "config.json").read_text())["config"]))
    keys.add(method_key(to_json(RECIPES["robust-folder"]())))
    assert len(keys) == 1


@pytest.mark.parametrize("name", RECIPES_BY_KIND)
def test_changed_settings_come_back_from_their_file(name: str, tmp_path: Path) -> None:
    config, path = RECIPES[name](), tmp_path / "config.json"
    changed = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=Path("/some/images"), train_limit=7, flip=not config.data.flip),
        model=ModelConfig(name="resnet18", width=8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5)),
        averaging=averaged(0.123456789012345, warmup=True),
        evaluation=dataclasses.replace(config.evaluation, n=None, attacks=("clean",)),
        seed=2**62 + 1,
        precision="bf16",
    )
    assert changed != config
    write_config(path, changed, name)
    assert read_config(path) == (name, changed)


def test_the_settings_of_a_run_are_in_its_folder(images: Path, finished: Path) -> None:
    values = json.loads((finished / "config.json").read_text())
    config = small_config(images, averaging=averaged())
    assert values["config"] == to_json(config)
    assert values["recipe"] == "custom"
    assert values["nuat_version"] == nuat.__version__
    assert read_config(finished / "config.json") == ("custom", config)


def altered(name: str, tmp_path: Path, *keys: str, value: Any = None, remove: bool = False) -> Path:
    """Write a recipe's settings with one field set or removed, and return the file."""
    path = tmp_path / "config.json"
    write_config(path, RECIPES[name](), name)
    values = json.loads(path.read_text())
    inner = values["config"]
    for key in keys[:-1]:
        inner = inner[key]
    if remove:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("keys", [("data",), ("defense",), ("defense", "lam"), ("optimizer", "lr"), ("threat",)])
def test_a_part_that_is_missing(keys: tuple[str, ...], tmp_path: Path) -> None:
    """No class says what it would be."""
    with pytest.raises(InputError, match=rf"config\.json: written by another version.*{keys[-1]}"):
        read_config(altered("quickstart", tmp_path, *keys, remove=True))


@pytest.mark.parametrize("name", ["quickstart", "nuat-cifar10-resnet18"])  # the second flips images
def test_settings_from_before_a_field_mean_its_default(name: str, tmp_path: Path) -> None:
    """Not the recipe's value, which may be a newer one: the behaviour before the field is what its class says."""
    path = altered(name, tmp_path, "threat", "norm", remove=True)
    assert read_config(path) == (name, RECIPES[name]())
    check_same_config(path, RECIPES[name]())
    path = altered(name, tmp_path, "data", "flip", remove=True)
    assert read_config(path)[1].data.flip is DataConfig.flip is False
    if RECIPES[name]().data.flip:
        with pytest.raises(InputError, match=r"begun with data\.flip=False, not True"):
            check_same_config(path, RECIPES[name]())


def forget_the_norm(run: Path) -> None:
    """Make a run's files what they were before threat.norm."""
    values = json.loads((run / "config.json").read_text())
    del values["config"]["threat"]["norm"]
    (run / "config.json").write_text(json.dumps(values))
    for weights in (run / "best.safetensors", run / "last.safetensors"):
        with safe_open(weights, framework="pt") as file:
            info = json.loads(file.metadata()["nuat"])
        del info["threat"]["norm"], info["checksums"]  # neither was there
        tensors = safetensors.torch.load_file(weights)
        weights.write_bytes(safetensors.torch.save(tensors, {"nuat": json.dumps(info)}))


def test_a_run_from_before_threat_norm_goes_on(images: Path, finished: Path, tmp_path: Path) -> None:
    config = small_config(images, averaging=averaged())
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    forget_the_norm(run)
    assert read_info(run / "best.safetensors").threat == config.threat
    expected = load(finished).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load(run).state_dict().items())
    summary = train(config, run, resume=True).summary
    assert summary["epochs"] == 2
    for name in ("best", "last"):
        one, other = (safetensors.torch.load_file(folder / f"{name}.safetensors") for folder in (run, finished))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_from_before_threat_norm_that_was_cut_off_goes_on(images: Path, tmp_path: Path) -> None:
    config = small_config(images)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {BATCHES + 1: interrupt})
    values = json.loads((tmp_path / "run/config.json").read_text())
    del values["config"]["threat"]["norm"]
    (tmp_path / "run/config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"begun with threat.eps=0.1, not 0.2"):
        train(small_config(images, threat=ThreatConfig(eps=0.2)), tmp_path / "run", resume=True)
    assert train(config, tmp_path / "run", resume=True).summary["epochs"] == 2


@pytest.mark.parametrize("keys", [("odd",), ("data", "odd"), ("defense", "lam", "odd"), ("optimizer", "lr", "odd")])
def test_a_field_that_is_unknown(keys: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: written by another version.*odd"):
        read_config(altered("quickstart", tmp_path, *keys, value=1))


def test_a_value_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="epochs=0"):
        read_config(altered("quickstart", tmp_path, "epochs", value=0))
    with pytest.raises(InputError, match="written by another version"):
        read_config(altered("quickstart", tmp_path, "data", value="mnist"))


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(InputError, match="not the folder of a run"):
        read_config(path)
    for text in ("", "{", "[]", "3", '{"recipe": "quickstart"}', '{"config": {}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="damaged"):
            read_config(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="damaged"):
        read_config(path)
    write_config(path, RECIPES["quickstart"](), "my-own")  # the file says everything
    assert read_config(path) == ("my-own", RECIPES["quickstart"]())


def test_a_run_with_another_defense_than_its_recipes_is_read_as_it_was() -> None:
    config = dataclasses.replace(RECIPES["quickstart"](), defense=NuATHybrid(lam=Ramp(peak=3.0), drop=0.4))
    assert from_json(RECIPES["quickstart"](), to_json(config), "here") == config


def test_a_defense_that_nuat_does_not_have_is_refused() -> None:
    values = to_json(RECIPES["quickstart"]())
    values["defense"]["class"] = "Stranger"
    with pytest.raises(InputError, match="holds a Stranger, which this version of nuat does not have"):
        from_json(RECIPES["quickstart"](), values, "here")


# the folder


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_is_not_empty_is_left_alone(resume: bool, images: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(
        InputError, match=r"no such file" if resume else r"exists and is not empty\. Choose another --out\.$"
    ):
        train(small_config(images), tmp_path / "run", resume=resume)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_is_not_empty_is_refused_before_the_images_are_read(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="exists and is not empty"):
        train(small_config(tmp_path / "absent.npz"), tmp_path)


def test_a_finished_run_is_not_overwritten(images: Path, tmp_path: Path) -> None:
    train(small_config(images), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="exists and is not empty"):
        train(small_config(images, seed=1), tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_an_empty_folder_and_missing_parents_will_do(images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        train(small_config(images, epochs=1), out)
        assert (out / "best.safetensors").is_file()


def test_out_is_a_file(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"is a file, not a folder|is a file or lies below one"):
            train(small_config(images), out)
    assert (tmp_path / "file").read_text() == "text"


def test_unusable_data_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        train(small_config(tmp_path / "absent.npz"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_files_of_a_run(finished: Path) -> None:
    folder = RunFolder(finished)
    files = (
        folder.config,
        folder.environment,
        folder.split,
        folder.metrics,
        folder.checkpoint,
        folder.best,
        folder.last,
    )
    assert {path.name for path in finished.iterdir()} == {*(file.name for file in files), "tensorboard"}
    assert folder.read_metrics() == metrics(finished)


# environment and split


def test_environment(finished: Path) -> None:
    found = json.loads((finished / "environment.json").read_text())
    assert torch.__version__.startswith(found["packages"]["torch"])
    assert found["packages"]["numpy"] == metadata.version("numpy")
    assert found["python"] == platform.python_version()
    assert found["nuat"] == nuat.__version__
    assert found["device"] == "cpu"
    assert found["hardware"].endswith(", 1 thread")
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 0
    assert found["started"].endswith("+00:00")
    assert isinstance(found["command"], list)
    assert "git" in found


def test_split(images: Path, finished: Path) -> None:
    found = json.loads((finished / "split.json").read_text())
    held_out = found["validation_indices"]
    assert (found["train"], found["validation"], found["test"]) == (TRAIN - VALIDATION, VALIDATION, 40)
    assert len(set(held_out)) == len(held_out) == VALIDATION
    assert set(held_out) <= set(range(TRAIN))
    assert str(images) in found["source"]
    whole = data.load(DataConfig(path=images, validation=0)).train
    used = data.load(DataConfig(path=images, validation=VALIDATION))
    assert torch.equal(used.validation.images, whole.images[held_out])
    trained_on = {image.numpy().tobytes() for image in used.train.images}
    assert trained_on.isdisjoint(image.numpy().tobytes() for image in whole.images[held_out])
    assert len(trained_on) == TRAIN - VALIDATION
    counts = torch.bincount(used.validation.labels, minlength=CLASSES)
    assert int(counts.max() - counts.min()) <= 1


def test_no_validation_images(images: Path, tmp_path: Path) -> None:
    config = small_config(images, data=DataConfig(path=images, validation=0), averaging=averaged())
    summary = train(config, tmp_path / "run").summary
    assert (summary["best_epoch"], summary["best_validation"]) == (2, None)
    found = json.loads((tmp_path / "run" / "split.json").read_text())
    assert (found["train"], found["validation"], found["validation_indices"]) == (TRAIN, 0, [])
    assert all(line["validation"] == {} for line in metrics(tmp_path / "run", "epoch"))
    best, last = (tmp_path / "run" / f"{name}.safetensors" for name in ("best", "last"))
    assert best.read_bytes() == last.read_bytes()


# metrics


def test_the_lines_of_the_metrics(finished: Path) -> None:
    start, *epochs, end = metrics(finished)
    assert (start["kind"], start["recipe"], start["seed"]) == ("start", "custom", 0)
    assert [line["kind"] for line in epochs] == ["epoch", "epoch"]
    keys = {"time", "kind", "epoch", "step", "lr", "train", "validation", "seconds", "forwards", "backwards"}
    for number, line in enumerate(epochs, 1):
        assert set(line) == keys
        assert (line["epoch"], line["step"]) == (number, number * BATCHES)
        assert set(line["train"]) == {"loss", "clean_loss", "nuclear", "rank", "lam"}
        assert list(line["validation"]) == ["live", "averaged"]
        for found in line["validation"].values():
            assert set(found) == {"clean_loss", "clean", "fgsm", "pgd"}
            assert all(0.0 <= found[name] <= 1.0 for name in ("clean", "fgsm", "pgd"))
    assert epochs[0]["seconds"] < epochs[1]["seconds"]
    assert epochs[0]["train"]["lam"] == 0.0
    assert epochs[1]["train"]["lam"] == 3.0
    train_loss = epochs[1]["train"]
    assert train_loss["loss"] == pytest.approx(train_loss["clean_loss"] + 3.0 * train_loss["nuclear"], rel=1e-5)
    assert set(end) == {
        *("time", "kind", "epochs", "steps", "best_epoch", "best_validation", "seconds", "forwards", "backwards")
    }
    assert (end["kind"], end["epochs"], end["steps"]) == ("end", 2, 2 * BATCHES)
    best = max(line["validation"]["averaged"]["pgd"] for line in epochs)
    assert end["best_validation"] == best
    assert epochs[end["best_epoch"] - 1]["validation"]["averaged"]["pgd"] == best


def test_an_epochs_figures_are_means_over_its_images(images: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    nuat.run(small_config(images, epochs=1), out=tmp_path / "run", reporter=watcher)
    sizes = (32, 32, 32, 4)
    (epoch,) = metrics(tmp_path / "run", "epoch")
    for name in ("clean_loss", "nuclear"):
        mean = sum(step[name] * n for step, n in zip(watcher.metrics, sizes, strict=True)) / sum(sizes)
        assert epoch["train"][name] == pytest.approx(mean, rel=1e-6)
    assert any(text.startswith("      1/1 ") for text in watcher.messages)


def test_the_summary_is_the_last_line(images: Path, tmp_path: Path) -> None:
    run = train(small_config(images), tmp_path / "run")
    assert run.folder == tmp_path / "run"
    assert {name: value for name, value in metrics(tmp_path / "run")[-1].items() if name != "time"} == run.summary


# TensorBoard


def flat(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a record by their place in it."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            found[prefix + name] = value
    return found


def assert_events_are_the_metrics(folder: Path) -> None:
    """TensorBoard shows every number of every epoch's record once, at its epoch, and how the run ended."""
    # files of one second and one process, whose counter may pass from 9 to 10, are read in the order of their names
    for i, file in enumerate(sorted((folder / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime_ns)):
        file.rename(file.with_name(f"{i}.{file.name}"))
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    expected: dict[str, list[tuple[int, float]]] = {}
    for line in metrics(folder, "epoch"):
        for name, value in flat(line).items():
            expected.setdefault(name, []).append((line["epoch"], value))
    assert "validation/live/pgd" in expected
    assert {name for name in events.Tags()["scalars"] if not name.startswith("final/")} == set(expected)
    (*_, end) = metrics(folder, "end")
    for name, value in flat(end).items():
        assert events.Scalars(f"final/{name}")[-1].value == pytest.approx(value, rel=1e-6)
    for name, values in expected.items():
        shown = events.Scalars(name)
        assert [event.step for event in shown] == [step for step, _ in values], name
        assert [event.value for event in shown] == pytest.approx([value for _, value in values], rel=1e-6), name


def test_events_are_the_metrics(finished: Path) -> None:
    assert_events_are_the_metrics(finished)


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, BATCHES + 2, 2 * BATCHES + 1])
def test_events_after_a_stop(at: int, images: Path, tmp_path: Path) -> None:
    config = small_config(images, epochs=3)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {at: interrupt})
    train(config, tmp_path / "run", resume=True)
    assert_events_are_the_metrics(tmp_path / "run")


@pytest.mark.slow
def test_events_of_epochs_that_are_done_again(images: Path, tmp_path: Path) -> None:
    """Cut off in epoch 4 after a checkpoint of epoch 2: the events of epoch 3 are there twice, and shown once."""
    config = small_config(images, epochs=4, checkpoint_every=2)
    with pytest.raises(PowerCut):
        train(config, tmp_path / "run", {3 * BATCHES + 1: cut})
    train(config, tmp_path / "run", resume=True)
    assert [line["epoch"] for line in metrics(tmp_path / "run", "epoch")] == [1, 2, 3, 4]
    assert_events_are_the_metrics(tmp_path / "run")


@pytest.mark.slow
def test_events_of_a_finished_run_that_is_resumed(images: Path, tmp_path: Path) -> None:
    config = small_config(images)
    train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert_events_are_the_metrics(tmp_path / "run")

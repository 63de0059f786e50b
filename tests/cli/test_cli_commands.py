"""Every command from end to end, in this process."""

import ast
import dataclasses
import inspect
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import RECIPES_BY_KIND
from cli.cli_runs import FAST, TEST, CommandLine, arrays, files, table_rows, write_npz
from PIL import Image

import nuat as package
from nuat.cli import main
from nuat.commands.evaluate import attack_weights
from nuat.config import DataConfig
from nuat.data import ImageSet, to_float
from nuat.evaluation.results import Evaluation
from nuat.paper import TABLES, numbers, table
from nuat.recipes import RECIPES
from nuat.records.checkpoints import load


def test_version(nuat: CommandLine) -> None:
    assert nuat.done("--version").out == f"nuat {package.__version__}\n"


def test_help_names_every_command(nuat: CommandLine) -> None:
    for option in ("--help", "-h"):
        out = nuat.done(option).out
        assert all(f"\n  {command} " in out for command in ("train", "evaluate", "recipes"))


def test_without_a_command_help_is_shown_and_the_code_is_2(nuat: CommandLine) -> None:
    ended = nuat()
    assert ended.code == 2
    assert ended.out == nuat("--help").out


def test_recipes_lists_all_with_what_they_train(nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = nuat.done("recipes").out
    for name, recipe in RECIPES.items():
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        said = (recipe.__doc__ or "").splitlines()[0].strip().removesuffix(".")
        assert line.rstrip().endswith((said, said.partition(": ")[2]))  # a heading has what its recipes share
    assert "nuat recipes --table 1a" in out
    assert all(f" {name}" in out.splitlines()[-1] for name in TABLES)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("columns", ["80", "300"])
def test_recipes_of_a_table_come_with_the_papers_numbers(
    name: str, columns: str, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = nuat.done("recipes", "--table", name).out
    assert f"Table {name} of the paper" in out
    assert "accuracy in %" in re.sub(r"\s+", " ", out)
    assert max(map(len, out.splitlines())) <= int(columns)
    rows = table(name)
    for row, line in zip(rows, out.splitlines()[-len(rows) :], strict=True):
        method, recipe, *cells = line.split()
        assert (method, recipe) == (row.method, row.recipe)
        printed = [float(number) for cell in cells for number in cell.split("+")]
        assert printed == list(row.values.values())


def test_a_number_that_the_paper_does_not_have_is_a_dash(nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tuple(number for number in numbers() if number.place != "Table 1a, GAT, PGD 500")
    monkeypatch.setattr("nuat.paper.numbers", lambda: kept)
    (line,) = [line for line in nuat.done("recipes", "--table", "1a").out.splitlines() if line.startswith("GAT ")]
    assert line.split() == ["GAT", "gat-cifar10-resnet18", "1", "80.49", "53.13", "-", "47.76", "47.30"]


def fields(value: Any, prefix: str = "--") -> Iterator[tuple[str, str]]:
    """Yield the option and the docstring of every field of a settings object, recursively."""
    documented = {}
    for kind in type(value).__mro__:
        if dataclasses.is_dataclass(kind):
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
            assert isinstance(definition, ast.ClassDef)
            body = definition.body
            for node, following in zip(body, [*body[1:], None], strict=True):
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    assert isinstance(following, ast.Expr), f"{kind.__name__}.{node.target.id} has no docstring"
                    assert isinstance(following.value, ast.Constant)
                    documented.setdefault(node.target.id, str(following.value.value))
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        option = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(inner):
            yield from fields(inner, f"{option}.")
        else:
            yield option, documented[field.name]


def letters(text: str) -> str:
    """Drop the frame and the line breaks of a help text."""
    return re.sub(r"[^\w,.:;()'<>=/+-]", "", text)


def says(shown: str, documentation: str) -> bool:
    """Return whether a help text has all of a field's documentation; that of none or empty may be the default."""
    parts = re.split(r"(?:None|Empty): (.+?)\.(?= [A-Z]|$)", " ".join(documentation.split()))
    return all(letters(part.strip()) in shown for part in parts)


@pytest.mark.parametrize("recipe", RECIPES_BY_KIND)
def test_the_help_of_a_recipe_shows_every_field_with_its_help(recipe: str, nuat: CommandLine) -> None:
    out = nuat.done("train", recipe, "--help-all").out
    assert "Traceback" not in out
    shown = letters(out)
    options = dict(fields(RECIPES[recipe]()))
    assert len(options) > 40
    for option, documentation in options.items():
        assert re.search(rf"^\W*{re.escape(option)},? ", out, re.MULTILINE), option
        assert says(shown, documentation), option


def test_train_help_is_the_quickstarts(nuat: CommandLine) -> None:
    assert nuat.done("train", "--help").out == nuat.done("train", "quickstart", "--help").out


def test_the_help_shows_the_defaults_in_a_form_that_can_be_typed(nuat: CommandLine) -> None:
    shown = letters(nuat.done("train", "nuat-cifar10-resnet18", "--help-all").out)
    for default in ("0.86,0.91", "clean,pgd-20,pgd-100,pgd-500,gama-100", "true", "none", "8/255"):
        assert f"(default:{default})" in shown
    assert "<function" not in shown
    assert "MISSING" not in shown


def test_evaluate_help_shows_every_option(nuat: CommandLine, run: Path) -> None:
    out = nuat.done("evaluate", "--help-all").out
    for option in ("attacks", "n", "json", "seed", "batch-size", "device", "eps", "pgd-alpha"):
        assert f"--{option} " in out
    shown = letters(out)
    for option, documentation in fields(DataConfig(), "--data."):
        assert f"{option} " in out
        assert says(shown, documentation)
    assert nuat.done("evaluate").out == nuat.done("evaluate", "--help").out
    assert "0.1)" in nuat.done("evaluate", run, "--help").out  # the run's own eps


@pytest.mark.slow
@pytest.mark.usefixtures("figures")
def test_train_from_end_to_end(nuat: CommandLine, images: Path) -> None:
    ended = nuat.done("train", *FAST, "--data.path", images, "--out", "a/run")
    run = Path("a/run")
    for name in ("config.json", "environment.json", "split.json", "metrics.jsonl", "checkpoint.pt", "evaluation.json"):
        assert (run / name).is_file()
        assert (run / name).stat().st_size > 0
    assert (run / "best.safetensors").is_file()
    assert (run / "last.safetensors").is_file()
    assert not [name for name in files(run) if name.endswith((".tmp", ".partial.json"))]
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"] == "quickstart"
    assert config["config"]["epochs"] == 8
    assert config["config"]["threat"]["eps"] == 0.1
    assert sum(json.loads(line)["kind"] == "epoch" for line in (run / "metrics.jsonl").read_text().splitlines()) == 8
    assert_table_is(ended.out, run / "evaluation.json")
    assert str(run / "best.safetensors") in ended.out
    (following,) = re.findall(rf"next: +nuat evaluate {run} --attacks \S+ --n (\d+)$", ended.out, re.MULTILINE)
    assert 0 < int(following) <= len(package.data.load(DataConfig(path=images, validation=0)).test)


def assert_table_is(out: str, path: Path) -> Evaluation:
    """The numbers printed are those of the file."""
    values = json.loads(path.read_text())
    rows = table_rows(out)
    for row in values["results"]:
        low, high = (100 * end for end in row["interval"])
        assert rows[row["name"]][:2] == [f"{100 * row['accuracy']:.2f}", f"{low:.1f} - {high:.1f}"]
        if row["shared_with"] is None:
            assert rows[row["name"]][2:] == [f"{row['seconds']:.1f}", f"{row['forwards']:,}", f"{row['backwards']:,}"]
        else:
            assert rows[row["name"]][2] == f"in {row['shared_with']}"
    assert rows["worst case"][0] == f"{100 * values['worst_case']['accuracy']:.2f}"
    assert len(rows) == len(values["results"]) + 1
    return Evaluation.from_json(values)


def test_the_trained_weights_have_the_accuracy_that_the_evaluation_says(trained: Path) -> None:
    found = Evaluation.from_json(json.loads((trained / "run/evaluation.json").read_text()))
    test = arrays()
    images = ImageSet(torch.from_numpy(test["x_test"]).permute(0, 3, 1, 2), torch.from_numpy(test["y_test"]))
    with torch.no_grad():
        predicted = load(trained / "run")(to_float(images.images)).argmax(dim=1)
    assert found.results[0].correct.tolist() == (predicted == images.labels)[found.indices].tolist()
    assert found.n == TEST
    assert [result.name for result in found.results] == ["clean", "pgd-2", "pgd-3"]
    assert found.accuracy("pgd-3") <= found.accuracy("pgd-2") <= found.accuracy("clean")
    assert found.accuracy("clean") > 0.5  # or the other tests would compare constant models


@pytest.mark.slow
def test_without_out_every_run_gets_a_folder_of_its_own(nuat: CommandLine, images: Path) -> None:
    for _ in range(2):
        nuat.done("train", "quickstart-standard", *FAST, "--epochs", 1, "--data.path", images)
    folders = list(Path("runs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert re.fullmatch(r"quickstart-standard-\d{8}-\d{6}(-2)?", folder.name)
        assert (folder / "evaluation.json").is_file()


@pytest.mark.slow
def test_train_on_an_image_folder(nuat: CommandLine) -> None:
    write_folder(Path("photos"))
    nuat.done("train", *FAST, "--epochs", 1, "--data.path", "photos", "--out", "run")
    found = nuat.done("evaluate", "run", "--attacks", "clean")
    assert f"{TEST} test images" in found.out


def write_folder(folder: Path) -> None:
    images = arrays()
    for part in ("train", "test"):
        for i, (x, y) in enumerate(zip(images[f"x_{part}"], images[f"y_{part}"], strict=True)):
            target = folder / part / f"class{y}" / f"{i:03}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[:, :, 0]).save(target)


def test_evaluate_a_run(nuat: CommandLine, run: Path) -> None:
    before = set(files(run))
    ended = nuat.done("evaluate", run, "--attacks", "clean,fgsm,pgd-3", "--n", 12, "--seed", 5, "--batch-size", 5)
    (new,) = set(files(run)) - before
    assert re.fullmatch(r"evaluation-\d{8}-\d{6}\.json", new)
    assert f"written to {run / new}" in ended.out
    found = assert_table_is(ended.out, run / new)
    assert (found.n, found.seed, found.batch_size, found.eps) == (12, 5, 5, 0.1)


def test_evaluating_a_run_again_gives_what_training_said(nuat: CommandLine, run: Path) -> None:
    nuat.done("evaluate", run, "--attacks", "pgd-3,clean,pgd-2", "--batch-size", 13, "--json", "again.json")
    again = json.loads(Path("again.json").read_text())
    before = json.loads((run / "evaluation.json").read_text())
    assert {row["name"]: row["correct"] for row in again["results"]} == {
        row["name"]: row["correct"] for row in before["results"]
    }


def test_evaluate_weights_inside_and_outside_a_run(nuat: CommandLine, run: Path, images: Path) -> None:
    nuat.done("evaluate", run / "best.safetensors", "--attacks", "clean,pgd-2", "--json", "inside.json")
    shutil.copy(run / "best.safetensors", "shipped.safetensors")
    assert "--data.name or --data.path" in nuat.refused("evaluate", "shipped.safetensors", "--attacks", "clean,pgd-2")
    nuat.done(
        "evaluate", "shipped.safetensors", "--attacks", "clean,pgd-2", "--data.path", images, "--json", "outside.json"
    )
    inside, outside = (json.loads(Path(f"{name}.json").read_text()) for name in ("inside", "outside"))
    assert [row["correct"] for row in inside["results"]] == [row["correct"] for row in outside["results"]]
    assert outside["eps"] == 0.1  # the weights say what they were trained for
    nuat.done("evaluate", run / "last.safetensors", "--attacks", "clean", "--json", "last.json")
    nuat.done("evaluate", "shipped.safetensors", "--help")


def test_the_default_number_of_images_is_a_cap_and_a_chosen_one_a_demand(nuat: CommandLine, run: Path) -> None:
    assert f"{TEST} test images" in nuat.done("evaluate", run, "--attacks", "clean").out
    assert f"{TEST} test images" in nuat.done("evaluate", run, "--attacks", "clean", "--n", "none").out
    message = nuat.refused("evaluate", run, "--attacks", "clean", "--n", TEST + 1)
    assert f"n={TEST + 1}" in message
    assert str(TEST) in message.replace(f"n={TEST + 1}", "")
    for n in (0, -1):
        assert f"n={n}" in nuat.refused("evaluate", run, "--attacks", "clean", "--n", n)


def test_json_goes_where_it_is_asked_to(nuat: CommandLine, run: Path) -> None:
    before = files(run)
    ended = nuat.done("evaluate", run, "--attacks", "clean", "--json", "new/folder/result.json")
    assert files(run) == before
    assert_table_is(ended.out, Path("new/folder/result.json"))
    nuat.done("evaluate", run, "--attacks", "clean,fgsm", "--json", "new/folder/result.json")  # replaced whole
    assert len(json.loads(Path("new/folder/result.json").read_text())["results"]) == 2


def test_json_that_cannot_be_written_is_said_before_anything_runs(nuat: CommandLine, run: Path) -> None:
    Path("file").write_text("")
    Path("folder").mkdir()
    assert "file" in nuat.refused("evaluate", run, "--attacks", "clean", "--json", "file/result.json")
    assert "folder" in nuat.refused("evaluate", run, "--attacks", "clean", "--json", "folder")


def test_an_interrupted_evaluation_goes_on_when_the_command_is_given_again(
    nuat: CommandLine, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("evaluate", run, "--attacks", "clean,pgd-2,gama-2", "--batch-size", 10, "--json")
    before = set(files(run))
    from nuat.models import SmallCNN

    forward, calls, last = SmallCNN.forward, 0, 10**9

    def interrupted(self: SmallCNN, x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt
        return forward(self, x)

    monkeypatch.setattr(SmallCNN, "forward", interrupted)
    nuat.done(*command, "undisturbed.json")
    whole, calls, last = calls, 0, calls - 6
    ended = nuat(*command, "result.json")
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert "the same command" in ended.err
    (state,) = set(files(run)) - before
    assert state in ended.err
    assert not Path("result.json").exists()
    calls, last = 0, 10**9
    nuat.done(*command, "result.json")
    assert 6 < calls < whole - 10  # the model is inspected once more; of the attacks only the rest is done
    assert set(files(run)) == before
    results = [json.loads(Path(f"{name}.json").read_text())["results"] for name in ("undisturbed", "result")]
    for row in (row for rows in results for row in rows):
        del row["seconds"]
    assert results[0] == results[1]


def test_a_finished_run_can_be_resumed_to_the_same_end(nuat: CommandLine, run: Path) -> None:
    before = files(run)
    nuat.done("train", "--resume", run)
    after = files(run)
    for name in ("best.safetensors", "last.safetensors", "config.json", "split.json"):
        assert after[name] == before[name]
    rows = [json.loads(found["evaluation.json"] or b"")["results"] for found in (before, after)]
    assert [row["correct"] for row in rows[0]] == [row["correct"] for row in rows[1]]


@pytest.mark.slow
def test_two_runs_of_one_seed_are_equal_and_of_two_are_not(nuat: CommandLine, images: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        nuat.done("train", *FAST, "--epochs", 1, "--data.path", images, "--seed", seed, "--out", name)
    a, b, c = (Path(name, "best.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.slow
def test_autoattack_on_the_command_line(nuat: CommandLine, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oracles import shorten_autoattack

    shorten_autoattack(monkeypatch)
    ended = nuat.done("evaluate", run, "--attacks", "clean,autoattack", "--n", 9, "--json", "result.json")
    found = assert_table_is(ended.out, Path("result.json"))
    assert found.accuracy("autoattack") <= found.accuracy("clean")


def test_a_missing_extra_is_said_before_anything_runs(
    nuat: CommandLine, run: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    for command in (
        ("evaluate", run, "--attacks", "clean,autoattack"),
        ("train", *FAST[:-1], "clean,autoattack", "--data.path", images),
    ):
        assert "pip install 'nuat[autoattack]'" in nuat.refused(*command)


def test_an_error_of_our_own_shows_a_traceback_and_a_sentence(
    nuat: CommandLine, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("this cannot happen")

    monkeypatch.setattr("nuat.hardware.resolve", broken)
    ended = nuat("evaluate", run, "--attacks", "clean")
    assert ended.code == 1
    assert ended.err.startswith("Traceback (most recent call last)")
    assert "RuntimeError: this cannot happen" in ended.err
    assert ended.err.splitlines()[-1].startswith("nuat: this is an error in nuat; please report it")


def test_a_value_error_that_is_not_an_input_error_is_ours_too(
    nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("nuat.commands.recipes.recipes", broken)
    ended = nuat("recipes")
    assert (ended.code, ended.err.count("Traceback")) == (1, 1)


def test_ctrl_c_before_anything_has_begun(nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nuat.commands.recipes.recipes", interrupted)
    ended = nuat("recipes")
    assert (ended.code, ended.err) == (130, "\nnuat: interrupted\n")


class _Gone:
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError

    def fileno(self) -> int:
        raise OSError("no file")


def test_a_reader_that_has_left_is_no_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", _Gone())
    assert main(["--help"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_images_whose_bytes_are_floats_give_the_same_run(nuat: CommandLine, images: Path) -> None:
    floats = {name: (x / 255).astype(np.float32) for name, x in arrays().items() if name.startswith("x_")}
    write_npz(Path("floats.npz"), **floats)
    for name, path in (("a", images), ("b", "floats.npz")):
        nuat.done("train", *FAST, "--epochs", 1, "--data.path", path, "--out", name)
    tensors = [load(name).state_dict() for name in ("a", "b")]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_a_run_that_is_removed_while_it_is_evaluated_is_not_made_anew(
    nuat: CommandLine, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attack_weights

    def removing(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        shutil.rmtree("run")
        return found

    monkeypatch.setattr("nuat.commands.train.attack_weights", removing)
    ended = nuat("train", *FAST, "--epochs", 1, "--data.path", images, "--out", "run")
    assert ended.code == 2
    assert ended.err.startswith("nuat: error: run: was removed or moved while a run was writing to it")
    assert "worst case" in ended.out  # the results are printed all the same
    assert not Path("run").exists()

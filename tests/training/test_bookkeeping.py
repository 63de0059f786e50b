"""The lines of the epochs: a head once, 80 columns, the best marked, and everything else in the record."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from training.small_runs import PowerCut, Watcher, cut, small_config, write_images

import nuat
from nuat.config import AveragingConfig
from nuat.progress import TerminalReporter, terminal


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def table(messages: list[str]) -> list[str]:
    """Return the lines of the epochs with their head."""
    first = next(i for i, text in enumerate(messages) if text.split()[:1] == ["epoch"])
    return [text for text in messages[first:] if not text.startswith("warning")]


@pytest.mark.parametrize(("tau", "attack", "column"), [(None, "pgd-7", "pgd-7"), (0.8, "margin-pgd-2", "attack")])
def test_a_head_once_and_a_line_of_80_columns_an_epoch(
    tau: float | None, attack: str, column: str, images: Path, tmp_path: Path
) -> None:
    watcher = Watcher()
    config = small_config(images, epochs=3, averaging=AveragingConfig(tau=tau), validate_attack=attack)
    found = nuat.run(config, out=tmp_path / "run", reporter=watcher)
    head, *lines = table(watcher.messages)
    assert head.split() == ["epoch", "lr", "loss", "clean", "fgsm", column, "time"]
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all(len(line) <= 80 for line in (head, *lines))
    which = "live" if tau is None else "averaged"
    said = f"clean, fgsm, {attack}: accuracy of the {which} weights on 20 validation images"
    assert watcher.messages.count(said) == 1
    records = [json.loads(line) for line in (found.folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in records if line["kind"] == "epoch"]
    best, marked = -1.0, []
    for line, record in zip(lines, epochs, strict=True):
        shown = record["validation"][which]
        words = line.split()
        assert words[2:6] == [
            f"{record['train']['loss']:.3f}", *(f"{shown[name]:.1%}" for name in ("clean", "fgsm", "pgd"))
        ]  # fmt: skip
        if shown["pgd"] >= best:
            best = shown["pgd"]
            marked.append(record["epoch"])
        assert (words[-1] == "best") == (record["epoch"] in marked)
        assert set(record["validation"]) == ({"live"} if tau is None else {"live", "averaged"})
        assert {"nuclear", "clean_loss", "lam"} <= set(record["train"])
    assert marked[-1] == found.summary["best_epoch"]


def test_a_resumed_run_says_the_head_once_more(images: Path, tmp_path: Path) -> None:
    config = small_config(images, epochs=3)
    with pytest.raises(PowerCut):
        nuat.run(config, out=tmp_path / "run", reporter=Watcher({6: cut}))
    watcher = Watcher()
    nuat.run(config, out=tmp_path / "run", resume=True, reporter=watcher)
    head, *lines = table(watcher.messages)
    assert head.startswith("    epoch")
    assert [line.split()[0] for line in lines] == ["2/3", "3/3"]


def test_without_validation_images_the_accuracies_are_dashes_and_no_epoch_is_best(images: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    config = small_config(images, epochs=1)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, validation=0))
    nuat.run(config, out=tmp_path / "run", reporter=watcher)
    _, line = table(watcher.messages)
    assert line.split()[3:6] == ["-", "-", "-"]
    assert not line.endswith("best")
    assert not any("validation images" in text for text in watcher.messages)


def test_in_a_pipe_a_run_and_its_resumption_write_plain_lines(images: Path, tmp_path: Path) -> None:
    config, written = small_config(images, epochs=2), []
    for resume in (False, True):
        console = terminal()
        console.file = out = io.StringIO()
        nuat.run(config, out=tmp_path / "run", resume=resume, reporter=TerminalReporter(console))
        written.append(out.getvalue())
        config = dataclasses.replace(config, epochs=3)
        settings = json.loads((tmp_path / "run" / "config.json").read_text())
        settings["config"]["epochs"] = 3
        (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    for text, lines in zip(written, (2, 1), strict=True):
        assert not set(text) & set("\r\x1b")
        assert sum(line.split()[:2] == ["epoch", "lr"] for line in text.splitlines()) == 1
        assert sum("/3 " in line or "/2 " in line for line in text.splitlines()) == lines


def test_an_epoch_without_validation_has_dashes_under_the_head_of_the_others(images: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    config = small_config(images, epochs=4, validate_every=4)  # the first and the last epoch
    with pytest.raises(PowerCut):
        nuat.run(config, out=tmp_path / "run", reporter=Watcher({6: cut}))
    nuat.run(config, out=tmp_path / "run", resume=True, reporter=watcher)
    _, second, third, last = table(watcher.messages)
    for line in (second, third):
        assert line.split()[3:6] == ["-", "-", "-"]
        assert not line.endswith("best")
    assert "-" not in last.split()
    assert sum("on 20 validation images" in text for text in watcher.messages) == 1

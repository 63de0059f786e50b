"""Folders as runs and campaigns leave them, without training anything."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch

from nuat.core.threat import Norm
from nuat.evaluation.answers import Answers
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.recipes import RECIPES
from nuat.records.search import find_runs
from nuat.records.settings import to_json
from nuat.report.page.groups import group
from nuat.report.page.table import Table, tabulate

ENVIRONMENT = {
    "started": "2026-01-02T03:04:05+00:00",
    "command": ["nuat", "train", "quickstart", "--out", "runs/a b"],
    "nuat": "0.1.0",
    "git": "abc123",
    "python": "3.11.7",
    "packages": {"torch": "2.15.0", "pyautoattack": None},
    "system": "Linux x86_64",
    "hardware": "Test CPU, 1 threads",
}


def write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def change(config: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Set dotted names of a configuration."""
    for name, value in settings.items():
        *parents, last = name.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config


def run(
    path: Path,
    *,
    recipe: str = "quickstart",
    like: str | None = None,
    settings: Mapping[str, Any] | None = None,
    epochs: int = 3,
    ended: bool = True,
    metrics: Sequence[Mapping[str, Any]] = (),
    seconds: float = 12.0,
) -> Path:
    """Write a run's folder without evaluations; ``like`` names the recipe whose settings it has."""
    config = change(to_json(RECIPES[like or recipe]()), settings or {})
    write(path / "config.json", {"format": 1, "nuat_version": "0.1.0", "recipe": recipe, "config": config})
    write(path / "environment.json", ENVIRONMENT)
    lines: list[Mapping[str, Any]] = [{"kind": "start", "recipe": recipe, "seed": 0}]
    for i in range(1, epochs + 1):
        accuracies = {"clean_loss": 0.5, "clean": 0.5 + 0.01 * i, "fgsm": 0.4, "pgd": 0.3 + 0.01 * i}
        train = {"loss": 1.0 / i, "clean_loss": 0.5 / i, "nuclear": 0.1 * i, "lam": 0.1 * i}
        lines.append({"kind": "epoch", "epoch": i, "lr": 0.1, "train": train, "validation": {"live": accuracies}})
    lines += metrics
    if ended:
        cost = {"seconds": seconds, "forwards": 1_500_000, "backwards": 500_000}
        lines.append({"kind": "end", "epochs": epochs, "steps": 9, "best_epoch": 2, "best_validation": 0.4, **cost})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def evaluation(
    path: Path,
    correct: Mapping[str, int],
    n: int = 100,
    *,
    eps: float = 0.3,
    seed: int = 0,
    begin: int = 0,
    warnings: Sequence[str] = (),
    attack_settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write an evaluation under which the last ``correct`` of n images are withstood."""
    found = Evaluation(
        results=tuple(
            AttackResult(
                name, dict((attack_settings or {}).get(name, {})), torch.arange(n) >= n - k, 1.5, 10 * n, 9 * n
            )
            for name, k in correct.items()
        ),
        indices=torch.arange(begin, begin + n),
        eps=eps,
        seed=seed,
        batch_size=50,
        hardware="Test GPU",
        images=f"digest {begin} {n}",
        warnings=tuple(warnings),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path)
    return path


def evaluation_of_classes(
    path: Path,
    predicted: Mapping[str, Sequence[int]],
    labels: Sequence[int],
    classes: Sequence[str],
    *,
    eps: float = 0.3,
    norm: Norm = "Linf",
    also: str | None = None,
    temperature: float = 1.0,
) -> Path:
    """Write an evaluation in which each attack's images are taken for these classes, with growing confidence."""
    truth, n = torch.tensor(labels), len(labels)
    confidence = (torch.arange(n, dtype=torch.float64) + 1) / n
    found = Evaluation(
        results=tuple(
            AttackResult(
                name, {}, torch.tensor(said) == truth, 1.5, n, n, None, Answers(torch.tensor(said), confidence)
            )
            for name, said in predicted.items()
        ),
        indices=torch.arange(n),
        eps=eps,
        seed=0,
        batch_size=50,
        hardware="Test GPU",
        norm=norm,
        also=also,
        labels=truth,
        classes=tuple(classes),
        temperature=temperature,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path)
    return path


def campaign_row(
    root: Path,
    recipe: str,
    *,
    label: str,
    seed: int = 0,
    correct: Mapping[str, int] | None = None,
    n: int = 100,
    images: str = "test",
    campaign: str = "versus",
    seconds: float = 12.0,
    forwards: int = 1_500_000,
    settings: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    attack_settings: Mapping[str, Mapping[str, Any]] | None = None,
    **values: Any,
) -> Path:
    """Write a campaign's row that is done: run, evaluation of the suite "main", record."""
    folder = run(root / recipe / f"seed-{seed}", recipe=recipe, settings={"seed": seed, **(settings or {})})
    correct = {"clean": 90, "pgd-100": 50, "gama-100": 40} if correct is None else correct
    path = folder / "evaluation-main.json"
    evaluation(path, correct, n, seed=seed, warnings=warnings, attack_settings=attack_settings)
    found = Evaluation.from_json(json.loads(path.read_text()))
    accuracies = {result.name: result.accuracy for result in found.results}
    accuracies["worst-case"] = found.accuracy("worst-case")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    end = json.loads(lines[-1]) | {"seconds": seconds, "forwards": forwards}
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(end)]) + "\n")
    record = {
        "status": "done",
        "campaign": campaign,
        "label": label,
        "recipe": recipe,
        "settings": {},
        "seed": seed,
        "hardware": "Test CPU, 1 threads",
        "eps": 0.3,
        "epochs": 3,
        "best_epoch": 2,
        "forwards": forwards,
        "backwards": 500_000,
        "seconds": {"training": seconds, "main": 3.0},
        "suites": {"main": {"images": images, "n": n, "accuracies": accuracies}},
        "alarms": [],
    }
    write(folder / "row.json", record | values)
    return folder


def marked_table(root: Path, mark: str) -> Table:
    """Return the table of a row with ``mark`` in every text that a stranger may have written."""
    campaign_row(root, "nuat-mnist-small-cnn", label=mark, campaign=mark, settings={"model.weights": mark})
    (one,) = group(find_runs([root]).runs)
    table = tabulate(one)
    # two columns share a head
    heads = [f"{mark} shared", f"{mark} shared", *(f"{mark} {column.head}" for column in table.columns[2:])]
    return replace(
        table,
        columns=tuple(
            replace(column, head=head, sub="paper", note=mark)
            for column, head in zip(table.columns, heads, strict=True)
        ),
        rows=tuple(
            replace(
                row,
                cells=tuple(replace(cell, text=mark, note=mark, printed=None) for cell in row.cells),
                remarks=(mark,),
            )
            for row in table.rows
        ),
        notes=(mark,),
    )


class Page(HTMLParser):
    """A page as its reader gets it: elements in order, text, tables."""

    VOID = ("meta", "link", "br", "img", "rect", "polyline", "path", "use")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        """Rows of (text, data-value) of each sortable table."""
        self._open: list[str] = []
        self._inside = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "table":
            self._inside = found.get("class") == "sortable"
            if self._inside:
                self.tables.append([])
        if self._inside and tag == "tr":
            self.tables[-1].append([])
        if self._inside and tag in ("td", "th"):
            self.tables[-1][-1].append(("", found.get("data-value")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        if tag == "table":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.texts.append(data)
        if self._inside and {"td", "th"} & set(self._open):
            text, value = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (f"{text} {data}".strip(), value)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def rows(self, table: int = 0) -> dict[str, list[tuple[str, str | None]]]:
        """Return the body's rows by the value of their first cell."""
        return {str(row[0][1]): row for row in self.tables[table] if row and row[0][1] is not None}

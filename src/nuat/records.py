"""What a run writes: its folder with the settings, the environment, the metrics and the artifacts.

| file | content |
|---|---|
| config.json | recipe and every setting |
| environment.json | versions, hardware, git revision, command |
| split.json | the validation images' positions in the source's training part; files left out |
| metrics.jsonl | one JSON object a line: epochs, alarms, switches, starts, the end |
| checkpoint.pt | full state, to resume from |
| best.safetensors, last.safetensors | weights to ship |
| evaluation.json | what the best weights withstand |
| curves.png, examples.png | losses, accuracies and schedules over the epochs; images before and after an attack |
| tensorboard/ | the same curves as events |
"""

import dataclasses
import errno
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import typing
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

import nuat
from nuat import hardware
from nuat.config import DataConfig, TrainConfig
from nuat.defenses import Defense
from nuat.errors import InputError
from nuat.files import write_text
from nuat.schedules import Schedule

T = TypeVar("T")

_FREE_ON_RESUME = ("device", "data.workers", "monitors.", "evaluation.", "checkpoint_")
"""Settings that do not change the weights: a run that an alarm ended may go on with the alarm set to warn."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.environment = path / "environment.json"
        self.split = path / "split.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"
        self.best = path / "best.safetensors"
        self.last = path / "last.safetensors"
        self.evaluation = path / "evaluation.json"
        self.evaluation_state = path / "evaluation.partial.json"
        self.curves = path / "curves.png"
        self.examples = path / "examples.png"
        self.tensorboard = path / "tensorboard"

    def check_new(self) -> None:
        """Refuse a folder that exists and is not empty, or a file in its place.

        Raises:
            InputError: it is not free for a new run.
        """
        try:
            if self.path.exists() and any(self.path.iterdir()):
                go_on = f", or continue it with --resume {self.path}" if self.checkpoint.is_file() else ""
                raise InputError(f"{self.path}: exists and is not empty. Choose another --out{go_on}.")
        except NotADirectoryError:
            raise InputError(f"{self.path}: is a file, not a folder; choose another --out.") from None

    def clear_cut_off(self) -> None:
        """Remove the parts of files that a process was writing when it was killed."""
        names = [file.name for file in vars(self).values()]
        for part in self.path.glob(".*.tmp"):
            if any(part.name.startswith(f".{name}.") for name in names):
                part.unlink(missing_ok=True)

    def clear_start(self, config: TrainConfig) -> None:
        """Remove what a run of ``config`` that ended before its first checkpoint left, so that it can start once more.

        What a run of other settings left stays, and the record of one that came to an end and whose checkpoint was not
        kept.
        """
        if not self.path.is_dir():
            return
        self.clear_cut_off()
        if not self.config.is_file() or self.checkpoint.is_file() or self._ended():
            return
        if self.config.stat().st_size:  # an empty one is of a start that got no further
            check_same_config(self.config, config)
        for file in (self.config, self.environment, self.split, self.metrics, self.best, self.last):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)

    def _ended(self) -> bool:
        """Return whether a run came to its end here, or an alarm to its; what cannot be read is taken for one."""
        if self.evaluation.is_file():
            return True
        if not self.metrics.is_file():
            return False
        try:
            lines = self.read_metrics()
            return any(line.get("kind") == "end" or line.get("stop") is True for line in lines)
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
            return True

    def create(self) -> None:
        """Make the folder.

        Raises:
            InputError: it cannot be made.
        """
        self.check_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"{self.path}: a file is in its place; choose another --out.") from None
        except PermissionError:
            raise InputError(f"{self.path}: no permission to write there; choose another --out.") from None

    def append(self, record: dict[str, Any]) -> int:
        """Add a line to the metrics, whole, and return the file's size [bytes] after it."""
        line = (json.dumps(_finite({"time": _now(), **record}), allow_nan=False) + "\n").encode()
        before = self.metrics.stat().st_size if self.metrics.is_file() else 0
        try:
            with self.metrics.open("ab") as file:
                file.write(line)
        except OSError:
            # only now: a file that is still open would write the rest of its buffer when it is closed
            if self.metrics.is_file():
                os.truncate(self.metrics, before)
            raise
        return before + len(line)

    def truncate_metrics(self, size: int) -> None:
        """Drop the lines past ``size`` [bytes]: those of steps that are about to be done again."""
        if self.metrics.is_file() and self.metrics.stat().st_size > size:
            os.truncate(self.metrics, size)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of the metrics."""
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]


def write_config(path: Path, config: TrainConfig, recipe: str) -> None:
    """Write a run's settings."""
    values = {"format": 1, "nuat_version": nuat.__version__, "recipe": recipe, "config": to_json(config)}
    write_text(path, json.dumps(values, indent=1) + "\n")


def read_config(path: Path, recipes: typing.Mapping[str, typing.Callable[[], TrainConfig]]) -> tuple[str, TrainConfig]:
    """Return the recipe and the settings that ``write_config`` wrote.

    The recipe gives the classes (of the defense and the schedules), the file their fields.

    Raises:
        InputError: no such file, damaged, of an unknown recipe, or with fields that this version does not have.
    """
    recipe, fields = _read(path)
    if recipe not in recipes:
        raise InputError(
            f"{path}: its recipe {recipe!r} is not one of ours; use nuat.run(config, out=..., resume=True)."
        )
    return recipe, from_json(recipes[recipe](), fields, str(path))


def read_data_config(path: Path) -> DataConfig:
    """Return the data settings in a file of ``write_config``, of whatever recipe and version.

    Fields that this version does not know are left out, those that the file lacks take their defaults.
    """
    known = {field.name for field in dataclasses.fields(DataConfig)}
    try:
        values = {name: value for name, value in _read(path)[1]["data"].items() if name in known}
        return from_json(DataConfig(), {**to_json(DataConfig()), **values}, str(path))
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: damaged; it does not hold the settings of a run.") from None


def check_same_config(path: Path, config: TrainConfig) -> None:
    """Refuse to go on with other settings than a file of ``write_config`` holds, but for those in _FREE_ON_RESUME.

    Raises:
        InputError: a setting differs; the first is named.
    """
    theirs, ours = flat(_complete(config, _read(path)[1])), flat(to_json(config))
    for name in {**theirs, **ours}:
        if not name.startswith(_FREE_ON_RESUME) and theirs.get(name) != ours.get(name):
            raise InputError(
                f"{path.parent}: was begun with {name}={theirs.get(name)}, not {ours.get(name)}. A run goes on with "
                "its own settings; start a new one for others."
            )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return found


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the recipe and the fields in a file of ``write_config``."""
    if not path.is_file():
        raise InputError(f"{path}: no such file, so {path.parent} is not the folder of a run.")
    try:
        values = json.loads(path.read_text())
        recipe, fields = values["recipe"], values["config"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(f"{path}: damaged; it does not hold the settings of a run.") from None
    if not isinstance(recipe, str) or not isinstance(fields, dict):
        raise InputError(f"{path}: damaged; it does not hold the settings of a run.")
    return recipe, fields


def to_json(value: Any) -> Any:
    """Return a settings object as JSON values; a defense or a schedule with the name of its ``class``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"class": type(value).__name__} if isinstance(value, (Defense, Schedule)) else {}
        return kind | {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _complete(like: Any, values: Any) -> Any:
    """Return ``values`` with the fields that a file of an older version lacks.

    A field that is added later has the behaviour before it as its class's default, so that is what the file meant.
    """
    if not isinstance(values, dict):
        return values
    full = dict(values)
    for field in dataclasses.fields(like):
        inner = getattr(like, field.name)
        if field.name not in full and field.default is not dataclasses.MISSING:
            full[field.name] = to_json(field.default)
        elif dataclasses.is_dataclass(inner) and field.name in full:
            full[field.name] = _complete(inner, full[field.name])
    return full


def from_json(default: T, values: dict[str, Any], where: str) -> T:
    """Return ``default`` (a settings object) with its fields set to ``values``, recursively.

    Fields that ``values`` lacks take their class's default: a file of an older version means just that.
    """
    values = _complete(default, values)
    names = {field.name for field in dataclasses.fields(default)}  # type: ignore[arg-type]
    if isinstance(values, dict) and "class" in values:
        if values["class"] != type(default).__name__:
            raise InputError(f"{where}: holds a {values['class']}, but its recipe makes a {type(default).__name__}.")
        values = {name: value for name, value in values.items() if name != "class"}
    if not isinstance(values, dict) or set(values) != names:
        odd = sorted(names ^ set(values)) if isinstance(values, dict) else values
        raise InputError(f"{where}: written by another version of nuat; fields that differ: {odd}.")
    hints = typing.get_type_hints(type(default))
    restored = {name: _restore(getattr(default, name), hints[name], value, where) for name, value in values.items()}
    return dataclasses.replace(default, **restored)  # type: ignore[type-var]


def _restore(default: Any, hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return from_json(default, value, where)
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and (hint is Path or Path in typing.get_args(hint)):
        return Path(value)
    return value


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a repetition needs to know besides the settings, as JSON values."""
    return {
        "started": _now(),
        "command": [Path(sys.argv[0]).name.replace("__main__.py", "nuat"), *sys.argv[1:]],
        "nuat": nuat.__version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "packages": versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": str(device),
        "hardware": hardware.describe(device),
        "processor": hardware.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": hardware.memory_bytes(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
    }


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that numbers depend on; none for one that is not installed."""
    return {name: _version(name) for name in ("torch", "torchvision", "timm", "numpy", "pyautoattack")}


def git_revision() -> str | None:
    """Return the commit of the code that runs, with ``-dirty`` where it was changed; none outside a checkout."""
    here = Path(__file__).parent
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        # an installed copy may lie inside somebody else's checkout (a virtual environment in it)
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() if tracked.returncode == 0 else None


def no_space_left(error: OSError) -> bool:
    """Return whether an error says that a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _finite(value: Any) -> Any:
    """Return JSON values with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""A run's settings as its ``config.json`` holds them, and which of them change what is trained.

Classes of the user's own have their pinned names in it (``nuat.own_code``). Their text lies in the folder ``code``.
"""

import contextlib
import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from nuat import hardware, own_code
from nuat.config import DataConfig, TrainConfig
from nuat.core.schedules import Constant, Cyclic, CyclicStep, MultiStep, OneCycle, Schedule
from nuat.defenses import DEFENSES, Defense, Standard
from nuat.errors import InputError, printable
from nuat.files import atomic_write, write_text
from nuat.records.json_values import check, json_type, read_object

T = TypeVar("T")

_PLACE_OF_IMAGES = ("data.path", "data.cache", "data.download")
_COMPUTER = ("device", "graph", "data.workers")
_AROUND_TRAINING = ("monitors.", "evaluation.", "checkpoint_")
_WITHOUT_EFFECT = {
    "resume": (*_COMPUTER, *_AROUND_TRAINING, "data.cache", "data.download"),
    "processes": (*_COMPUTER, *_PLACE_OF_IMAGES),
    "method": (*_COMPUTER, *_AROUND_TRAINING, *_PLACE_OF_IMAGES),
    "row": _PLACE_OF_IMAGES,
}
"""Settings, or the beginnings of their names, that may differ where the rest must agree.

resume: a run and its continuation. A run that an alarm ended may go on with the alarm set to warn. The images may have
moved to another folder, under the same name: the training images themselves are compared, too.
processes: the processes of one run, each on a machine of its own.
method: runs of one method, whose seeds differ, too. Their images are compared by name.
row: a row of a campaign and the record of its failure.
"""

_ADDED_GROUPS = ("distributed",)
"""Groups of settings that the first versions did not have. Other groups that a file lacks are damage."""
_CLASSES: dict[str, type] = {
    kind.__name__: kind for kind in (*DEFENSES.values(), Constant, Cyclic, CyclicStep, MultiStep, OneCycle)
}
"""Defenses and learning-rate schedules by the name that settings give them."""


def write_config(path: Path, config: TrainConfig, recipe: str, code: Mapping[str, Any] | None = None) -> None:
    """Write a run's settings, and the text of the user's own code that they name, under ``code/<digest>/``.

    Args:
        path: the file.
        config: settings.
        recipe: name of the recipe.
        code: record of the code so far, of a run that goes on.
    """
    settings = recorded(config)
    code = dict(code or {})
    for own in own_code.files_of([recipe, *_texts(settings)]):
        folder = path.parent / "code"
        folder.mkdir(exist_ok=True)
        for name, text in own.sources.items():
            kept = folder / own.sha256[:8] / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(kept) as file:
                file.write(text)
        code[own.name] = {"path": str(own.path), "sha256": own.sha256, "files": list(own.sources)}
    values = {"format": 1, "nuat_version": hardware.NUAT_VERSION, "recipe": recipe, "config": settings}
    write_text(path, json.dumps(values | ({"code": code} if code else {}), indent=1) + "\n")


def recorded(config: TrainConfig) -> dict[str, Any]:
    """Return a run's settings as JSON values; the paths of its images are absolute, so that any folder will do."""
    settings: dict[str, Any] = to_json(dataclasses.replace(config, data=config.data.placed()))
    return settings


def read_config(path: Path) -> tuple[str, TrainConfig]:
    """Return the recipe and the settings that ``write_config`` wrote.

    Classes of the user's own run only as ``nuat.own_code`` says: where this user has named them, or gives ``--code``.

    Raises:
        InputError: no such file, damaged, with fields that this version does not have, or with code that may not run.
    """
    recipe, fields = read_settings(path)
    with contextlib.suppress(InputError):  # the recipe is not run; its name is a label
        recipe = own_code.current(recipe)
    return recipe, from_json(TrainConfig(defense=Standard()), _current(fields), str(path))


def keep_code(path: Path, config: TrainConfig, recipe: str) -> None:
    """Record that a run goes on with the code of ``--code``, where it is other code than its own."""
    if flat(read_settings(path)[1]) != flat(to_json(config)):
        write_config(path, config, recipe, read_object(path).get("code"))


def code_names(config: TrainConfig, recipe: str) -> list[str]:
    """Return the pinned names of the user's own code in a run's settings."""
    return sorted({text for text in (recipe, *_texts(to_json(config))) if own_code.is_pinned(text)})


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _current(value: Any) -> Any:
    """Return JSON values whose pinned names are of the code that they stand for now."""
    if isinstance(value, str):
        return own_code.current(value)
    if isinstance(value, list):
        return [_current(item) for item in value]
    return {name: _current(item) for name, item in value.items()} if isinstance(value, dict) else value


def read_data_config(path: Path) -> DataConfig:
    """Return the data settings in a file of ``write_config``, whatever its recipe and version.

    Fields that this version does not know are left out, those that the file lacks take their defaults.
    """
    known = {field.name for field in dataclasses.fields(DataConfig)}
    try:
        values = {name: value for name, value in read_settings(path)[1]["data"].items() if name in known}
        return from_json(DataConfig(), {**to_json(DataConfig()), **values}, str(path))
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: damaged; it does not hold the settings of a run.") from None


def check_same_config(path: Path, config: TrainConfig) -> None:
    """Refuse to go on with other settings than a file of ``write_config`` holds, but for those without effect.

    Raises:
        InputError: a setting differs; the first is named.
    """
    theirs, ours = flat(completed(read_settings(path)[1], config)), flat(to_json(config))
    for name in {**theirs, **ours}:
        places = [one.get(name) for one in (theirs, ours)]
        if name == "data.path" and None not in places and len({images_name(str(place)) for place in places}) == 1:
            continue
        if any(has_effect(name, "resume", place) for place in places) and theirs.get(name) != ours.get(name):
            if own_code.plain(str(theirs.get(name))) == own_code.plain(str(ours.get(name))):
                raise InputError(
                    f"{path.parent}: was begun with other code, {theirs.get(name)}; its text is in "
                    f"{path.parent / 'code'}. Put the file back, or start a new run; nuat train --resume "
                    f"{path.parent} --code FILE.py goes on with another text."
                )
            raise InputError(
                f"{path.parent}: was begun with {name}={theirs.get(name)}, not {ours.get(name)}. A run goes on with "
                "its own settings; start a new one for others."
            )


def images_name(path: str) -> str:
    """Return what images are known by, wherever they lie: the last part of their path.

    Many lists are called labels.csv, so a list is known by its folder, too. Records of older versions hold paths as
    they were given.
    """
    place = Path(path).absolute()
    return f"{place.parent.name}/{place.name}" if place.suffix.lower() in (".csv", ".tsv") else place.name


def images_source(source: str, config: DataConfig) -> str:
    """Return a data set's source without the folder that its path lies in.

    Weights are given away; and a resumed run has an absolute path where a relative one was typed.
    """
    return source if config.path is None else source.replace(printable(f"{config.path.expanduser().parent}/"), "")


def has_effect(name: str, between: Literal["resume", "processes", "method", "row"], value: Any = None) -> bool:
    """Return whether a setting must agree ``between`` the two; see ``_WITHOUT_EFFECT``.

    Args:
        name: dotted name of the setting.
        between: what is compared.
        value: its value, if known. A monitor that brakes changes what is trained.
    """
    return value == "brake" or not name.startswith(_WITHOUT_EFFECT[between])


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by their dotted names."""
    return dict(flat_items(values))


def flat_items(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings with their dotted names, a name twice if it is written in two ways."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_items(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def read_settings(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the recipe and the settings, as JSON values, in a file of ``write_config``.

    Raises:
        InputError: no such file, or it is damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, so {path.parent} is not the folder of a run.")
    try:
        values = read_object(path)
        recipe = check(str, values.get("recipe"), f"{path}: recipe")
        fields = check(dict, values.get("config"), f"{path}: config")
    except InputError as error:
        told = str(error).removeprefix(f"{path}: ").rstrip(".")
        raise InputError(f"{path}: damaged; it does not hold the settings of a run ({told}).") from None
    return recipe, fields


def to_json(value: Any) -> Any:
    """Return a settings object as JSON values; a defense or a schedule with the name of its ``class``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"class": _class_name(type(value))} if isinstance(value, (Defense, Schedule)) else {}
        return kind | {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def completed(values: Any, like: Any = TrainConfig) -> Any:
    """Return settings, as JSON values, with those that a file of an older version lacks.

    A setting that is added later has the behaviour before it as its class's default, so that is what the file meant.

    Args:
        values: settings.
        like: an object of their class, or the class. A defense or schedule that ``values`` name goes before it; one
            that neither names stays as it is.
    """
    if not isinstance(values, dict):
        return values
    name = str(values.get("class"))
    kind = _CLASSES.get(name, like if isinstance(like, type) else type(like))
    if not dataclasses.is_dataclass(kind) or (own_code.is_pinned(name) and name != _class_name(kind)):
        return values
    hints, full = typing.get_type_hints(kind), dict(values)
    for field in dataclasses.fields(kind):
        if field.name in full:
            inner = getattr(like, field.name) if isinstance(like, kind) else hints[field.name]
            full[field.name] = completed(full[field.name], inner)
        elif field.default is not dataclasses.MISSING:
            full[field.name] = to_json(field.default)
        elif field.name in _ADDED_GROUPS and field.default_factory is not dataclasses.MISSING:
            full[field.name] = to_json(field.default_factory())
    return full


def _class_name(kind: type) -> str:
    """Return the name of a class in a record, pinned if it is the user's own."""
    return own_code.pinned_name(kind) or kind.__name__


def _of_class(default: T, values: Any) -> T:
    """Return ``default``, or a defense or schedule of the class that ``values`` name."""
    name = values.get("class") if isinstance(values, dict) else None
    base = next((base for base in (Defense, Schedule) if isinstance(default, base)), None)
    if base is None or not isinstance(name, str) or name == _class_name(type(default)):
        return default
    kind = own_code.find(name) if own_code.is_pinned(name) else _CLASSES.get(name)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        return default
    return typing.cast(T, kind())


def from_json(default: T, values: dict[str, Any], where: str) -> T:
    """Return ``default`` (a settings object) with its fields set to ``values``, recursively.

    Fields that ``values`` lacks take their class's default: a file of an older version means just that.
    """
    default = _of_class(default, values)
    values = completed(values, default)
    names = {field.name for field in dataclasses.fields(default)}  # type: ignore[arg-type]
    if isinstance(values, dict) and "class" in values:
        if values["class"] != _class_name(type(default)):
            raise InputError(
                f"{where}: holds a {values['class']}, which this version of nuat does not have; a class of your own "
                "goes on with nuat.run(config, out=..., resume=True)."
            )
        values = {name: value for name, value in values.items() if name != "class"}
    if not isinstance(values, dict) or set(values) != names:
        odd = sorted(names ^ set(values)) if isinstance(values, dict) else type(values).__name__
        raise InputError(f"{where}: written by another version of nuat; fields that differ: {odd}.")
    hints = typing.get_type_hints(type(default))
    restored = {
        name: _restore(getattr(default, name), hints[name], value, where, name) for name, value in values.items()
    }
    try:
        return dataclasses.replace(default, **restored)  # type: ignore[type-var]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _restore(default: Any, hint: Any, value: Any, where: str, name: str) -> Any:
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return from_json(default, value, where)
    check(json_type(hint), value, f"{where}: {name}")
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and (hint is Path or Path in typing.get_args(hint)):
        return Path(value)
    return value

"""Run a user's file, and tell its errors with the line of the file."""

import contextlib
import importlib.abc
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from nuat.errors import InputError, did_you_mean
from nuat.own_code.notes import note
from nuat.own_code.sources import digest_of, module_name, read_sources

GROUP = "nuat.plugins"
"""Group of entry points that name code in installed packages."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnFile:
    """A Python file of the user's that has run."""

    name: str
    """Name in records: that of the file, or ``plugin:NAME``."""
    path: Path
    """Place of the file."""
    sources: Mapping[str, bytes]
    """The file and those of its folder that it imports, by path from the folder; the file first."""
    sha256: str
    """Digest of the sources."""
    modules: tuple[ModuleType, ...]
    """The module of the file, and those that it imports from its folder."""

    @property
    def module(self) -> ModuleType:
        """The module of the file."""
        return self.modules[0]

    @property
    def files(self) -> list[Path]:
        """Places of the sources."""
        return [self.path.parent / name for name in self.sources]


@dataclass
class _Process:
    """Own code of this process."""

    files: list[OwnFile] = field(default_factory=list)
    """Files that have run, in order."""
    starting: set[Path] = field(default_factory=set)
    """Files that have run or begun to."""
    given: dict[str, bool] = field(default_factory=dict)
    """Words of ``--code``, and whether each was of use."""


process = _Process()


def run_file(path: Path) -> OwnFile:
    """Run a file, unless this process has run the same text, and note that this user named it.

    Raises:
        InputError: there is no such file, or it fails.
    """
    path = path.resolve()
    sources = read_sources(path)
    sha256 = digest_of(sources)
    for own in process.files:
        if (own.path, own.sha256) == (path, sha256):
            return own
    name = f"nuat_own_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{sha256[:8]}"
    loader = _TextLoader(path, sources[path.name])
    module = importlib.util.module_from_spec(_spec(name, path, loader))
    local = {module_name(source): path.parent / source for source in list(sources)[1:]}
    folders = [folder for source in local.values() for folder in source.relative_to(path.parent).parents]
    local = {module_name(str(folder)): path.parent / folder for folder in folders if folder.name} | local
    _forget(local)
    sys.modules[name] = module  # dataclasses look it up
    process.starting |= {path, *local.values()}
    with blamed(str(path)), importable(path.parent, sources):
        loader.exec_module(module)
    imported = [sys.modules[other] for other in local if other in sys.modules]
    own = OwnFile(name=path.name, path=path, sources=sources, sha256=sha256, modules=(module, *imported))
    process.files.append(own)
    note(path, sha256)
    return own


def run_plugin(name: str) -> OwnFile:
    """Import the module of an entry point.

    Raises:
        InputError: there is no such entry point, or its module fails.
    """
    point = _plugin(name)
    with blamed(f"plugin:{name}"):
        point.load()
    module = sys.modules[point.module]
    path = Path(str(module.__file__))
    sources = {path.name: path.read_bytes()}
    for own in process.files:
        if (own.name, own.sha256) == (f"plugin:{name}", digest_of(sources)):
            return own
    process.starting.add(path)
    own = OwnFile(name=f"plugin:{name}", path=path, sources=sources, sha256=digest_of(sources), modules=(module,))
    process.files.append(own)
    return own


def thing(own: OwnFile, name: str) -> Any:
    """Return the thing of a name in a file, or that of the entry point.

    Raises:
        InputError: the file does not define it.
    """
    if own.name.startswith("plugin:"):
        return _plugin(own.name.removeprefix("plugin:")).load()
    found: Any = own.module
    for part in name.split("."):
        names = vars(found)
        if not part or part not in names:
            known = [known for known in names if not known.startswith("_")]
            own_names = [known for known in known if getattr(names[known], "__module__", "") == own.module.__name__]
            hint = did_you_mean(part, known) or f" It defines {', '.join(own_names) or 'nothing'}."
            raise InputError(f"{own.path.name}:{name}: the file has no {part!r}.{hint}")
        found = names[part]
    return found


def call_function(function: Callable[..., Any], *arguments: Any, **offered: Any) -> Any:
    """Call a function with ``arguments``, and with those of the ``offered`` ones that it names."""
    parameters = inspect.signature(function).parameters.values()
    every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    names = [parameter.name for parameter in parameters]
    return function(*arguments, **{name: value for name, value in offered.items() if every or name in names})


@contextlib.contextmanager
def importable(folder: Path, sources: Mapping[str, bytes]) -> Iterator[None]:
    """Let the block import the sources of a folder, from the texts that were read, and nothing else of the folder."""
    finder = _Finder(folder, sources)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextlib.contextmanager
def blamed(text: str) -> Iterator[None]:
    """Turn an error of own code in the block into one line with the line of the user's file.

    Args:
        text: name of the code, for an error that passed through none of its lines.

    Raises:
        InputError: the error.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a file may call sys.exit, such as for a missing package
        raise InputError(told(error) or f"{text}: {_summary(error)}") from error


def told(error: BaseException) -> str | None:
    """Return an error as one line, with the last line of own code that it passed through. None: it passed none."""
    place: tuple[Path, int | None] | None = None
    trace = error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file in process.starting:
            place = file, trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename) in process.starting:
        place = Path(error.filename), error.lineno
    if place is None:
        return None
    file, line = place
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{shown}, line {line}: {_summary(error)}"


def give(word: str) -> None:
    """Take the code of ``--code``: a file for the pinned names of its file name, or ``plugin:NAME``.

    Raises:
        InputError: there is no such file or entry point.
    """
    if word.startswith("plugin:"):
        _plugin(word.removeprefix("plugin:"))
    elif not Path(word).is_file():
        raise InputError(f"--code {word}: no such file.")
    process.given[word] = False


def given() -> list[str]:
    """Return what ``--code`` gave, as words of a command line for other processes."""
    return [part for word in process.given for part in ("--code", word)]


def forget_given() -> list[str]:
    """Forget what ``--code`` gave, and return what was of no use."""
    left = [word for word, used in process.given.items() if not used]
    process.given.clear()
    return left


class _Finder(importlib.abc.MetaPathFinder):
    """Finder of modules among texts that have been read; compiled files next to them do not count."""

    def __init__(self, folder: Path, sources: Mapping[str, bytes]) -> None:
        self._folder, self._sources = folder, sources

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a module is; None: not among the texts."""
        place = fullname.replace(".", "/")
        for name in (f"{place}/__init__.py", f"{place}.py"):
            if name in self._sources:
                file = self._folder / name
                return _spec(fullname, file, _TextLoader(file, self._sources[name]))
        if any(name.startswith(f"{place}/") for name in self._sources):  # a folder without __init__.py
            return ModuleSpec(fullname, None, is_package=True)
        return None


def _spec(name: str, file: Path, loader: importlib.abc.Loader) -> ModuleSpec:
    spec = ModuleSpec(name, loader, origin=str(file), is_package=file.name == "__init__.py")
    spec.has_location = True  # the module gets a __file__
    return spec


class _TextLoader(importlib.abc.InspectLoader):
    """Loader of a text that has been read, so that the digest is that of the text that runs."""

    def __init__(self, path: Path, text: bytes) -> None:
        self._path, self._text = path, text

    def get_source(self, fullname: str) -> str:
        """Return the text."""
        return importlib.util.decode_source(self._text)

    def get_code(self, fullname: str) -> Any:
        """Return the compiled text."""
        return self.source_to_code(self._text, str(self._path))


def _plugin(name: str) -> metadata.EntryPoint:
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in points:
        hint = did_you_mean(name, points) or f" Installed: {', '.join(points) or 'none'}."
        raise InputError(f"plugin:{name}: no installed package has this entry point of {GROUP}.{hint}")
    return points[name]


def _forget(local: Mapping[str, Path]) -> None:
    """Let modules of a folder be imported afresh if a file of another folder, or another text, had their name."""
    ours = {id(module) for own in process.files for module in own.modules}
    for name, file in local.items():
        loaded = sys.modules.get(name)
        if loaded is None:
            continue
        if id(loaded) not in ours and getattr(loaded, "__file__", None) != str(file):
            raise InputError(f"{file}: another module is called {name} and would be imported instead; rename the file.")
        del sys.modules[name]


def _summary(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split()).removesuffix(":")

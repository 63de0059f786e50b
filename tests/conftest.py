"""Every test starts from the same global seed on one thread; hypothesis draws the same few examples each time."""

import functools
import gc
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch, and for the processes that tests start

import pytest
import torch
from hypothesis import HealthCheck, settings
from tyro._parsers import ParserSpecification

import nuat

settings.register_profile(
    "nuat",
    deadline=None,  # no test asserts on time
    max_examples=25,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nuat")

torch.set_num_threads(1)  # tiny work: on a busy machine more threads only wait for each other
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background, and what it starts, ignores it


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each of two workers, which begin with one half each, every other folder, those with many slow tests first.

    What the tests of a folder share, such as a trained run, is then made by one worker.
    """
    if not hasattr(config, "workerinput"):  # pytest-xdist's mark of a worker
        return
    folders: dict[Path, list[pytest.Item]] = {}
    for item in items:
        folders.setdefault(item.path.parent, []).append(item)
    slow = {path: sum(item.get_closest_marker("slow") is not None for item in of) for path, of in folders.items()}
    order = sorted(folders, key=lambda path: -slow[path])  # stable: the same in all workers
    items[:] = [item for path in (*order[::2], *order[1::2]) for item in folders[path]]


def pytest_collection_finish() -> None:
    """Leave what is imported by now to no later collection of garbage."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_waiting() -> Iterator[None]:
    """Write without waiting for the disk, and ask git once about the package: together a third of a small run."""
    package, run = Path(nuat.__file__).parent, subprocess.run
    asked = functools.cache(lambda words: run(words, cwd=package, capture_output=True, text=True, check=True))

    def run_or_remember(words: Any, *rest: Any, **how: Any) -> Any:
        return asked(tuple(words)) if words[0] == "git" and how.get("cwd") == package else run(words, *rest, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(subprocess, "run", run_or_remember)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_parser_for_equal_options() -> Iterator[None]:
    """Build the parser of the command line once for each set of options and defaults: 9 to 19 ms of a command."""
    build, built = ParserSpecification.from_callable_or_type, dict[Any, ParserSpecification]()

    def build_or_remember(options: Any, **how: Any) -> ParserSpecification:
        if how["parent_classes"]:  # a part of a set of options
            return build(options, **how)
        key = options, how["default_instance"], repr(how["default_instance"])  # 1 equals 1.0, but is shown otherwise
        if key not in built:
            built[key] = build(options, **how)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParserSpecification, "from_callable_or_type", build_or_remember)
        yield


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():  # until then torch.manual_seed notes each caller: 0.3 ms a test
        torch.cuda.manual_seed_all(0)

"""Versions, hardware, git revision and command of a run, so that it can be repeated."""

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nuat import hardware


def environment(device: torch.device) -> dict[str, Any]:
    """Return the versions, the hardware, the git revision and the command, as JSON values."""
    return {
        "started": now(),
        "command": [Path(sys.argv[0]).name.replace("__main__.py", "nuat"), *sys.argv[1:]],
        "nuat": hardware.NUAT_VERSION,
        "git": git_revision(),
        "python": platform.python_version(),
        "packages": hardware.versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": str(device),
        "hardware": hardware.describe(device),
        "processor": hardware.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": hardware.memory_bytes(torch.device("cpu")),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
    }


def threads_of(path: Path) -> int | None:
    """Return the threads in a file of a run's environment; None: it does not tell."""
    try:
        found = re.search(r"(\d+) threads?$", json.loads(path.read_text())["hardware"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(found[1]) if found else None


def run_id_of(path: Path) -> str | None:
    """Return the digits of the run in a file of its environment; None: an older version began it."""
    try:
        return str(json.loads(path.read_text())["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def git_revision() -> str | None:
    """Return the commit of the code that runs; ``-dirty`` where a module was changed or added. None: no checkout."""
    package = Path(hardware.__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # an installed copy may lie inside somebody else's checkout, such as a virtual environment in it
        git("ls-files", "--error-unmatch", hardware.__file__)
        commit = git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
        added = git("ls-files", "--others", "--exclude-standard", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if added and not commit.endswith("-dirty") else commit


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

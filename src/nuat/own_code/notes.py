"""Notes of the files that this user has named: ``nuat/own-code.jsonl`` under ``$XDG_STATE_HOME`` (``~/.local/state``).

A line holds the digest and the place of a file that ran. It lets a record's code run again without being named again,
and only there: what a stranger's record or folder holds is in no note. The file is in the user's home rather than in
nuat's cache, which people share.
"""

import contextlib
import json
import os
from pathlib import Path


def note(path: Path, sha256: str) -> None:
    """Note that this user named a file. Where no home can be written, ``--code`` is needed later."""
    with contextlib.suppress(OSError, RuntimeError):
        if path in noted(path.name, sha256):
            return
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"sha256": sha256, "path": str(path)}) + "\n")


def noted(name: str, digest: str) -> list[Path]:
    """Return the files of a name that this user named while their SHA-256 began with ``digest``, the last one first."""
    try:
        lines = _file().read_text(encoding="utf-8").splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError):
        return []
    found = []
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # half a line of a process that was killed
            known = json.loads(line)
            if Path(known["path"]).name == name and str(known["sha256"]).startswith(digest):
                found.append(Path(known["path"]))
    return found


def _file() -> Path:
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "nuat" / "own-code.jsonl"

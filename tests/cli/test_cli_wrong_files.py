"""Every command on files that are not what it needs: one line, exit code 2, no trace."""

import shutil
import socket
from pathlib import Path

import pytest
from cli.cli_runs import CommandLine

CONTENTS = {
    "deep": b"[" * 100_000,
    "list": b"[1, 2]",
    "infinity": b'{"format": 1, "recipe": "quickstart", "config": Infinity}',
    "binary": bytes(range(256)) * 4,
    "empty": b"",
}
COMMANDS = (
    ("train", "--config"),
    ("evaluate",),
    ("predict",),
    ("compare", "run"),
    ("report",),
    ("export", "--format", "safetensors"),
    ("campaign",),
    ("analyse", "training"),
    ("recipes", "--table"),
    ("plan",),
)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_wrong_file_is_refused(content: str, command: tuple[str, ...], run: Path, nuat: CommandLine) -> None:
    Path("wrong.json").write_bytes(CONTENTS[content])
    assert nuat.refused(*command, "wrong.json")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("path", ["nowhere", "x" * 300, "a-socket"])
def test_a_wrong_path_is_refused(path: str, command: tuple[str, ...], run: Path, nuat: CommandLine) -> None:
    with socket.socket(socket.AF_UNIX) as neither_file_nor_folder:
        neither_file_nor_folder.bind("a-socket")
        assert nuat.refused(*command, path)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("file", ["config.json", "best.safetensors", "metrics.jsonl", "checkpoint.pt"])
def test_a_damaged_run_gives_one_line_or_what_does_not_need_the_file(
    file: str, content: str, run: Path, nuat: CommandLine
) -> None:
    (run / file).write_bytes(CONTENTS[content])
    (run / "evaluation.json").unlink()
    for words in (
        ("train", "--resume", run),
        ("evaluate", run, "--attacks", "clean", "--n", 6, "--json", "out.json"),
        ("export", run, "--format", "safetensors", "--out", "out.safetensors"),
    ):
        ended = nuat(*words)
        assert ended.code in (0, 2)
        assert ended.err.count("\n") == (1 if ended.code else 0)
        Path("out.safetensors").unlink(missing_ok=True)
        shutil.rmtree("campaigns", ignore_errors=True)

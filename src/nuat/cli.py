"""The command line: parse, call one function, print.

Exit codes: 0 done, 2 the user's mistake, 1 our fault or a finding (a check of a diagnosis failed, a row of a campaign
failed), 128 + n ended by signal n.
"""

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from nuat.errors import InputError, TransientError, did_you_mean

_HELP = """\
usage: nuat COMMAND ...

Train image classifiers that withstand adversarial perturbations at single-step cost, and prove it.

commands:
  train [RECIPE] [--any.field VALUE]   train, evaluate and record a model; without a recipe: quickstart
  train --resume RUN                   go on with a run that was cut off
  train RECIPE --devices N             on several GPUs, or processes of this machine; torchrun works, too
  evaluate RUN|WEIGHTS|FILE.py:FUNC    attack a trained model, ours or anybody's
  diagnose MODEL                       say whether its robustness is to be believed: gradient masking, weak attacks
  compare A B                          say whether two evaluated models differ
  analyse FIGURE MODELS|RUNS           draw a figure of the paper: loss surface, confusion, cost against accuracy, ...
  report RUNS                          one page about runs and campaigns; also Markdown, CSV, LaTeX, model cards
  export RUN --format FORMAT           write a model for others: safetensors, onnx, robustbench
  plan RECIPE --devices N              say what a training would cost: hours, memory, communication, data rate, disk
  campaign NAME|FILE                   run many recipes and seeds under the same attacks; again: go on
  recipes                              list the recipes

options:
  -h, --help      show this help; 'nuat train RECIPE --help' shows every setting of a recipe
  --version       show the version
"""

_WORTH_RETRYING = 75
"""Internal exit code for a failure that is worth retrying (EX_TEMPFAIL); the user sees 2."""

_COMMANDS = ("train", "evaluate", "diagnose", "compare", "analyse", "report", "export", "plan", "campaign", "recipes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    one_of_several = "RANK" in os.environ
    if one_of_several:
        from nuat.distributed.launch import final_code, note_end

        over = final_code()
        if over is not None:  # a run that has ended for good is not begun again
            return over
    try:
        command, rest = _command(arguments)
        code = command(rest)
        sys.stdout.flush()  # here rather than at exit, so that a reader who has left is noticed
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        code = _failed(error)
    if one_of_several:
        note_end(code)
    return 2 if code == _WORTH_RETRYING else code


def _failed(error: BaseException) -> int:
    """Print what went wrong, in one line unless it is our own fault, and return the exit code."""
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"  # of several processes the first of its machine
    match error:
        case InputError():
            if speaks or error.of_this_process:
                print(f"nuat: error: {error}", file=sys.stderr)
            elif not _another_ended():
                print(f"nuat: error: process {os.environ.get('RANK')}: {error}", file=sys.stderr)
            return _WORTH_RETRYING if isinstance(error, TransientError) else 2
        case SystemExit():  # help was asked for and printed
            return int(error.code or 0)
        case KeyboardInterrupt():
            if speaks:
                print(f"\nnuat: {str(error) or 'interrupted'}", file=sys.stderr)
            return 128 + getattr(error, "signal_number", 2)
        case BrokenPipeError():
            with contextlib.suppress(OSError):  # Python flushes once more at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(
                "nuat: error: no space left on the disk; free some and give the same command again, or, if it was "
                "training, nuat train --resume RUN.",
                file=sys.stderr,
            )
            return 2
        case OSError() if error.errno in (errno.EROFS, errno.EFBIG):
            why = "the disk can only be read" if error.errno == errno.EROFS else "a file became larger than is allowed"
            print(
                f"nuat: error: {why} ({error.filename or error.strerror}); give a folder elsewhere, --out or --json.",
                file=sys.stderr,
            )
            return 2
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        print(
            "nuat: error: out of memory; give a smaller --batch-size, or --evaluation.batch-size where it failed "
            "after training.",
            file=sys.stderr,
        )
        return 2
    if type(error).__name__ == "PeerLostError":
        if speaks:
            print(f"nuat: {error}", file=sys.stderr)
        return 1
    traceback.print_exception(error)
    print("nuat: this is an error of nuat's own; please report it with the lines above.", file=sys.stderr)
    return 1


def _another_ended() -> bool:
    """Return whether another process has ended, or may have: usually all meet the same mistake, and one says it."""
    from nuat.distributed.launch import ended

    return ended(within=2.0)


def _command(arguments: list[str]) -> tuple[Callable[[list[str]], int], list[str]]:
    """Return the function of the command that is asked for, and the arguments that are left for it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return _help, arguments
    command, rest = arguments[0], arguments[1:]
    if command == "--version":
        return _version, rest
    several = "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    if several and command in _COMMANDS and command not in ("train", "evaluate"):
        raise InputError(f"'nuat {command}' runs in one process; start it without torchrun.")
    # each command imports what it needs: torch takes seconds
    match command:
        case "train":
            if rest and not rest[0].startswith("-"):
                from nuat.listing import check_recipe

                check_recipe(rest[0])  # before torch is imported
            from nuat.commands.train import train as run
        case "evaluate":
            from nuat.commands.evaluate import evaluate as run
        case "diagnose":
            from nuat.commands.diagnose import diagnose as run
        case "compare":
            from nuat.commands.compare import compare as run
        case "analyse":
            from nuat.commands.analyse import analyse as run
        case "report":
            from nuat.commands.report import report as run
        case "export":
            from nuat.commands.export import export as run
        case "plan":
            from nuat.commands.plan import plan as run
        case "campaign":
            from nuat.commands.campaign import campaign as run
        case "recipes":
            from nuat.commands.recipes import recipes as run
        case _:
            hint = did_you_mean(command, _COMMANDS)
            raise InputError(f"unknown command {command!r}.{hint} 'nuat --help' shows the commands.")
    return run, rest


def _help(arguments: list[str]) -> int:
    print(_HELP, end="")
    return 0 if arguments else 2


def _version(arguments: list[str]) -> int:
    from nuat import __version__

    print(f"nuat {__version__}")
    return 0

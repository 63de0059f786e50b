"""The command line: parse, call one function, print.

Exit codes: 0 done, 2 the user's mistake, 1 our fault or a finding (a check of a diagnosis failed, a row of a campaign
failed), 128 + n ended by signal n.
"""

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Sequence

from nuat.errors import InputError, PassingError, did_you_mean

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

_MAY_PASS = 75
"""Stands for exit code 2 where what failed may pass (EX_TEMPFAIL), so that the end is not noted as a final one."""

_COMMANDS = ("train", "evaluate", "diagnose", "compare", "analyse", "report", "export", "plan", "campaign", "recipes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "RANK" not in os.environ:
        code = _run(arguments)
    else:
        # one of several processes: the first of its machine speaks, and what is over is not begun again
        from nuat.distributed.launch import final_code, note_end

        over = final_code()
        if over is not None:
            return over
        code = _run(arguments)
        note_end(code)
    return 2 if code == _MAY_PASS else code


def _run(arguments: list[str]) -> int:
    """Run a command; say what went wrong, and return the exit code."""
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()  # here rather than at exit, so that a reader who has left is noticed
        return code
    except InputError as error:
        if speaks or getattr(error, "of_this_process", False):
            print(f"nuat: error: {error}", file=sys.stderr)
        elif not _said_already():
            print(f"nuat: error: process {os.environ.get('RANK')}: {error}", file=sys.stderr)
        return _MAY_PASS if isinstance(error, PassingError) else 2
    except SystemExit as end:  # help was asked for and printed
        return int(end.code or 0)
    except KeyboardInterrupt as error:
        if speaks:
            print(f"\nnuat: {str(error) or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(error, "signal_number", 2)
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # Python flushes once more at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(
                "nuat: error: no space left on the disk; free some and give the same command again, or, if it was "
                "training, nuat train --resume RUN.",
                file=sys.stderr,
            )
            return 2
        if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EFBIG):
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
        traceback.print_exc()
        print("nuat: this is an error of nuat's own; please report it with the lines above.", file=sys.stderr)
        return 1


def _said_already() -> bool:
    """Return whether another process has ended for what this one met, or may have: mostly all meet the same mistake."""
    from nuat.distributed.launch import ended

    return ended(within=2.0)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP, end="")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    if command == "--version":
        from nuat import __version__

        print(f"nuat {__version__}")
        return 0
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
    return run(rest)

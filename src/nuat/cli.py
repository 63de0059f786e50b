"""The command line: parse the arguments, call one function, print.

Exit codes: 0 for success; 1 for an error of nuat's own, or a finding (a failed check of a diagnosis, a failed row of a
campaign); 2 for the user's mistake; 128 + n for an end by signal n.
"""

import contextlib
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from nuat import own_code
from nuat.distributed.threads import watch_load
from nuat.errors import InputError, TransientError, did_you_mean, is_out_of_memory, printable

_HELP = """\
usage: nuat COMMAND ...

Train image classifiers that withstand adversarial perturbations at single-step
cost, and test them with the strongest attacks.

commands:
  train [RECIPE] [--any.field VALUE]  train, evaluate and record a model; the
                                      default recipe is quickstart
  train --resume RUN                  continue an interrupted run
  train RECIPE --devices N            train on several GPUs, or in several
                                      processes; torchrun works, too
  evaluate MODEL                      attack a trained model, ours or anybody's
  predict RUN|WEIGHTS IMAGES...       classify images; --certainty attack says
                                      which answers an attack changes
  diagnose MODEL                      check whether its robustness is to be
                                      believed: masked gradients, weak attacks
  compare A B                         test whether two evaluated models differ
  analyse FIGURE MODELS|RUNS          draw a figure of the paper: loss surface,
                                      confusion, cost against accuracy, ...
  report RUNS                         write a page about runs and campaigns;
                                      also Markdown, CSV, LaTeX, model cards
  export RUN --format FORMAT          write a model for other tools:
                                      safetensors, onnx, torch, robustbench
  plan RECIPE --devices N             estimate the cost of a training: hours,
                                      memory, communication, data rate, disk
  campaign NAME|FILE                  run many recipes and seeds under the same
                                      attacks; repeat it to continue
  new defense|attack NAME             write a file for a defense or an attack of
                                      your own, with its test
  recipes                             list the recipes
  models                              list the trained models that have a name
  completion bash|zsh                 print a script with which a shell
                                      completes commands, recipes, options

MODEL is a run, a weights file, a name that 'nuat models' lists, or
file.py:function, a function of yours that returns any model.

options:
  -h, --help                          show this help; 'nuat COMMAND --help'
                                      shows the everyday options of a command,
                                      --help-all every one
  --version                           show the version
  --code FILE.py                      run this file where the record of a run
                                      names code of yours that moved or changed
"""

_WORTH_RETRYING = 75
"""Internal exit code for a failure that is worth retrying (EX_TEMPFAIL); the user sees 2."""

_SYSTEM_ERRORS = {
    errno.ENOSPC: "no space left on the disk; free some and repeat the command, or continue a training with nuat train "
    "--resume RUN.",
    errno.EDQUOT: "the disk quota is used up; free some and repeat the command, or continue a training with nuat train "
    "--resume RUN.",
    errno.EROFS: "the disk is read-only; give a folder elsewhere, --out or --json.",
    errno.EFBIG: "the file became larger than is allowed; give a folder elsewhere, --out or --json.",
    errno.EACCES: "permission denied; change the permissions, or give another path.",
    errno.EPERM: "the operation is not permitted; give another path.",
    errno.ENOENT: "no such file or folder; if it was there before, it was removed while nuat ran.",
    errno.EISDIR: "is a folder; give a file.",
    errno.ENOTDIR: "is not a folder, or lies below a file; give another path.",
    errno.ENAMETOOLONG: "the name is too long; give a shorter path.",
    errno.ELOOP: "links lead in a circle; give another path.",
    errno.ENXIO: "is neither a file nor a folder; give another path.",
    errno.EMFILE: "too many open files; raise the limit with ulimit -n.",
    errno.EIO: "the disk could not be read or written; check it and repeat the command.",
}
"""Failures of the system that no command foresaw, with the remedy."""

_python_format = warnings.formatwarning

_COMMANDS = (
    *("train", "evaluate", "predict", "diagnose", "compare", "analyse", "report", "export", "plan", "campaign"),
    *("recipes", "models", "completion", "new"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    watch_load()
    warnings.formatwarning = _warning_line
    try:
        if "RANK" in os.environ:  # one of several processes
            from nuat.distributed.lifetime import end_with_launcher, final_code

            end_with_launcher()
            over = final_code()
            if over is not None:  # a run that has ended for good is not begun again
                return over
        command, rest = _command(_take_code(arguments))
        code = command(rest)
        for word in own_code.forget_given():
            print(f"nuat: warning: --code {printable(word)} had no effect: no record here names it.", file=sys.stderr)
        sys.stdout.flush()  # now rather than at exit: a closed pipe is noticed here
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        code = _failed(error)
    if "RANK" in os.environ:
        from nuat.distributed.lifetime import note_end

        note_end(code)
    return 2 if code == _WORTH_RETRYING else code


def _failed(error: BaseException) -> int:
    """Print what went wrong, in one line unless it is our own fault, and return the exit code."""
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"  # of several processes the first of its machine
    match error:
        case InputError():
            if speaks or error.of_this_process:
                _print_error(str(error))
            elif not _another_ended():
                _print_error(f"process {os.environ.get('RANK')}: {error}")
            return _WORTH_RETRYING if isinstance(error, TransientError) else 2
        case SystemExit() if own_code.told(error) is None:  # help was printed
            return int(error.code or 0)
        case KeyboardInterrupt():
            if speaks:
                print(f"\nnuat: {printable(str(error)) or 'interrupted'}", file=sys.stderr)
            return 128 + getattr(error, "signal_number", 2)
        case BrokenPipeError():
            with contextlib.suppress(OSError):  # Python flushes once more at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13
        case OSError() if error.errno in _SYSTEM_ERRORS:
            _print_error(f"{error.filename}: " * bool(error.filename) + _SYSTEM_ERRORS[error.errno])
            return 2
    if is_out_of_memory(error):
        _print_error(
            "out of memory; give a smaller --batch-size, or --evaluation.batch-size if it failed after training."
        )
        return 2
    if type(error).__name__ == "PeerLostError":
        if speaks:
            print(f"nuat: {printable(str(error))}", file=sys.stderr)
        return 1
    own = own_code.told(error)
    if own is not None:
        return _failed(InputError(own))
    traceback.print_exception(error)
    print("nuat: this is an error in nuat; please report it with the lines above.", file=sys.stderr)
    return 1


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format nuat's own warnings as one line for the user, and others as Python does."""
    if category is RuntimeWarning and f"{os.sep}nuat{os.sep}" in filename:
        return f"nuat: warning: {printable(str(message))}\n"
    return _python_format(message, category, filename, lineno, line)


def _print_error(message: str) -> None:
    print(f"nuat: error: {printable(message)}", file=sys.stderr)


def _another_ended() -> bool:
    """Return whether another process ends within 2 s: usually all meet the same mistake, and one prints it."""
    from nuat.distributed.lifetime import ended

    return ended(within=2.0)


def _command(arguments: list[str]) -> tuple[Callable[[list[str]], int], list[str]]:
    """Return the function of the command that is asked for, and the arguments that are left for it."""
    if not arguments or arguments[0] in ("-h", "--help", "--help-all"):
        return _help, arguments
    command, rest = arguments[0], arguments[1:]
    if command == "--version":
        return _version, rest
    several = "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    if several and command in _COMMANDS and command not in ("train", "evaluate"):
        raise InputError(f"'nuat {command}' runs in one process; start it without torchrun.")
    # each command imports only what it needs, because torch takes seconds
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
        case "predict":
            from nuat.commands.predict import predict as run
        case "models":
            from nuat.commands.models import models as run
        case "completion":
            from nuat.commands.completion import completion as run
        case "new":
            from nuat.commands.new import new as run
        case _:
            hint = did_you_mean(command, _COMMANDS)
            raise InputError(f"unknown command {command!r}.{hint} 'nuat --help' shows the commands.")
    return run, rest


def _take_code(arguments: list[str]) -> list[str]:
    """Take the files of ``--code``, and return the other arguments."""
    own_code.forget_given()
    left: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name != "--code":
            left.append(word)
            continue
        given = value if equals else next(words, None)
        if not given:
            raise InputError("--code: needs a file of Python.")
        own_code.give(given)
    return left


def _help(arguments: list[str]) -> int:
    print(_HELP, end="")
    return 0 if arguments else 2


def _version(arguments: list[str]) -> int:
    from nuat import __version__

    print(f"nuat {__version__}")
    return 0

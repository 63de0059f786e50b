"""Errors that name a user's mistake, and the text of their messages."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Mistake of the user: a wrong setting, file, image or device.

    The message is one line that names the mistake, what was expected and the next step. The command line prints it
    without a traceback and exits with code 2; any other exception is our own fault (code 1).
    """

    of_this_process = False
    """Whether, of several processes, only this one may have met the error, so that it must print it itself."""


class TransientError(InputError):
    """Failure that is worth retrying: a file cannot be read, or a process that decodes images died.

    It is printed like any InputError, but no setting is to blame. Processes that replace dead ones (``--restarts``) try
    again, and the run is not recorded as failed.
    """


class NonFiniteError(InputError):
    """Logits, a loss or a gradient are infinite or NaN."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the nearest of the known names, or nothing if none is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that the memory of a device ran out; torch has no class for that of a CPU."""
    name = type(error).__name__  # torch is not imported for it
    return name == "OutOfMemoryError" or isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def printable(text: str) -> str:
    r"""Return text for a line of a terminal, with every character that is not printable written as its escape.

    Names of files, classes and runs may hold escape sequences, newlines, or bytes that are not UTF-8.

    Example:
        >>> from nuat.errors import printable
        >>> printable("a run\x1b[31m\n")
        'a run\\x1b[31m\\n'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)

"""The error that names a user's mistake."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: a setting, a file, an image, a device.

    The message is one line that names what is wrong, what was expected and what to do next. The command
    line prints it without a traceback and exits with code 2; any other exception is our fault (code 1).
    """

    of_this_process = False
    """Whether, of several processes, this one alone may have met it, so that it must say so itself."""


class TransientError(InputError):
    """What worked before does not now: a file cannot be read, a process that decodes images died.

    It is said like any InputError, but no setting is to blame and it may pass: processes that are started again in the
    place of dead ones (``--restarts``) try it once more, and nothing remembers it.
    """


class NonFiniteError(InputError):
    """Logits, a loss or a gradient are infinite or NaN."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the nearest of the known names, or nothing where none is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""

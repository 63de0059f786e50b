"""The error that names a user's mistake."""


class InputError(ValueError):
    """Something the user gave is wrong: a setting, a file, an image, a device.

    The message is one line that names what is wrong, what was expected and what to do next. The command
    line prints it without a traceback and exits with code 2; any other exception is our fault (code 1).
    """

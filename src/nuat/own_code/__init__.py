"""The user's own code: a recipe, defense, attack, network or figure in a Python file, or in an installed package.

It is named ``FILE.py:NAME``, or ``plugin:NAME`` for an entry point of the group ``nuat.plugins``. To name it on the
command line, in a campaign's file or from Python is to run the file, as a program would run. While it loads, and while
nuat calls one of its functions to make something, it can import the other files of its folder that it names.

Records hold the *pinned* name ``FILE.py:NAME@DIGEST``. The digest covers the file and the files of its folder that it
imports. A pinned name never runs what a record or its folder brings, since both may come from a stranger. It runs

- the file that ``--code`` gives, or else
- the file that this user has named before on this machine, if its text is still the same (``nuat.own_code.notes``).
"""

from nuat.own_code.names import (
    call,
    check_there,
    current,
    files_of,
    find,
    folder_of,
    is_named,
    is_pinned,
    pin,
    pinned_name,
    plain,
)
from nuat.own_code.running import OwnFile, blamed, call_function, forget_given, give, given, told

__all__ = [
    "OwnFile",
    "blamed",
    "call",
    "call_function",
    "check_there",
    "current",
    "files_of",
    "find",
    "folder_of",
    "forget_given",
    "give",
    "given",
    "is_named",
    "is_pinned",
    "pin",
    "pinned_name",
    "plain",
    "told",
]

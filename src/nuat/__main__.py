"""Entry point of ``nuat`` and ``python -m nuat``: the command line."""

import sys


def start() -> int:
    """Run the command line and return its exit code; Ctrl-C is one line even while its modules are imported."""
    try:
        from nuat.cli import main

        return main()
    except KeyboardInterrupt:
        print("\nnuat: interrupted", file=sys.stderr)
        return 128 + 2


if __name__ == "__main__":
    sys.exit(start())

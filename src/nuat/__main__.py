"""Entry point of ``python -m nuat``: the command line."""

import sys

from nuat.cli import main

sys.exit(main())

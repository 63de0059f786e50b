"""``python -m nuat`` is the command line."""

import sys

from nuat.cli import main

sys.exit(main())

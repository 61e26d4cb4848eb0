"""``python -m celeryflow`` is the command ``celeryflow``."""

import sys

from celeryflow.cli import main

sys.exit(main())

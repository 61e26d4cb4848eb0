"""Settings of ``pytest --nbval-lax`` that hold wherever it is called from."""

import os
import sys
from pathlib import Path


def pytest_configure(config):
    """Leave out what differs from run to run, and let cells find this environment's commands, as if it were active."""
    options, here = config.option, Path(__file__).parent
    options.nbval_sanitize_with = getattr(options, "nbval_sanitize_with", None) or str(here / "sanitize.cfg")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

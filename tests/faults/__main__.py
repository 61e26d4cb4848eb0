"""The fault tests, and that broken Lua is caught: ``python tests/faults [--repeats N] [pytest arguments]``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATHS = (HERE, HERE.parent / "test_state_machine.py")
sys.path.insert(0, str(HERE.parent))

from faults.figures import FILE, lines  # noqa: E402


def main() -> int:
    """Run the suite until it has failed or has been run often enough; the last exit code."""
    usage = "%(prog)s [--repeats N] [PYTEST ARGUMENT ...]"
    parser = argparse.ArgumentParser(prog="python3 run.py faults", usage=usage, allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="run the whole suite N times (default: 1)")
    options, arguments = parser.parse_known_args()
    has_paths = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
    # The last -m counts: all of it, the slow ones too.
    command = [sys.executable, "-m", "pytest", "-m", "", *arguments, *([] if has_paths else map(str, PATHS))]
    code = 0
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        for number in range(1, options.repeats + 1):
            if options.repeats > 1:
                print(f"--- {number} of {options.repeats}", flush=True)
            code = subprocess.run(command, env={**os.environ, FILE: file.name}, check=False).returncode
            if code:
                break
        print(*lines(file.name), sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

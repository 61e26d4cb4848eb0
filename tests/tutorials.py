"""The tutorials in ``notebooks/``: run as they are by nbval, or anew.

``python tests/tutorials.py [NAME …]`` runs them anew and writes down what they give, with nothing in it that is of
this machine or of a widget.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO
from unittest import mock

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
MARK = "# NBVAL_CHECK_OUTPUT"
CELL_TIMEOUT_S = 300

SANITIZER = FOLDER / "sanitize.cfg"
SETTINGS = ("pytest.ini", "conftest.py", SANITIZER.name)
"""What nbval goes by, beside the notebooks."""

PLUGINS = (
    *("anyio", "cacheprovider", "capture", "faulthandler", "hypothesispytest", "logging", "threadexception", "timeout"),
    *("unraisableexception", "valkey", "xdist"),
)
"""Of pytest: those that the tests have for themselves, or that take time to load."""


def paths() -> list[Path]:
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def is_marked(cell: NotebookNode) -> bool:
    return MARK in cell.source.splitlines()


def path_with_commands() -> str:
    """PATH as `activate` makes it: cells call commands of this environment."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


class _Cells:
    """What became of each code cell: nothing, or how it failed."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        number = int(report.nodeid.rpartition(" ")[2])
        self.found[number] = self.found.get(number, "") + (report.longreprtext if report.failed else "")


def validate(path: Path) -> dict[int, str]:
    """Have nbval run a notebook where it is; how each code cell has failed, or nothing.

    In this process: to start another for each notebook, with all that nbval imports, takes longer than most of them.
    """
    without = [word for name in PLUGINS for word in ("-p", f"no:{name}")]
    settings = ["-c", os.devnull, "--noconftest", "--rootdir", str(path.parent), "--quiet", "--color=no"]
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=60", f"--nbval-sanitize-with={SANITIZER}"]
    cells = _Cells()
    with ExitStack() as files:

        def opened(name: str, mode: str) -> IO[str]:
            return files.enter_context(Path(name).open(mode))

        with mock.patch("nbval.kernel.open", opened, create=True):  # nbval would leave its files open
            pytest.main([*without, *settings, *options, str(path)], plugins=[cells])
    return cells.found


def validate_as_typed(path: Path) -> subprocess.CompletedProcess[str]:
    """Run ``pytest --nbval-lax NOTEBOOK`` beside the notebook, with the settings that are there."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", path.name],
        cwd=path.parent,
        env={**own, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )


def execute(path: Path, folder: Path) -> None:
    """Run a notebook's cells in a folder, and write down what came out."""
    notebook = read(path)
    for cell in notebook.cells:
        cell.metadata = {}
    NotebookClient(notebook, timeout=CELL_TIMEOUT_S, resources={"metadata": {"path": str(folder)}}).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    nbformat.write(notebook, path)


def main(names: list[str]) -> None:
    os.environ["PATH"] = path_with_commands()
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as home:
        os.environ["XDG_STATE_HOME"] = f"{home}/state"
        for path in [path for path in paths() if not names or path.stem in names]:
            folder = Path(home) / path.stem
            folder.mkdir()
            began = time.monotonic()
            execute(path, folder)
            print(f"{path.stem}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])

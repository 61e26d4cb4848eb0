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
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
MARK = "# NBVAL_CHECK_OUTPUT"
CELL_TIMEOUT_S = 300

SETTINGS = ("pytest.ini", "conftest.py", "sanitize.cfg")
"""What nbval goes by, beside the notebooks."""

PLUGINS = ("cacheprovider", "hypothesispytest", "xdist", "playwright", "timeout")
"""Of pytest, not needed here: each takes its time to load."""


def paths() -> list[Path]:
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def is_marked(cell: NotebookNode) -> bool:
    return MARK in cell.source.splitlines()


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    """Have nbval run a notebook where it is, with the settings beside it."""
    without = [word for name in PLUGINS for word in ("-p", f"no:{name}")]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--color=no",
        *without,
        "--nbval-lax",
        "--rootdir",
        str(path.parent),
    ]
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [*command, path.name],
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
    # As `activate` does: cells call commands of this environment.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
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

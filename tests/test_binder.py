"""What ``binder/`` tells repo2docker, as far as it can be tried without Docker."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / "binder"
SCRIPTS = ("postBuild", "start")
PYTHON = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done >> "$HOME/asked"
"""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def script(name: str, *arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as repo2docker does: from the top of the repository, with a Python that only takes notes."""
    programs = home / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "python").write_text(PYTHON)
    (programs / "python").chmod(0o755)
    places = {"HOME": str(home), "PATH": f"{programs}{os.pathsep}{os.defpath}"}
    return subprocess.run(
        [BINDER / name, *arguments], cwd=ROOT, env=places | environment, capture_output=True, text=True, timeout=20
    )


def test_environment_asks_for_a_python_that_the_project_takes() -> None:
    """Left to itself repo2docker would take one that is too old."""
    environment = yaml.safe_load((BINDER / "environment.yml").read_text())

    [wanted] = [each for each in environment["dependencies"] if each.startswith("python=")]
    minor = re.fullmatch(r"python=(3\.\d+)", wanted)[1]
    assert f"Programming Language :: Python :: {minor}" in project()["project"]["classifiers"]
    assert "://" not in (BINDER / "environment.yml").read_text()


def test_folder_holds_what_repo2docker_reads_and_nothing_else() -> None:
    assert {path.name for path in BINDER.iterdir()} == {"environment.yml", *SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_executed_and_name_no_host(name: str) -> None:
    path = BINDER / name

    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    assert "://" not in path.read_text()


def test_what_is_installed_is_this_repository_with_all_that_its_notebooks_read(tmp_path: Path) -> None:
    done = script("postBuild", home=tmp_path)

    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text().split("\n")
    assert asked[:3] == ["-m", "pip", "install"]
    [extras] = [re.fullmatch(r"\.\[(.+)\]", word)[1].split(",") for word in asked if word.startswith(".")]
    assert set(extras) <= set(project()["project"]["optional-dependencies"])
    others = {word for word in asked[3:] if word and word[0] not in ".-"}
    assert others <= set(project()["dependency-groups"]["test"])
    assert missing_imports(extras, others) == set()


def missing_imports(extras: list[str], others: set[str]) -> set[str]:
    """What the notebooks import beyond what is installed and what comes with Python and Jupyter."""
    sources = [path.read_text() for path in (ROOT / "notebooks").glob("*.ipynb")]
    imported = {name for text in sources for name in re.findall(r'"(?:from|import) (\w+)', text)}
    wanted = [*project()["project"]["dependencies"]]
    wanted += [each for extra in extras for each in project()["project"]["optional-dependencies"][extra]]
    named = {re.match(r"[\w-]+", each)[0] for each in wanted} | others
    modules = {name.replace("-", "_") for name in named} | ({"sklearn"} if "scikit-learn" in named else set())
    return imported - modules - {"celeryflow", "IPython"} - sys.stdlib_module_names


def test_a_step_that_fails_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    places = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}"}

    assert subprocess.run([BINDER / "postBuild"], cwd=ROOT, env=places).returncode == 3


def test_start_hands_over_to_what_it_is_given_with_few_workers(tmp_path: Path) -> None:
    """By `exec`, so that signals reach Jupyter. Machines of Binder show more cores than a notebook gets."""
    show = ["bash", "-c", 'echo "$$ $PPID $CELERYFLOW_WORKERS $1"', "-", "two words"]

    done = script("start", *show, home=tmp_path)

    assert shlex.split((BINDER / "start").read_text().splitlines()[-1]) == ["exec", "$@"]
    assert done.stdout.split(maxsplit=2)[2] == "2 two words\n"
    assert done.stdout.split()[1] == str(os.getpid())
    assert script("start", *show, home=tmp_path, CELERYFLOW_WORKERS="4").stdout.split()[2] == "4"

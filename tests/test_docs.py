"""What the documents show is run, and does what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python_blocks(document: str) -> list[str]:
    """The Python examples of a document."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


def test_the_quickstart_gives_what_its_comments_say(tmp_path: Path) -> None:
    """Each commented expression is evaluated in a process of its own, as a reader would."""
    (block,) = python_blocks("README.md")
    shown = re.findall(r"^(run\.result\(\))\s+# (.+)$", block, re.MULTILINE)
    assert shown, "the quickstart shows no result"
    checks = "\n".join(f"assert {call} == {value}, {call}" for call, value in shown)
    facts = 'assert run.status == "success"\nassert list(run.phases().phase) == ["extract", "transform", "load"]'
    reasons = 'assert "asleep" in " ".join(run.timeline().reason.dropna())\nassert len(run.logs()) == 2'
    script = tmp_path / "quickstart.py"
    script.write_text(f"{block}\n{checks}\n{facts}\n{reasons}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


def test_the_notebook_runs_and_says_what_it_said(tmp_path: Path) -> None:
    """Its cells run without an error, and those marked for it give the outputs that are committed."""
    shutil.copy(ROOT / "notebooks" / "quickstart.ipynb", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:valkey", "--nbval-lax", "--nbval-current-env"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "quickstart.ipynb"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md", "docs/performance.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document: str) -> None:
    """Files that a document names are there."""
    path = ROOT / document
    targets = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [t for t in targets if not (path.parent / t).exists()] == []


def test_the_commands_of_the_readme_exist() -> None:
    """Every ``celeryflow`` command that it shows is one."""
    shown = set(re.findall(r"^celeryflow (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    help_text = subprocess.run([sys.executable, "-m", "celeryflow", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert shown, "the README shows no command"
    assert {command for command in shown if not re.search(rf"^  {command}\b", help_text.stdout, re.MULTILINE)} == set()

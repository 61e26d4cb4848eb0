"""What the documents show is run, and does what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import documents
import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LANGUAGE = DOCS / "language.md"


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


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures that the examples draw now, each of them run and checked."""
    folder = tmp_path_factory.mktemp("pictures")
    done = documents.run(LANGUAGE, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_examples_of_the_language_give_what_their_comments_say(drawn: Path) -> None:
    checked = documents.script(LANGUAGE, drawn).count("\nassert ")
    assert checked > 40


def test_the_pictures_of_the_language_show_their_examples(drawn: Path) -> None:
    """Those in the repository have the boxes, in the states, that drawing them now gives."""
    shown = documents.pictures(LANGUAGE)
    assert len(shown) > 10
    for picture in shown:
        assert documents.boxes(picture) == documents.boxes(drawn / picture.name), picture.name
    assert set(LANGUAGE.parent.glob("images/language-*.svg")) == set(shown)


def test_the_idempotent_step_of_the_reliability_page_charges_once(tmp_path: Path) -> None:
    done = documents.run(DOCS / "reliability.md", tmp_path)
    assert done.returncode == 0, done.stderr
    assert documents.script(DOCS / "reliability.md", tmp_path).count("\nassert ") == 3


def test_the_examples_of_described_workflows_give_what_their_comments_say(tmp_path: Path) -> None:
    document = DOCS / "declarative.md"
    done = documents.run(document, tmp_path)
    assert done.returncode == 0, done.stderr
    assert documents.script(document, tmp_path).count("\nassert ") == 17


def test_an_example_that_gives_something_else_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.md"
    wrong.write_text("```python\nimport celeryflow as cf\n\n1 + 1    # 3\n```\n")
    done = documents.run(wrong, tmp_path)
    assert done.returncode != 0
    assert "2 is not 3" in done.stderr


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in DOCS.glob("*.md"))])
def test_links_lead_somewhere(document: str) -> None:
    """Files and headings that a document names are there."""
    path, text = ROOT / document, (ROOT / document).read_text()
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [t for t in targets if not (path.parent / t).exists()] == []
    headings = {re.sub(r"[^a-z0-9_ -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_the_tests_that_the_security_page_names_exist() -> None:
    """Each of its lines has a test, and each test that it names is one."""
    text = (DOCS / "security.md").read_text()
    named = re.findall(r"`((?:faults/)?test_\w+\.py)::(test_\w+)`", text)
    missing = [(file, name) for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text()]
    assert len(named) > 40
    assert missing == []
    rows = [line for line in re.findall(r"^\| .*\|$", text, re.M) if line.count("|") > 3]
    assert [r for r in rows if not re.search(r"::test_|not-promised|Error` \|$|\| test \||\| error \|$", r)] == []


def test_the_commands_of_the_readme_exist() -> None:
    """Every ``celeryflow`` command that it shows is one."""
    shown = set(re.findall(r"^celeryflow (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    help_text = subprocess.run([sys.executable, "-m", "celeryflow", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert shown, "the README shows no command"
    assert {command for command in shown if not re.search(rf"^  {command}\b", help_text.stdout, re.MULTILINE)} == set()

"""The tutorials run, and give what is committed with them; what is committed is fit to be read anywhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
import tutorials
from conftest import Runtime
from nbformat import NotebookNode
from nbval.plugin import get_sanitize_patterns

from celeryflow.view.offline import VEGA

ONE_MORE = str.maketrans("0123456789", "1234567890")

every = pytest.mark.parametrize("path", tutorials.paths(), ids=lambda path: path.stem)


@pytest.fixture
def folder(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where notebooks join the workers that are there already."""
    monkeypatch.setenv("PATH", tutorials.path_with_commands())
    monkeypatch.setenv("PYTHONPATH", str(tutorials.ROOT))
    return runtime.directory


@every
def test_a_tutorial_gives_what_is_committed(path: Path, folder: Path) -> None:
    found = tutorials.validate(shutil.copy(path, folder / path.name))

    assert [problem for problem in found.values() if problem] == []
    assert len(found) == len(tutorials.code_cells(path))


def test_a_result_that_has_changed_fails(folder: Path) -> None:
    """In each cell that is marked, and in no other: here every digit of every output is another."""
    notebook = tutorials.read(tutorials.FOLDER / "quickstart.ipynb")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        for output in cell.outputs:
            output.data = {kind: text.translate(ONE_MORE) for kind, text in output.data.items()}
    nbformat.write(notebook, folder / "changed.ipynb")

    found = tutorials.validate(folder / "changed.ipynb")

    failed = {number for number, problem in found.items() if "Cell outputs differ" in problem}
    assert failed == {number for number, cell in enumerate(cells) if tutorials.is_marked(cell)}
    assert failed == {number for number, problem in found.items() if problem}
    assert len(failed) >= 2


def test_the_command_alone_is_enough(tmp_path: Path) -> None:
    """``pytest --nbval-lax`` finds beside the notebooks what to leave out, and the commands of this environment."""
    for name in tutorials.SETTINGS:
        shutil.copy(tutorials.FOLDER / name, tmp_path)
    notebook = nbformat.v4.new_notebook()
    for source, text in [
        ("print('took 3.5 s')", "took 0.1 s\n"),
        ("print(6 * 7)", "43\n"),
        ("import shutil; print(bool(shutil.which('celeryflow')))", "True\n"),
    ]:
        output = nbformat.v4.new_output("stream", text=text)
        cell = nbformat.v4.new_code_cell(f"{tutorials.MARK}\n{source}", outputs=[output], execution_count=1)
        notebook.cells.append(cell)
    nbformat.write(notebook, tmp_path / "short.ipynb")

    done = tutorials.validate_as_typed(tmp_path / "short.ipynb")

    assert re.findall(r"^FAILED .*::Cell (\d+)", done.stdout, re.MULTILINE) == ["1"], done.stdout
    assert "2 passed" in done.stdout


# --- what differs from run to run -----------------------------------------------------------------


def sanitized(text: str) -> str:
    for pattern, replacement in get_sanitize_patterns(tutorials.SANITIZER.read_text()):
        text = re.sub(pattern, replacement, text)
    return text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("etl-03b2cde5f4 ran", "etl-9999999999 ran"),
        ("run of my-etl.v2-03b2cde5f4", "run of my-etl.v2-a3b2cde5fa"),
        ("began 2026-11-21 09:30", "began 2026-12-01 10:31"),
        ("2026-11-21T09:30:12.345+00:00", "2027-01-01 00:00:00Z"),
        ("took 0.2 s", "took 12 s"),
        ("    0.2 s  ok", "12.25 s  ok"),
        ("35 ms", "1.5 s"),
        ("1.2 MiB held", " 300 kB held"),
        ("<Thing at 0x7f3a09b1c2d0>", "<Thing at 0x55d01e3f10>"),
        ("redis://127.0.0.1:6379/0", "unix:///tmp/x/redis.sock"),
        ("pid 1234", "pid 9"),
    ],
)
def test_what_differs_from_run_to_run_is_left_out(one: str, other: str) -> None:
    assert sanitized(one) == sanitized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{'flights': 450}", "{'flights': 451}"),
        ("success  3 / 4", "success  4 / 4"),
        ("12.8 minutes late", "24.9 minutes late"),
        ("0.9731", "0.9732"),
        ("2013-01-01", "2013-01-02"),
        ("3 steps", "4 steps"),
    ],
)
def test_what_a_tutorial_teaches_is_compared(one: str, other: str) -> None:
    assert sanitized(one) != sanitized(other)


# --- what is committed ----------------------------------------------------------------------------


def is_picture(output: NotebookNode) -> bool:
    """What shows itself, or a chart with latencies: no two runs look the same, and these have tests of their own."""
    return VEGA in output.get("data", {}) or re.match(
        r'\s*<(div class="cf-|section class="celeryflow[ "])', output.get("data", {}).get("text/html", "")
    )


@every
def test_a_tutorial_was_run_and_every_result_in_it_is_marked(path: Path) -> None:
    cells = tutorials.code_cells(path)

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    results = [cell for cell in cells if not all(map(is_picture, cell.outputs))]
    assert [cell.source for cell in results if not tutorials.is_marked(cell)] == []
    assert [cell.source for cell in cells if tutorials.is_marked(cell) and not cell.outputs] == []
    assert len(results) >= 2


@every
def test_a_tutorial_holds_no_widget_and_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    text, notebook = path.read_text(), tutorials.read(path)

    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert [cell.metadata for cell in notebook.cells if cell.metadata] == []
    assert "application/vnd.jupyter.widget" not in text
    outputs = [str(output) for cell in tutorials.code_cells(path) for output in cell.outputs]
    assert re.findall(r"(?:/home|/tmp|/root|/Users|/work|/usr|site-packages)\b[^\s'\"]*", " ".join(outputs)) == []
    assert [output for output in outputs if "Warning" in output or "Traceback" in output] == []


@every
def test_a_tutorial_ends_with_one_thing_to_do(path: Path) -> None:
    notebook = tutorials.read(path)

    assert notebook.cells[0].source.startswith("# ")
    [last] = [cell for cell in notebook.cells if cell.cell_type == "markdown" and "## Now you" in cell.source]
    assert notebook.cells.index(last) >= len(notebook.cells) - 2


@every
def test_a_tutorial_is_in_the_readme_and_its_links_lead_somewhere(path: Path) -> None:
    text = "".join(cell.source for cell in tutorials.read(path).cells if cell.cell_type == "markdown")

    assert f"](notebooks/{path.name})" in (tutorials.ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []

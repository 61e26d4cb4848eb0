"""A failure tells the user's own line: in the text, on the page, and from a notebook with the number of the cell."""

from __future__ import annotations

import asyncio
import re
import traceback
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import Notebook
from flows import double
from nbclient import NotebookClient

import celeryflow as cf
from celeryflow.run.cells import FIRST, LAST, trail
from celeryflow.runtime.snapshot.trail import frames_in


def tb_of(function: Any, *args: Any) -> str:
    with pytest.raises(Exception) as caught:
        function(*args)
    return "".join(traceback.format_exception(caught.value))


def parse(text: str) -> int:
    return int(text)


def convert(text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise LookupError(f"no number: {text}") from error


def test_the_frames_are_those_of_the_exception_and_not_of_its_cause() -> None:
    found = frames_in(tb_of(convert, "x"))

    assert [frame.function for frame in found] == ["tb_of", "convert"]
    assert found[-1].source == 'raise LookupError(f"no number: {text}") from error'


def test_a_traceback_in_a_message_is_not_taken_for_one() -> None:
    quoted = tb_of(parse, "x")

    def fail() -> None:
        raise ValueError(f"in another process:\n{quoted}\n\nTraceback (most recent call last):\n  File")

    assert [frame.function for frame in frames_in(tb_of(fail))] == ["tb_of", "fail"]


def test_of_an_exception_group_the_frames_are_its_own() -> None:
    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            group.create_task(asyncio.to_thread(parse, "x"))

    assert frames_in(tb_of(lambda: asyncio.run(both())))[1].function == "<lambda>"
    assert "both" in [line.call for line in trail(tb_of(lambda: asyncio.run(both())))][-1]


@pytest.mark.parametrize(
    "text", ["", "nothing", "Traceback (most recent call last):\n", '  File "x", line 1, in y', "\x00"]
)
def test_what_is_no_traceback_has_no_frames(text: str) -> None:
    assert frames_in(text) == []


def test_only_the_users_own_frames_are_told() -> None:
    import json

    def load() -> Any:
        return json.loads("{")

    lines = trail(tb_of(load))

    assert [line.call for line in lines] == ["tb_of(function, *args)", "load()"]
    assert lines[-1].source == 'return json.loads("{")'
    assert re.fullmatch(r"test_trail\.py, line \d+", lines[-1].place)


@pytest.mark.parametrize(
    "file",
    [
        "/opt/other/lib/python3.12/site-packages/pandas/core/frame.py",
        "/usr/lib/python3.11/json/decoder.py",
        "<frozen importlib._bootstrap>",
        "C:\\env\\Lib\\site-packages\\numpy\\core.py",
    ],
)
def test_frames_of_libraries_of_another_machine_are_left_out(file: str) -> None:
    told = f'Traceback (most recent call last):\n  File "{file}", line 1, in f\n    x\nE: y\n'
    assert trail(told) == ()


def test_of_a_recursion_the_beginning_and_the_end_are_told() -> None:
    # Python leaves out repeated lines by itself: two functions take turns.
    def even(n: int) -> int:
        return odd(n - 1) if n else parse("x")

    def odd(n: int) -> int:
        return even(n - 1)

    lines = trail(tb_of(even, 40))

    assert len(lines) == FIRST + 1 + LAST
    assert re.fullmatch(r"… \d+ more", lines[FIRST].call)
    assert lines[-1].call == "parse(text)"


def test_code_of_which_nothing_is_known_has_its_name_and_line() -> None:
    told = 'Traceback (most recent call last):\n  File "/tmp/ipykernel_7/99.py", line 7, in validate\nValueError: x\n'
    (line,) = trail(told)
    assert line == ("validate", "a cell, line 7", "")


def test_a_cell_of_plain_ipython_says_its_number_itself() -> None:
    told = 'Traceback (most recent call last):\n  File "<ipython-input-4-0123456789ab>", line 2, in <lambda>\nE: x\n'
    (line,) = trail(told)
    assert line == ("lambda", "cell 4, line 2", "")


# --- in runs ---------------------------------------------------------------------------------------------------------


def test_text_and_page_say_what_failed_with_the_line_and_what_to_type_next(runtime: Any) -> None:
    @cf.step
    def validate(row: Any) -> Any:
        return parse(row)

    @cf.workflow
    def etl(rows: list[Any]) -> Any:
        return double(validate.map(rows))

    run = etl.run(["1", "x"])

    lines = repr(run).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("✕ validate[1]: ValueError"))
    assert re.fullmatch(r"  validate\(row\)   test_trail\.py, line \d+", lines[at + 1])
    assert lines[at + 2] == "    return parse(row)"
    assert re.fullmatch(r"  parse\(text\)     test_trail\.py, line \d+", lines[at + 3])
    assert lines[at + 4] == "    return int(text)"
    assert calls_in(lines) == CALLS
    page = unescape(re.sub(r"<[^>]*>", "", run._repr_html_()))
    for line in (*lines[at + 1 : at + 5], *CALLS):
        assert line in page


CALLS = ["run.errors()", 'run.replay("validate", 1)', "run.resume()", 'etl.resume(run, rerun="failed")']


def calls_in(lines: list[str]) -> list[str]:
    """What the end of a run's text says to type."""
    at = next(i for i, line in enumerate(lines) if line.startswith("next: "))
    return [call for line in lines[at:] for call in line.removeprefix("next:").strip().split("  ")]


def test_what_the_text_says_to_type_works(runtime: Any, tmp_path: Path) -> None:
    @cf.step
    def validate(row: int) -> int:
        if not (tmp_path / "mended").exists():
            raise ValueError(row)
        return row

    etl = cf.workflow(lambda: validate.map([3]), name="etl")
    run = etl.run()
    calls = calls_in(repr(run).splitlines())
    (tmp_path / "mended").touch()

    results = {call: eval(call, {"run": run, "etl": etl}) for call in (calls[0], calls[1], calls[3], calls[2])}

    assert len(results["run.errors()"]) == 1
    assert results['run.replay("validate", 0)'] == 3
    assert results['etl.resume(run, rerun="failed")'].result() == [3]
    assert results["run.resume()"].result() == [3]
    assert "validate(row)" not in repr(run), "a resume forgets the failure"


def test_an_attached_run_tells_it_too(runtime: Any, notebook: Notebook) -> None:
    notebook.cell("""
        @cf.step
        def broken():
            raise ValueError("x")
    """)
    run = cf.workflow(lambda: notebook["broken"]()).run()

    assert "broken   <cell>, line 4" in repr(cf.attach(run.id))


def test_a_failure_without_code_of_the_users_has_no_lines(runtime: Any) -> None:
    @cf.step(timeout_s=0.2)
    def slow() -> None:
        while True:
            pass

    run = cf.workflow(lambda: slow()).run()

    assert ", line " not in repr(run)
    assert 'run.replay("slow")' in repr(run)


def test_what_killed_its_worker_is_not_to_be_run_in_the_notebook(runtime: Any) -> None:
    import os

    die = cf.step(lambda: os._exit(1), name="die", max_worker_losses=0)
    run = cf.workflow(lambda: die()).run()

    assert run.errors()["kind"].tolist() == ["poisoned"]
    assert "replay" not in repr(run)
    assert "run.resume()" in repr(run)


def test_a_cancelled_run_can_be_resumed(runtime: Any, tmp_path: Path) -> None:
    from flows import waits

    run = waits.submit(str(tmp_path / "never"))
    run.cancel()
    run.wait()

    assert repr(run).splitlines()[-1] == "next: run.resume()"


CELLS = [
    "import celeryflow as cf\ncf.connect(workers=1)",
    "def check_clock(clock):\n    if clock > 2400:\n        raise ValueError(f'dep_time {clock} is no time')",
    "@cf.step\ndef validate(table):\n    x = 1\n    check_clock(table)\n    return x",
    "@cf.workflow\ndef flights_etl(tables):\n    return validate.map(tables)",
    "run = flights_etl.run([1, 2460])\nprint(repr(run))",
    "cf.shutdown()",
]


def test_a_notebook_is_told_the_cell_and_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real kernel and its workers: the file names of cells mean something to the kernel alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])

    NotebookClient(book, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()

    printed = "".join(output.get("text", "") for output in book.cells[4].outputs)
    assert (
        "✕ validate[1]: ValueError: dep_time 2460 is no time\n"
        "  validate(table)      cell 3, line 4\n"
        "    check_clock(table)\n"
        "  check_clock(clock)   cell 2, line 3\n"
        "    raise ValueError(f'dep_time {clock} is no time')\n"
    ) in printed

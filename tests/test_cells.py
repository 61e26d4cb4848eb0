"""Cells of a notebook: what is defined in them, redefined, and captured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Notebook
from executions import Executions

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


def test_cell_that_redefines_a_step_uses_the_new_code_on_the_running_workers(notebook: Notebook) -> None:
    notebook.cell(
        """
        import os

        @cf.step
        def clean(x):
            return "old", os.getpid()

        @cf.workflow
        def etl():
            return [clean(i) for i in range(10)]
        """
    )
    before = notebook["etl"].run().result()
    notebook.cell(
        """
        @cf.step
        def clean(x):
            return "new", os.getpid()
        """
    )
    after = notebook["etl"].run().result()

    assert {text for text, _ in before} == {"old"}
    assert {text for text, _ in after} == {"new"}
    assert {pid for _, pid in before} & {pid for _, pid in after}


def test_runs_of_old_and_new_code_do_not_mix(notebook: Notebook) -> None:
    source = """
        @cf.step
        def clean(x):
            return {version}, x

        @cf.workflow
        def etl():
            return clean.map(range(50))
        """
    runs = []
    for version in range(5):
        notebook.cell(source.format(version=version))
        runs.append(notebook["etl"].submit())

    for version, run in enumerate(runs):
        assert run.result() == [(version, x) for x in range(50)]


def test_functions_of_the_notebook_that_a_step_calls_travel_with_it(notebook: Notebook) -> None:
    notebook.cell(
        """
        def inner(x):
            return x + OFFSET

        def outer(x):
            return inner(x) * 2

        @cf.step
        def work(x):
            return outer(x)

        OFFSET = 10

        @cf.workflow
        def etl():
            return work(1)
        """
    )

    assert notebook["etl"].run().result() == 22


def test_redefined_helper_and_changed_global_are_used_without_redefining_the_step(notebook: Notebook) -> None:
    notebook.cell(
        """
        def helper(x):
            return "old helper"

        TABLE = {"month": 1}

        @cf.step
        def work(x):
            return helper(x), TABLE["month"]

        @cf.workflow
        def etl():
            return work(1)
        """
    )
    assert notebook["etl"].run().result() == ("old helper", 1)

    notebook.cell("def helper(x):\n    return 'new helper'")
    notebook.cell("TABLE['month'] = 2")

    assert notebook["etl"].run().result() == ("new helper", 2)


def test_classes_of_the_notebook_travel_there_and_back(notebook: Notebook) -> None:
    notebook.cell(
        """
        from dataclasses import dataclass
        from enum import Enum

        class Colour(Enum):
            RED = 1

        @dataclass
        class Point:
            x: int
            colour: Colour = Colour.RED

            def moved(self):
                return Point(self.x + 1, self.colour)

        @cf.step
        def move(point):
            return point.moved()

        @cf.workflow
        def etl(point):
            return move(move(point))
        """
    )
    point = notebook["etl"].run(notebook["Point"](1)).result()

    assert isinstance(point, notebook["Point"])
    assert (point.x, point.colour) == (3, notebook["Colour"].RED)


def test_exceptions_of_the_notebook_come_back_as_themselves(notebook: Notebook) -> None:
    notebook.cell(
        """
        class BadRow(ValueError):
            def __init__(self, row):
                super().__init__(f"row {row} is bad")
                self.row = row

            def __reduce__(self):
                return BadRow, (self.row,)

        @cf.step
        def clean(x):
            raise BadRow(x)

        @cf.workflow
        def etl():
            return clean(7)
        """
    )

    with pytest.raises(cf.StepFailedError) as caught:
        notebook["etl"].run(check=True)
    assert isinstance(caught.value.__cause__, notebook["BadRow"])
    assert caught.value.__cause__.row == 7


def test_recursive_and_mutually_recursive_functions_are_steps(notebook: Notebook) -> None:
    notebook.cell(
        """
        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - 1)

        @cf.step
        def factorial(n):
            return 1 if n == 0 else n * factorial(n - 1)

        @cf.workflow
        def etl():
            return cf.step(even)(10), factorial(5)
        """
    )

    assert notebook["etl"].run().result() == (True, 120)


def test_closures_are_taken_as_they_are_when_the_run_starts() -> None:
    amounts = []
    runs = []
    for amount in (1, 2, 3):
        amounts.append(amount)
        runs.append(cf.workflow(lambda: cf.step(lambda: list(amounts))()).submit())

    assert [run.result() for run in runs] == [[1], [1, 2], [1, 2, 3]]


def test_code_is_loaded_once_in_a_process_however_often_it_runs(executions: Executions) -> None:
    class Loud:
        def __setstate__(self, state: Any) -> None:
            executions.note(f"loaded in {os.getpid()}")

        def __getstate__(self) -> Any:
            return {"some": "state"}

    loud = Loud()

    def work(i: int) -> bool:
        return loud is not None

    for _ in range(3):
        cf.map(work, range(20)).result()

    notes = executions.notes()
    assert 1 <= len(notes) == len(set(notes))


def test_same_code_is_stored_once(runtime: Any) -> None:
    from conftest import stored_keys

    step = cf.step(lambda x: x, name="stored-once")
    etl = cf.workflow(lambda: [step.options(name=f"s{i}")(i) for i in range(5)])
    codes = [key for key in stored_keys() if b":code:" in key]

    for _ in range(3):
        etl.run(check=True)

    assert len([key for key in stored_keys() if b":code:" in key]) == len(codes) + 1


def test_script_in_a_process_of_its_own_runs_as_main(kernel: Any, tmp_path: Path) -> None:
    found = kernel(
        """
        import os

        SCALE = 3

        def helper(x):
            return SCALE * x

        class Row:
            def __init__(self, x):
                self.x = x

        @cf.step
        def work(row):
            print("in", row.x)
            return helper(row.x), os.getpid(), os.getcwd()

        @cf.workflow
        def etl():
            return [work(Row(i)) for i in range(3)]

        if __name__ == "__main__":
            cf.connect(workers=1)
            run = etl.run()
            values, pids, places = zip(*run.result())
            answer = [values, os.getpid() in pids, list(set(places)), run.logs()["text"].tolist()]
        """
    )

    assert found == [[0, 3, 6], False, [str(tmp_path)], ["in 0", "in 1", "in 2"]]

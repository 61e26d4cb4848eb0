"""Cancel and Retry while the cell blocks, from ``await``, and after an interrupt: a click always arrives."""

from __future__ import annotations

from playwright.sync_api import expect

from .pages import Notebook


def test_cancel_stops_a_run_that_a_cell_awaits(notebook: Notebook) -> None:
    cell = notebook.start(
        """
        run = flights_etl.submit(gate="never")
        display(run)
        try:
            await run
        except cf.RunCancelledError:
            print("was cancelled")
        """
    )
    cell.view.expect_box("clean", "running")
    cell.view.cancel.click()
    cell.view.ends("cancelled")
    cell.wait()
    assert cell.printed() == "was cancelled\n"


def test_cancel_stops_a_run_that_no_cell_waits_for(notebook: Notebook) -> None:
    cell = notebook.run("flights_etl.submit(gate='never')")
    cell.view.expect_box("clean", "running")
    cell.view.cancel.click()
    cell.view.ends("cancelled")
    for label in ("join", "save"):
        cell.view.expect_box(label, "cancelled")


def test_cancel_works_while_a_cell_computes_and_never_waits(notebook: Notebook) -> None:
    cell = notebook.run("busy = flights_etl.submit(gate='never')\nbusy")
    cell.view.expect_box("clean", "running")
    enough = notebook.gate()
    computing = notebook.start(f"while not Path({enough!r}).exists():\n    sum(range(1000))\nprint('over')")
    cell.show()
    cell.view.cancel.click()
    cell.view.ends("cancelled")
    assert computing.printed() == ""
    notebook.open_gate(enough)
    computing.wait()


def test_an_interrupted_run_is_cancelled_and_retried_by_the_button(notebook: Notebook) -> None:
    gate = notebook.gate()
    cell = notebook.start(f"flights_etl.run(gate={gate!r})")
    cell.view.expect_box("clean", "running")
    notebook.interrupt()
    cell.wait()
    cell.view.ends("cancelled")
    assert [output["ename"] for output in cell.outputs() if output["output_type"] == "error"] == ["KeyboardInterrupt"]
    notebook.open_gate(gate)
    cell.view.retry.click()
    cell.view.ends("success")


def test_cancel_works_after_the_kernel_was_interrupted(notebook: Notebook) -> None:
    sleeping = notebook.start("print('asleep')\ntime.sleep(600)")
    expect(sleeping.output).to_contain_text("asleep")
    notebook.interrupt()
    sleeping.wait()
    cell = notebook.start("flights_etl.run(gate='never')")
    cell.view.expect_box("clean", "running")
    cell.view.cancel.click()
    cell.view.ends("cancelled")
    cell.wait()


def test_retry_is_offered_where_something_is_left_to_do(notebook: Notebook) -> None:
    succeeded = notebook.run("flights_etl.run()")
    succeeded.view.ends("success")
    expect(succeeded.view.retry).to_have_count(0)
    failed = notebook.run("flights_etl.run(bad=[1])")
    failed.view.ends("failure")
    expect(failed.view.retry).to_be_enabled()


def test_a_retried_run_keeps_what_succeeded(notebook: Notebook) -> None:
    attempts = "again.steps().set_index('step').attempts.to_dict()"
    mended = notebook.gate()
    cell = notebook.run(f"again = flights_etl.run(bad=[3], mended={mended!r})\nagain")
    cell.view.ends("failure")
    before = notebook.ask(attempts)
    notebook.open_gate(mended)
    cell.show()
    cell.view.retry.click()
    cell.view.ends("success")
    after = notebook.ask(attempts)
    assert {step: after[step] - before[step] for step in after} == {
        "flights": 0, "weather": 0, "clean": 0, "validate": 1, "join": 1, "save": 1,
    }  # fmt: skip

"""Runs that show themselves in a notebook, as a front end without a browser sees it: displays, models and messages."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import Runtime
from front_end import WIDGET, Display, FrontEnd
from nbclient import NotebookClient

import celeryflow as cf
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view.boxes import drawing
from celeryflow.view.live import scene

FLOWS = """
import time
from pathlib import Path
import celeryflow as cf
import celeryflow.view.live.shown as shown_runs
shown_runs.LOOK_S = shown_runs.SETTLE_S = 60.0  # a cell waits so long for the last picture, on a busy machine too


@cf.step
def load(secret, gate=""):
    while gate and not Path(gate).exists():
        time.sleep(0.02)
    print("a line of the log")
    return secret


@cf.step
def check(i, mended=""):
    if i == 3 and not (mended and Path(mended).exists()):
        raise ValueError("three is not allowed")
    return i


@cf.step
def total(loaded, checked):
    return loaded


@cf.workflow
def etl(secret="plain", gate="", length=5, mended="mended"):
    with cf.phase("extract"):
        loaded = load(secret, gate)
    with cf.phase("verify"):
        checked = check.map(range(length), mended)
    return total(loaded, checked)
"""

SECRETS = """
import pandas as pd
secret = "".join(["op", "en", "sesame"])


@cf.step
def tell(x, more):
    print(x, more)
    cf.current().log(x)
    return pd.DataFrame({x: [more]})


@cf.step
def bad(x):
    raise ValueError("a word that nobody knows")


@cf.workflow
def whisper(word):
    return tell.map({word: word}, word), bad.map([word])


run = whisper.run(secret)
etl.run(secret, length=3)
"""

COMPARE = """
def nearly(item):
    while item == 7 and not Path(GATE).exists():
        time.sleep(0.02)
    return item + 0.1 * (item % 3)


algorithms, metrics = {"<b>double": lambda item: 2 * item, "nearly": nearly}, {"gain": lambda out, item: out - item}
report = cf.compare(algorithms, range(8), metrics, warmup=0)
report
"""

THREADS = "[t.name for t in __import__('threading').enumerate() if t.name.startswith('celeryflow-view')]"
COMMS = "len(__import__('comm').get_comm_manager().comms)"


@pytest.fixture(scope="module")
def start(shared_runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., FrontEnd]]:
    """Starts notebooks in the runtime's directory."""
    started: list[FrontEnd] = []

    def start(**environment: str) -> FrontEnd:
        home = tmp_path_factory.mktemp("front-end")
        started.append(
            FrontEnd(shared_runtime.directory, home, XDG_STATE_HOME=str(shared_runtime.state), **environment)
        )
        return started[-1]

    yield start
    for front_end in started:
        front_end.close()


@pytest.fixture(scope="module")
def shared_notebook(start: Callable[..., FrontEnd]) -> FrontEnd:
    front_end = start()
    front_end.run(f"{FLOWS}\netl.draw()")  # Graphviz in WebAssembly is compiled first, which takes seconds
    return front_end


@pytest.fixture
def notebook(shared_notebook: FrontEnd, runtime: Runtime) -> FrontEnd:
    """A notebook in which workflows are defined, and which may show earlier runs."""
    shared_notebook.forget()
    return shared_notebook


def status(notebook: FrontEnd) -> str:
    return str(notebook.view()["head"].get("status", ""))


def await_status(notebook: FrontEnd, wanted: str) -> None:
    notebook.until(lambda: status(notebook) == wanted)


def answers(notebook: FrontEnd, click: str) -> list[dict[str, Any]]:
    """What a click was answered."""
    return [answer for answer in notebook.answers if answer.get("id") == click]


def start_run(notebook: FrontEnd, source: str) -> str:
    """Begin to run a cell that shows a run, up to that; its execution."""
    known = len(notebook.displays)
    execution = notebook.start(source)
    notebook.until(lambda: len(notebook.displays) > known)
    return execution


def is_page(bundle: dict[str, Any]) -> bool:
    """Whether it is a static page, which needs no kernel."""
    return set(bundle) == {"text/html", "text/plain"} and "data:image/svg+xml;base64," in bundle["text/html"]


# --- displays ------------------------------------------------------------------------------


def test_run_that_is_waited_for_shows_one_picture_which_is_static_in_the_end(notebook: FrontEnd) -> None:
    [display] = notebook.run("etl.run(length=3)")

    assert set(display.first) == {WIDGET, "text/html", "text/plain"}
    assert display.first[WIDGET]["model_id"] == notebook.views()[-1]
    assert is_page(display.last)
    assert "✓ success" in display.last["text/html"]
    assert display.last["text/plain"].startswith("etl  ✓ success")


def test_picture_is_under_its_cell_while_the_run_goes_on(notebook: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    execution = start_run(notebook, f"etl.run(gate={str(gate)!r}, length=3)")
    await_status(notebook, "running")
    notebook.until(lambda: notebook.view()["picture"]["svg"].startswith("<svg"))

    assert len(notebook.under(execution)) == 1
    assert len(notebook.view()["states"]) == 3
    gate.touch()
    notebook.finish(execution)
    assert status(notebook) == "success"
    assert notebook.view()["states"] == "sss"


def test_submitted_run_goes_on_under_its_cell_when_that_has_ended(notebook: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    [display] = notebook.run(f"etl.submit(gate={str(gate)!r}, length=3)")
    await_status(notebook, "running")

    gate.touch()
    notebook.until(lambda: is_page(display.last))
    assert status(notebook) == "success"


@pytest.mark.parametrize(
    "source",
    [
        "cf.map(lambda i: i, range(3))",
        "run = etl.submit(length=3)\ncf.attach(run.id)",
        "run = etl.submit(length=3)\nrun.wait()",
        "etl.run(length=3, inline=True)",
    ],
)
def test_run_as_the_last_expression_shows_itself(notebook: FrontEnd, source: str) -> None:
    [display] = notebook.run(source)
    notebook.until(lambda: is_page(display.last))


def test_awaited_run_is_shown_and_then_its_result(notebook: FrontEnd) -> None:
    picture, result = notebook.run("await etl.submit('the result', length=3)")

    assert is_page(picture.last)
    assert result.last["text/plain"] == "'the result'"


def test_run_that_goes_on_is_kept_as_a_page_where_the_live_view_stands_in_its_place(
    notebook: FrontEnd, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    execution = start_run(notebook, f"run = etl.run(gate={str(gate)!r}, length=3)")
    [display] = notebook.under(execution)
    await_status(notebook, "running")
    notebook.click("here", keeps=True)
    notebook.until(lambda: is_page(display.last))
    kept = display.last["text/html"]
    assert "▸ running" in kept
    assert f'data-cf-view="{notebook.view()["slot"]}"' in kept
    assert "So it was at" in kept
    assert "cf.attach(&#x27;etl-" in kept

    gate.touch()
    notebook.finish(execution)
    assert "✓ success" in display.last["text/html"]
    assert "So it was at" not in display.last["text/html"]
    assert len(display.shown) == 3


def test_run_that_is_over_is_shown_as_a_page_before_its_cell_ends(notebook: FrontEnd) -> None:
    notebook.run("run = etl.run(length=3); run_id = run.id")
    [display] = notebook.run("cf.attach(run_id)")
    assert is_page(display.last)


def test_same_run_under_two_cells_has_one_model_and_one_thread(notebook: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    [first] = notebook.run(f"run = etl.submit(gate={str(gate)!r}, length=3)\nrun")
    [second] = notebook.run("run")

    assert first.first[WIDGET] == second.first[WIDGET]
    notebook.until(lambda: len(notebook.ask(THREADS)) == 1)  # those of earlier runs end
    gate.touch()
    notebook.until(lambda: is_page(first.last) and is_page(second.last))
    assert first.last == second.last


def test_no_argument_and_no_result_is_in_what_is_told(notebook: FrontEnd) -> None:
    notebook.run(f"{SECRETS}\nrun")
    notebook.run("run.resume()")
    assert not [told for told in notebook.raw if "opensesame" in told]


def test_saved_notebook_has_the_final_page_and_no_widget(runtime: Runtime) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in (f"{FLOWS}\netl.draw()", "etl.run(length=3)", SECRETS)]
    saved = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(saved, timeout=60, resources={"metadata": {"path": str(runtime.directory)}}).execute()

    [output] = saved.cells[1].outputs
    assert is_page(output.data)
    assert "✓ success" in output.data["text/html"]
    kept = nbformat.writes(saved)
    pictures = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", kept)
    assert len(pictures) == 4, "one before the run, and one of each"
    assert "opensesame" not in kept + "".join(base64.b64decode(picture).decode() for picture in pictures)


# --- comparisons ---------------------------------------------------------------------------


def so_far(display: Display) -> int:
    """How many trials a summary knows of that is marked as not complete; 0 for any other."""
    found = re.search(r"so far .* (\d+) of 16 trials", display.last["text/plain"])
    return int(found[1]) if found else 0


def test_summary_of_a_comparison_fills_in_below_its_run_until_it_is_the_report(
    notebook: FrontEnd, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    notebook.run("import celeryflow.view.live.panel as panel; panel.PERIOD_S, panel.SHARE_OF_A_CORE = 0.0, 1.0")
    execution = notebook.start(f"GATE = {str(gate)!r}\n{COMPARE}")
    run, summary = notebook.until(lambda: len(found := notebook.under(execution)) == 2 and found)
    assert WIDGET in run.first
    assert "so far" in summary.first["text/html"]
    assert "0 of 16 trials" in summary.first["text/plain"]

    notebook.until(lambda: so_far(summary) >= 4)  # others may be claimed with the one that waits
    assert "verdict comes with the last trial" in summary.last["text/html"]
    assert "inconclusive" not in summary.last["text/html"]
    gate.touch()
    notebook.finish(execution)
    assert len(notebook.under(execution)) == 2, "the last expression stands there already"
    assert set(summary.last) == {"text/html", "text/plain"}
    assert summary.last["text/html"] == notebook.ask("report._repr_html_()")
    assert "Use &lt;b&gt;double: on gain it is better" in summary.last["text/html"]
    assert "so far" not in summary.last["text/html"].lower()
    assert "<b>double" not in summary.last["text/html"]
    notebook.until(lambda: notebook.ask(THREADS) == [])


def test_comparison_that_goes_on_is_shown_under_the_cell_that_asks_for_it(notebook: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    source = COMPARE.replace("warmup=0", "warmup=0, wait=False")
    _, summary = notebook.run(f"GATE = {str(gate)!r}\n{source}")
    gate.touch()
    notebook.until(lambda: "★ <b>double" in summary.last["text/plain"])
    [report] = notebook.run("report")
    assert report.first["text/html"] == summary.last["text/html"]


# --- nothing is left -----------------------------------------------------------------------


def test_thread_ends_with_the_run(notebook: FrontEnd) -> None:
    notebook.run("etl.run(length=3)")
    notebook.until(lambda: notebook.ask(THREADS) == [])


def test_cell_that_runs_again_leaves_nothing_of_its_former_views(notebook: FrontEnd) -> None:
    notebook.run("etl.run(length=3)", cell="a")
    before = notebook.ask(COMMS)
    views = len(notebook.views())
    for _ in range(3):
        notebook.run("etl.run(length=3)", cell="a")

    notebook.until(lambda: notebook.ask(COMMS) == before)
    assert len(notebook.views()) == views


def test_view_of_a_run_that_goes_on_is_let_go_with_its_cell(notebook: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    before = notebook.ask(COMMS)
    [display] = notebook.run(f"run = etl.submit(gate={str(gate)!r}, length=3)\nrun", cell="b")
    notebook.run("pass", cell="b")

    notebook.until(lambda: notebook.ask(COMMS) == before)
    assert display.first[WIDGET]["model_id"] not in notebook.views()
    notebook.until(lambda: notebook.ask(THREADS) == [])
    gate.touch()
    notebook.run("run.wait()")


def test_of_many_finished_runs_the_latest_keep_their_live_views(notebook: FrontEnd) -> None:
    notebook.run("most, shown_runs.MOST_KEPT = shown_runs.MOST_KEPT, 2")
    displays = [notebook.run("etl.run(length=3)")[0] for _ in range(5)]
    notebook.until(lambda: len(notebook.views()) <= 3 and notebook.ask(COMMS) <= 6)  # each has a layout, too
    notebook.run("shown_runs.MOST_KEPT = most")

    assert all(is_page(display.last) for display in displays)
    assert displays[-1].first[WIDGET]["model_id"] == notebook.views()[-1]


# --- clicks --------------------------------------------------------------------------------


def test_cancel_is_heard_while_the_cell_waits_for_the_run(notebook: FrontEnd, tmp_path: Path) -> None:
    execution = start_run(notebook, f"run = etl.run(gate={str(tmp_path / 'never')!r}, length=3)")
    await_status(notebook, "running")
    click = notebook.click("cancel")
    notebook.finish(execution)

    assert execution not in notebook.errors
    assert status(notebook) == "cancelled"
    notebook.until(lambda: {"what": "heard", "id": click} in notebook.answers)


def test_cancel_is_heard_while_the_run_is_awaited(notebook: FrontEnd, tmp_path: Path) -> None:
    execution = start_run(notebook, f"await etl.submit(gate={str(tmp_path / 'never')!r}, length=3)")
    await_status(notebook, "running")
    notebook.click("cancel")
    notebook.finish(execution)
    assert notebook.errors[execution] == "RunCancelledError"


def test_retry_goes_on_with_what_failed_in_the_same_view(notebook: FrontEnd, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    [display] = notebook.run(f"run = etl.run(mended={str(mended)!r})")
    assert status(notebook) == "failure"
    assert notebook.view()["head"]["can_retry"]
    assert notebook.view()["states"][notebook.view()["head"]["failed"]] == "f"

    mended.touch()
    notebook.click("resume")
    await_status(notebook, "success")
    assert notebook.ask("run.status") == "success"
    assert notebook.ask("run.wait().result()") == "plain"
    notebook.until(lambda: "✓ success" in display.last["text/html"])
    notebook.until(lambda: notebook.ask(THREADS) == [])


def test_resume_in_a_cell_goes_on_in_the_earlier_view_too(notebook: FrontEnd, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    [display] = notebook.run(f"run = etl.run(mended={str(mended)!r})")
    mended.touch()
    notebook.run("run.resume().wait()\nNone")
    notebook.until(lambda: "✓ success" in display.last["text/html"])


def test_retry_that_cannot_be_says_why(notebook: FrontEnd) -> None:
    notebook.run("etl.run(inline=True, mended='')")
    notebook.click("resume")
    notebook.until(lambda: any("cannot be resumed" in answer.get("text", "") for answer in notebook.answers))


def test_interrupt_cancels_and_retry_still_works(notebook: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    execution = start_run(notebook, f"run = etl.run(gate={str(gate)!r}, length=3)")
    await_status(notebook, "running")
    notebook.interrupt()
    notebook.finish(execution)
    assert notebook.errors[execution] == "KeyboardInterrupt"
    assert status(notebook) == "cancelled"

    gate.touch()
    notebook.click("resume")
    await_status(notebook, "success")


def test_interrupt_while_the_view_is_opened_cancels(notebook: FrontEnd, tmp_path: Path) -> None:
    strike = """
def strike(message):
    publisher.unregister_hook(strike)
    raise KeyboardInterrupt

publisher = get_ipython().display_pub
publisher.register_hook(strike)
"""
    execution = notebook.start(f"{strike}\netl.run(gate={str(tmp_path / 'never')!r})")
    notebook.finish(execution)
    assert notebook.errors[execution] == "KeyboardInterrupt"
    assert notebook.ask("cf.history().iloc[0].status") == "cancelled"


def test_interrupt_of_the_submit_leaves_nothing_running(notebook: FrontEnd, tmp_path: Path) -> None:
    strike = """
from celeryflow.store import cached
noted = cached.note

def strike(*given):
    cached.note = noted
    raise KeyboardInterrupt

cached.note = strike
"""
    execution = notebook.start(f"{strike}\netl.run(gate={str(tmp_path / 'never')!r})")
    notebook.finish(execution)
    assert notebook.errors[execution] == "KeyboardInterrupt"
    assert notebook.ask("cf.history().iloc[0].status") == "cancelled"


def test_without_the_way_for_early_clicks_the_view_says_to_interrupt(
    start: Callable[..., FrontEnd], tmp_path: Path
) -> None:
    notebook = start()
    notebook.run(
        f"import ipykernel.comm.comm as c; del c.BaseComm._reply_subshell_for, c.BaseComm.publish_msg\n{PUBLISH}"
    )
    notebook.run(FLOWS)
    execution = start_run(notebook, f"run = etl.run(gate={str(tmp_path / 'never')!r}, length=3)")
    await_status(notebook, "running")

    assert "interrupt the kernel" in notebook.view()["hint"]
    notebook.interrupt()
    notebook.finish(execution)
    assert notebook.errors[execution] == "KeyboardInterrupt"
    assert status(notebook) == "cancelled"


PUBLISH = """
def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
    kernel = self.kernel = c.Kernel.instance()
    content = c.json_clean(dict(data=data or {}, comm_id=self.comm_id, **keys))
    more = {"metadata": c.json_clean(metadata or {}), "parent": kernel.get_parent(), "ident": self.topic}
    kernel.session.send(kernel.iopub_socket, msg_type, content, buffers=buffers, **more)
c.BaseComm.publish_msg = publish_msg
"""
"""As ipykernel had it before there was that way."""


def test_click_is_done_once_however_often_it_arrives(notebook: FrontEnd, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    notebook.run(f"run = etl.run(mended={str(mended)!r})")
    click = notebook.click("details", box=0)
    notebook.until(lambda: {"what": "heard", "id": click} in notebook.answers)
    notebook.run("pass")
    assert [answer["what"] for answer in answers(notebook, click)] == ["details", "heard"]


def test_details_of_a_box_are_told_when_they_are_asked_for(notebook: FrontEnd) -> None:
    notebook.run("run = etl.run()")
    assert not [answer for answer in notebook.answers if answer["what"] == "details"]
    click = notebook.click("details", box=1)
    notebook.until(lambda: len(answers(notebook, click)) == 2)
    assert "three is not allowed" in answers(notebook, click)[0]["html"]


@pytest.mark.parametrize(
    "message", [{"box": 99}, {"box": "x"}, {"node": 99}, {"node": "x", "item": []}, {}, {"box": -1}]
)
def test_click_that_means_nothing_harms_nothing(notebook: FrontEnd, message: dict[str, Any]) -> None:
    notebook.run("run = etl.run()")
    notebook.click("details", **message)
    notebook.click("nonsense")
    click = notebook.click("details", box=1)
    notebook.until(lambda: len(answers(notebook, click)) == 2)


def test_log_is_told_to_those_who_read_it(notebook: FrontEnd, tmp_path: Path) -> None:
    notebook.run("run = etl.run(length=3)")
    assert not [told for told in notebook.raw if "a line of the log" in told and "def load" not in told]
    notebook.click("log", on=True, is_new=True)
    [answer] = notebook.until(lambda: [a for a in notebook.answers if a["what"] == "log"])
    assert answer["is_first"]
    assert ["load", "a line of the log", "stdout"] in answer["lines"]


def test_front_end_that_comes_later_is_told_all_of_it(notebook: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    execution = start_run(notebook, f"run = etl.run(gate={str(gate)!r}, length=3)")
    notebook.until(lambda: "x" in notebook.view()["states"])
    name = notebook.views()[-1]
    notebook.models[name] = {"_anywidget_id": notebook.view()["_anywidget_id"]}
    notebook.send(name, {"method": "request_state"})
    gate.touch()
    notebook.finish(execution)
    notebook.until(lambda: "boxes" in notebook.view())

    marks = notebook.view()["boxes"]["marks"]
    assert len(marks) == len(notebook.view()["states"]) == 3
    assert notebook.view()["picture"]["svg"]


# --- where there is no live view -----------------------------------------------------------


@pytest.mark.parametrize("missing", ["anywidget", "ipywidgets"])
def test_without_widgets_there_is_a_page_that_says_what_to_install(
    start: Callable[..., FrontEnd], missing: str
) -> None:
    notebook = start()
    notebook.run(f"import sys; sys.modules[{missing!r}] = None\n{FLOWS}")
    [display] = notebook.run("etl.run(length=3)")

    assert WIDGET not in display.first
    assert is_page(display.last)
    assert "pip install anywidget ipywidgets" in display.last["text/html"]


def test_front_end_that_shows_no_widgets_has_a_page_that_says_what_to_install(
    notebook: FrontEnd, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    notebook.run("import celeryflow.view.live.page as page; unseen, page.UNSEEN_S, page.PERIOD_S = page.UNSEEN_S, 0, 0")
    [display] = notebook.run(f"run = etl.submit(gate={str(gate)!r}, length=3)\nrun")
    notebook.until(lambda: is_page(display.last) and "▸ extract" in display.last["text/plain"])
    assert "where Jupyter itself runs, pip install anywidget ipywidgets" in display.last["text/html"]

    gate.touch()
    notebook.until(lambda: "✓ success" in display.last["text/html"])
    assert "pip install" not in display.last["text/html"], "the page is whole without it"
    notebook.run("page.UNSEEN_S, page.PERIOD_S = unseen, 2.0")


def test_view_in_words_is_text_alone(start: Callable[..., FrontEnd]) -> None:
    notebook = start(CELERYFLOW_VIEW="text")
    notebook.run(FLOWS)
    [display] = notebook.run("etl.run(length=3)")
    assert set(display.last) == {"text/plain"}
    assert display.last["text/plain"].startswith("etl  ✓ success")


def test_no_view_leaves_the_page_of_the_last_expression(start: Callable[..., FrontEnd]) -> None:
    notebook = start(CELERYFLOW_VIEW="none")
    notebook.run(FLOWS)
    assert notebook.run("run = etl.run(length=3)") == []
    [display] = notebook.run("run")
    assert is_page(display.last)
    assert len(display.shown) == 1


def test_unknown_view_is_named(start: Callable[..., FrontEnd]) -> None:
    notebook = start(CELERYFLOW_VIEW="pretty")
    notebook.run(FLOWS)
    execution = notebook.start("etl.run(length=3)")
    notebook.finish(execution)
    assert notebook.errors[execution] == "ConfigError"


# --- scripts and terminals -----------------------------------------------------------------

SCRIPT = f"{FLOWS}\nrun = etl.run(length=3)\nimport sys\nassert 'ipywidgets' not in sys.modules\ncf.shutdown()\n"


def script(runtime: Runtime, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    own = {name: text for name, text in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        cwd=runtime.directory,
        env={**own, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_script_tells_a_log_of_its_run_without_control_codes(runtime: Runtime) -> None:
    done = script(runtime)
    assert done.stdout == ""
    assert done.stderr.startswith("etl  ✓ success")
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("environment", [{"CELERYFLOW_VIEW": "none"}, {"PYTEST_CURRENT_TEST": "a test"}])
def test_script_is_silent_where_nobody_reads(runtime: Runtime, environment: dict[str, str]) -> None:
    done = script(runtime, **environment)
    assert (done.stdout, done.stderr) == ("", "")


def test_model_tells_only_what_changed() -> None:
    from celeryflow.view.live.widget import Model

    model = Model("etl", "etl-1")
    first = ("load", "", "load: ready", 0.0, 0.0)
    model.tell([first, first], states="rr")
    model.tell([first, ("load", "1 s", "load: running, 1 s", 0.0, 0.0)], states="rx")
    assert model.change == {"seq": 2, "count": 2, "marks": {"1": ("load", "1 s", "load: running, 1 s", 0.0, 0.0)}}
    assert json.loads(json.dumps(model.get_state("boxes")))["boxes"]["seq"] == 2
    model.close()


def test_picture_that_is_drawn_while_a_run_is_submitted_is_the_one_that_is_shown() -> None:
    @cf.step
    def one(*inputs: int) -> int:
        return 1

    @cf.workflow
    def flow() -> Any:
        with cf.phase("map"):
            many = one.map([1, 2, 3])
        return one(many, one())

    graph = flow.graph()
    early = scene.early(graph)
    assert early.picture["svg"].startswith("<svg")
    assert early.picture == scene.picture(drawing(graph, Snapshot(graph, "flow-1")))

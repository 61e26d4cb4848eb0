"""What one sees of a step on a click: its state, attempts, values, error and log, bounded and inert."""

from __future__ import annotations

import re
import sys
import threading
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from executions import wait_until
from flows import add, double, fail
from hostile import HOSTILE, assert_is_inert

import celeryflow as cf
from celeryflow.run import details as looking
from celeryflow.run.details import details
from celeryflow.run.peek import Patience
from celeryflow.runtime.session import current
from celeryflow.values.blobs import FileBlobs

pytestmark = pytest.mark.usefixtures("runtime", "patience")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of it as a busy machine takes."""
    monkeypatch.setattr(looking, "PATIENCE_S", 60.0)


def shown(run: cf.Run[Any], step: str, item: int | None = None) -> str:
    """The text of what is shown of a step."""
    page = page_of(run, step, item)
    assert_is_inert(page)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))


def call_of(run: cf.Run[Any], step: str) -> Any:
    """The signed record of a step."""
    return run._source.reader.call(run.snapshot().record(step).node.index)


def page_of(run: cf.Run[Any], step: str, item: int | None = None) -> str:
    page = details(run, run.snapshot().record(step).node.index, item)
    assert len(page) < 21_000
    return page


@cf.step
def validate(x: int, limit: int = 3) -> int:
    print(f"looking at {x}")
    if x >= limit:
        raise ValueError(f"{x} is not below {limit}")
    return x


@cf.workflow
def etl(rows: list[int]) -> Any:
    return validate.map(rows)


# --- what is known of it ---------------------------------------------------------------------------------------------


def test_a_step_shows_its_state_times_inputs_and_output() -> None:
    run = cf.workflow(lambda: add(1, b=double(21))).run()

    text = shown(run, "add")

    assert "✓ add success" in text and "attempt 1" in text
    assert re.search(r"started \d{4}-\d\d-\d\d .* UTC waited .* took .* stored .* worker", text)
    assert re.search(r"inputs a 1 b 42 .*output 43", text)


def test_a_failed_step_shows_where_in_the_users_code_and_what_to_type_next() -> None:
    run = cf.workflow(lambda: validate(5), name="etl").run()

    text = shown(run, "validate")

    line = next(n for n, t in enumerate(Path(__file__).read_text().split("\n"), 1) if "is not below {limit}" in t)
    assert "ValueError : 5 is not below 3" in text
    assert f"validate(x, limit) test_details.py, line {line}" in text
    assert 'raise ValueError(f"{x} is not below {limit}")' in text
    assert 'next: run.errors() run.replay("validate") run.resume() etl.resume(run, rerun="failed")' in text
    assert "inputs x 5" in text
    assert "last output looking at 5" in text
    assert "celeryflow/engine" not in text


def test_a_map_shows_counts_its_first_failure_and_the_failed_items_to_choose_from() -> None:
    run = etl.run([7, 1, 8, 2])

    page, text = page_of(run, "validate"), shown(run, "validate")

    assert "2 of 4 items · 2 failed" in text
    assert "item 0 · 7 — ValueError : 7 is not below 3" in text
    assert 'run.replay("validate", 0)' in text
    assert re.findall(r'data-node="(\d+)" data-item="(\d+)">([^<]*)<', page) == [
        ("0", "0", "0 · 7"),
        ("0", "2", "2 · 8"),
    ]
    assert "first results [1] 1 [3] 2" in text
    assert re.search("attempts: 4, of which 2 (success, 2 exception|exception, 2 success)", text)


def test_an_item_shows_its_own_failure_and_inputs() -> None:
    run = etl.run([7, 1, 8, 2])

    text = shown(run, "validate", 2)

    assert "✕ validate[2] failure" in text and "key 8" in text
    assert "8 is not below 3" in text and "7 is not below 3" not in text
    assert "inputs x 8" in text
    assert 'run.replay("validate", 2)' in text


def test_an_item_that_succeeded_shows_its_output() -> None:
    text = shown(etl.run([7, 1, 8, 2]), "validate", 3)

    assert "✓ validate[3] success · 1 attempt" in text
    assert "output 2" in text
    assert "last output looking at 2" in text
    assert "ValueError" not in text


def test_each_attempt_is_listed_with_why_it_ended() -> None:
    @cf.step(retries=2, retry_delay_s=0)
    def flaky() -> int:
        if cf.current().attempt < 3:
            raise OSError(f"503 in attempt {cf.current().attempt}")
        return 1

    text = shown(cf.workflow(lambda: flaky()).run(), "flaky")

    assert "3 attempts" in text
    assert re.search(r"1 exception .* 503 in attempt 1 2 exception .* 503 in attempt 2 3 success", text)


def test_a_step_that_was_skipped_says_why() -> None:
    run = cf.workflow(lambda: double(fail("luck"))).run()

    assert "needs step 'fail', which ended as failure" in shown(run, "double")


def test_a_step_that_runs_shows_what_it_has_printed_so_far(tmp_path: Path) -> None:
    @cf.step
    def slow() -> None:
        print("half way", flush=True)
        wait_until((tmp_path / "go").exists, 60)

    run = cf.workflow(lambda: double(slow())).submit()
    wait_until(lambda: run.status == "running" and "half way" in shown(run, "slow"))

    text = shown(run, "slow")
    waiting = shown(run, "double")
    (tmp_path / "go").touch()
    run.wait()

    assert "▸ slow running" in text
    assert "○ double pending" in waiting and "output" not in waiting


def test_nodes_of_every_kind_can_be_looked_at() -> None:
    @cf.workflow
    def inner(x: int) -> Any:
        return double(x) if x > 1 else add(x)

    def body() -> Any:
        some = validate.map([1, 9], on_error="skip")
        chosen = cf.branch(double(1), (lambda x: x > 5, add), (lambda x: x < 5, double))
        grown = cf.loop(double, 1, until=lambda x: x > 5, max_iterations=5)
        return cf.gather(some), chosen, grown, inner(double(3)), validate.map([])

    run = cf.workflow(body).run(check=True)

    for record in run.snapshot().steps:
        text = shown(run, record.node.name)
        assert "cannot be shown" not in text, text
        assert record.status.value in text


def test_a_node_that_is_not_there_is_answered() -> None:
    run = cf.workflow(lambda: double(1)).run()

    assert "cannot be shown" in details(run, 99)
    assert "<b>double</b>" in details(run, 0, item=5)


def test_a_run_in_this_process_is_looked_at_the_same_way() -> None:
    run = etl.run([1, 9], inline=True)

    text = shown(run, "validate", 1)

    assert "9 is not below 3" in text and "inputs x 9" in text
    assert "resume" not in text, "it cannot be resumed"


# --- values ----------------------------------------------------------------------------------------------------------


def test_a_frame_shows_its_head() -> None:
    make = cf.step(lambda: pd.DataFrame({"carrier": ["UA", "<b>"] * 50, "delay": range(100)}), name="make")

    text = shown(cf.workflow(lambda: double(make())).run(), "make")

    assert "DataFrame, 100 rows \N{MULTIPLICATION SIGN} 2 columns carrier delay 0 UA 0 1 <b> 1" in text
    assert "4 UA 4 … … …" in text


def test_values_are_read_only_when_they_are_asked_for(tmp_path: Path) -> None:
    class Noticed:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "read",)

    make = cf.step(lambda: Noticed(), name="make")
    run = cf.workflow(lambda: make()).run()
    run._repr_html_(), repr(run), run.steps()

    assert not (tmp_path / "read").exists()
    assert "output" in shown(run, "make")
    assert (tmp_path / "read").exists()


def test_a_large_value_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeryflow.run.peek.LIMIT_BYTES", 1_000_000)
    monkeypatch.setattr(looking, "LIMIT_BYTES", 1_000_000)

    @cf.step
    def make(x: int) -> Any:
        return np.zeros(300_000)

    def body() -> Any:
        one = make(1)
        return double(one), add(np.ones(200_000), 1), add.map([np.ones(200_000)]), double.map(make.map([1, 2]))

    run = cf.workflow(body).run(check=True)

    def refuse(*_: Any) -> Any:
        raise AssertionError("a large value was read")

    monkeypatch.setattr(FileBlobs, "get", refuse)
    assert "output 2.4 MB, not shown" in shown(run, "make")
    assert "inputs x 2.4 MB, not shown" in shown(run, "double")
    assert "inputs all of them 1.6 MB, not shown" in shown(run, "add")
    assert "inputs a 1.6 MB, not shown" in shown(run, "add-2", 0)
    assert "inputs x 2.4 MB, not shown" in shown(run, "double-2", 1)
    assert "[0] 2.4 MB, not shown [1] 2.4 MB, not shown" in shown(run, "make-2")
    assert "make-2[0] success" in shown(run, "make-2", 0), "its key is small enough"


class Rude:
    """Says of itself what it is told to."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __repr__(self) -> Any:
        if self.how == "raise":
            raise RuntimeError("not today")
        if self.how.startswith("/"):
            wait_until(Path(self.how).exists, 60)
        return {"garbage": 7, "long": "x" * 10**7}.get(self.how, "\ud800\x1b[31m<b>\x00")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "Rude, whose repr raises RuntimeError"),
        ("garbage", "Rude, whose repr raises TypeError"),
        ("long", "xxxx"),
        ("odd", "<b>"),
    ],
)
def test_a_value_that_cannot_be_shown_is_told_and_not_raised(how: str, said: str) -> None:
    run = cf.workflow(lambda: double([Rude(how)])).run()

    text = shown(run, "double")

    assert said in text
    assert "✓ double success" in text


def test_a_repr_that_ends_the_process_does_not() -> None:
    assert Patience(5).give(lambda: sys.exit(3), repr) == "SystemExit(3)"


def test_a_repr_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(looking, "PATIENCE_S", 0.5)
    give = cf.step(lambda x: x, name="give")
    run = cf.workflow(lambda: give.map([Rude(str(tmp_path / "go"))])).run()

    text = shown(run, "give", 0)
    (tmp_path / "go").touch()

    assert "it takes longer than 0.5 s" in text
    assert "success · 1 attempt" in text
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "celeryflow-details"])


def test_a_value_that_somebody_changed_is_not_read() -> None:
    run = cf.workflow(lambda: double(21)).run()
    session = current()
    key = f"{session.link.settings.prefix}:run:{run.id}:out"
    for field, record in session.link.store.client.hgetall(key).items():
        session.link.store.client.hset(key, field, record[:-1] + bytes([record[-1] ^ 1]))

    text = shown(run, "double")

    assert "cannot be shown: SignatureError" in text
    assert "✓ double success" in text


def test_a_function_that_cannot_be_loaded_here_leaves_the_inputs_without_names() -> None:
    run = cf.workflow(lambda: add(1, b=2)).run()
    store = current().link.store
    store.client.delete(store.keys.code(call_of(run, "add").code))

    assert "inputs argument 1 1 b 2" in shown(run, "add")


def test_what_hostile_words_say_of_themselves_is_text() -> None:
    @cf.step
    def say(word: str, again: Any = None) -> Any:
        print(word)
        if again:
            raise ValueError(word)
        return {word: [word], "n": pd.DataFrame({word or "-": [word]})}

    def body() -> Any:
        return say.map(HOSTILE, on_error="skip"), say.map(HOSTILE, again=True, on_error="skip")

    run = cf.workflow(body).run(check=True)

    for step in ("say", "say-2"):
        assert_is_inert(page_of(run, step))
        for item in range(len(HOSTILE)):
            assert_is_inert(page_of(run, step, item))


class Figure:
    """Draws itself, as figures do, wherever it is shown."""

    def _repr_png_(self) -> bytes:
        return b"png"

    def _repr_html_(self) -> str:
        return "<b>drawn</b>"


def test_frames_and_figures_are_results_that_a_notebook_shows_as_usual() -> None:
    make = cf.step(lambda: (pd.DataFrame({"a": [1]}), Figure()), name="make", outputs=2)
    run = cf.workflow(lambda: make()).run()

    frame, figure = run.result()

    assert type(frame) is pd.DataFrame and "<table" in frame._repr_html_()
    assert figure._repr_png_() == b"png"
    text = shown(run, "make")
    assert "DataFrame 1 \N{MULTIPLICATION SIGN} 1" in text and "Figure" in text
    assert "drawn" not in text, "nothing of it runs to be looked at"

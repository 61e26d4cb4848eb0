"""``run.resume()``: what succeeded is kept, item by item, and the rest runs again."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from executions import Executions, wait_until

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """Steps of ``work`` fail until this file is there."""
    return tmp_path / "mended"


@pytest.fixture
def work(executions: Executions, flag: Path) -> Any:
    @cf.step
    def work(x: Any, bad: bool = False) -> Any:
        with executions.recorded():
            if bad and not flag.exists():
                raise ValueError(f"no {x}")
        return x

    return work


@cf.step
def total(*values: Any) -> Any:
    return sum(sum(v) if isinstance(v, list) else v for v in values)


def counts(executions: Executions) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for e in executions.read():
        key = e.step if e.index is None else (e.step, e.index)
        found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize("is_mapped", [False, True], ids=["a map and a list", "two maps"])
def test_items_that_came_before_the_length_was_read_run_once(
    work: Any, executions: Executions, flag: Path, is_mapped: bool
) -> None:
    @cf.step
    def add(x: int, y: int, z: int) -> int:
        with executions.recorded():
            return x + y + z

    def body() -> Any:
        numbers = cf.step(lambda: [0, 1, 2], name="give")()
        some = work.options(name="some").map([0, 1, 2], [False, False, True])
        others = work.options(name="others").map(numbers) if is_mapped else numbers
        return add.map(some, others, cf.unmapped(total(some)))

    run = cf.workflow(body).run()
    assert run.status == "failure"
    flag.touch()

    assert run.resume().result(timeout_s=30) == [3, 5, 7]
    assert [counts(executions)["add", i] for i in range(3)] == [1, 1, 1]


def test_what_succeeded_is_kept(work: Any, executions: Executions, flag: Path) -> None:
    def body() -> Any:
        a = work.options(name="a")(1)
        b = work.options(name="b")(a, bad=True)
        c = work.options(name="c")(a)
        return total(b, c, work.options(name="d")(b))

    run = cf.workflow(body).run()
    assert run.status == "failure"
    flag.touch()
    resumed = run.resume()

    assert resumed is run
    assert run.result() == 3
    assert counts(executions) == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert run.steps().set_index("step").attempts.to_dict() == {"a": 1, "b": 2, "c": 1, "d": 1, "total": 1}
    assert run.timeline().set_index("step").generation.loc[["d", "total"]].tolist() == [2, 2]


def test_items_that_succeeded_are_kept(work: Any, executions: Executions, flag: Path) -> None:
    def body() -> Any:
        first = work.options(name="first").map(list(range(60)), [x % 7 == 3 for x in range(60)])
        second = work.options(name="second").map(first)
        return total(second)

    run = cf.workflow(body).run()
    failed = [x for x in range(60) if x % 7 == 3]
    assert run.errors()["index"].tolist() == failed
    flag.touch()
    run.resume()

    assert run.result() == sum(range(60))
    again = {("first", x): 2 for x in failed}
    assert counts(executions) == {("first", x): 1 for x in range(60)} | {("second", x): 1 for x in range(60)} | again
    assert set(run.items("first").status) == {"success"}
    assert run.steps().done.tolist() == [60, 60, 1]


def test_zipped_maps_and_lengths_known_only_then(work: Any, executions: Executions, flag: Path) -> None:
    give = cf.step(lambda n: list(range(n)), name="give")
    pair = cf.step(lambda a, b: a * b, name="pair")

    def body() -> Any:
        xs = give(30)
        left = work.options(name="left").map(xs, bad=cf.unmapped(False))
        right = work.options(name="right").map(list(range(30)), [x in (4, 20) for x in range(30)])
        return total(pair.map(left, right))

    run = cf.workflow(body).run()
    assert run.status == "failure"
    flag.touch()

    assert run.resume().result() == sum(x * x for x in range(30))
    assert {k: n for k, n in counts(executions).items() if n > 1} == {("right", 4): 2, ("right", 20): 2}


def test_a_cancelled_run_goes_on(work: Any, executions: Executions) -> None:
    slow = cf.step(lambda x: (time.sleep(0.2), x)[1], name="slow")
    run = cf.workflow(lambda: total(slow.map(list(range(12))), work(1))).submit()
    wait_until(lambda: run.steps().done[0] >= 3)
    run.cancel()
    before = run.items("slow").status.astype(str).tolist()

    assert run.resume().result() == sum(range(12)) + 1
    assert before.count("success") >= 3
    kept = [i for i, status in enumerate(before) if status == "success"]
    assert (run.timeline().query("step == 'slow' and generation == 2")["index"].isin(kept)).sum() == 0


def test_branches_loops_and_workflows_in_workflows(work: Any, executions: Executions, flag: Path) -> None:
    @cf.workflow
    def each(x: int) -> Any:
        return total(work(x), work(x, bad=x == 2)) if x else work(x)

    def body() -> Any:
        mapped = each.map([0, 1, 2, 3])
        looped = cf.loop(work, 5, until=lambda v: v == 5, max_iterations=3)
        chosen = cf.branch(work(7), (lambda v: v > 5, work), otherwise=total)
        counted = cf.loop(cf.step(lambda v: v + 1, name="up"), 0, until=lambda v: v >= 4, max_iterations=9)
        return [total(mapped), looped, chosen, counted]

    run = cf.workflow(body).run()
    assert run.status == "failure"
    flag.touch()
    found = run.resume().result()

    assert (found[0], found[1].value, found[2], found[3].value) == (12, 5, 7, 4)
    assert {k: n for k, n in counts(executions).items() if n > 1} == {"each[2]/work-2": 2}
    assert "skipped" in run.steps().status.tolist()  # the arm that was not taken


def test_arms_that_were_not_taken_stay_so(work: Any, executions: Executions, flag: Path) -> None:
    @cf.workflow
    def inner(x: int) -> Any:
        return cf.branch(x, (lambda v: v > 9, work.options(name="big")), otherwise=work.options(name="small"))

    def body() -> Any:
        chosen = cf.branch(work(1), (lambda v: v > 5, inner), otherwise=work.options(name="other"))
        return chosen, work.options(name="late")(3, bad=True)

    run = cf.workflow(body).run()
    flag.touch()

    assert run.resume().result() == (1, 3)
    assert counts(executions) == {"work": 1, "other": 1, "late": 2}
    assert run.steps().set_index("step").status[["big", "small"]].tolist() == ["skipped"] * 2


def test_errors_are_those_that_no_resume_has_mended(work: Any, flag: Path) -> None:
    def body() -> Any:
        taken = work.options(name="taken").map([1, 2], [False, True], on_error="skip")
        return work.options(name="a").map([1, 2, 3], [True, False, True]), total(taken)

    run = cf.workflow(body).run()
    assert run.errors()[["step", "index"]].values.tolist() == [["taken", 1], ["a", 0], ["a", 2]]
    run.resume().wait()
    assert run.errors()[["step", "index", "kind"]].values.tolist() == [
        ["taken", 1, "exception"], ["a", 0, "exception"], ["a", 2, "exception"]
    ]  # fmt: skip
    flag.touch()

    assert run.resume().result() == ([1, 2, 3], 1)
    assert run.errors()[["step", "index"]].values.tolist() == [["taken", 1]]
    assert cf.attach(run.id).errors().equals(run.errors())


def test_failures_that_were_taken_in_stay(work: Any, executions: Executions, flag: Path) -> None:
    def body() -> Any:
        some = cf.gather([work(1), work(2, bad=True)])
        return total(cf.step(list)(some)), work.options(name="late")(3, bad=True)

    run = cf.workflow(body).run()
    flag.touch()

    assert run.resume().result() == (1, 3)
    assert counts(executions) == {"work": 1, "work-2": 1, "late": 2}


def test_resuming_again_and_again(work: Any, executions: Executions, flag: Path) -> None:
    run = cf.workflow(lambda: total(work(1, bad=True), work(2))).run()
    for generation in (2, 3):
        run.resume().wait()
        assert (run.status, run.timeline().generation.max()) == ("failure", generation)
    flag.touch()

    assert run.resume().result() == 3
    assert counts(executions) == {"work": 4, "work-2": 1}
    assert run.resume().result() == 3  # nothing to do


def test_a_running_run_is_not_resumed(tmp_path: Path) -> None:
    @cf.step
    def hold() -> None:
        wait_until((tmp_path / "go").exists)

    run = cf.workflow(lambda: hold()).submit()
    with pytest.raises(cf.RunError, match="still running"):
        run.resume()
    (tmp_path / "go").touch()
    assert run.wait().status == "success"


def test_two_who_resume_at_once(work: Any, executions: Executions, flag: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"

    @cf.step
    def last(x: int) -> int:
        wait_until(go.exists)  # nobody finds that it is over
        return x

    xs = list(range(200))
    run = cf.workflow(lambda: last(total(work.map(xs, [x % 2 == 1 for x in xs])))).run()
    others = [cf.attach(run.id) for _ in range(4)]
    for other in others:
        assert other.status == "failure"
    flag.touch()
    outcomes: list[str] = []

    def resume(other: cf.Run[Any]) -> None:
        try:
            other.resume()
            outcomes.append("resumed")
        except cf.RunError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=resume, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count("resumed") == 1
    go.touch()
    assert cf.attach(run.id).result() == sum(range(200))
    assert max(counts(executions).values()) == 2


def test_the_result_of_a_stale_attempt_is_refused(executions: Executions, tmp_path: Path) -> None:
    @cf.step
    def slow() -> int:
        with executions.recorded() as here:
            wait_until(lambda: len(executions.read()) == 2, timeout_s=10)
        return here.attempt

    run = cf.workflow(lambda: slow()).submit()
    wait_until(executions.read)
    run.cancel()
    run.resume()

    assert run.result() == 1
    assert run.events().query("event == 'success'").shape[0] == 1

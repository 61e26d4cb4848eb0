"""``reuse=``: what has a result of an earlier run that still holds does not run again."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Notebook, blobs, stored_keys
from executions import Executions, wait_until
from pipelines import ALL, PIPELINE

import celeryflow as cf
from celeryflow.runtime.session import current
from celeryflow.store.scripts import Store

pytestmark = pytest.mark.usefixtures("runtime")


def test_iterating_on_one_step_runs_that_and_what_follows(cells: Notebook, ran: Any) -> None:
    cells.cell(PIPELINE)
    cells["etl"].run(check=True)
    assert ran() == ALL

    for round_ in range(2, 12):
        cells.cell(PIPELINE.replace("+ 1", f"+ {round_}"))
        run = cells["etl"].run(reuse="latest", check=True)
        assert ran() == {"train": 1, "report": 1}
        assert run.result() == f"4: {0.9 + round_:.2f}"
        assert run.steps().set_index("step").reused.to_dict() == {
            "extract": True,
            "clean": True,
            "train": False,
            "report": False,
        }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("RATE = 0.1", "# none\nRATE = 0.1", {}),
        ("def extract(n):", 'def extract(n):\n    """Some numbers."""', {}),
        ("@cf.step\ndef clean", "\n\n@cf.step(retries=2, priority=7, timeout_s=50)\ndef clean", {}),
        ("RATE = 0.1", "RATE = 0.2", {"train": 1, "report": 1}),
        ("x * RATE", "RATE * x", {"train": 1, "report": 1}),
        ("least=2", "least=1", ALL | {"extract": 0}),
        (":.2f}", ":.3f}", {"report": 1}),
        ("extract(n))), n)", "extract(n))), n + 0.0)", {"report": 1}),
    ],
)
def test_what_runs_again(cells: Notebook, ran: Any, old: str, new: str, expected: dict[Any, int]) -> None:
    cells.cell(PIPELINE)
    before = cells["etl"].run(check=True)
    ran()
    cells.cell(PIPELINE.replace(old, new))
    run = cells["etl"].run(reuse=before, check=True)

    assert ran() == Counter({step: n for step, n in expected.items() if n})
    assert run.id != before.id
    assert run.result() == cells["etl"].run(inline=True).result()
    assert before.result() == "4: 1.90"


def test_other_arguments_run_what_depends_on_them(cells: Notebook, ran: Any) -> None:
    cells.cell(PIPELINE)
    before = cells["etl"].run(4)
    ran()
    assert cells["etl"].run(5, reuse=before.id, check=True).result() == "5: 2.30"
    assert ran() == {**dict.fromkeys(("extract", "train", "report"), 1), **{("clean", i): 1 for i in range(5)}}


def test_maps_are_taken_over_item_by_item(ran: Any, executions: Executions) -> None:
    @cf.step
    def square(x: int) -> int:
        with executions.recorded():
            return x * x

    @cf.step
    def more(x: int) -> int:
        with executions.recorded():
            return x + 1

    wf = cf.workflow(lambda xs: more.map(square.map(xs)), name="items")
    before = wf.run([1, 2, 3, 4, 5, 5], check=True)
    ran()
    for xs, fresh in [  # and the places of those that run
        ([1, 2, 3, 4, 5, 5, 6], [6]),
        ([1, 2], []),
        ([5, 4, 3, 2, 1], []),
        ([9, 3, 8, 1], [0, 2]),
        ([5, 5, 5], [2]),
        ([1.0, 2, True], [0, 2]),
        ([], []),
    ]:
        run = wf.run(xs, reuse=before, check=True)
        assert run.result() == [x * x + 1 for x in xs]
        assert ran() == {(step, i): 1 for step in ("square", "more") for i in fresh}
        assert run.items("more").status.tolist() == ["success"] * len(xs)
        assert run.items("more").attempts.tolist() == [int(i in fresh) for i in range(len(xs))]
        assert [type(value) for value in run.value("square")] == [type(x * x) for x in xs]


def test_large_reordered_maps_share_what_is_stored(executions: Executions) -> None:
    wf = cf.workflow(lambda xs: cf.step(lambda x: x + 1, name="up").map(xs), name="large")
    before = wf.run(list(range(5_000)), check=True)
    shuffled = random.Random(0).sample(range(5_000), 5_000)

    run = wf.run(shuffled, reuse=before, check=True)

    assert run.steps().attempts.tolist() == [0]
    assert run.result() == [x + 1 for x in shuffled]
    assert run.value("up", partial=True).values == run.result()
    key = current().link.store.keys.run(run.id, "out")
    assert current().link.store.client.memory_usage(key, samples=0) < 5_000 * 1000


def test_lengths_known_at_run_time_zips_and_dicts(ran: Any, executions: Executions) -> None:
    @cf.step
    def work(a: int, b: int = 0) -> int:
        with executions.recorded():
            return a + b

    give = cf.step(lambda n: list(range(n)), name="give")

    @cf.workflow
    def wf(table: Any, n: int) -> Any:
        planned = work.options(name="planned").map(give(n))
        zipped = work.options(name="zipped").map(planned, give(n))
        keyed = work.options(name="keyed").map(table)
        return planned, zipped, keyed, work.options(name="both").map(keyed, table)

    before = wf.run({"a": 1, "b": 2}, 3, check=True)
    ran()
    assert wf.run({"a": 1, "b": 2}, 3, reuse=before).steps().reused.all()
    run = wf.run({"b": 2, "c": 3, "a": 1}, 3, reuse=before, check=True)

    assert ran() == {("keyed", 1): 1, ("both", 1): 1}
    assert run.result() == ([0, 1, 2], [0, 2, 4], {"b": 2, "c": 3, "a": 1}, {"b": 4, "c": 6, "a": 2})
    assert run.items("keyed").key.tolist() == ["b", "c", "a"]


def test_branches_loops_and_workflows_in_workflows(ran: Any, executions: Executions) -> None:
    def flow(factor: int) -> Any:
        @cf.step
        def work(x: int) -> int:
            with executions.recorded():
                return x + 1

        @cf.step
        def last(*values: Any) -> Any:
            with executions.recorded():
                return [factor, *values]

        @cf.workflow
        def counted(x: int) -> Any:
            return work(x) if x % 2 else work(work(x))

        @cf.workflow
        def small(x: int) -> Any:
            return cf.branch(x, (lambda v: v > 9, work.options(name="large")), otherwise=work)

        @cf.workflow
        def never(x: int) -> Any:
            return work.options(name="never").map([x, 2])

        @cf.workflow
        def body() -> Any:
            chosen = cf.branch(work(1), (lambda v: v > 1, small), otherwise=never)
            looped = cf.loop(work, 0, until=lambda v: v >= 3, max_iterations=9)
            inner = counted.map([1, 2, 3])
            return last(chosen, looped, inner, counted(work(4)))

        return body

    before = flow(1).run(check=True)
    ran()
    run = flow(2).run(reuse=before, check=True)

    assert ran() == {"last": 1}
    assert run.result() == [2, *before.result()[1:]]
    expected = {r.step: str(r.status) for r in before.steps().itertuples() if "/" not in r.step}
    assert {r.step: str(r.status) for r in run.steps().itertuples()} == expected
    assert (expected["never"], expected["large"]) == ("skipped", "skipped")
    again = flow(2).run(reuse=run, check=True)
    assert again.result() == run.result()
    assert not ran()
    assert again.steps().attempts.sum() == 0
    assert again.status == "success"


def test_what_lacks_a_failure_is_not_taken_as_whole(ran: Any, executions: Executions, tmp_path: Path) -> None:
    mended = tmp_path / "mended"

    @cf.step
    def work(x: int) -> int:
        with executions.recorded():
            if x == 2 and not mended.exists():
                raise ValueError("no")
            return x

    @cf.step
    def total(xs: Any) -> int:
        with executions.recorded():
            return sum(xs)

    @cf.workflow
    def wf() -> Any:
        some = cf.gather([work(1), work(2)])
        good = work.options(name="good").map([1, 2, 3], on_error="skip")
        return total(some), total(good), total(total.options(name="pair").map([[1], [2]]))

    before = wf.run(check=True)
    assert before.result() == (1, 4, 3)
    ran()
    mended.touch()
    run = wf.run(reuse=before, check=True)

    assert run.result() == (3, 6, 3)
    assert ran() == {"work-2": 1, ("good", 1): 1, "total": 1, "total-2": 1}
    assert wf.run(reuse=run, check=True).result() == (3, 6, 3)
    assert not ran()


def test_steps_that_only_wait_for_another_run_again_with_it(cells: Notebook, ran: Any) -> None:
    source = """
        @cf.step
        def prepare():
            with executions.recorded():
                return 1

        @cf.step
        def use():
            with executions.recorded():
                return 2

        @cf.workflow
        def wf():
            return use.options(after=[prepare()])()
    """
    cells.cell(source)
    before = cells["wf"].run(check=True)
    ran()
    cells.cell(source.replace("return 1", "return 3"))
    cells["wf"].run(reuse=before, check=True)
    assert ran() == {"prepare": 1, "use": 1}


def test_steps_that_are_called_twice_keep_their_own_results(executions: Executions) -> None:
    roll = cf.step(secrets.token_hex, name="roll")
    keep = cf.step(lambda x: x, name="keep")
    wf = cf.workflow(lambda: [keep(roll()), keep(roll())], name="twice")
    before = wf.run(check=True)
    assert len(set(before.result())) == 2
    assert wf.run(reuse=before).result() == before.result()


def test_classes_that_are_changed_in_place(cells: Notebook, ran: Any) -> None:
    cells.cell(
        """
        class Model:
            alpha = 1

        @cf.step
        def fit(x):
            with executions.recorded():
                return x * Model.alpha + getattr(Model, "beta", 0)

        wf = cf.workflow(lambda: fit(3), name="in_place")
        """
    )
    before = cells["wf"].run(check=True)
    ran()
    for change, expected in [("alpha = 2", 6), ("beta = 1", 7)]:
        cells.cell(f"Model.{change}")
        before = cells["wf"].run(reuse=before, check=True)
        assert (before.result(), ran()) == (expected, {"fit": 1})
        assert cells["Model"].alpha == 2
    assert cells["wf"].run(reuse=before).steps().reused.all()


def test_renamed_steps_are_the_same(ran: Any, executions: Executions) -> None:
    @cf.step
    def work(x: int) -> int:
        with executions.recorded():
            return x

    cf.workflow(lambda: work.options(name="a")(1), name="named").run()
    run = cf.workflow(lambda: work.options(name="b", queue="default", priority=9)(1), name="named").run(reuse="latest")
    assert (run.result(), ran()) == (1, {"a": 1})


def test_there_is_no_latest_run_yet(cells: Notebook, ran: Any) -> None:
    cells.cell(PIPELINE.replace("def etl", "def brand_new"))
    assert cells["brand_new"].run(reuse="latest", check=True).result() == "4: 1.90"
    assert ran() == ALL


def test_a_running_run_gives_what_it_has(ran: Any, executions: Executions, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @cf.step
    def first() -> int:
        with executions.recorded():
            return 1

    @cf.step
    def second(x: int) -> int:
        with executions.recorded():
            wait_until(gate.exists, timeout_s=60)
            return x + 1

    wf = cf.workflow(lambda: second(first()), name="held")
    one = wf.submit()
    wait_until(lambda: str(one.steps().status[0]) == "success")
    two = wf.submit(reuse=one)
    gate.touch()
    assert (one.result(), two.result()) == (2, 2)
    assert ran() == {"first": 1, "second": 2}


def test_what_people_see_of_it(cells: Notebook) -> None:
    cells.cell(PIPELINE)
    before = cells["etl"].run()
    cells.cell(PIPELINE.replace("+ 1", "+ 2"))
    run = cf.attach(cells["etl"].run(reuse=before).id)

    lines = {line.split()[1]: line for line in repr(run).splitlines()[1:5]}
    assert lines["extract"].endswith("reused") and lines["clean"].endswith("reused")
    assert "reused" not in lines["train"]
    assert "reused" in run.draw().svg and "4 reused" in run.draw().svg
    assert "reused" in run._repr_html_()
    assert run.timeline().step.unique().tolist() == ["train", "report"]
    assert run.events().query("event == 'reused'").step.tolist() == ["extract", "clean"]
    assert run.events().event.tolist()[0] == "submitted"
    assert run.steps().output_bytes.min() > 0
    assert run.items("clean").key.tolist() == ["0", "1", "2", "3"]
    more = cells["etl"].run(reuse=run)
    assert more.status == "success" and more.timeline().empty
    assert cf.history().set_index("run").status.loc[more.id] == "success"


def test_items_that_were_taken_over_have_arrived(cells: Notebook) -> None:
    cells.cell(PIPELINE)
    before = cells["etl"].run(check=True)

    assert [*cells["etl"].run(reuse=before).as_completed("clean")] == [(0, 2), (1, 2), (2, 2), (3, 3)]


def test_part_of_a_map_is_said_to_be_reused() -> None:
    wf = cf.workflow(lambda xs: cf.step(lambda x: x, name="one").map(xs), name="partly")
    wf.run([1, 2])
    run = wf.run([1, 2, 3], reuse="latest")
    assert "2 reused" in repr(run) and "2 reused" in run.draw().svg
    assert run.steps().reused.tolist() == [False]


def test_a_further_generation_keeps_what_was_taken_over(ran: Any, executions: Executions, tmp_path: Path) -> None:
    mended = tmp_path / "mended"

    @cf.step
    def work(x: int) -> int:
        with executions.recorded():
            if x == 3 and not mended.exists():
                raise ValueError("no")
            return x

    wf = cf.workflow(lambda xs: work.options(name="second").map(work.map(xs)), name="generations")
    before = wf.run([1, 2], check=True)
    run = wf.run([0, 1, 2, 3], reuse=before)
    assert run.status == "failure"
    ran()
    mended.touch()

    assert run.resume().result() == [0, 1, 2, 3]
    assert ran() == {("work", 3): 1, ("second", 3): 1}
    assert run.items("work").status.tolist() == ["success"] * 4
    assert run.items("work").attempts.tolist() == [1, 0, 0, 2]


def test_blobs_are_shared_and_nothing_is_unpickled(executions: Executions) -> None:
    class Loud:
        def __init__(self) -> None:
            self.data = b"x" * 600_000

        def __setstate__(self, state: Any) -> None:
            executions.note("unpickled")
            self.__dict__ = state

    make = cf.step(lambda x: Loud(), name="make")
    wf = cf.workflow(lambda: (make(1), make.options(name="all").map([1, 2])), name="loud")
    before = wf.run()
    stored, notes = blobs(), len(executions.notes())

    run = wf.run(reuse=before)

    assert (run.status, blobs(), len(executions.notes())) == ("success", stored, notes)
    assert len(run.value("make").data) == 600_000


def test_a_result_whose_blob_is_gone_is_made_again(ran: Any, executions: Executions) -> None:
    @cf.step
    def make() -> bytes:
        with executions.recorded():
            return bytes(str(time.time()), "ascii") * 40_000

    wf = cf.workflow(lambda: make(), name="gone")
    before, known = None, blobs()
    before = wf.run(check=True)
    for blob in blobs() - known:
        blob.unlink()
    run = wf.run(reuse=before, check=True)
    assert ran() == {"make": 2}
    assert len(run.result()) > 256_000


def test_a_length_whose_items_are_gone_is_read_again(ran: Any, executions: Executions) -> None:
    give = cf.step(lambda: [str(i) * 5_000 for i in range(100)], name="give")
    wf = cf.workflow(lambda: cf.step(len, name="size").map(give()), name="lengths")
    known = blobs()
    before = wf.run(check=True)
    for blob in blobs() - known:
        blob.unlink()
    run = wf.run(reuse=before, check=True)
    assert run.result() == before.result()
    assert run.steps().reused.tolist() == [False, False]


def test_an_interrupted_submit_leaves_nothing_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    wf = cf.workflow(lambda: cf.step(lambda x: x, name="one").map([1, 2, 3]), name="cut")
    before = wf.run(check=True)
    known, listed = stored_keys(), cf.history().run.tolist()

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "submit", die)
    with pytest.raises(KeyboardInterrupt):
        wf.run(reuse=before)
    left = stored_keys() - known
    assert left
    assert all(0 < current().link.store.client.ttl(key) <= 600 for key in left)
    assert cf.history().run.tolist() == listed

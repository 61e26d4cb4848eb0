"""How many workers there are, and how they come and go while runs go on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from executions import Executions

TESTS = str(Path(__file__).parent)

WITNESS = f"""
import time
sys.path.insert(0, {TESTS!r})
from executions import Executions, wait_until
witness = Executions(os.environ["WITNESS"])

def running():
    return [e for e in witness.read() if e.end is None]
"""
"""What a kernel begins with to have its steps written down."""


@pytest.fixture
def witnessed(kernel: Any, executions: Executions) -> Any:
    """Runs source in a kernel of its own that can have its steps written down."""
    return lambda source, **more: kernel(f"{WITNESS}\n{source}", WITNESS=executions.path, **more)


# --- resizing ------------------------------------------------------------------------------------------------


def test_pool_is_resized_under_a_run_that_loses_and_repeats_nothing(witnessed: Any, executions: Executions) -> None:
    """Each hundred of steps waits for a size: those at it finish in the worker that they are in."""
    status, values, outcomes = witnessed("""
@cf.step
def work(i):
    with witness.recorded():
        wait_until(lambda: len(witness.notes()) >= i // 100)
        time.sleep(0.01)
        return i

cf.connect(workers=1)
run = cf.workflow(lambda: [work(i) for i in range(300)], name="three_hundred").submit()
wait_until(lambda: len(witness.read()) == 101 and len(running()) == 1)
cf.connect(workers=3)
wait_until(lambda: len(running()) == 1 + 3)
witness.note("3")
wait_until(lambda: len(witness.read()) > 200 and len(running()) == 3)
cf.connect(workers=2)
wait_until(lambda: len(running()) == 3 + 2)
witness.note("2")
answer = [run.wait().status, run.result(), run.timeline()["outcome"].value_counts().to_dict()]
""")

    assert (status, values) == ("success", list(range(300)))
    assert {outcome: count for outcome, count in outcomes.items() if count} == {"success": 300}
    assert set(Counter(e.step for e in executions.read()).values()) == {1}
    assert {e.attempt for e in executions.read()} == {1}


def test_pool_that_is_resized_twice_at_once_has_the_last_size(witnessed: Any) -> None:
    assert (
        witnessed("""
from pathlib import Path
from celeryflow.runtime import embedded

@cf.step
def meet(i):
    with witness.recorded():
        wait_until(lambda: len(witness.read()) == 2)

cf.connect(workers=1)
cf.connect(workers=3)
cf.connect(workers=2)
cf.map(meet, range(2)).result(timeout_s=50)
answer = wait_until(lambda: len(found := embedded.status(Path.cwd())["workers"]) == 1 and len(found))
""")
        == 1
    )


# --- recycling -----------------------------------------------------------------------------------------------


def test_process_that_has_grown_is_replaced_between_claims_and_nobody_is_charged(
    witnessed: Any, executions: Executions
) -> None:
    leaks, small, outcomes = witnessed(
        """
@cf.step
def leak(i):
    with witness.recorded():
        kept = sys.__dict__.setdefault("kept", [])
        kept.append(b"x" * 300_000_000)
        return os.getpid()

@cf.step
def small(i):
    with witness.recorded():
        time.sleep(0.03)
        return os.getpid()

@cf.workflow
def grow():
    return leak.map(range(4)), small.map(range(40))

cf.connect(workers=1)
run = grow.run()
answer = [*run.result(), run.timeline()["outcome"].value_counts().to_dict()]
""",
        CELERYFLOW_MAX_MEMORY_PER_CHILD_BYTES="300000000",
    )

    assert len(set(leaks)) == 4
    assert len(set(small) - set(leaks)) <= 1
    assert {outcome: count for outcome, count in outcomes.items() if count} == {"success": 44}
    assert len(executions.read()) == 44
    assert {e.attempt for e in executions.read()} == {1}

"""A run whose result is known: begun in a kernel, and in the end compared with what was executed."""

from __future__ import annotations

from .cells import Cells
from .oracle import Oracle

FLOW = """
oracle = Oracle("oracle.jsonl")

@cf.step
def work(x, seconds):
    with oracle.recorded():
        time.sleep(seconds)
        return x + 1

@cf.step
def total(xs):
    with oracle.recorded():
        return sum(xs)

@cf.workflow
def adding(n, seconds):
    return total(work.map(range(n), seconds))
"""


def begin(kernel: Cells, items: int, seconds: float) -> str:
    """Start a run, and wait for its result in a cell."""
    run = str(kernel.run(f"run = adding.submit({items}, {seconds}); answer = run.id"))
    kernel.begin("""
try:
    value = run.result(timeout_s=90)
    oracle.note("over")
    answer = [value, run.status, run.steps().done.tolist(), run.events().seq.tolist()]
except cf.CeleryflowError as error:
    answer = [type(error).__name__, str(error)]
""")
    return run


def check(kernel: Cells, witness: Oracle, run: str, items: int) -> list[int]:
    """The run has ended right, and each item was committed once, as it says of itself; its events."""
    (value, status, done, seqs), error = kernel.end()
    assert error is None
    assert (value, status, done) == (sum(range(items)) + items, "success", [items, 1])
    assert seqs == list(range(1, len(seqs) + 1))
    committed = kernel.run("""
done = run.timeline().query("outcome == 'success'")
answer = [done.step.tolist(), done["index"].astype("float64").fillna(-1).tolist()]
""")
    assert sorted(zip(*committed, strict=True)) == sorted(
        [("total", -1.0), *(("work", float(i)) for i in range(items))]
    )
    ended = {(step, -1.0 if index is None else float(index)) for step, index in witness.ended(run)}
    assert ended == set(zip(*committed, strict=True))
    return seqs

"""Many small runs through one runtime: memory, open files and processes end where they began."""

from __future__ import annotations

from typing import Any

import pytest
from executions import wait_until
from shell import Shell

from . import figures
from .cells import Cells
from .damage import kill, pool_processes
from .servers import client_of

FLOW = """
@cf.step
def double(x):
    print("doubling", x)
    return 2 * x

@cf.step
async def fetch(x):
    return x

@cf.step(retries=1, retry_delay_s=0)
def shaky(x):
    if x % 7 == 0 and cf.current().attempt == 1:
        raise ValueError("once")
    return x

@cf.workflow
def small(n):
    return shaky(n), double.map(fetch.map(range(5))), cf.gather([double(n)], deadline_s=60)

@cf.workflow
def broken():
    return double("x" + 1)

def many(count, first):
    for number in range(first, first + count):
        run = small.run(number)
        assert run.result()[1] == [0, 2, 4, 6, 8]
        if number % 10 == 0:
            small.submit(number).cancel()

cf.connect(workers=2, retention_s=1)
"""


@pytest.mark.slow_fault
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("runs", [2000])
def test_runtime_is_after_many_runs_as_it_was_before(shell: Shell, runs: int) -> None:
    cells = Cells(shell, FLOW)
    try:
        cells.run("many(40, 0)")  # what is made once and for all
        for process in pool_processes(shell.directory):
            replace(process, shell)
            cells.run("many(40, 0)")
        before, pool = measure(shell, cells), {*pool_processes(shell.directory)}
        cells.run(f"many({runs}, 40)")
        after, left = measure(shell, cells), {*pool_processes(shell.directory)}
    finally:
        cells.close()

    figures.count(f"pool processes replaced in {runs} runs", len(pool - left))
    for name in before:
        figures.count(f"growth in {runs} runs, {name}", after[name] - before[name])
    assert after["processes"] == before["processes"]
    assert after["keys"] <= before["keys"] + 10
    assert after["open files"] <= before["open files"] + 5
    assert after["server's memory, KiB"] <= before["server's memory, KiB"] + 300
    assert after["workers' memory, MiB"] <= before["workers' memory, MiB"] + 40


def replace(process: int, shell: Shell) -> None:
    """End a process of the pool: its successor shares the files that their worker has opened since the first start."""
    kill(process)
    wait_until(lambda: len({*pool_processes(shell.directory)} - {process}) == 2)


def measure(shell: Shell, cells: Cells) -> dict[str, Any]:
    """What there is once the runs have expired and everybody rests."""
    with client_of(shell.directory) as client:
        wait_until(lambda: not [*client.scan_iter("celeryflow:run:*", count=10_000)], timeout_s=60)
        assert shell("gc", "--grace", "0").returncode == 0
        wait_until(lambda: not client.zcard("celeryflow:leases"))
        client.execute_command("MEMORY", "PURGE")
        processes = [*shell.processes()]
        workers = [p for p in processes if "celeryflow.engine.app" in " ".join(p.cmdline())]
        return {
            "processes": len(processes),
            "open files": sum(p.num_fds() for p in processes),
            "keys": client.dbsize(),
            "server's memory, KiB": client.info("memory")["used_memory_dataset"] // 1024,
            "workers' memory, MiB": sum(p.memory_info().rss for p in workers) // 2**20,
        }

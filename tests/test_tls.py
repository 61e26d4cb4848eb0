"""A server with TLS and a private authority: it is used, and one that cannot prove who it is hears nothing."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis
from authority import Authority, free_port
from shell import Shell, opened

import celeryflow as cf
from celeryflow.cli import main
from celeryflow.config import Settings
from celeryflow.engine.app import make_app
from celeryflow.runtime import server
from celeryflow.store.connect import check

pytestmark = pytest.mark.filterwarnings("ignore::celeryflow.errors.InsecureWarning")

SECRET, QUOTED = "pass/wörd;@:%", "pass%2Fw%C3%B6rd%3B%40%3A%25"

REFUSED = {
    "wrong host": r"certificate that is refused: .*not valid for '127\.0\.0\.1'",
    "unknown authority": r"certificate that is refused: .*self.signed.*\?ssl_ca_certs=FILE",
    "expired": r"certificate that is refused: certificate has expired",
    "no TLS there": "speaks no TLS",
    "TLS there": "speaks TLS on that port: its address is rediss://",
}


@dataclass(frozen=True)
class Servers:
    """Ports, connections to the two with TLS, and files."""

    good: int
    expired: int
    plain: int
    clients: tuple[redis.Redis, redis.Redis]
    ca: str
    key_file: str

    def url(self, kind: str) -> str:
        own, login = f"?ssl_ca_certs={self.ca}", f":{QUOTED}@"
        return {
            "good": f"rediss://{login}localhost:{self.good}/3{own}",
            "wrong host": f"rediss://{login}127.0.0.1:{self.good}/3{own}",
            "unknown authority": f"rediss://{login}localhost:{self.good}/3",
            "expired": f"rediss://{login}localhost:{self.expired}/3{own}",
            "no TLS there": f"rediss://{login}localhost:{self.plain}/3{own}",
            "TLS there": f"redis://{login}localhost:{self.good}/3",
        }[kind]

    def heard(self) -> list[dict[str, Any]]:
        """How often the servers with TLS got each command, but for this question."""
        found = [client.info("commandstats") for client in self.clients]
        return [{name: of["calls"] for name, of in stats.items() if name != "cmdstat_info"} for stats in found]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("tls")
    authority, plain, key_file = Authority(folder), free_port(), folder / "keys"
    key_file.write_text("ab" * 32 + "\n")
    command = [server.find(), "--port", str(plain), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (
        authority.served("localhost", password=SECRET) as good,
        authority.served("localhost", is_expired=True, password=SECRET) as expired,
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as process,
        client_of(good) as one,
        client_of(expired) as other,
    ):
        yield Servers(good, expired, plain, (one, other), authority.ca, str(key_file))
        process.kill()


def client_of(port: int) -> redis.Redis:
    return redis.Redis(port=port, ssl=True, ssl_cert_reqs="none", password=SECRET, single_connection_client=True)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with opened(tmp_path_factory.mktemp("shell")) as shell:
        yield shell


def test_run_over_tls_with_a_private_authority(servers: Servers, shell: Shell) -> None:
    place = ["--url", servers.url("good"), "--key-file", servers.key_file, "--blobs", "blobs"]
    with shell.start("worker", "-c", "1", *place, stdout=subprocess.DEVNULL) as worker:
        try:
            done = shell(
                source=f"""
import json, warnings
import celeryflow as cf

warnings.simplefilter("error", cf.InsecureWarning)
cf.connect({servers.url("good")!r}, key_file={servers.key_file!r}, blobs="blobs")
print(json.dumps(cf.map(lambda x: x + 1, range(100)).result(timeout_s=60)))
"""
            )
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.stderr is not None
            told = worker.stderr.read()

    assert done.returncode == 0, done.stderr + told
    assert json.loads(done.stdout) == list(range(1, 101))
    assert "insecure" not in told.lower()
    with client_of(servers.good) as client:
        client.select(3)
        assert {key.split(b":")[1] for key in client.scan_iter("celeryflow:*")} >= {b"run", b"celery"}


@pytest.mark.parametrize("kind", REFUSED)
def test_client_and_worker_refuse_a_server_that_is_not_what_its_address_says(
    kind: str, servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = servers.heard()

    with pytest.raises(cf.ServerUnreachableError, match=REFUSED[kind]) as caught:
        connect(servers, servers.url(kind), tmp_path)

    assert QUOTED not in str(caught.value)
    if kind != "no TLS there":  # which takes 3 s
        place = ["--url", servers.url(kind), "--key-file", servers.key_file, "--blobs", str(tmp_path)]
        assert main(["worker", *place, "--insecure"]) == 3
        assert str(caught.value) in capsys.readouterr().err
    assert servers.heard() == before


def connect(servers: Servers, url: str, blobs: Path) -> None:
    cf.connect(url, key_file=servers.key_file, blobs=str(blobs), insecure=True)


@pytest.mark.parametrize("kind", ["wrong host", "unknown authority", "expired"])
def test_celerys_own_connection_checks_certificate_and_host_name(kind: str, servers: Servers) -> None:
    before = servers.heard()

    for way, is_fine in (("good", True), (kind, False)):
        app = make_app(Settings(url=servers.url(way), key_file=servers.key_file))
        with app.connection_for_write() as connection:
            assert can_connect(connection) is is_fine
        if is_fine:
            assert servers.heard() != before
            before = servers.heard()

    assert servers.heard() == before


def can_connect(connection: kombu.Connection) -> bool:
    try:
        connection.channel()
    except redis.ConnectionError as error:
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        return False
    return True


def test_authority_may_be_named_for_the_whole_process(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    url = servers.url("unknown authority")
    monkeypatch.setenv("SSL_CERT_FILE", servers.ca)

    check(url)
    with make_app(Settings(url=url, key_file=servers.key_file)).connection_for_write() as connection:
        assert can_connect(connection)


@pytest.mark.parametrize("options", ["ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_check_hostname=false"])
def test_tls_without_its_checks_counts_as_none(options: str, servers: Servers, tmp_path: Path) -> None:
    url = f"{servers.url('wrong host')}&{options}"

    with pytest.raises(cf.ConfigError, match=r"its checks.*insecure=True"):
        cf.connect(url, key_file=servers.key_file, blobs=str(tmp_path))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ("ssl_ca_certs=nowhere.pem", cf.ConfigError, r"cannot read certificates.*nowhere\.pem.*No such file"),
        ("ssl_ca_certs={key_file}", cf.ConfigError, "cannot read certificates.*keys"),
        ("ssl_certfile={ca}&ssl_keyfile=nowhere.key", cf.ConfigError, "nowhere.key.*No such file"),
        ("ssl_keyfile=nowhere.key", cf.ConfigError, "nowhere.key"),
        ("ssl_cert_reqs=perhaps", cf.ServerError, "no.* address.*perhaps"),
        ("ssl_nonsense=1", cf.ServerError, "no.* address.*ssl_nonsense"),
    ],
)
def test_options_of_tls_that_cannot_be_used_are_named(
    options: str, error: type[Exception], message: str, servers: Servers, tmp_path: Path
) -> None:
    options = options.format(key_file=servers.key_file, ca=servers.ca)

    with pytest.raises(error, match=message):
        connect(servers, f"rediss://localhost:{servers.good}?{options}", tmp_path)

"""A private authority, and servers with TLS that it vouches for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
import redis
import stores
import trustme


def absent(what: str) -> NoReturn:
    """End a test for want of a program: on CI it fails."""
    notice = f"{what} On Debian: tests/install.sh"
    if os.environ.get("CI"):
        pytest.fail(notice)
    pytest.skip(notice)


def server_with_tls() -> str:
    """Path of a server that speaks TLS: the bundled one does not."""
    found = shutil.which("redis-server")
    if found is None:
        absent("This test needs a redis-server with TLS.")
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Authority:
    """Its certificate is the file `ca`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ca, self._ca = folder, str(folder / "ca.pem"), trustme.CA()
        self._ca.cert_pem.write_to_path(self.ca)

    def vouch_for(self, *hosts: str, is_expired: bool = False) -> tuple[str, str]:
        """Files of a certificate and its key."""
        until = datetime.now(UTC) - timedelta(days=1) if is_expired else None
        name = f"{hosts[0]}-{is_expired}"
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued = self._ca.issue_cert(*hosts, not_after=until)
        cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return str(cert), str(key)

    @contextmanager
    def served(self, *hosts: str, is_expired: bool = False, password: str = "") -> Iterator[int]:
        """The port of a server with TLS, for these host names."""
        port, (cert, key) = free_port(), self.vouch_for(*hosts, is_expired=is_expired)
        tls = ["--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no"]
        command = [server_with_tls(), "--port", "0", "--bind", "127.0.0.1", *tls, "--tls-ca-cert-file", self.ca]
        secret = ["--requirepass", password] if password else []
        process = subprocess.Popen(
            [*command, *secret, "--save", "", "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )
        try:
            with redis.Redis(port=port, ssl=True, ssl_cert_reqs="none", password=password or None) as client:
                stores.await_answer(client)
            yield port
        finally:
            process.kill()
            process.wait()

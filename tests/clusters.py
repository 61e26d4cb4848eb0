"""A server that was named, with keys, and workers for it: a cluster, on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from shell import ROOT, wait_for

import celeryflow as cf
from celeryflow.store.scripts import Store

KEYS = ("aa" * 32, "bb" * 32)


class Cluster:
    """What clients and workers of a server are started with; the workers' directory is a folder of their own."""

    def __init__(self, server: redis.Redis, folder: Path) -> None:
        self.url = f"unix://{server.connection_pool.connection_kwargs['path']}"
        self.blobs, self.directory = folder / "blobs", folder / "work"
        self.client_keys, self.worker_keys = folder / "client.key", folder / "worker.key"
        self.store = Store(server, "celeryflow")
        self.directory.mkdir()
        self.set_keys(KEYS[0])

    def set_keys(self, *keys: str, of: Path | None = None) -> None:
        """Write key files: that one, or both."""
        for path in [of] if of else [self.client_keys, self.worker_keys]:
            path.touch(0o600)
            path.write_text("\n".join(keys))

    def connect(self) -> None:
        """Make this process a client."""
        cf.connect(self.url, key_file=str(self.client_keys), blobs=str(self.blobs))

    @contextmanager
    def worker(self, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A worker of one process, at work; `environment` is more of its variables."""
        place = ["--url", self.url, "--key-file", str(self.worker_keys), "--blobs", str(self.blobs)]
        process = subprocess.Popen(
            [sys.executable, "-m", "celeryflow", "worker", "-c", "1", *place, *options],
            cwd=self.directory,
            env={**self._environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_for(lambda: self.facts(process) or process.poll() is not None, within_s=60)
            assert process.poll() is None, process.communicate()[0]
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=60)
            finally:
                process.kill()

    def status(self) -> Any:
        """What ``celeryflow status --json`` says."""
        place = ["--url", self.url, "--key-file", str(self.client_keys)]
        command = [sys.executable, "-m", "celeryflow", "status", "--json", *place]
        done = subprocess.run(command, cwd=self.directory, env=self._environment(), stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    @staticmethod
    def _environment() -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CELERYFLOW_")}
        return {**clean, "PYTHONPATH": str(ROOT)}

    def facts(self, process: subprocess.Popen[str]) -> dict[str, Any] | None:
        """What a worker says of itself."""
        found = self.store.live_workers().items()
        return next((facts for name, facts in found if name.endswith(f":{process.pid}")), None)

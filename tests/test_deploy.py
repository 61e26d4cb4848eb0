"""deploy/: the compose file is one, opens nothing, holds no secret, and its commands make a deployment that works.

No daemon runs here: the services' own commands are started as processes, with other folders and ports.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from authority import free_port, server_with_tls
from shell import ROOT, Shell, opened, wait_for

FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_compose_file_fits_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE]

    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_nothing_but_jupyter_has_a_port_and_that_on_this_machine_alone() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports == {"jupyter": ["127.0.0.1:8888:8888"]}
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


def test_services_run_without_privileges_and_secrets_are_files() -> None:
    for service in SERVICES.values():
        assert service["user"] == "1000:1000"
        assert service["cap_drop"] == ["ALL"]
        mounts = [volume.split(":") for volume in service["volumes"]]
        assert {name for name, *_ in mounts} <= set(COMPOSE["volumes"])
        if service is not SERVICES["init"]:
            assert all(rest[-1] == "ro" for name, *rest in mounts if name in ("keys", "server"))
    # The server cannot sign, and who may sign has not the server's key.
    assert not any(volume.startswith("keys") for volume in SERVICES["valkey"]["volumes"])
    assert not any(
        volume.startswith("server") for name in ("worker", "jupyter") for volume in SERVICES[name]["volumes"]
    )
    told = {name: service.get("environment", {}) for name, service in SERVICES.items()}
    assert not any("@" in value for each in told.values() for value in each.values())
    assert {name for each in told.values() for name in each} == {
        "CELERYFLOW_URL",
        "CELERYFLOW_KEY_FILE",
        "CELERYFLOW_BLOBS",
    }


def test_files_of_the_image_are_there() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (FILE.parent / "Dockerfile").read_text(), re.MULTILINE)

    assert len(copied) == 3
    assert all((ROOT / name).exists() for names in copied for name in names.split())


class Deployment:
    """The services as processes, in folders of their own."""

    def __init__(self, shell: Shell) -> None:
        self.shell, self.root = shell, shell.directory
        self.port, page = str(free_port()), str(free_port())
        folders = {f"/{name}": str(self.root / name) for name in ("server", "keys", "data", "blobs", "work")}
        scripts = {"/usr/local/share/celeryflow": str(ROOT / "deploy"), "0.0.0.0": "127.0.0.1"}
        self._places = {**folders, **scripts, "valkey:6379": f"localhost:{self.port}", "6379": self.port, "8888": page}
        self._programs = {"valkey-server": server_with_tls(), "valkey-cli": "redis-cli", "python": sys.executable}
        for folder in folders.values():
            Path(folder).mkdir()
        (self.root / "jupyter").mkdir()
        for name in ("server", "lab"):
            # In its container nobody is root.
            config = json.dumps({"ServerApp": {"allow_root": True, "terminals_enabled": False}})
            (self.root / "jupyter" / f"jupyter_{name}_config.json").write_text(config)

    def command(self, words: list[str]) -> list[str]:
        program, *arguments = words
        return [self._programs.get(program, program), *map(self._placed, arguments)]

    def environment(self, service: str) -> dict[str, str]:
        own = {name: self._placed(value) for name, value in SERVICES[service].get("environment", {}).items()}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**self.shell.environment, "PATH": path, "JUPYTER_CONFIG_DIR": str(self.root / "jupyter"), **own}

    def run(self, service: str, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(words),
            cwd=self.root / "work",
            env=self.environment(service),
            capture_output=True,
            text=True,
            timeout=60,
        )

    @contextmanager
    def started(self, service: str) -> Iterator[None]:
        """A service as it is started, in the end stopped."""
        found = SERVICES[service]
        process = subprocess.Popen(
            self.command(found["command"]),
            cwd=self.root / "work",
            env=self.environment(service),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)

    def await_health(self, service: str) -> None:
        """Until its health check passes, as `depends_on` waits for it."""
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        assert kind == "CMD"
        wait_for(lambda: self.run(service, words).returncode == 0)

    def is_healthy(self, service: str) -> bool:
        return self.run(service, SERVICES[service]["healthcheck"]["test"][1:]).returncode == 0

    def _placed(self, text: str) -> str:
        known = "|".join(sorted(map(re.escape, self._places), key=len, reverse=True))
        return re.sub(rf"(?<!\w)({known})(?!\w)", lambda found: self._places[found[0]], text)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with opened(tmp_path) as shell:
        yield Deployment(shell)


NOTEBOOK = """
import json, os, pathlib, time
import celeryflow as cf
from helper import double

cf.connect()

@cf.step
def meet(i):
    pathlib.Path(f"met-{i}").touch()
    while not all(os.path.exists(f"met-{j}") for j in range(4)):
        time.sleep(0.01)
    return double(i), os.getppid(), bytes(2**20)

values, workers, large = zip(*cf.map(meet, range(4)).result(timeout_s=60))
print(json.dumps([values, len(set(workers)), len(large[0])]))
"""
"""Four items that wait for each other take both workers, of two processes each."""


def test_commands_of_the_services_make_a_deployment_that_runs_a_notebook(deployment: Deployment) -> None:
    made = deployment.run("init", SERVICES["init"]["command"])
    assert made.returncode == 0, made.stderr
    keys = {path: path.read_bytes() for path in deployment.root.glob("*/*") if path.suffix in (".key", ".pem")}
    assert {path.name for path in keys} == {
        *("ca.pem", "server.pem", "server.key", "client.pem", "client.key", "celeryflow.key")
    }
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    (deployment.root / "work" / "helper.py").write_text("def double(x):\n    return 2 * x\n")

    with deployment.started("valkey"):
        deployment.await_health("valkey")
        assert not deployment.is_healthy("worker")
        assert SERVICES["worker"]["deploy"]["replicas"] == 2
        with deployment.started("worker"), deployment.started("worker"), deployment.started("jupyter"):
            deployment.await_health("worker")
            done = deployment.run("jupyter", ["python", "-c", NOTEBOOK])
            deployment.await_health("jupyter")
            again = deployment.run("init", SERVICES["init"]["command"])
            stranger = deployment.run("init", ["python", "-c", STRANGER, "/keys/ca.pem", "6379"])

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[0, 2, 4, 6], 2, 2**20]
    assert again.returncode == 0
    assert {path: path.read_bytes() for path in keys} == keys
    assert stranger.stdout.startswith("no server answers at rediss://localhost"), stranger


STRANGER = """
import sys
import celeryflow as cf

ca, port = sys.argv[1:]
try:
    cf.connect(f"rediss://localhost:{port}?ssl_ca_certs={ca}", key_file=ca.replace("ca.pem", "celeryflow.key"))
except cf.ServerUnreachableError as error:
    print(error)
"""
"""Who has no certificate of this deployment is not let in."""

"""A Jupyter server for tests: it serves JupyterLab and Notebook 7, and knows nothing of the user's own settings."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from executions import wait_until

TOKEN = "a-token-of-the-tests"
CONFIG: dict[str, dict[str, Any]] = {
    "ServerApp": {
        "allow_root": True,
        "ip": "127.0.0.1",
        "jpserver_extensions": {"jupyter_lsp": False, "jupyter_server_terminals": False},
        "open_browser": False,
        "password": "",
        "port": 0,
        "terminals_enabled": False,
        "token": TOKEN,
    },
    # The page gives the tests a handle: window.jupyterapp.
    "LabApp": {"expose_app_in_browser": True, "extension_manager": "readonly"},
    "JupyterNotebookApp": {"expose_app_in_browser": True},
}
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}


class Server:
    """A server whose root is `directory`; what its kernels run, they run with the runtime of `state`."""

    def __init__(self, home: Path, directory: Path, state: Path) -> None:
        self._home, self.directory = home, directory
        self._configure()
        self._log = home / "server.log"
        self._gates: list[str] = []
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={directory}"],
                cwd=directory,
                env=self._environment(state),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.url = wait_until(self._address, timeout_s=100)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> list[psutil.Process]:
        """End it and its kernels; what it left, which is killed."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        left = self.processes()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(5)
        return left

    def processes(self) -> list[psutil.Process]:
        """The server and what it has started, as far as it still lives."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def gate(self) -> str:
        """Name of a file that steps can wait for."""
        name = f"gate-{secrets.token_hex(4)}"
        self._gates.append(name)
        return name

    def open_gates(self) -> None:
        """Make those files."""
        while self._gates:
            (self.directory / self._gates.pop()).touch()

    def kernel(self, kernel_id: str) -> psutil.Process:
        """The process of a kernel."""
        [found] = [p for p in self.processes() if any(kernel_id in word for word in p.cmdline())]
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            is_ours = process.environ().get("JUPYTER_CONFIG_DIR") == str(self._home / "config")
            return is_ours and process.status() != psutil.STATUS_ZOMBIE
        return False

    def _configure(self) -> None:
        config = self._home / "config"
        (config / "labconfig").mkdir(parents=True)
        # Each application reads the file of its name alone.
        for name in ("server", "lab", "notebook"):
            (config / f"jupyter_{name}_config.json").write_text(json.dumps(CONFIG))
        (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(OVERRIDES))

    def _environment(self, state: Path) -> dict[str, str]:
        own = {name: text for name, text in os.environ.items() if not name.startswith(("JUPYTER", "CELERYFLOW_"))}
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        places = {name: str(self._home / folder) for name, folder in folders.items()}
        return {**own, **places, "JUPYTER_PREFER_ENV_PATH": "1", "XDG_STATE_HOME": str(state)}

    def _address(self) -> str:
        """Its address once it listens: it writes this down itself, with the port that was free."""
        assert self._process.poll() is None, f"Jupyter ended at once: {self._log.read_text()[-2000:]}"
        for record in (self._home / "runtime").glob("jpserver-*.json"):
            with suppress(json.JSONDecodeError):
                return str(json.loads(record.read_text())["url"]).rstrip("/")
        return ""

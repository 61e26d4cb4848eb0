"""A notebook's front end without a browser: runs cells in a real kernel, and keeps what it is told to show."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

from jupyter_client.manager import KernelManager

WIDGET = "application/vnd.jupyter.widget-view+json"
VIEW = "celeryflow.view.live.widget.Model"

Bundle = dict[str, Any]


class Display(NamedTuple):
    """A display under a cell: what was shown there, first to last."""

    cell: str
    id: str | None
    shown: list[Bundle]

    @property
    def first(self) -> Bundle:
        return self.shown[0]

    @property
    def last(self) -> Bundle:
        return self.shown[-1]


class FrontEnd:
    """One notebook with one kernel, in `directory`."""

    def __init__(self, directory: Path, home: Path, **environment: str) -> None:
        own = {name: text for name, text in os.environ.items() if not name.startswith(("JUPYTER", "CELERYFLOW_"))}
        places = {"IPYTHONDIR": str(home / "ipython"), "JUPYTER_RUNTIME_DIR": str(home / "runtime")}
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(cwd=str(directory), env={**own, **places, **environment})
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self.displays: list[Display] = []
        self.models: dict[str, dict[str, Any]] = {}
        self.answers: list[dict[str, Any]] = []
        """Messages of models' own, as details and lines of a log are."""
        self.errors: dict[str, str] = {}
        self.printed: dict[str, str] = {}
        self.raw: list[str] = []
        """All that was told, as text."""
        self._cells: dict[str, str] = {}
        self._idle: set[str] = set()

    # --- cells ---------------------------------------------------------------------------

    def start(self, source: str, cell: str = "") -> str:
        """Begin to run a cell; its execution."""
        content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        name = cell or secrets.token_hex(4)
        message = self._client.session.msg("execute_request", content, metadata={"cellId": name})
        self._client.shell_channel.send(message)
        execution = str(message["header"]["msg_id"])
        self._cells[execution] = name
        return execution

    def run(self, source: str, cell: str = "") -> list[Display]:
        """Run a cell to its end; the displays that it made."""
        execution = self.start(source, cell)
        self.finish(execution)
        assert execution not in self.errors, self.errors[execution]
        return self.under(execution)

    def finish(self, execution: str) -> None:
        """Wait until a cell has ended."""
        self.until(lambda: execution in self._idle)

    def ask(self, expression: str) -> Any:
        """What an expression is in the kernel; it has a JSON form."""
        execution = self.start(f"import json; print(json.dumps({expression}))")
        self.finish(execution)
        return json.loads(self.printed[execution])

    def under(self, execution: str) -> list[Display]:
        return [display for display in self.displays if display.cell == execution]

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def forget(self) -> None:
        """Forget what was told so far; models stay."""
        self.answers.clear()
        self.raw.clear()

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    # --- models --------------------------------------------------------------------------

    def views(self) -> list[str]:
        """Models of runs that the kernel has not closed."""
        return [name for name, state in self.models.items() if state.get("_anywidget_id") == VIEW]

    def view(self) -> dict[str, Any]:
        """What the latest of them says."""
        return self.models[self.views()[-1]]

    def click(self, what: str, **more: Any) -> str:
        """What the latest view does at a click: a message to its model, and no subshell."""
        click = secrets.token_hex(4)
        self.send(self.views()[-1], {"method": "custom", "content": {"do": what, "id": click, **more}})
        return click

    def send(self, model: str, data: dict[str, Any]) -> None:
        content = {"comm_id": model, "data": data}
        self._client.shell_channel.send(self._client.session.msg("comm_msg", content))

    # --- what the kernel tells -----------------------------------------------------------

    def until(self, condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
        """Listen until something holds; what the condition gives."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not within {timeout_s} s; printed so far: {self.printed}"
            try:
                self._take(self._client.get_iopub_msg(timeout=0.1))
            except Empty:
                continue
        return found

    def _take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        execution = message["parent_header"].get("msg_id", "")
        self.raw.append(str(content))
        if kind in ("display_data", "execute_result"):
            name = content.get("transient", {}).get("display_id")
            self.displays.append(Display(execution, name, [content["data"]]))
        elif kind == "update_display_data":
            name = content["transient"]["display_id"]
            for display in self.displays:
                if display.id == name:
                    display.shown.append(content["data"])
        elif kind == "comm_open":
            self.models[content["comm_id"]] = dict(content["data"]["state"])
        elif kind == "comm_msg":
            self._take_state(content["comm_id"], content["data"])
        elif kind == "comm_close":
            self.models.pop(content["comm_id"], None)
        elif kind == "error":
            self.errors[execution] = content["ename"]
        elif kind == "stream":
            self.printed[execution] = self.printed.get(execution, "") + content["text"]
        elif kind == "status" and content["execution_state"] == "idle":
            self._idle.add(execution)

    def _take_state(self, model: str, data: dict[str, Any]) -> None:
        if data.get("method") == "custom":
            self.answers.append(data["content"])
        elif model in self.models:
            self.models[model] |= data.get("state", {})

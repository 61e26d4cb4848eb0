"""Clicks that arrive while a cell keeps the kernel busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeryflow.view.live.widget import Model

Message = dict[str, Any]
Deliver = Callable[[Message], None]

LATER = "While a cell runs, clicks wait for its end. To stop the run at once, interrupt the kernel (■)."


class Ear:
    """Passes the messages of a model's views on, each once, as soon as the kernel has them.

    ipykernel runs what arrives for a widget when the cell is over. Before that it asks the comm, in the thread that
    reads the messages, where to run it (``_reply_subshell_for``, since 7.4, private): that is where a click is heard
    early. Without it clicks wait, or where the front end uses subshells of its own accord they do not.

    Attributes
    ----------
    is_early : bool
        Whether clicks are heard while a cell runs.
    """

    def __init__(self, model: Model, deliver: Deliver) -> None:
        self._deliver = deliver
        self._heard: deque[object] = deque(maxlen=200)
        model.on_msg(lambda _, content, buffers: self._hear(content))
        self.is_early = self._listen(model.comm, self._hear)
        self._listen(model.layout.comm, lambda content: None)

    def _listen(self, comm: Any, hear: Deliver) -> bool:
        """Look at what comes for this comm, and have it run where its sender wants it."""
        if not hasattr(comm, "_reply_subshell_for"):
            return False

        def route(data: object, wanted: object) -> object:
            if isinstance(data, dict) and data.get("method") == "custom":
                hear(data.get("content"))  # type: ignore[arg-type]
            return wanted

        comm._reply_subshell_for = route
        return True

    def _hear(self, content: object) -> None:
        """Pass a message on, if it is one and was not heard already. Only puts it into a queue: never waits."""
        if isinstance(content, dict) and isinstance(content.get("do"), str) and content.get("id") not in self._heard:
            self._heard.append(content.get("id"))
            self._deliver(content)

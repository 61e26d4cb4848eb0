"""Coroutines of async steps, timed: one that does not give way holds up all others on its event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from celeryflow.engine import context

BLOCKED_S = 0.2

log = logging.getLogger(__name__)


class Watched(Coroutine[Any, Any, Any]):
    """A coroutine that is reported in its step's log, once, when it keeps the event loop for over 0.2 s."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        self._is_told = False

    def send(self, value: Any) -> Any:
        """As of a coroutine."""
        return self._timed(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        """As of a coroutine."""
        return self._timed(self._inner.throw, *error)

    def close(self) -> None:
        """As of a coroutine."""
        self._inner.close()

    def __await__(self) -> Watched:
        return self

    def __iter__(self) -> Watched:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def _timed(self, go_on: Callable[..., Any], *values: Any) -> Any:
        execution, started = context.running(), time.perf_counter()
        try:
            return go_on(*values)
        finally:
            seconds = time.perf_counter() - started
            if execution and seconds > BLOCKED_S and not self._is_told:
                self._is_told = True
                log.warning(
                    "step %r blocked the event loop for %.2f s, and with it every async step beside it. Let it await "
                    "instead, put the slow call into asyncio.to_thread(), or make the step a plain def.",
                    execution.step,
                    seconds,
                )


def make_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """A task factory: what a step starts beside itself is watched as well."""
    return asyncio.Task(Watched(work), loop=loop, **options)

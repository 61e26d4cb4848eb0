"""A TCP proxy between two hosts: what passes it can be delayed, and sent elsewhere, as DNS or haproxy would.

``python tests/proxies.py PORT HOST:PORT DELAY_S`` runs one until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from typing import Any

Place = tuple[str, int]


class Proxy:
    """Listens on `port` (a free one by default) of all of this machine's addresses, from `with` on.

    Parameters
    ----------
    target : (str, int)
        Host and port that connections are passed on to.
    delay_s : float
        How long what is said takes, each way.
    """

    def __init__(self, target: Place, delay_s: float = 0.0, port: int = 0) -> None:
        self._target, self.delay_s, self.port = target, delay_s, port
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: Any) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def point(self, target: Place, *, drops: bool = True) -> None:
        """Send what connects from now on elsewhere; what is open is closed, or left as it is."""
        self._target = target
        if drops:
            self._do(self._drop())

    def _do(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "0.0.0.0", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _drop(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _stop(self) -> None:
        self._server.close()
        await self._drop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=5) if others else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = {writer}
        with suppress(OSError):
            there, back = await asyncio.open_connection(*self._target)
            writers.add(back)
            self._open |= writers
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        self._open -= writers
        for each in writers:
            each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self._loop.call_later(self.delay_s, writer.write, data)
        await asyncio.sleep(self.delay_s)
        writer.close()


if __name__ == "__main__":
    port, target, delay_s = sys.argv[1:]
    host, _, number = target.rpartition(":")
    with Proxy((host, int(number)), float(delay_s), int(port)):
        threading.Event().wait()

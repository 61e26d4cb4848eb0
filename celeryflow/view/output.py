"""A stream to write to that may break."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import IO, Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Output:
    """A stream whose reader may go: what is written then is lost, and that is all.

    rich ends the process where a pipe breaks, and a run is not to end because nobody reads of it any more.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file, self.is_broken = file, False

    def write(self, text: str) -> int:
        """Write to the stream, if that still goes."""
        self._try(partial(self._file.write, text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if that still goes."""
        self._try(self._file.flush)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._try(self._file.isatty))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _try(self, do: Callable[[], T]) -> T | None:
        if not self.is_broken:
            try:
                return do()
            except (OSError, ValueError) as error:  # a broken pipe, a full disk; closed
                self.is_broken = True
                _log.info("what shows a run in words is gone: %s", error)
        return None

"""What a worker writes to standard error: a line of text or a JSON object a record, without secrets."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

from celeryflow.config import Settings
from celeryflow.masking import masked

PLACE = ("run", "step", "index")
"""What a record may say in `extra`: where the matter is."""


class Lines(logging.Formatter):
    """A line of text a record, and its traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """As of logging."""
        return masked(super().format(record))


class Objects(logging.Formatter):
    """A JSON object a record: at, level, logger, worker, pid, message; where known run, step, index; a traceback."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """As of logging, on one line whatever the message holds."""
        found: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "worker": self._worker,
            "pid": record.process,
            "message": record.getMessage(),
        }
        found |= {name: value for name in PLACE if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return masked(json.dumps(found, default=str))


class Whole(logging.Handler):
    """Writes each record with one call, so that those of several processes never mix."""

    def __init__(self, handle: int) -> None:
        super().__init__()
        self._handle = handle

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; whoever reads the log may have gone."""
        try:
            os.write(self._handle, f"{self.format(record)}\n".encode(errors="backslashreplace"))
        except Exception:  # noqa: BLE001 - as of logging: a record that cannot be written ends nobody's work
            self.handleError(record)


class Prints(io.TextIOBase):
    """Stands for standard output or error where all is JSON: a line that somebody prints is a record."""

    encoding = "utf-8"

    def __init__(self, name: str, level: int) -> None:
        self._log, self._level, self._rest = logging.getLogger(name), level, ""

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Log what is whole of it."""
        *whole, self._rest = f"{self._rest}{text}".split("\n")
        for line in filter(str.strip, whole):
            self._log.log(self._level, "%s", line.rstrip())
        return len(text)


def set_up(settings: Settings, worker: str) -> None:
    """Log as the settings say. Where that is JSON, what is printed is logged, too."""
    handler = Whole(os.dup(2))
    handler.setFormatter(Objects(worker) if settings.log_format == "json" else Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("celeryflow").setLevel(logging.INFO)
    if settings.log_format == "json":
        # Celery writes to the streams that Python began with.
        sys.stdout = sys.__stdout__ = Prints("stdout", logging.INFO)  # type: ignore[assignment,misc]
        sys.stderr = sys.__stderr__ = Prints("stderr", logging.WARNING)  # type: ignore[assignment,misc]

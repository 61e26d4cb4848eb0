"""One process that is kept alive."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celeryflow.runtime.files import last_lines, open_log
from celeryflow.runtime.processes import LAUNCH, die_with, end_family, start_mark

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUICK_S = 5.0
"""A process that ended sooner than this after its start counts towards giving up, but where it was killed at work."""

FINISH_SIGNAL = signal.SIGUSR2
"""As of `celeryflow.engine.app`, which takes too long to import."""

QUICK_DEATHS = 4
"""So many quick deaths in a row are the last: with the waits between, 2.1 s and four attempts."""


class Child:
    """A process in a session of its own, started again when it ends, given up when it keeps ending.

    Parameters
    ----------
    name : str
        ``server`` or ``worker``, as messages call it.
    command : list of str
        What is run.
    log : Path
        Where its output goes.
    launch : str
        Its `LAUNCH` variable, by which its descendants are found.
    facts : dict
        What else its entry in the record says.
    was_at_work : callable or None
        Tells of a process that was killed whether it had got so far: then it was no fault of how it is started.
    **options
        For `subprocess.Popen`: ``env``, ``cwd``, ``umask``, ``pass_fds``.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        launch: str,
        facts: dict[str, Any],
        was_at_work: Callable[[int], bool] | None = None,
        **options: Any,
    ):
        self.name, self.command, self.log, self.launch = name, command, log, launch
        self.facts, self.was_at_work, self.options = facts, was_at_work, options
        self.options["env"] = {**options["env"], LAUNCH: launch}
        self.process: subprocess.Popen[bytes] | None = None
        self.mark = ""
        self.try_again()

    def try_again(self) -> None:
        """Forget what went wrong: something has changed since."""
        self.deaths, self.next_start, self.failure, self.failed_at = 0, 0.0, "", 0.0

    def look(self) -> bool:
        """Start it if it does not run and is not given up; whether anything changed."""
        if self.process is not None:
            if self.process.poll() is None:
                return False
            end_family({self.process.pid: self.mark}, self.launch)
            is_sound = self.process.returncode < 0 and self.was_at_work and self.was_at_work(self.process.pid)
            self._died(f"exit code {self.process.returncode}", bool(is_sound))
            return True
        if self.failure or time.monotonic() < self.next_start:
            return False
        self._start()
        return True

    def _start(self) -> None:
        self.started = time.monotonic()
        try:
            with open_log(self.log) as log:
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=die_with(os.getpid()),
                    **self.options,
                )
        except OSError as error:
            self._died(str(error))
        else:
            self.mark = start_mark(self.process.pid)

    def _died(self, how: str, is_sound: bool = False) -> None:
        self.process = None
        is_quick = time.monotonic() - self.started < QUICK_S and not is_sound
        self.deaths = self.deaths + 1 if is_quick else 1
        self.next_start = time.monotonic() + 0.1 * 4 ** (self.deaths - 1)
        if self.deaths >= QUICK_DEATHS:
            self.failed_at = time.time()
            self.failure = (
                f"the {self.name} of the embedded runtime ended {self.deaths} times in a row, "
                f"at last with {how}. {last_lines(self.log)}"
            )

    def entry(self) -> dict[str, Any]:
        """Give its part of the runtime's record."""
        pid = self.process.pid if self.process else 0
        return {
            **self.facts,
            "name": self.name,
            "pid": pid,
            "mark": self.mark if pid else "",
            "failure": self.failure,
            "failed_at": self.failed_at,
        }

    def ask_to_finish(self) -> None:
        """Have a worker end once the steps that it runs have; it is not started again, and no longer its pool's."""
        self.facts = {"pool": ""}
        if self.process:
            self.process.send_signal(FINISH_SIGNAL)

    def has_ended(self) -> bool:
        """Whether it is gone, and what came from it."""
        if self.process is not None and self.process.poll() is None:
            return False
        self.end(0.0)
        return True

    def ask_to_end(self) -> None:
        """Send SIGTERM to it alone; what came from it is its own to end."""
        if self.process:
            self.process.terminate()

    def end(self, within_s: float) -> None:
        """Kill it unless it ends in time, and everything that came from it."""
        if self.process:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(within_s)
        end_family({self.process.pid: self.mark} if self.process else {}, self.launch)
        if self.process:
            self.process.wait()

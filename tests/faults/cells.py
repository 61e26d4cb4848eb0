"""A kernel in a process of its own, which executes cells, can be interrupted in them, and can be killed."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from shell import Shell

TESTS = str(Path(__file__).resolve().parents[1])

SOURCE = f"""
import json, os, signal, subprocess, sys, time, traceback
sys.path.insert(0, {TESTS!r})
import celeryflow as cf
from executions import wait_until
from faults.oracle import Oracle

scope = globals()
signal.signal(signal.SIGINT, signal.default_int_handler)  # as kernels do: a shell's background jobs ignore it

def main():
    for line in sys.stdin:
        reply = {{"answer": None, "error": None}}
        scope["answer"] = None
        try:
            exec(json.loads(line), scope)
            reply["answer"] = scope["answer"]
        except BaseException as error:
            reply["error"] = type(error).__name__
            traceback.print_exc()
        print("\\n" + json.dumps(reply), flush=True)

main()
"""


class Cells:
    """Cells share one namespace; what one leaves in ``answer`` comes back."""

    def __init__(self, shell: Shell, source: str = "") -> None:
        self.shell = shell
        self.process = shell.start(source=SOURCE, stdin=subprocess.PIPE, stderr=None)
        if source:
            self.run(source)

    def begin(self, source: str) -> None:
        """Start a cell, and do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(source) + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[Any, str | None]:
        """Answer of the cell that was begun, and the name of the exception that ended it."""
        assert self.process.stdout is not None
        while not (line := self.process.stdout.readline()).startswith('{"answer"'):
            assert line, f"the kernel ended with exit code {self.process.wait()}"
        reply = json.loads(line)
        return reply["answer"], reply["error"]

    def run(self, source: str) -> Any:
        """Execute a cell, which must succeed."""
        self.begin(source)
        answer, error = self.end()
        assert error is None, error
        return answer

    def interrupt(self) -> None:
        """What the stop button of a notebook sends."""
        self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End it, gently where it listens."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()

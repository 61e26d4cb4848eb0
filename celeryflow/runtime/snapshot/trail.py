"""Where the user's own code failed: the frames of a traceback, and the few of them that a view shows."""

from __future__ import annotations

import re
from typing import NamedTuple

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.*)')
_MARGIN = re.compile(r"^  [|+] ")
_HEADS = ("Traceback (most recent call last):", "Exception Group Traceback (most recent call last):")
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)


class CodeLine(NamedTuple):
    """A call of the user's own code, as people find it: ``validate(table)``, ``cell 4, line 7``, and that line."""

    call: str
    place: str
    source: str = ""


class Frame(NamedTuple):
    """A frame as a traceback tells it; `source` is empty where the process that failed did not have the line."""

    file: str
    line: int
    function: str
    source: str = ""


def frames_in(traceback: str) -> list[Frame]:
    """Frames of the exception that ended a step, the outermost first; those of its causes are left out.

    Of an exception group these are its own frames. A traceback that is quoted in a message is not taken for one.
    """
    found: list[Frame] = []
    is_stack, before = False, ""
    for raw in traceback.split("\n"):
        line = _MARGIN.sub("", raw)
        frame = _FRAME.fullmatch(line) if is_stack else None
        if line in _HEADS and before in ("", *_CHAINED):
            found, is_stack = [], True
        elif frame is not None:
            found.append(Frame(frame["file"], int(frame["line"]), frame["function"]))
        elif is_stack and line.startswith("    ") and found and not found[-1].source:
            found[-1] = found[-1]._replace(source=line.strip())
        elif not line.startswith("  "):
            is_stack = False
        before = line.strip() or before
    return found

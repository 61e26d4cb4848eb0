"""The user's own code in a traceback, in the words of the notebook: which cell, which line, and what stands there.

IPython compiles each cell as a file of its own (``/tmp/ipykernel_123/456.py``). Code that travels to a worker keeps
that name, and the worker has no such file; the kernel that ran the cell knows its number and its lines.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sys
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from tokenize import TokenError
from typing import Any

from celeryflow.runtime.snapshot.trail import CodeLine, Frame, frames_in
from celeryflow.values.functions import is_own_file

FIRST, LAST = 3, 5
"""Frames that are kept of more than these: of a recursion, where it began and where it ended."""

_PACKAGE = f"{Path(__file__).parents[1]}/"
_DEMO = f"{_PACKAGE}demo/"
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]|[/\\]lib(64)?[/\\]python3\.\d+[/\\]|^<frozen ")
_CELL = re.compile(r"[/\\]ipykernel_\d+[/\\]\d+\.py$")
_INPUT = re.compile(r"^<ipython-input-(\d+)-")


def trail(traceback: str) -> tuple[CodeLine, ...]:
    """The calls of the user's own code that led to an exception, the innermost last; none where there are none."""
    own = [frame for frame in frames_in(traceback) if _is_own(frame.file)]
    if len(own) <= FIRST + LAST:
        return tuple(map(_code_line, own))
    left_out = CodeLine(f"… {len(own) - FIRST - LAST} more", "")
    return (*map(_code_line, own[:FIRST]), left_out, *map(_code_line, own[-LAST:]))


def _is_own(file: str) -> bool:
    """Whether a file is neither installed, here or where the step ran, nor celeryflow's."""
    is_ours = file.startswith(_PACKAGE) and not file.startswith(_DEMO)
    return is_own_file(file) and not _INSTALLED.search(file) and not is_ours


def _code_line(frame: Frame) -> CodeLine:
    lines = _lines(frame.file)
    here = lines[frame.line - 1].strip() if 0 < frame.line <= len(lines) else ""
    return CodeLine(_call(frame, lines), f"{_place(frame.file)}, line {frame.line}", frame.source or here)


def _place(file: str) -> str:
    number = _cell_number(file)
    if number:
        return f"cell {number}"
    return "a cell" if _CELL.search(file) else Path(file).name


def _cell_number(file: str) -> int:
    """The number of a cell, as the notebook shows it; 0 for what is no cell of this kernel."""
    found = _INPUT.match(file)
    if found:
        return int(found[1])
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    name = getattr(getattr(shell, "compile", None), "format_code_name", lambda _: None)(file)  # "Cell", "In[4]"
    digits = re.search(r"\d+", name[1]) if name else None
    return int(digits[0]) if digits else 0


def _lines(file: str) -> list[str]:
    """The lines of a cell or file, where this process has them."""
    # linecache would look for a relative name in all of sys.path, and find another file.
    return linecache.getlines(file) if file in linecache.cache or Path(file).is_absolute() else []


def _call(frame: Frame, lines: list[str]) -> str:
    """A function with the names of its parameters, ``validate(table)``; its name where its source is not there."""
    define = re.compile(rf"\s*(async\s+)?def\s+{re.escape(frame.function)}\s*\(")
    for at in range(min(frame.line, len(lines)) - 1, -1, -1):
        if define.match(lines[at]):
            with suppress(SyntaxError, TokenError):
                block = inspect.getblock(lines[at:])  # the rest of a long file is not looked at
                (function,) = ast.parse(dedent("".join(block))).body
                if at + len(block) >= frame.line and isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    return f"{frame.function}({_parameters(function.args)})"
    return "lambda" if frame.function == "<lambda>" else frame.function


def _parameters(found: ast.arguments) -> str:
    names = [argument.arg for argument in (*found.posonlyargs, *found.args)]
    names += [f"*{found.vararg.arg}"] if found.vararg else []
    names += [argument.arg for argument in found.kwonlyargs]
    names += [f"**{found.kwarg.arg}"] if found.kwarg else []
    return ", ".join(name for name in names if name not in ("self", "cls"))

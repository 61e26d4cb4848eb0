"""What of a function's bytecode its results depend on: operations, constants, names; no lines, no docstrings."""

from __future__ import annotations

import dis
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

_CONSTANTS, _NAMES, _COMPARISONS = frozenset(dis.hasconst), frozenset(dis.hasname), frozenset(dis.hascompare)
_JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs})
_NO_WORK = {"NOP", "EXTENDED_ARG", "CACHE"}
_FLAGS = 0x3AF
"""Of ``co_flags``: what arguments there are, and whether it is a generator or coroutine."""

_ABOUT_ITSELF = {"__doc__", "__firstlineno__", "__static_attributes__"}
"""What the body of a class writes down about itself."""


@dataclass
class Reading:
    """A code object and those inside of it, as far as they matter.

    Attributes
    ----------
    shape : list
        Plain values: the operations in order, with the places of their jumps, and names.
    constants : list
        What they load, in the same order.
    names : dict of str to (set of str or None)
        Globals that are used; with the attributes that are taken of one, or None where it is used whole.
    imports : set of str
        Modules that are imported inside.
    """

    shape: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    names: dict[str, set[str] | None] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)


def read(code: CodeType) -> Reading:
    """What matters of a code object."""
    found = Reading()
    _add(found, code)
    return found


def _add(found: Reading, code: CodeType) -> None:
    instructions = [*_working(dis.get_instructions(code))]
    places = _places(code, instructions)
    arguments = code.co_argcount + code.co_kwonlyargcount
    found.shape += [
        "code", code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS,
        *code.co_varnames[:arguments],
    ]  # fmt: skip
    for position, instruction in enumerate(instructions):
        found.shape += [instruction.opname, _operand(found, instruction, places)]
        following = instructions[position + 1] if position + 1 < len(instructions) else None
        _note_name(found, instruction, following)
    for entry in getattr(dis.Bytecode(code), "exception_entries", ()):
        found.shape += [places[entry.start], places[entry.end], places[entry.target], entry.depth]


def _working(instructions: Iterable[dis.Instruction]) -> Iterator[dis.Instruction]:
    """The instructions that do something, without what a class says about itself."""
    held: dis.Instruction | None = None
    for instruction in instructions:
        if instruction.opname in _NO_WORK:
            continue
        if held is not None and instruction.opname == "STORE_NAME" and instruction.argval in _ABOUT_ITSELF:
            held = None
            continue
        if held is not None:
            yield held
        held = instruction
    if held is not None:
        yield held


def _places(code: CodeType, instructions: list[dis.Instruction]) -> dict[int, int]:
    """By offset in the bytecode, the number of the first instruction from there on."""
    places, number = {}, len(instructions)
    starts = {instruction.offset: at for at, instruction in enumerate(instructions)}
    for offset in range(len(code.co_code), -2, -2):
        number = starts.get(offset, number)
        places[offset] = number
    return places


def _operand(found: Reading, instruction: dis.Instruction, places: dict[int, int]) -> Any:
    code = instruction.opcode
    if code in _CONSTANTS:
        if isinstance(instruction.argval, CodeType):
            _add(found, instruction.argval)
        else:
            found.constants.append(instruction.argval)
        return None
    if code in _NAMES or code in _COMPARISONS:
        return str(instruction.argval)
    return places[instruction.argval] if code in _JUMPS else instruction.arg


def _note_name(found: Reading, instruction: dis.Instruction, following: dis.Instruction | None) -> None:
    name = instruction.argval
    if instruction.opname == "IMPORT_NAME":
        found.imports.add(name)
    elif instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
        attributes = found.names.setdefault(name, set())
        if attributes is not None and following is not None and following.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(following.argval)
        else:
            found.names[name] = None

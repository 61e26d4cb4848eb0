"""Refs, which stand for values still to come, and what takes their place in stored arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from celeryflow.errors import RefAttributeError, RefError
from celeryflow.graph.limits import DEEPEST, refuse_depth

NOT_YET = "it is not there yet while the workflow is traced"

Path = tuple[Any, ...]
"""Keys and positions to look up in a value, one after the other."""


class Hole(NamedTuple):
    """Place of an input's value in stored arguments."""

    node: int
    path: Path = ()


class Each(NamedTuple):
    """Place of a mapped argument's item: the number of the mapped argument."""

    number: int


class Unmapped(NamedTuple):
    """A value that `map` passes whole to every call."""

    value: Any


def unmapped(value: Any) -> Any:
    """Pass `value` whole to every call of a map, though it is a list, a dict, a frame or a Ref."""
    return Unmapped(value)


class Ref:
    """The value that a step will have. Steps take it; nothing else can be done with it while the workflow is traced."""

    __slots__ = ("_node", "_outputs", "_path", "_step", "_tracer")

    def __init__(self, tracer: Any, node: int, step: str, outputs: int = 1, path: Path = ()) -> None:
        self._tracer, self._node, self._step, self._outputs, self._path = tracer, node, step, outputs, path

    def __getitem__(self, key: Any) -> Ref:
        return Ref(self._tracer, self._node, self._step, path=(*self._path, key))

    def __iter__(self) -> Iterator[Ref]:
        if self._outputs == 1:
            self._refuse("iterate over", "Map a step over it, or declare @step(outputs=n) to unpack it")
        return iter([self[i] for i in range(self._outputs)])

    def __repr__(self) -> str:
        return f"<Ref to {self._step}{''.join(f'[{key!r}]' for key in self._path)}>"

    def __hash__(self) -> int:
        return id(self)

    def _refuse(self, what: str, instead: str = "") -> NoReturn:
        instead = instead or "Write a step that takes it and does that"
        raise self._misused(RefError(f"cannot {what} the result of {self._step!r}: {NOT_YET}. {instead}."))

    def _misused(self, error: RefError) -> RefError:
        error.node = self._node
        return error

    def __getattr__(self, name: str) -> NoReturn:
        message = (
            f"cannot take .{name} of the result of {self._step!r}: {NOT_YET}. Write a step that takes it and does that."
        )
        raise self._misused(RefAttributeError(message))

    def __reduce__(self) -> NoReturn:
        self._refuse("hide", "Pass it to a step directly, or in a list, tuple or dict")


def _refusal(what: str) -> Callable[..., NoReturn]:
    def refuse(self: Ref, *_: Any, **__: Any) -> NoReturn:
        self._refuse(what)

    return refuse


_REFUSED = {
    "decide on": ["bool"],
    "take the length of": ["len"],
    "compare": ["eq", "ne", "lt", "le", "gt", "ge", "contains"],
    "calculate with": [
        *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv", "mod", "rmod"),
        *("divmod", "rdivmod", "pow", "rpow"),
        *("matmul", "rmatmul", "and", "rand", "or", "ror", "xor", "rxor", "lshift", "rshift"),
        *("neg", "pos", "abs", "invert", "int", "float", "complex", "index", "round"),
        *("array", "array_ufunc", "array_function"),
    ],
    "format": ["format", "str"],
    "call": ["call"],
    "change": ["setitem", "delitem"],
}  # fmt: skip

for _what, _names in _REFUSED.items():
    for _name in _names:
        setattr(Ref, f"__{_name}__", _refusal(_what))


def fill(value: Any, put: Callable[[Any], Any], depth: int = 0) -> Any:
    """`value` with every Ref, Hole or Each in its lists, tuples and dicts replaced by ``put(it)``.

    Raises
    ------
    LimitError
        If they lie too deep in one another.
    """
    kind = type(value)
    if kind in (Ref, Hole, Each):
        return put(value)
    if depth > DEEPEST and kind in (list, tuple, dict):
        refuse_depth()
    if kind is list:
        return [fill(item, put, depth + 1) for item in value]
    if kind is tuple:
        return tuple([fill(item, put, depth + 1) for item in value])
    if kind is dict:
        return {key: fill(item, put, depth + 1) for key, item in value.items()}
    return value


def holes(value: Any) -> set[int]:
    """The nodes whose Holes a value has in its lists, tuples and dicts."""
    found: set[int] = set()
    fill(value, lambda place: found.add(place.node) if type(place) is Hole else None)
    return found

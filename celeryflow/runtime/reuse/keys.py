"""What a step's result depends on: typed hashes of values; functions by bytecode, constants, globals and versions.

Two values have one hash if they are of one type and made of the same parts. Pickles would not do: they differ between
two runs of the same cell, and from one version of a package to the next.
"""

from __future__ import annotations

import copyreg
import enum
import hashlib
import reprlib
import secrets
import struct
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pickle import PickleBuffer
from typing import Any, NamedTuple, TypeVar

from celeryflow.graph.refs import Each, Hole
from celeryflow.runtime.reuse.bytecode import read
from celeryflow.values.functions import is_local

DIGEST_BYTES = 20

_IGNORED = {
    *("__doc__", "__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__"),
    *("_abc_impl", "__abstractmethods__", "__annotate_func__", "__annotations_cache__"),
}  # fmt: skip
"""Of a class's members: what it says of itself, and what Python keeps for itself."""

_DESCRIPTORS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.ClassMethodDescriptorType,
)


class Part(NamedTuple):
    """A part of what a function depends on: its hash, and the value to show, where that says anything."""

    digest: bytes
    value: Any = None
    is_shown: bool = True


class Fingerprint(NamedTuple):
    """What a function depends on: the hash of all of it, its parts by name, and modules that it uses by reference."""

    digest: bytes
    parts: dict[str, Part]
    modules: frozenset[str]


def fingerprint(function: Callable[..., Any]) -> Fingerprint:
    """What the results of a function depend on, its arguments aside."""
    hasher = Hasher()
    digest = hasher.digest(function)
    return Fingerprint(digest, hasher.parts, frozenset(hasher.modules))


def joined(tag: str, *parts: bytes) -> bytes:
    """One hash of several encoded parts."""
    found = hashlib.blake2b(tag.encode(), digest_size=DIGEST_BYTES)
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


class Hasher:
    """Hashes values. Objects are taken apart as pickle takes them apart; what refers to itself is no obstacle.

    Parameters
    ----------
    keys : mapping
        Hash of each node that a Hole may name.
    with_code : bool
        Whether functions and classes count with what they are made of, or by their names alone.

    Attributes
    ----------
    parts : dict of str to Part
        What the functions that were met are made of.
    modules : set of str
        Names of importable modules that were met.
    """

    def __init__(self, keys: Mapping[int, bytes] | None = None, with_code: bool = True) -> None:
        self.keys, self.with_code = keys or {}, with_code
        self.parts: dict[str, Part] = {}
        self.modules: set[str] = set()
        self._done: dict[int, tuple[bytes, Any]] = {}
        self._open: dict[int, int] = {}
        self._lowest = sys.maxsize

    def digest(self, value: Any) -> bytes:
        """Hash of a value; one that is never met again where it cannot be taken apart."""
        try:
            return joined("value", self._encode(value))
        except Exception:  # noqa: BLE001 - whatever a user's __reduce__ raises
            return secrets.token_bytes(DIGEST_BYTES)
        finally:
            self._open.clear()
            self._lowest = sys.maxsize

    def _encode(self, value: Any) -> bytes:
        """Bytes that tell where they end."""
        plain = _PLAIN.get(type(value))
        return b"h" + self._composite(value) if plain is None else plain(value)

    def _all(self, tag: str, values: Iterable[Any]) -> bytes:
        return joined(tag, b"".join(map(self._encode, values)))

    def _composite(self, value: Any) -> bytes:
        """Hash of what has parts, each object once; where it is a part of itself, how far up."""
        key = id(value)
        if key in self._done:
            return self._done[key][0]
        if key in self._open:
            self._lowest = min(self._lowest, self._open[key])
            return joined("above", bytes(str(len(self._open) - self._open[key]), "ascii"))
        depth = self._open[key] = len(self._open)
        outer, self._lowest = self._lowest, depth
        found = self._hash(value)
        del self._open[key]
        if self._lowest == depth:
            self._done[key] = found, value
        self._lowest = min(outer, self._lowest)
        return found

    def _hash(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _KINDS:
            return _KINDS[kind](self, value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, _DESCRIPTORS):
            return self._all("descriptor", [value.__objclass__.__qualname__, value.__name__])
        if hasattr(kind, "__key_parts__"):
            return self._all(kind.__qualname__, value.__key_parts__())
        of, name = kind.__module__.partition(".")[0], kind.__name__
        if (of, name) == ("numpy", "ndarray"):
            return self._array(value)
        if of == "pandas" and hasattr(value, "to_numpy") and hasattr(value, "size"):
            return self._frame(value)
        return self._reduced(value)

    # --- data --------------------------------------------------------------------------------

    def _set(self, value: Any) -> bytes:
        return joined(type(value).__name__, *sorted(map(self._encode, value)))

    def _dict(self, value: dict[Any, Any]) -> bytes:
        return self._all("dict", (part for pair in value.items() for part in pair))

    def _hole(self, value: Hole) -> bytes:
        return joined("hole", self.keys[value.node], self._encode(value.path))

    def _buffer(self, value: Any) -> bytes:
        return joined("buffer", hashlib.blake2b(value, digest_size=DIGEST_BYTES).digest())

    def _array(self, value: Any) -> bytes:
        if value.dtype.hasobject:
            return self._all("array", [value.dtype.str, value.shape, value.ravel().tolist()])
        data = hashlib.blake2b(value.tobytes(), digest_size=DIGEST_BYTES).digest()
        return joined("array", self._encode(value.dtype), self._encode(value.shape), data)

    def _frame(self, value: Any) -> bytes:
        """A pandas object by its columns: how it lies in memory is an accident."""
        kind = type(value).__name__
        if hasattr(value, "columns"):
            columns = [value.iloc[:, at] for at in range(value.shape[1])]
            return self._all(kind, [value.index, value.columns, value.attrs, *columns])
        if hasattr(value, "index") and hasattr(value, "iloc"):
            return self._all(kind, [value.index, value.name, value.attrs, value.array])
        if hasattr(value, "names"):
            return self._all(kind, [*value.names, value.dtype, getattr(value, "freq", None), value.to_numpy()])
        return self._all(kind, [value.dtype, value.to_numpy()])

    def _reduced(self, value: Any) -> bytes:
        reduce = copyreg.dispatch_table.get(type(value)) or _cloudpickle_reducer(type(value))
        found = value.__reduce_ex__(5) if reduce is None else reduce(value)
        if isinstance(found, str):
            return self._named(str(getattr(value, "__module__", "") or type(value).__module__), found)
        function, arguments, state, items, pairs = (*found[:5], None, None, None)[:5]
        content = [*(items or ())], [part for pair in pairs or () for part in pair]
        return self._all("object", [function, arguments, state, *content])

    # --- code --------------------------------------------------------------------------------

    def _named(self, module: str, name: str) -> bytes:
        self.modules.add(module)
        return self._all("named", [module, name])

    def _function(self, function: types.FunctionType) -> bytes:
        name = function.__qualname__.rpartition("<locals>.")[2]
        if is_importable(function):
            return self._named(function.__module__, function.__qualname__)
        if not self.with_code:
            return self._all("function", [name])
        reading = read(function.__code__)
        self.modules |= reading.imports
        note = _Notes(self, f"{name}()")
        note.add("code of {}", reading.shape, is_shown=False)
        for number, constant in enumerate(reading.constants):
            note.add(f"constant of {{}}#{number}", constant)
        for parameter, default in _defaults(function):
            note.add(f"default of {parameter!r} of {{}}", default)
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            note.add(f"variable {variable!r} that {{}} captures", _content(cell))
        for variable, attributes in sorted(reading.names.items()):
            self._global(note, variable, attributes, function.__globals__)
        kept = {key: value for key, value in vars(function).items() if key != "__wrapped__"}
        note.add("attributes of {}", kept)
        return joined("function", *note.encoded)

    def _global(self, note: _Notes, name: str, attributes: set[str] | None, known: Mapping[str, Any]) -> None:
        if name not in known:
            note.add(f"{name!r} in {{}}", ["builtin", name], is_shown=False)
            return
        value = known[name]
        if not isinstance(value, types.ModuleType) or attributes is None or is_importable(value):
            note.add(f"global {name!r}", value)
            return
        for attribute in sorted(attributes):  # of a module that travels by value, what is used
            note.add(f"global '{name}.{attribute}'", getattr(value, attribute, None))

    def _class(self, cls: type) -> bytes:
        if is_importable(cls):
            return self._named(cls.__module__, cls.__qualname__)
        if not self.with_code:
            return self._all("class", [cls.__name__])
        note = _Notes(self, cls.__qualname__.rpartition("<locals>.")[2])
        note.add("name of class {}", cls.__name__)
        note.add("bases of class {}", [type(cls), *cls.__bases__], is_shown=False)
        for name, member in sorted(_members(cls).items()):
            note.add(f"{name!r} of class {{}}", member)
        return joined("class", *note.encoded)

    def _module(self, module: types.ModuleType) -> bytes:
        if is_importable(module):
            return self._named(module.__name__, "")
        kept = {name: value for name, value in vars(module).items() if not name.startswith("__")}
        return self._all("module", [module.__name__, dict(sorted(kept.items()))])

    def _builtin(self, value: Any) -> bytes:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return self._named(str(value.__module__), value.__qualname__)
        return self._all("bound", [owner, value.__name__])

    def _code(self, code: types.CodeType) -> bytes:
        reading = read(code)
        return self._all("code", [reading.shape, *reading.constants])


class _Notes:
    """Hashes the parts of a function or class, and writes them down by name."""

    def __init__(self, hasher: Hasher, owner: str) -> None:
        self.hasher, self.encoded = hasher, list[bytes]()
        self._owner, number = owner, 1
        while any(name.endswith(f" {self._owner}") for name in hasher.parts):
            number += 1
            self._owner = f"{owner} ({number})"

    def add(self, name: str, value: Any, is_shown: bool = True) -> None:
        """Count one part; what has parts of its own by value is not shown itself."""
        encoded = self.hasher._encode(value)
        self.encoded.append(name.encode() + encoded)
        is_code = isinstance(value, (types.FunctionType, type)) and not is_importable(value)
        is_own = is_code or hasattr(type(value), "__key_parts__")
        if not is_own:
            self.hasher.parts.setdefault(name.format(self._owner), Part(joined("part", encoded), value, is_shown))


def is_importable(value: Any) -> bool:
    """Whether a function, class or module is of an installed module, so that its name is enough."""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    found: Any = sys.modules.get(name)
    if name == "__main__" or is_local(name, found):
        return False
    if isinstance(value, types.ModuleType):
        return found is value
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def show(value: Any) -> str:
    """A value in few characters."""
    try:
        text = _short.repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__
        return f"<{type(value).__name__}: {type(error).__name__} in repr>"
    return text if len(text) <= 80 else f"{text[:79]}…"


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def _defaults(function: types.FunctionType) -> list[tuple[str, Any]]:
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    values = function.__defaults__ or ()
    return [*zip(names[len(names) - len(values) :], values, strict=True), *(function.__kwdefaults__ or {}).items()]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _members(cls: type) -> dict[str, Any]:
    if isinstance(cls, enum.EnumMeta):
        values: dict[str, Any] = {name: cls.__members__[name]._value_ for name in cls.__members__}
        methods = {n: m for n, m in vars(cls).items() if isinstance(m, types.FunctionType) and not n.startswith("_")}
        return values | methods
    own = (types.MemberDescriptorType, types.GetSetDescriptorType)
    return {n: m for n, m in vars(cls).items() if n not in _IGNORED and not isinstance(m, own)}


def _cloudpickle_reducer(kind: type) -> Callable[[Any], Any] | None:
    """How cloudpickle takes apart what pickle alone cannot."""
    from cloudpickle import CloudPickler

    return CloudPickler.dispatch_table.get(kind)  # type: ignore[no-any-return]


def _framed(tag: bytes, data: bytes) -> bytes:
    return tag + len(data).to_bytes(8, "little") + data


_PLAIN: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"n",
    bool: lambda value: b"t" if value else b"f",
    int: lambda value: _framed(b"i", b"%x" % value),
    float: lambda value: b"d" + struct.pack("<d", value),
    complex: lambda value: b"c" + struct.pack("<dd", value.real, value.imag),
    str: lambda value: _framed(b"s", value.encode("utf-8", "surrogatepass")),
    bytes: lambda value: _framed(b"b", value),
}

_KINDS: dict[type, Callable[[Hasher, Any], bytes]] = {
    list: lambda hasher, value: hasher._all("list", value),
    tuple: lambda hasher, value: hasher._all("tuple", value),
    dict: Hasher._dict,
    types.MappingProxyType: lambda hasher, value: hasher._dict(dict(value)),
    set: Hasher._set,
    frozenset: Hasher._set,
    bytearray: lambda hasher, value: hasher._all("bytearray", [bytes(value)]),
    PickleBuffer: lambda hasher, value: hasher._buffer(value.raw()),
    Hole: Hasher._hole,
    Each: lambda hasher, value: hasher._all("each", [value.number]),
    types.FunctionType: Hasher._function,
    types.MethodType: lambda hasher, value: hasher._all("method", [value.__func__, value.__self__]),
    types.BuiltinFunctionType: Hasher._builtin,
    types.ModuleType: Hasher._module,
    types.CodeType: Hasher._code,
    # cloudpickle numbers them, each time anew.
    TypeVar: lambda hasher, value: hasher._all(
        "TypeVar", [value.__name__, value.__bound__, value.__constraints__, value.__covariant__]
    ),
    types.CellType: lambda hasher, value: hasher._all("cell", [_content(value)]),
    property: lambda hasher, value: hasher._all("property", [value.fget, value.fset, value.fdel]),
    staticmethod: lambda hasher, value: hasher._all("staticmethod", [value.__func__]),
    classmethod: lambda hasher, value: hasher._all("classmethod", [value.__func__]),
}

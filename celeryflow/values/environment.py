"""What is installed where a run was submitted, and the modules of its working directory: versions to compare later."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path

import msgspec

Versions = dict[str, str]
"""Version by a distribution's name; of a module of the working directory, a digest by ``./name``."""

_INFO = re.compile(r"(.+)-([^-]+)\.(?:dist|egg)-info")


def pack_environment(code: Iterable[bytes]) -> tuple[str, bytes]:
    """Digest and bytes of the versions that functions, by their packed bytes, may depend on."""
    found = _installed() | _local(b"".join(code))
    data = msgspec.msgpack.encode(found, order="sorted")
    return hashlib.sha256(data).hexdigest(), data


def unpack_environment(data: bytes | None, digest: str) -> Versions:
    """These versions; none where the bytes are not what a signed record named."""
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        return {}
    return msgspec.msgpack.decode(data, type=Versions)


def version_of(module: str, versions: Mapping[str, str]) -> tuple[str, str]:
    """Package and version that a module belongs to; empty for the standard library, and where nothing is known."""
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names:
        return "", ""
    names = [f"./{root}", _normal(root)]
    if not any(name in versions for name in names):
        names = [_normal(name) for name in _distributions().get(root, ())]
    return next(((name.removeprefix("./"), versions[name]) for name in names if name in versions), ("", ""))


@cache
def _distributions() -> Mapping[str, list[str]]:
    from importlib.metadata import packages_distributions

    return packages_distributions()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed() -> Versions:
    """Name and version of every distribution on the path, by its folder's name; the first on the path counts."""
    here = str(Path.cwd())
    return _merged(tuple((entry, _stamp(entry)) for entry in sys.path if entry not in ("", here)))


@lru_cache(8)
def _merged(entries: tuple[tuple[str, int], ...]) -> Versions:
    found: Versions = {}
    for entry, stamp in reversed(entries):
        found |= _listed(entry, stamp)
    return found


@lru_cache(64)
def _listed(entry: str, stamp: int) -> Versions:
    folder = Path(entry)
    matches = (_INFO.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    return {_normal(match[1]): match[2] for match in matches if match}


def _local(code: bytes) -> Versions:
    """Digests of the modules and packages of the working directory whose names are in the code."""
    here = str(Path.cwd())
    return {f"./{name}": _digest_of(here, name) for name in _modules(here, _stamp(here)) if name.encode() in code}


@lru_cache(8)
def _modules(folder: str, stamp: int) -> tuple[str, ...]:
    found = [p.stem for p in Path(folder).iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
    return tuple(name for name in sorted(found) if name.isidentifier() and name != "celeryflow")


def _digest_of(folder: str, name: str) -> str:
    single = Path(folder, f"{name}.py")
    files = [single] if single.exists() else sorted(Path(folder, name).rglob("*.py"))
    return hashlib.sha256(b"".join(_source(str(file), _stamp(str(file))) for file in files)).hexdigest()[:12]


@lru_cache(1024)
def _source(file: str, stamp: int) -> bytes:
    try:
        return hashlib.sha256(Path(file).read_bytes()).digest()
    except OSError:
        return b""


def _stamp(path: str) -> int:
    try:
        return _path(path).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(1024)
def _path(path: str) -> Path:
    return Path(path)

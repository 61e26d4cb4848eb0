"""Settings, read once from arguments and ``CELERYFLOW_*`` variables."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from celeryflow.errors import ConfigError

INLINE_LIMIT_BYTES = 256 * 1024
"""Values up to this size travel in Redis; larger ones are blobs."""

LEASE_S = 10.0
"""How long a drainer may be silent before its claim is taken back."""

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,100}")

VIEWS = ("auto", "text", "none")


def view_mode() -> str:
    """How runs show themselves (``CELERYFLOW_VIEW``): ``auto``, in words alone (``text``), or not at all (``none``).

    Raises
    ------
    ConfigError
        If the variable is none of these.
    """
    mode = os.environ.get("CELERYFLOW_VIEW", "") or "auto"
    if mode not in VIEWS:
        raise ConfigError(f"CELERYFLOW_VIEW must be one of {', '.join(VIEWS)}, not {mode!r}.")
    return mode


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where a deployment is and how it behaves.

    Attributes
    ----------
    url : str
        ``unix:///path``, ``redis://…`` or ``rediss://…``.
    prefix : str
        Start of every key, so that several deployments share a server.
    key_file : str
        File of hex keys, one a line: the first signs, all verify.
    blobs : str
        Where values over 256 KiB are: nothing for the server itself, a directory that client and workers share, or an
        fsspec URL such as ``s3://bucket/prefix``. The same for all of them.
    workers : int
        Worker processes of the embedded runtime; 0 is one a core.
    queues : str
        What a worker serves: names separated by commas, or ``*`` for all; ``*@pool`` for all of the runs that were
        submitted to that pool. A pool that ends with ``=versions`` also takes runs for any pool of these versions.
    max_memory_per_child_bytes : int
        Resident memory above which a worker process is replaced by a fresh one, once what it runs is committed, so that
        what a library leaks comes back; 0 for never.
    app : str
        The user's own Celery app, as ``celery -A`` names it: a worker has its tasks for ``cf.from_task``.
    imports : str
        Modules that a worker imports at its start, with commas between.
    registered_only : bool
        A worker takes neither code nor pickles: only steps that what it has imported registered, and plain data.
    retention_s : float
        How long a finished run is kept.
    blob_limit_bytes : int
        Largest value that is stored.
    insecure : bool
        Allow a remote server without TLS, said out loud.
    """

    url: str = ""
    prefix: str = "celeryflow"
    key_file: str = ""
    blobs: str = ""
    workers: int = 0
    queues: str = "*"
    max_memory_per_child_bytes: int = 2**30
    app: str = ""
    imports: str = ""
    registered_only: bool = False
    retention_s: float = 604800.0
    blob_limit_bytes: int = 2**30
    insecure: bool = False

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(
                f"prefix must be 1 to 100 of the characters A-Z a-z 0-9 _ . : -, not {self.prefix!r:.150}: "
                "it is the start of every key."
            )

    @classmethod
    def read(cls, **arguments: Any) -> Settings:
        """Arguments first, then ``CELERYFLOW_URL`` and the like, then the defaults.

        Raises
        ------
        ConfigError
            If a variable does not fit its type.
        """
        given = {k: v for k, v in arguments.items() if v is not None}
        return replace(cls(**_environment()), **given)

    @property
    def pool(self) -> str:
        """What a run's queue names end with, so that only workers of its pool take it: ``@name``, or nothing."""
        _, at, pool = self.queues.rpartition("@")
        return at + pool if at else ""

    def modules(self) -> list[str]:
        """Names of the modules to import."""
        return [name for name in self.imports.split(",") if name]

    def environment(self) -> dict[str, str]:
        """The variables that make another process read the same settings."""
        return {_variable(f.name): str(getattr(self, f.name)) for f in fields(self)}

    def keys(self) -> tuple[bytes, ...]:
        """Read the key file.

        Raises
        ------
        ConfigError
            If it is missing or a line has not 64 hex digits.
        """
        if not self.key_file and self.insecure:
            return (hashlib.sha256(b"celeryflow without a key").digest(),)
        try:
            lines = Path(self.key_file).read_text().split()
            keys = tuple(bytes.fromhex(line) for line in lines)
        except (OSError, ValueError) as error:
            raise ConfigError(f"key_file: cannot read keys from {self.key_file!r}: {type(error).__name__}.") from None
        if not keys or any(len(key) != 32 for key in keys):
            raise ConfigError(
                f"key_file: each line of {self.key_file!r} must have 64 hex digits. See celeryflow keygen."
            )
        return keys


def _variable(name: str) -> str:
    return f"CELERYFLOW_{name.upper()}"


def _environment() -> dict[str, Any]:
    found = {
        f.name: (type(f.default), os.environ[_variable(f.name)])
        for f in fields(Settings)
        if _variable(f.name) in os.environ
    }
    return {name: _convert(name, kind, text) for name, (kind, text) in found.items()}


def _convert(name: str, kind: type, text: str) -> Any:
    if kind is bool:
        return text.lower() in {"1", "true", "yes"}
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{_variable(name)} must be of type {kind.__name__}, not {text!r}.") from None

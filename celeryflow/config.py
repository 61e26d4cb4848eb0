"""Settings, read once from arguments and ``CELERYFLOW_*`` variables."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from celeryflow.errors import ConfigError
from celeryflow.masking import MASK, hide, hide_those_of, mask

INLINE_LIMIT_BYTES = 256 * 1024
"""Values up to this size travel in Redis; larger ones are blobs."""

LEASE_S = 10.0
"""How long a drainer may be silent before its claim is taken back."""

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,100}")

VIEWS = ("auto", "text", "none")
LOG_FORMATS = ("text", "json")


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


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """Where a deployment is and how it behaves. Its repr shows no secret.

    Attributes
    ----------
    url : str
        ``unix:///path``, ``redis://…`` or ``rediss://…``.
    prefix : str
        Start of every key, so that several deployments share a server.
    key_file : str
        File of hex keys, one a line: the first signs, all verify.
    key : str
        The keys themselves, with spaces or commas between; given by ``CELERYFLOW_KEY`` alone.
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
    grace_s : float
        How long steps may go on in a worker that was told to stop; what has not ended then is handed back uncharged.
    log_format : str
        What a worker writes to standard error: lines of ``text``, or a ``json`` object a line.
    """

    url: str = ""
    prefix: str = "celeryflow"
    key_file: str = ""
    key: str = ""
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
    grace_s: float = 1.5
    log_format: str = "text"

    def __post_init__(self) -> None:
        """Remember what is secret, and see that the rest is possible."""
        hide_those_of(self.url)
        hide_those_of(self.blobs)
        for key in [*_split(self.key), *filter(_is_key, [self.key_file])]:
            hide(key)
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(
                f"prefix must be 1 to 100 of the characters A-Z a-z 0-9 _ . : -, not {self.prefix!r:.150}: "
                "it is the start of every key."
            )
        if not 0 <= self.grace_s < float("inf"):
            raise ConfigError(f"CELERYFLOW_GRACE_S must be a number of seconds of 0 or more, not {self.grace_s!r}.")
        if self.log_format not in LOG_FORMATS:
            raise ConfigError(
                f"CELERYFLOW_LOG_FORMAT must be one of {', '.join(LOG_FORMATS)}, not {self.log_format!r}."
            )

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        shown |= {name: mask(shown[name]) for name in ("url", "blobs") if name in shown}
        shown |= {name: MASK for name in shown if name == "key" or _is_key(str(shown[name]))}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @classmethod
    def read(cls, **arguments: Any) -> Settings:
        """Arguments first, then ``CELERYFLOW_URL`` and the like, then the defaults.

        Raises
        ------
        ConfigError
            If a variable does not fit its type.
        """
        given = {k: v for k, v in arguments.items() if v is not None}
        found = _environment()
        if given.get("key_file"):
            found.pop("key", None)  # what is said here counts
        elif found.get("key") and found.get("key_file"):
            raise ConfigError("CELERYFLOW_KEY and CELERYFLOW_KEY_FILE are both set. Keep one of them.")
        return replace(cls(**found), **given)

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
        """The keys that were given, or read from the key file.

        Raises
        ------
        ConfigError
            If there are none, or one has not 64 hex digits. The message holds no part of a key.
        """
        if not self.key_file and not self.key and self.insecure:
            return (hashlib.sha256(b"celeryflow without a key").digest(),)
        where, what = ("CELERYFLOW_KEY", "key") if self.key else ("key_file", "line")
        found = _split(self.key) if self.key else self._read_key_file()
        if not found or not all(map(_is_key, found)):
            of = "" if self.key else f" of {self.key_file!r}"
            raise ConfigError(f"{where}: each {what}{of} must have 64 hex digits. See celeryflow keygen.")
        for key in found:
            hide(key)
        return tuple(bytes.fromhex(key) for key in found)

    def _read_key_file(self) -> list[str]:
        if _is_key(self.key_file):
            raise ConfigError(
                "key_file: this is a key, and not the path of a file. Keys themselves go to CELERYFLOW_KEY."
            )
        try:
            return Path(self.key_file).read_text().split()
        except (OSError, ValueError) as error:
            raise ConfigError(f"key_file: cannot read keys from {self.key_file!r}: {type(error).__name__}.") from None


def _split(keys: str) -> list[str]:
    return keys.replace(",", " ").split()


def _is_key(text: str) -> bool:
    return re.fullmatch("[0-9a-fA-F]{64}", text) is not None


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

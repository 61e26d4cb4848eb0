"""What every process of a deployment holds: the store, the vault and the settings they were made from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from celeryflow.config import Settings
from celeryflow.errors import ConfigError, ServerError
from celeryflow.store.connect import USUAL, connect
from celeryflow.store.large import open_blobs
from celeryflow.store.scripts import Store
from celeryflow.values.envelope import Keyring
from celeryflow.values.vault import Vault

log = logging.getLogger(__name__)


class KeyFile:
    """A deployment's key file, which may be another one while this process goes on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen = self._stamp()

    def _stamp(self) -> tuple[int, ...]:
        if not self._settings.key_file:
            return ()
        try:
            found = Path(self._settings.key_file).stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def changed(self) -> tuple[bytes, ...] | None:
        """The keys, if the file is not what it was; None also while there are none in it."""
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            return self._settings.keys()
        except ConfigError as error:
            log.warning("the keys stay what they were: %s", error)
            return None


@dataclass(frozen=True)
class Link:
    """Connections of one process; not to be carried over a fork."""

    settings: Settings
    store: Store
    vault: Vault

    @classmethod
    def open(cls, settings: Settings, patience: float = USUAL, between: Callable[[], None] = lambda: None) -> Link:
        """Connect lazily: nothing is sent before the first use. For the rest see `store.connect.Patience`."""
        store = Store(connect(settings.url, patience, between), settings.prefix)
        key_file = KeyFile(settings)  # before it is read: a change meanwhile is seen later
        keyring = Keyring(settings.keys(), key_file.changed)
        blobs = open_blobs(settings, store, patience, between)
        vault = Vault(keyring, blobs, settings.blob_limit_bytes)
        return cls(settings, store, vault)

    def count_refusal(self, role: str) -> None:
        """Count on the server what this process has refused, as a ``worker`` or a ``client``."""
        with suppress(ServerError):  # it is in the log
            self.store.count_refusal(role)

    def close(self) -> None:
        """Give the connections back."""
        self.vault.blobs.close()
        self.store.client.close()

"""What every process of a deployment holds: the store, the vault and the settings they were made from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from celeryflow.config import Settings
from celeryflow.errors import ServerError
from celeryflow.store.connect import USUAL, connect
from celeryflow.store.scripts import Store
from celeryflow.values import refusals
from celeryflow.values.blobs import FileBlobs
from celeryflow.values.envelope import Keyring
from celeryflow.values.vault import Vault


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
        vault = Vault(Keyring(settings.keys()), FileBlobs(settings.blobs), settings.blob_limit_bytes)
        return cls(settings, store, vault)

    def count_refusals(self, role: str) -> None:
        """From now on count on the server what this process refuses, as a ``worker`` or a ``client``."""
        refusals.listeners[:] = [partial(self._count_refusal, role)]

    def _count_refusal(self, role: str) -> None:
        with suppress(ServerError):  # it is in the log
            self.store.count_refusal(role)

    def close(self) -> None:
        """Give the connections back."""
        self.store.client.close()

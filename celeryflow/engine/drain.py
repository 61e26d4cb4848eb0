"""A drainer: claim, execute, commit until nothing is ready, then linger and give the slot back."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

from celeryflow.engine.execute import Executor, Stopped
from celeryflow.engine.link import Link
from celeryflow.engine.output import Capture
from celeryflow.engine.slots import Slots
from celeryflow.errors import VersionMismatchError
from celeryflow.store.connect import ConnectionLost
from celeryflow.store.scripts import Claim, Result
from celeryflow.values.functions import Stamp, local_modules, stamp_of
from celeryflow.values.manifest import open_manifest
from celeryflow.values.vault import PYTHON
from celeryflow.version import __version__

LINGER_S = 0.2


class Drainer:
    """Drains the queues of its worker in one pool process."""

    def __init__(self, link: Link, slots: Slots, index: int, output: int, worker: str, label: str) -> None:
        self.link, self.slots, self.label = link, slots, label
        self.name = f"{link.settings.queues}|{worker}|{os.getpid()}-{secrets.token_hex(4)}"
        self.slot = slots.slot(index)
        self.capture = Capture(output, self.slot, label)
        self.executor = Executor(link, self.slot, self.capture, label)
        self._surroundings = Surroundings()

    def drain(self, ticket: str) -> None:
        """Work until nothing is ready for a while."""
        with self.capture:
            try:
                self._work(ticket)
            finally:
                self.slot.clear()
                self.link.store.release(self.name)

    def _work(self, ticket: str) -> None:
        store = self.link.store
        more, claim = store.claim(self.name, secrets.token_hex(16), self.label, ticket)
        while not self.slots.is_stopping:
            if claim is not None:
                more, claim = self._serve(claim)
            elif more or self._linger():
                more, claim = store.claim(self.name, secrets.token_hex(16), self.label)
            else:
                return

    def _linger(self) -> bool:
        """Wait a moment for more work, with the lease kept alive."""
        self.slot.hold(self.name, "", "")
        return self.link.store.await_wake(self.name, LINGER_S)

    def _serve(self, claim: Claim) -> tuple[bool, Claim | None]:
        self.slot.hold(self.name, claim.token, claim.run)
        try:
            results = self._execute(claim)
            self.capture.ship(self.link.store)
        except Stopped:
            results = []
        except ConnectionLost:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged manifest, say, is the steps' failure and never a hang
            results = self.executor.fail(claim, error)
        following = "" if self.slots.is_stopping else secrets.token_hex(16)
        _, more, following_claim = self.link.store.commit(self.name, claim.token, following, self.label, results)
        return more, following_claim

    def _execute(self, claim: Claim) -> list[Result]:
        if self._surroundings.enter(claim.run, self.link):
            self.executor.forget()
        results = self.executor.run(claim)
        self._surroundings.note_imports()
        return results


class Surroundings:
    """The submitter's working directory and import path, taken on when the run changes."""

    def __init__(self) -> None:
        self._run = ""
        self._path = list(sys.path)
        self._count = 0
        self._imported: dict[str, Stamp] = {}

    def enter(self, run: str, link: Link) -> bool:
        """Be where the run was submitted; True if the user's modules changed and will be imported anew."""
        if run == self._run:
            return False
        manifest = open_manifest(link.store.meta(run)["manifest"], run, link.vault)
        if (manifest.version, manifest.python) != (__version__, PYTHON):
            raise VersionMismatchError(
                f"run {run!r} was submitted by celeryflow {manifest.version} on Python {manifest.python}; "
                f"this worker has {__version__} on {PYTHON}. Use the same on both sides."
            )
        link.vault.limit_bytes = manifest.blob_limit_bytes
        if Path(manifest.directory).is_dir():
            os.chdir(manifest.directory)
        sys.path[:] = dict.fromkeys([*manifest.path, *self._path])
        self._run = run
        return self._forget_changed()

    def note_imports(self) -> None:
        """Remember which files the user's modules were imported from, as they are now."""
        if len(sys.modules) != self._count:
            self._count = len(sys.modules)
            self._imported = {**local_modules(), **self._imported}

    def _forget_changed(self) -> bool:
        """Forget all of the user's modules if one changed: they may import each other."""
        is_same = all(stamp_of(name) == stamp for name, stamp in self._imported.items())
        if is_same:
            return False
        for name in self._imported:
            spec = getattr(sys.modules.pop(name, None), "__spec__", None)
            with suppress(OSError):  # bytecode knows its source by size and whole seconds
                Path(getattr(spec, "cached", None) or "").unlink()
        self._imported = {}
        return True

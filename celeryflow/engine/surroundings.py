"""The submitter's working directory and import path, taken on when the run changes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from celeryflow.engine import registered
from celeryflow.engine.lacks import here, lack, whereabouts
from celeryflow.engine.link import Link
from celeryflow.errors import IntegrityError, VersionMismatchError
from celeryflow.store.large import check_place
from celeryflow.values.functions import Stamp, local_modules, stamp_of
from celeryflow.values.manifest import Manifest, open_manifest
from celeryflow.values.vault import PYTHON
from celeryflow.version import __version__


class Surroundings:
    """Where this process is, of which run, and what it has imported there."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._run = ""
        self._home = here()
        self._place: tuple[bytes, tuple[bytes, ...]] | None = None
        self._path = list(sys.path)
        self._count = 0
        self._imported: dict[str, Stamp] = {}
        self._manifest = lru_cache(16)(self._open)

    def are_those_of(self, run: str) -> bool:
        """Whether steps of the run can go on beside those that run now."""
        if run == self._run:
            return True
        manifest = self._manifest(run)
        return (manifest.directory, manifest.path) == self._place

    def enter(self, run: str) -> bool:
        """Be where the run was submitted; True if the user's modules changed and will be imported anew."""
        if run == self._run:
            return False
        manifest = self._manifest(run)
        if (manifest.version, manifest.python) != (__version__, PYTHON):
            raise VersionMismatchError(
                f"run {run!r} was submitted by celeryflow {manifest.version} on Python {manifest.python}, which "
                f"{whereabouts()} has not. Use the same on both sides."
            )
        self._link.vault.limit_bytes = manifest.blob_limit_bytes
        if registered.is_begun():
            self._run, self._place = run, (manifest.directory, manifest.path)
            return False  # steps are where the worker is, and import what it does
        directory = Path(os.fsdecode(manifest.directory))
        with suppress(FileNotFoundError):  # the worker's own directory may have gone, too
            os.chdir(directory if directory.is_dir() else self._home)  # and not stay in that of another run
        sys.path[:] = dict.fromkeys([*map(os.fsdecode, manifest.path), *self._path])
        self._run, self._place = run, (manifest.directory, manifest.path)
        return self._forget_changed()

    def lack(self, error: BaseException) -> str:
        """What this host lacks, if that is behind an error of a step; empty on the notebook's own machine."""
        pool, _, _ = self._link.settings.pool.removeprefix("@").partition("=")  # kernels beside it have one of a name
        return "" if pool or self._place is None else lack(error, Path(os.fsdecode(self._place[0])))

    def note_imports(self) -> None:
        """Remember which files the user's modules were imported from, as they are now."""
        if len(sys.modules) != self._count:
            self._count = len(sys.modules)
            self._imported = {**local_modules(), **self._imported}

    def _open(self, run: str) -> Manifest:
        meta = self._link.store.meta(run)
        if "manifest" not in meta:
            raise IntegrityError(f"run {run!r} has lost its manifest, the record of its graph.")
        place = meta.get("blobs", b"").decode(errors="replace")
        check_place(place, f"run {run!r}", self._link.vault.blobs.place, "this worker")
        return open_manifest(meta["manifest"], run, self._link.vault)

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

"""A deployment as a Celery app, for Celery's own tools: ``celery -A celeryflow inspect ping``, events, Flower.

It is that of ``CELERYFLOW_URL``, or of this directory. The tools need no key, and see tickets alone: what a run does is
in ``celeryflow status``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from celeryflow.config import Settings
from celeryflow.engine.app import make_app
from celeryflow.errors import ServerUnreachableError
from celeryflow.runtime import embedded, remote


def _settings() -> Settings:
    settings = Settings.read()
    if settings.url:
        remote.admit(settings, needs_key=False)
        return settings
    found = embedded.status(Path.cwd())
    if found is None:
        raise ServerUnreachableError("nothing runs for this directory. Name a server: CELERYFLOW_URL=rediss://…")
    return replace(settings, url=found["url"])


app = make_app(_settings())

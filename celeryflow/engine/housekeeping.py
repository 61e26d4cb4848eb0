"""Each worker deletes what nobody needs any more: runs as soon as their time is over, the rest once an hour."""

from __future__ import annotations

import logging
import threading
import time

from celeryflow.engine.link import Link
from celeryflow.errors import ServerError
from celeryflow.store.collect import GRACE_S, collect, expire_runs
from celeryflow.store.strays import park_strays

EVERY_S = 5.0

log = logging.getLogger(__name__)


def keep_house(link: Link, queue: str) -> None:
    """Start to, in a thread that ends with the process; `queue` is the Celery queue of the worker's tickets."""
    threading.Thread(target=_loop, args=(link, queue), name="celeryflow-housekeeping", daemon=True).start()


def _loop(link: Link, queue: str) -> None:
    while True:
        time.sleep(EVERY_S)
        try:
            _look(link, queue)
        except ServerError as error:
            log.debug("housekeeping waits: %s", error)
        except Exception:
            log.exception("housekeeping goes on after an error")


def _look(link: Link, queue: str) -> None:
    for name in park_strays(link.store, queue):
        log.warning("a key of another type stood in the way and is now %r", name)
    expire_runs(link.store)
    if link.store.is_first_within("collected", GRACE_S):
        collect(link.store, link.vault.blobs)

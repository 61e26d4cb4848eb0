"""The way of tickets through Celery: whatever else lies in their queue is dropped with a line in the log.

Anybody who reaches the server can put something there, by mistake too, and Celery's worker ends with what is not JSON,
or has not the form of a message.
"""

from __future__ import annotations

import base64
import json
import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

TASK, TRANSPORT = "celeryflow.drain", "celeryflow"

_BROKEN = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading arbitrary bytes as a message comes to."""

_EMPTY = ("eta", "expires", "timelimit", "group", "chord", "callbacks", "errbacks", "chain")
"""Headers by which a message asks for more than a ticket does."""

log = logging.getLogger(__name__)

TRANSPORT_ALIASES[TRANSPORT] = f"{__name__}:Transport"


class Channel(redis.Channel):
    """Reads messages from a list."""

    def _brpop_read(self, **options: Any) -> Any:
        """As of kombu, where a message that cannot be read is no error."""
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except _BROKEN as error:
            log.warning("dropped a message that is none: %s: %.200s", type(error).__name__, error)
            raise Empty from None

    def close(self) -> None:
        """As of kombu, which waits for what it has asked for, up to a second: a ticket that is lost is sent again."""
        self._in_poll = None
        super().close()


class Transport(redis.Transport):
    """Hands messages to the worker; of those in a ticket queue, tickets alone."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        is_for_tickets = str(queue).startswith("celeryflow.")
        if is_message(message) and (not is_for_tickets or is_ticket(message)):
            super()._deliver(message, queue)
        else:
            log.warning("dropped a message in %s that is no ticket: %.200r", queue, message)


def is_message(message: Any) -> bool:
    """Whether something has the form of a message of kombu."""
    properties = message.get("properties") if isinstance(message, dict) else None
    return isinstance(properties, dict) and isinstance(properties.get("delivery_tag"), str)


def is_ticket(message: dict[str, Any]) -> bool:
    """Whether a message calls for a drainer, and does nothing else."""
    headers, body = message.get("headers"), message.get("body")
    if not isinstance(headers, dict) or not isinstance(body, str):
        return False
    facts = (headers.get("task"), message.get("content-type"), message["properties"].get("body_encoding"))
    if facts != (TASK, "application/json", "base64") or not isinstance(headers.get("id"), str):
        return False
    try:
        args, kwargs, embed = json.loads(base64.b64decode(body, validate=True))
        (ticket,) = args
    except _BROKEN:
        return False
    asks_for_more = any(headers.get(name) not in (None, [None, None]) for name in _EMPTY) or any(embed.values())
    return isinstance(ticket, str) and kwargs == {} and not asks_for_more

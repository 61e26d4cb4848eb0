"""Secrets, and texts without them: what no message, log line or repr may show."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

MASK = "***"
SHORTEST = 4
"""A secret of fewer characters would blot out ordinary words, and protects nothing."""

_SECRET_OPTION = re.compile(r"([?&]\w*(?:password|secret|token|username|key)=)([^&#]+)", re.IGNORECASE)
"""In an address's query; ``ssl_keyfile`` is the path of one, and may be shown."""

_hidden: set[str] = set()


def hide(secret: str) -> None:
    """Let `masked` leave a secret out from now on, as it is and as JSON and ``repr`` write it."""
    if len(secret) >= SHORTEST:
        _hidden.update({secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]})


def masked(text: str) -> str:
    """The text with ``***`` in the places of this process's secrets."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def mask(url: str) -> str:
    """An address without user and password, wherever in it they stand."""
    scheme, separator, rest = url.partition("://")
    place = f"{MASK}@{rest.rpartition('@')[2]}" if "@" in rest else rest
    return _SECRET_OPTION.sub(rf"\1{MASK}", f"{scheme}{separator}{place}") if separator else url


def hide_those_of(url: str) -> None:
    """Let `masked` leave out the password of an address, as it is written there and as it is sent."""
    _, _, rest = url.partition("://")
    # A password with a slash in it is wrong in an address, and no less a secret.
    found = [rest.rpartition("@")[0].partition(":")[2]] if "@" in rest else []
    found += [match[2] for match in _SECRET_OPTION.finditer(rest)]
    for secret in found:
        hide(secret)
        hide(unquote(secret))

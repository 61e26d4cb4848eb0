"""Sign and verify: the one gate before anything is unpickled.

A record is ``key id (4) | HMAC-SHA256 (32) | kind length (1) | kind | body``. The signature covers the kind, the body
and what the record is bound to (run, node, first item), so that moved bytes are refused like changed ones.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence

import msgspec

from celeryflow.values.refusals import refusal

KEY_ID_BYTES = 4
MAC_BYTES = 32
ASK_S = 1.0

Binding = tuple[str | int, ...]
"""What a record belongs to: run, node and first item, or run alone."""


def _unchanged() -> None:
    """Keys that stay what they are."""


class Keyring:
    """The keys of a deployment: the first signs, all verify.

    Parameters
    ----------
    keys : sequence of bytes
        At least one.
    changed : callable
        Gives the keys that are to be used from now on, or None where they are as before. Asked once a second, and where
        a record is signed with a key that is not known.
    """

    def __init__(self, keys: Sequence[bytes], changed: Callable[[], Sequence[bytes] | None] = _unchanged) -> None:
        self._changed = changed
        self._take(keys)

    def _take(self, keys: Sequence[bytes]) -> None:
        self._keys = {key_id(key): key for key in keys}
        self._signing = next(iter(self._keys.items()))
        self._asked_at = time.monotonic()

    def _ask(self) -> None:
        """Take the keys that have come since, if they have changed."""
        self._asked_at = time.monotonic()
        keys = self._changed()
        if keys:
            self._take(keys)

    def _ask_now_and_then(self) -> None:
        if time.monotonic() - self._asked_at > ASK_S:
            self._ask()

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def seal(self, kind: str, binding: Binding, body: bytes) -> bytes:
        """Signed record of `body`."""
        self._ask_now_and_then()
        tail = _tail(kind, body)
        signer, key = self._signing
        return signer + _mac(key, binding, tail) + tail

    def open(self, record: bytes, binding: Binding) -> tuple[str, bytes]:
        """Kind and body of a record that is what it claims to be.

        Raises
        ------
        SignatureError
            If it was changed, cut, moved here from elsewhere, or signed with another key.
        """
        self._ask_now_and_then()
        tail = record[KEY_ID_BYTES + MAC_BYTES :]
        signer = bytes(record[:KEY_ID_BYTES])
        if signer not in self._keys:
            self._ask()
        key = self._keys.get(signer)
        if key is None and len(record) > KEY_ID_BYTES + MAC_BYTES:
            raise refusal(
                f"the record of {_named(binding)} is signed with a key that this deployment does not have (key id "
                f"{signer.hex()}), or was changed. It was not read. Where keys were changed since, the former one can "
                "be a further line of the key file: the first signs, all verify."
            )
        mac = record[KEY_ID_BYTES : KEY_ID_BYTES + MAC_BYTES]
        if key is None or not hmac.compare_digest(mac, _mac(key, binding, tail)):
            raise refusal(
                f"the record of {_named(binding)} is not what was signed with a key of this deployment: it was "
                "changed, cut or moved. It was not read."
            )
        size = tail[0]
        return tail[1 : 1 + size].decode(), tail[1 + size :]


def key_id(key: bytes) -> bytes:
    """What a record says of the key that it was signed with: the first bytes of the key's SHA-256."""
    return hashlib.sha256(key).digest()[:KEY_ID_BYTES]


def _named(binding: Binding) -> str:
    return "/".join(str(part) for part in binding)


def _tail(kind: str, body: bytes) -> bytes:
    name = kind.encode()
    return bytes([len(name)]) + name + body


def _mac(key: bytes, binding: Binding, tail: bytes) -> bytes:
    bound = msgspec.msgpack.encode(binding)
    return hmac.digest(key, len(bound).to_bytes(4, "big") + bound + tail, "sha256")

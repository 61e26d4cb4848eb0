"""Sign and verify: the one gate before anything is unpickled.

A record is ``key id (4) | HMAC-SHA256 (32) | kind length (1) | kind | body``. The signature covers the kind, the body
and what the record is bound to (run, node, first item), so that moved bytes are refused like changed ones.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from celeryflow.values.refusals import refusal

KEY_ID_BYTES = 4
MAC_BYTES = 32

Binding = tuple[str | int, ...]
"""What a record belongs to: run, node and first item, or run alone."""


class Keyring:
    """The keys of a deployment: the first signs, all verify."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {hashlib.sha256(key).digest()[:KEY_ID_BYTES]: key for key in keys}
        self._signing = next(iter(self._keys))

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def seal(self, kind: str, binding: Binding, body: bytes) -> bytes:
        """Signed record of `body`."""
        tail = _tail(kind, body)
        return self._signing + _mac(self._keys[self._signing], binding, tail) + tail

    def open(self, record: bytes, binding: Binding) -> tuple[str, bytes]:
        """Kind and body of a record that is what it claims to be.

        Raises
        ------
        SignatureError
            If it was changed, cut, moved here from elsewhere, or signed with another key.
        """
        tail = record[KEY_ID_BYTES + MAC_BYTES :]
        key = self._keys.get(bytes(record[:KEY_ID_BYTES]))
        mac = record[KEY_ID_BYTES : KEY_ID_BYTES + MAC_BYTES]
        if key is None or not hmac.compare_digest(mac, _mac(key, binding, tail)):
            raise refusal(
                f"the record of {'/'.join(str(part) for part in binding)} is not signed with a key of this deployment, "
                "or was changed or moved. It was not read."
            )
        size = tail[0]
        return tail[1 : 1 + size].decode(), tail[1 + size :]


def _tail(kind: str, body: bytes) -> bytes:
    name = kind.encode()
    return bytes([len(name)]) + name + body


def _mac(key: bytes, binding: Binding, tail: bytes) -> bytes:
    bound = msgspec.msgpack.encode(binding)
    return hmac.digest(key, len(bound).to_bytes(4, "big") + bound + tail, "sha256")

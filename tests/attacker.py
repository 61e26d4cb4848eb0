"""Someone with the server's password and no key: raw access to what is stored, and payloads that tell of being read."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import celeryflow as cf
from celeryflow.runtime.session import current
from celeryflow.values import codec
from celeryflow.values.envelope import Keyring
from celeryflow.values.vault import Pointer


class Touch:
    """Whoever unpickles it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def flipped(record: bytes, position: int = -1, bit: int = 0) -> bytes:
    changed = bytearray(record)
    changed[position] ^= 1 << bit
    return bytes(changed)


def payloads(record: bytes, executed: Path) -> dict[str, bytes]:
    """What to put in the place of signed bytes, by what is wrong with it; each would write the file `executed`."""
    trap = Touch(executed)
    packed = b"".join(map(bytes, codec.pack([trap])))
    pointer = msgspec.msgpack.encode(Pointer(size=len(packed), inline=packed))
    kind, tail = record[37 : 37 + min(record[36], 12)].decode("latin-1"), record[36:]
    foreign = Keyring([b"a key of somebody else's        "]).seal(kind, ("run", 0, 0), pointer)
    return {
        "a pickle": pickle.dumps(trap, 5),
        "packed values": packed,
        "nobody's signature": bytes(36) + tail,
        "another key's": foreign,
        "another key's under our name": record[:4] + foreign[4:],
        "our signature, other bytes": record[:37] + record[37 : 37 + record[36]] + pointer,
    }


class Server:
    """Raw access to the keys of runs."""

    def __init__(self) -> None:
        session = current()
        self.store = session.link.store
        self.client, self.prefix = self.store.client, session.link.settings.prefix
        self.blobs = Path(session.link.settings.blobs)

    def key(self, run: cf.Run[Any], part: str) -> str:
        return f"{self.prefix}:run:{run.id}:{part}"

    def get(self, run: cf.Run[Any], part: str, field: str) -> bytes:
        found = self.client.hget(self.key(run, part), field)
        assert found is not None
        return bytes(found)

    def set(self, run: cf.Run[Any], part: str, field: str, value: bytes) -> None:
        self.client.hset(self.key(run, part), field, value)

    def codes(self) -> set[bytes]:
        return set(self.client.scan_iter(f"{self.prefix}:code:*", count=10_000))

    def files(self) -> set[Path]:
        return {path for path in self.blobs.rglob("*") if path.is_file()}

    def signed(self, run: cf.Run[Any]) -> Iterator[tuple[str, str, bytes]]:
        """Every signed record of a run: key's part, field and bytes."""
        yield "meta", "manifest", self.get(run, "meta", "manifest")
        for part in ("spec", "out", "parts", "expansions"):
            for field, record in self.client.hgetall(self.key(run, part)).items():
                yield part, field.decode(), record

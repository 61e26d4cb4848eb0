"""Results of earlier runs under the new run's own signature: blobs are shared, and nothing is unpickled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from celeryflow.runtime.reuse.earlier import Place
from celeryflow.runtime.reuse.results import Stored
from celeryflow.store.claims import Item
from celeryflow.values.vault import VALUE, Pointer, Vault

COPIED_BYTES = 64 * 1024
"""What stands in several records takes up to so much in all of them; more becomes a blob that they share."""


class Piece(NamedTuple):
    """Items of a map that lie together in an earlier run's record: the first of them, how many, and where."""

    start: int
    size: int
    place: Place


def pieces(places: Sequence[Place | None]) -> Iterator[Piece]:
    """The longest pieces that the places of a map's items make, in order."""
    start = count = 0
    for item, place in enumerate([*places, None]):
        first = places[start]
        if count and place is not None and first is not None and place == _after(first, count):
            count += 1
            continue
        if count and first is not None:
            yield Piece(start, count, first)
        start, count = item, int(place is not None)


def _after(place: Place, count: int) -> Place:
    return place._replace(item=place.item + count)


class Minter:
    """Signs records for a run."""

    def __init__(self, vault: Vault, run: str) -> None:
        self.vault, self.run = vault, run
        self.records: dict[Item, bytes] = {}

    def whole(self, node: int, item: int, record: Stored) -> None:
        """A record as it is, for another node."""
        self.records[node, item] = self.vault.keyring.seal(record.kind, (self.run, node, item), record.body)

    def items(self, node: int, found: Sequence[Piece]) -> None:
        """Records of pieces of a map."""
        uses = Counter((id(piece.place.run), piece.place.node, piece.place.chunk) for piece in found)
        sources: dict[tuple[int, int, int], Pointer] = {}
        for piece in found:
            of = id(piece.place.run), piece.place.node, piece.place.chunk
            if of not in sources:
                sources[of] = self._shared(piece.place.record, uses[of])
            source = sources[of]
            first = source.first + piece.place.item - piece.place.chunk
            pointer = msgspec.structs.replace(source, first=first, count=piece.size)
            self.records[node, piece.start] = self.vault.seal(VALUE, (self.run, node, piece.start), pointer)

    def _shared(self, record: Stored, uses: int) -> Pointer:
        pointer = msgspec.msgpack.decode(record.body, type=Pointer)
        if uses == 1 or not pointer.inline or uses * len(pointer.inline) <= COPIED_BYTES:
            return pointer
        return msgspec.structs.replace(pointer, inline=b"", digest=self.vault.blobs.put([pointer.inline]))

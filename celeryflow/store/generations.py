"""A further generation of a run: its state is written beside the old one, and takes its place in one step."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from celeryflow.store.claims import Item
from celeryflow.store.scripts import STAGE_EXPIRY_S, STAGE_NODES, Store


@dataclass
class Rest:
    """What a generation has to do.

    Attributes
    ----------
    again : list of int
        Nodes to run again, whole or in part.
    ready, growing : list of int
        Those of them that wait for nothing; and those that wait for the end of a part that they added.
    missing : dict of int to int
        How many inputs each of them waits for.
    lengths : dict of int to int
        Of maps: how many items, where known.
    kept : dict of int to list of int
        Of maps: for each item the first item of its chunk, -1 where it runs again.
    ranges : dict of int to list of (int, int)
        Of maps: items that wait for nothing, as first item and number.
    arrived : dict of int to list of int
        Of maps over several maps: how many of these have each item.
    ended : dict of int to bytes
        State byte of nodes that have ended, where the store does not have it yet.
    choices : dict of int to int
        What was decided, where the store does not have it yet.
    """

    again: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    growing: list[int] = field(default_factory=list)
    missing: dict[int, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    kept: dict[int, list[int]] = field(default_factory=dict)
    ranges: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    arrived: dict[int, list[int]] = field(default_factory=dict)
    ended: dict[int, bytes] = field(default_factory=dict)
    choices: dict[int, int] = field(default_factory=dict)

    @property
    def parts(self) -> list[str]:
        """Keys of the run that it has beside those of every run."""
        named = (("ranges", self.ranges), ("at", self.kept), ("zip", self.arrived))
        return [f"{part}:{node}" for part, nodes in named for node in nodes]

    def roots(self) -> bytes:
        """What is ready, as the dependents of an imaginary node."""
        return struct.pack(f"<{len(self.ready)}I", *(8 * node for node in self.ready))


def expanded_items(store: Store, run: str) -> dict[Item, int]:
    """By node and item, the last node of the part that it added."""
    found = store.client.hgetall(store.keys.run(run, "rounds"))
    return {_item(name): int(last) for name, last in found.items()}


def begin(store: Store, run: str, generation: int, rest: Rest, owner: str) -> str:
    """Start the generation after `generation`.

    Returns
    -------
    str
        ``resumed``; or ``running`` or ``other`` where it has not ended, or somebody else has resumed it: nothing is
        changed then.
    """
    place = f"next-{secrets.token_hex(4)}"
    stage_rest(store, run, rest, f"{place}:")
    store.client.set(store.keys.run(run, f"{place}:roots"), rest.roots(), ex=STAGE_EXPIRY_S)
    moved = rest.parts
    lanes = store.client.scan_iter(match=f"{store.keys.run(run, 'lane')}:*", count=1000)
    names = [key.decode().removeprefix(store.keys.run(run, "")) for key in lanes]
    answer = store.call("resume", run, generation, place, owner, len(rest.again), len(moved), *moved, *names)
    return str(answer, "utf-8")


def stage_rest(store: Store, run: str, rest: Rest, place: str = "") -> None:
    """Write a generation's state under keys that begin with `place` and expire."""
    old = {part: store.keys.run(run, part) for part in ("state", "missing", "map")}
    new = {part: store.keys.run(run, f"{place}{part}") for part in old}
    state = bytearray(store.client.get(old["state"]) or b"")
    missing = bytearray(store.client.get(old["missing"]) or b"")
    for node, byte in rest.ended.items():
        state[node : node + 1] = byte
    for node in rest.again:
        state[node : node + 1] = b"x" if node in rest.growing else b"."
        missing[4 * node : 4 * node + 4] = struct.pack(">I", rest.missing[node])
    pipe = store.client.pipeline(transaction=False)
    pipe.set(new["state"], bytes(state), ex=STAGE_EXPIRY_S)
    pipe.set(new["missing"], bytes(missing), ex=STAGE_EXPIRY_S)
    pipe.hset(new["map"], mapping=_map_fields(store.client.hgetall(old["map"]), rest) or {"-": 0})
    pipe.expire(new["map"], STAGE_EXPIRY_S)
    for node, chunks in rest.kept.items():
        marks = struct.pack(f"<{len(chunks)}I", *(chunk + 1 for chunk in chunks))
        pipe.set(store.keys.run(run, f"{place}at:{node}"), marks, ex=STAGE_EXPIRY_S)
    for node, ranges in rest.ranges.items():
        key = store.keys.run(run, f"{place}ranges:{node}")
        for first in range(0, len(ranges), STAGE_NODES):
            pipe.rpush(key, *(f"{start}:{count}" for start, count in ranges[first : first + STAGE_NODES]))
        pipe.expire(key, STAGE_EXPIRY_S)
    for node, counts in rest.arrived.items():
        packed = struct.pack(f"<{len(counts)}H", *counts)
        pipe.set(store.keys.run(run, f"{place}zip:{node}"), packed, ex=STAGE_EXPIRY_S)
    pipe.execute()


def _map_fields(fields: Mapping[bytes, bytes], rest: Rest) -> dict[str, bytes | int]:
    """What is known of maps, decisions and gathers, without what the nodes to run again counted."""
    again = set(rest.again)
    found: dict[str, bytes | int] = {}
    for raw, value in fields.items():
        node, _, what = raw.decode().partition(":")
        if what == "n" or (what not in ("q",) and node.isdigit() and int(node) not in again):
            found[raw.decode()] = value
    found |= {f"{index}:n": length for index, length in rest.lengths.items()}
    for index, chunks in rest.kept.items():
        found[f"{index}:ended"] = sum(chunk >= 0 for chunk in chunks)
        found[f"{index}:kept"] = 1
    return {**found, **{f"{index}:choice": choice for index, choice in rest.choices.items()}}


def _item(name: bytes) -> Item:
    node, _, item = name.partition(b":")
    return int(node), int(item)

"""What must hold of a run's keys and events, whatever was done to it: they say what the model says."""

from __future__ import annotations

import struct
from typing import Any

from model import OUTCOME_STATES, READING, Run, Told, Unit, units_of

from celeryflow.graph.model import Node
from celeryflow.graph.states import STATE_BYTES, State
from celeryflow.store.keyspace import node_of
from celeryflow.store.scripts import Store
from celeryflow.values import manifest


class Found:
    """One run as its keys say."""

    def __init__(self, store: Store, run: Run) -> None:
        self.run = run
        self.lanes = sorted({(manifest.queue_of(node.spec), node.spec.priority) for node in run.graph.nodes})
        self.maps = [node.index for node in run.graph.nodes if node.is_map]
        meta, counts, tries, state, missing, self.waiting, *lists = self._read(store)
        self.meta: dict[bytes, bytes] = meta
        self.counts, self.tries = ({name.decode(): int(n) for name, n in h.items()} for h in (counts, tries))
        self.status = State(meta[b"status"].decode())
        self.states: str = state.decode()
        self.missing = struct.unpack(f">{len(missing) // 4}I", missing)
        self.listed = [node_of(entry) for lane in lists[: len(self.lanes)] for entry in lane]
        self.ranges = dict(zip(self.maps, lists[len(self.lanes) :: 2], strict=True))
        self.marks = dict(zip(self.maps, lists[len(self.lanes) + 1 :: 2], strict=True))

    def _read(self, store: Store) -> list[Any]:
        pipe, name = store.client.pipeline(transaction=False), self.run.name
        for part in ("meta", "map", "tries"):
            pipe.hgetall(store.keys.run(name, part))
        pipe.get(store.keys.run(name, "state"))
        pipe.get(store.keys.run(name, "missing"))
        pipe.zrange(f"{store.keys.prefix}:delayed", 0, -1)
        for queue, priority in self.lanes:
            pipe.lrange(store.keys.run(name, f"lane:{queue}:{priority}"), 0, -1)
        for node in self.maps:
            pipe.lrange(store.keys.run(name, f"ranges:{node}"), 0, -1)
            pipe.get(store.keys.at(name, node))
        answers: list[Any] = pipe.execute()
        return answers

    # --- nodes ------------------------------------------------------------------------------

    def check_states(self, is_behind: bool) -> None:
        """Each node's byte."""
        for node, byte in zip(self.run.graph.nodes, self.states, strict=True):
            allowed = self._allowed(node) + ".rxt" * is_behind
            assert byte in allowed, f"{node.name} of {self.run.name} is {byte!r}, not one of {allowed!r}"

    def _allowed(self, node: Node) -> str:
        run, index = self.run, node.index
        if index in run.untold:
            return "."
        if index in run.ends:
            return next(byte for byte, state in STATE_BYTES.items() if state is run.ends[index])
        if run.is_over:
            return ".rxt"
        if any(unit[0] == index for unit in run.claimed):
            return "x"
        if node.is_map and index in run.begun:
            return "rx"
        if any(unit[0] == index for unit in run.delayed):
            return "t"
        return "r" if any(run.is_ready(unit) for unit in run.units(node)) else "."

    # --- items ------------------------------------------------------------------------------

    def check_committed(self) -> None:
        """The items that are stored."""
        committed = [unit for node in self.run.graph.nodes for unit in self._committed(node)]
        assert committed == sorted(unit for unit in self.run.committed if unit[1] != READING)

    def check_places(self, is_behind: bool) -> None:
        """Each item is in exactly one place, which is the model's."""
        run, ready, delayed = self.run, self._ready(), self._delayed()
        assert sorted(delayed) == sorted(run.delayed)
        assert len(ready) == len({*ready})
        assert not any(run.is_placed(unit) for unit in ready)
        assert {*ready} == run.ready() or (is_behind and {u for u in ready if u[0] not in run.ends} <= run.ready())

    def _ready(self) -> list[Unit]:
        assert len(self.listed) == len({*self.listed})
        return [unit for node in self.listed if self._is_open(node) for unit in self._units(node)]

    def _is_open(self, node: int) -> bool:
        return not STATE_BYTES[self.states[node]].is_terminal

    def _units(self, node: int) -> list[Unit]:
        """What a listed node has to give."""
        if not self.run.graph.nodes[node].is_map:
            return [(node, 0)]
        if f"{node}:n" not in self.counts:
            return [(node, READING)]
        pairs = [map(int, entry.split(b":")) for entry in self.ranges[node]]
        return units_of([(node, start, count) for start, count in pairs])

    def _delayed(self) -> list[Unit]:
        parts = [entry.decode().split("|") for entry in self.waiting]
        now = [self.run.name, str(self.run.generation)]
        units = [(int(node), int(item)) for run, node, _, item, generation in parts if [run, generation] == now]
        return [unit for unit in units if self._is_open(unit[0])]

    def _committed(self, node: Node) -> list[Unit]:
        if not node.is_map:
            return [(node.index, 0)] if self.states[node.index] in "sf" else []
        packed = self.marks[node.index] or b""
        marks = struct.unpack(f"<{len(packed) // 4}I", packed)
        return [(node.index, item) for item, mark in enumerate(marks) if mark]

    # --- counters -----------------------------------------------------------------------------

    def check_counters(self, is_behind: bool) -> None:
        """What is missing, left and counted."""
        run = self.run
        tries = {f"{node}:{item}:e": count for (node, item), count in run.exceptions.items()}
        tries |= {f"{node}:{item}:l": count for (node, item), count in run.losses.items()}
        assert self.tries == tries
        if not is_behind:
            assert int(self.meta[b"left"]) == len(run.graph.nodes) - len(run.ends)
            assert int(self.meta.get(b"bad", 0)) == len(run.failures())
            for node in run.graph.nodes:
                self._check_node(node)

    def _check_node(self, node: Node) -> None:
        index, run = node.index, self.run
        if index in run.ends:
            return
        assert self.missing[index] == len(run.missing(node))
        outcomes = [outcome for unit, outcome in run.committed.items() if unit[0] == index and unit[1] != READING]
        if node.is_map:
            assert self.counts.get(f"{index}:n") == run.lengths.get(index)
            assert self.counts.get(f"{index}:ended", 0) == len(outcomes)
            assert self.counts.get(f"{index}:bad", 0) == outcomes.count("failure")
            assert self.counts.get(f"{index}:skipped", 0) == outcomes.count("upstream")


def check_told(told: Told, run: Run) -> None:
    """The events tell of each item what the model says; which are ready they do not tell."""
    for unit, outcome in run.committed.items():
        assert told.units[unit] is OUTCOME_STATES[outcome]
    for node in run.graph.nodes if not run.is_over else ():
        for unit in run.units(node) if node.index not in run.ends else ():
            state = told.units[unit]
            assert (state is State.RUNNING) == (unit in run.claimed)
            assert state is State.RETRYING or unit not in run.delayed
            assert not state.is_terminal or unit in run.committed

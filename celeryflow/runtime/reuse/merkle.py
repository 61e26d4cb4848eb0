"""Keys of the nodes and items of a run, worked out from its signed records alone.

A key is a hash of all that a result depends on: code, arguments, and the keys of what it takes. Names, phases, queues,
priorities, retries and limits do not count. Two results with one key are the same result.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from celeryflow.graph.model import Edge, Node, Role
from celeryflow.runtime.reuse.keys import DIGEST_BYTES, Fingerprint, Hasher, fingerprint, joined
from celeryflow.values import codec
from celeryflow.values.environment import Versions, version_of
from celeryflow.values.functions import unpack_function
from celeryflow.values.manifest import Call, Mapped
from celeryflow.values.vault import Pointer, Vault

_BY_STATES = (Role.GATHER, Role.PICK)
_WAITS_ONLY = (Edge.ITEMS, Edge.LENGTH)


class Material(NamedTuple):
    """What keys are made of: nodes in order, their signed Calls, code by digest, and the versions of packages."""

    nodes: Sequence[Node]
    calls: Mapping[int, Call]
    code: Mapping[str, bytes]
    versions: Versions


class Merkle:
    """Keys of one graph.

    Parameters
    ----------
    material : Material
        Of the graph.
    vault : Vault
        Where its arguments are.
    with_code : bool
        Whether code counts, or a step's name stands for it.

    Attributes
    ----------
    nodes : dict of int to Node
        By index.
    whole : dict of int to bytes
        Key of each node.
    base : dict of int to bytes
        Of maps: key of what is the same for all items.
    lookup : dict of int to bytes
        Key of each node by which its result is found: of several with one key, the second is not the first.
    """

    def __init__(self, material: Material, vault: Vault, with_code: bool = True) -> None:
        self.material, self.vault, self.with_code = material, vault, with_code
        self.nodes = {node.index: node for node in material.nodes}
        self.whole: dict[int, bytes] = {}
        self.base: dict[int, bytes] = {}
        self.packages: dict[str, dict[str, str]] = {}
        self._columns: dict[int, list[list[bytes] | int]] = {}
        self._items: dict[tuple[int, int], list[bytes]] = {}
        self._prints: dict[str, Fingerprint] = {}
        seen: Counter[bytes] = Counter()
        for node in material.nodes:
            self._add(node)
        self.lookup = {node: _numbered(key, seen) for node, key in self.whole.items()}

    def items(self, node: int, length: int) -> list[bytes]:
        """Key of each item of a map."""
        if (node, length) not in self._items:
            self._items[node, length] = self._keys_of_items(node, length)
        return self._items[node, length]

    def _keys_of_items(self, node: int, length: int) -> list[bytes]:
        if self.material.calls[node].is_planned:
            return [joined("item", self.whole[node], b"%d" % item) for item in range(length)]
        columns = [self.items(c, length) if isinstance(c, int) else c for c in self._columns[node]]
        return [joined("item", self.base[node], *row) for row in zip(*columns, strict=True)]

    def fingerprint(self, node: int) -> Fingerprint:
        """What the function of a node depends on."""
        digest = self.material.calls[node].code
        if digest not in self._prints:
            self._prints[digest] = self._read_code(digest)
        return self._prints[digest]

    def template(self, node: int) -> tuple[Any, dict[str, Any], Sequence[Any]]:
        """Arguments of a node, with Holes and Eaches in them, and a Hole or None for each mapped one."""
        (found,) = self._unpack(self.material.calls[node].template)
        return found  # type: ignore[no-any-return]

    def hasher(self) -> Hasher:
        """One that knows the keys of all nodes so far."""
        return Hasher(self.whole, self.with_code)

    def _add(self, node: Node) -> None:
        call = self.material.calls[node.index]
        args, kwargs, holes = self.template(node.index)
        needed = [
            joined("input", i.edge.encode(), self.whole[i.node], b"%d" % i.choice)
            for i in node.inputs
            if i.edge not in _WAITS_ONLY
        ]
        values = [hole for hole, mapped in zip(holes, call.mapped, strict=True) if hole and not mapped.is_map]
        head = joined(
            "node",
            *(part.encode() for part in (node.role, node.kind, node.on_error, str(node.spec.outputs))),
            self._code(node),
            self.hasher().digest((args, kwargs, values)),
            *needed,
        )
        if not node.is_map:
            self.whole[node.index] = head
            return
        columns = [
            hole.node if mapped.is_map else self._literals(mapped)
            for hole, mapped in zip(holes, call.mapped, strict=True)
        ]
        self.base[node.index], self._columns[node.index] = head, columns
        parts = [self.whole[c] if isinstance(c, int) else joined("items", *c) for c in columns]
        keys = [self.hasher().digest(self._unpack(mapped.keys)) for mapped in call.mapped if mapped.keys]
        self.whole[node.index] = joined("map", head, *parts, *keys)

    def _literals(self, mapped: Mapped) -> list[bytes]:
        if mapped.items is None:
            return []
        hasher, seen = self.hasher(), Counter[bytes]()
        return [_numbered(hasher.digest(item), seen) for item in self._unpack(mapped.items)]

    def _unpack(self, pointer: Pointer) -> list[Any]:
        return codec.unpack(self.vault.fetch(pointer), codec.loads_apart)

    def _code(self, node: Node) -> bytes:
        if not self.with_code:
            return joined("name", node.name.encode())
        if node.role in _BY_STATES:
            return b""
        found = self.fingerprint(node.index)
        versions = self.packages[self.material.calls[node.index].code]
        return joined("code", found.digest, *(f"{name}=={version}".encode() for name, version in versions.items()))

    def _read_code(self, digest: str) -> Fingerprint:
        """Of a function that is gone, or cannot be read here, nothing is known: it equals no other."""
        try:
            function, _ = unpack_function(self.material.code[digest], digest, codec.loads_apart)
        except Exception:  # noqa: BLE001 - whatever an import of the user's raises
            found = Fingerprint(secrets.token_bytes(DIGEST_BYTES), {}, frozenset())
        else:
            found = fingerprint(function)
        versions = (version_of(module, self.material.versions) for module in found.modules)
        self.packages[digest] = dict(sorted({name: version for name, version in versions if name}.items()))
        return found


def _numbered(key: bytes, seen: Counter[bytes]) -> bytes:
    """A key, another one for each further time that it comes."""
    seen[key] += 1
    return key if seen[key] == 1 else joined("again", key, b"%d" % seen[key])

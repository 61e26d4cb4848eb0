"""Keys under the prefix that hold something of another type than the verbs expect, put aside under another name."""

from __future__ import annotations

import secrets

from celeryflow.store.scripts import Store

_TYPES = {
    "pending": b"list", "delayed": b"zset", "timers": b"zset", "deadlines": b"zset", "expiring": b"zset",
    "leases": b"zset", "workers": b"zset", "blobs": b"zset", "runs": b"zset", "groups": b"set", "queues": b"set",
    "beat": b"string", "served": b"string", "asleep": b"string",
}  # fmt: skip
_GROUP_TYPES = {
    "idle": b"set", "drainers": b"set", "tickets": b"zset", "slots": b"hash", "total": b"string", "nudge": b"list",
}  # fmt: skip


def park_strays(store: Store, queue: str) -> list[str]:
    """Rename what would end every verb with an error; the new names. `queue` is the Celery queue of tickets."""
    parked = _park(store, {**_TYPES, f"celery:{queue}": b"list", f"celery:_kombu.binding.{queue}": b"set"})
    groups, queues = (store.client.smembers(f"{store.keys.prefix}:{name}") for name in ("groups", "queues"))
    types = {f"group:{group.decode()}:{part}": kind for group in groups for part, kind in _GROUP_TYPES.items()}
    parked += _park(store, types | {f"queue:{name.decode()}": b"zset" for name in queues})
    if parked:
        _count_anew(store)
    return parked


def _count_anew(store: Store) -> None:
    """Drainers whose lease went with a parked key would hold their slots for ever; who works says so when it claims."""
    for part in ("drainers", "idle"):
        for key in store.client.scan_iter(f"{store.keys.prefix}:group:*:{part}", count=1000):
            store.client.unlink(key)


def _park(store: Store, types: dict[str, bytes]) -> list[str]:
    pipe = store.client.pipeline(transaction=False)
    for name in types:
        pipe.type(f"{store.keys.prefix}:{name}")
    wrong = [n for n, found in zip(types, pipe.execute(), strict=True) if found not in (types[n], b"none")]
    parked = [f"{store.keys.prefix}:stray:{name}:{secrets.token_hex(4)}" for name in wrong]
    for name, place in zip(wrong, parked, strict=True):
        store.client.rename(f"{store.keys.prefix}:{name}", place)
    return parked

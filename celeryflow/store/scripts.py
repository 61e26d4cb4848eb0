"""One typed method for each Lua verb, and the plain reads around them."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from celeryflow.config import LEASE_S
from celeryflow.errors import ServerFullError
from celeryflow.store.claims import Beat, Claim, Item, Result, claim_of
from celeryflow.store.connect import Client
from celeryflow.store.keyspace import Keyspace, node_of
from celeryflow.values.manifest import Sealed

STAGE_NODES = 500
STAGE_EXPIRY_S = 600

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder().decode


@cache
def source(verb: str) -> str:
    """A verb's script: its first line, what the verbs share, itself."""
    folder = Path(__file__).parent / "lua"
    head, _, body = (folder / f"{verb}.lua").read_text().partition("\n")
    shared = [path.read_text() for path in sorted((folder / "shared").iterdir()) if path.suffix == ".lua"]
    return "\n".join([head, *shared, body])


class Store:
    """The state of all runs of one deployment, on one server."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client = client
        self.keys = Keyspace(prefix)
        self._digests: dict[str, str] = {}
        self._workers: list[str] = []

    def call(self, verb: str, *arguments: Any) -> Any:
        """Run a verb."""
        if verb not in self._digests:
            self._digests[verb] = self.client.script_load(source(verb))
        try:
            return self.client.evalsha(self._digests[verb], 1, self.keys.prefix, *arguments)
        except NoScriptError:
            return self.client.eval(source(verb), 1, self.keys.prefix, *arguments)

    # --- submitting ------------------------------------------------------------------

    def put_code(self, code: dict[str, bytes], run: str) -> None:
        """Store functions by digest, and that the run needs them."""
        pipe = self.client.pipeline(transaction=False)
        self._add_code(pipe, code, run)
        pipe.execute()

    def _add_code(self, pipe: Any, code: dict[str, bytes], run: str) -> None:
        for digest, data in code.items():
            pipe.hset(self.keys.users(digest), run, time.time())  # first, so that nobody collects it meanwhile
            pipe.set(self.keys.code(digest), data)

    def get_code(self, digest: str) -> bytes | None:
        """A function's bytes; the caller compares their digest."""
        data: bytes | None = self.client.get(self.keys.code(digest))
        return data

    def get_codes(self, digests: Sequence[str]) -> dict[str, bytes]:
        """As `get_code`, together; those that are gone are left out."""
        found = self.client.mget([self.keys.code(digest) for digest in digests]) if digests else []
        return {digest: data for digest, data in zip(digests, found, strict=True) if data is not None}

    def stage(self, run: str, sealed: Sealed) -> None:
        """Write a graph and its functions, under keys that expire unless `submit` publishes it."""
        keys = [self.keys.run(run, part) for part in ("plan", "spec", "dependents", "missing", "state", "map")]

        def also(pipe: Any) -> None:
            self._add_code(pipe, sealed.code, run)
            for key in keys:
                pipe.expire(key, STAGE_EXPIRY_S)

        self._write(run, sealed, also)

    def stage_part(self, run: str, sealed: Sealed) -> None:
        """Write what a result with the outcome ``expand`` adds to a run."""
        key = self.keys.run(run, "parts")
        self._write(run, sealed, lambda pipe: pipe.hset(key, str(sealed.first), sealed.record))

    def _write(self, run: str, sealed: Sealed, also: Callable[[Any], Any]) -> None:
        key = {part: self.keys.run(run, part) for part in ("plan", "spec", "dependents", "missing", "state", "map")}
        total, base = len(sealed.nodes), sealed.first
        pipe = self.client.pipeline(transaction=False)
        pipe.setrange(key["missing"], 4 * base, sealed.missing)
        pipe.setrange(key["state"], base, b"." * total)
        if sealed.lengths:
            pipe.hset(key["map"], mapping=sealed.lengths)
        for first in range(0, total, STAGE_NODES):
            rows = range(first, min(first + STAGE_NODES, total))
            pipe.hset(key["plan"], mapping={base + row: sealed.plans[row] for row in rows})
            pipe.hset(key["spec"], mapping={base + row: sealed.specs[row] for row in rows})
            owners = (*range(base + rows.start, base + rows.stop), sealed.root)
            users = {n: sealed.dependents[n] for n in owners if n in sealed.dependents}
            if users:
                pipe.hset(key["dependents"], mapping=users)
            if first == 0:
                also(pipe)
            pipe.execute()

    def submit(
        self,
        run: str,
        sealed: Sealed,
        facts: dict[str, Any],
        fail_fast: bool = False,
        parts: Sequence[str] = (),
        job: str = "",
        seen: str = "",
    ) -> bool:
        """Publish a staged graph, with further `parts` that were staged, as the run of a `job`.

        False if the run was there already, or the job has another run than was `seen`.
        """
        quotas = [
            (n.index, n.spec.quota[0], n.length if n.is_map else 1, n.spec.quota[1])
            for n in sealed.nodes
            if n.spec.quota
        ]
        wanted = {"quotas": pack(quotas)} if quotas else {}
        pairs = [part for pair in {"manifest": sealed.record, **wanted, **facts}.items() for part in pair]
        return bool(self.call("submit", run, len(sealed.nodes), int(fail_fast), job, seen, len(parts), *parts, *pairs))

    def run_of_job(self, job: str) -> str:
        """The run that was submitted last under a job id; empty if there is none."""
        return (self.client.hget(self.keys.jobs, job) or b"").decode()

    def allocate(self, run: str, count: int) -> int:
        """Set indices aside for nodes to be added to a run: the first of `count`."""
        return int(self.client.hincrby(self.keys.run(run, "meta"), "top", count)) - count

    def parts(self, run: str, firsts: Sequence[int]) -> list[bytes | None]:
        """Signed records of the parts that were added to a run, by their first nodes."""
        found: list[bytes | None] = self.client.hmget(self.keys.run(run, "parts"), [str(first) for first in firsts])
        return found

    def all_parts(self, run: str) -> dict[int, bytes]:
        """As `parts`, all of them by their first nodes."""
        return {int(first): record for first, record in self.client.hgetall(self.keys.run(run, "parts")).items()}

    # --- working -----------------------------------------------------------------------

    def claim(self, drainer: str, token: str, worker: str, ticket: str = "") -> tuple[bool, Claim | None]:
        """Take work: whether to ask again at once, and the claim."""
        more, claim = self.call("claim", drainer, token, worker, ticket)
        return bool(more), claim_of(claim)

    def commit(
        self, drainer: str, token: str, following: str, worker: str, results: Sequence[Result]
    ) -> tuple[str, bool, Claim | None]:
        """Store results, hand the rest back, take the next claim (unless `following` is empty, or `STILL_RUNNING`)."""
        data = [part for r in results for part in (r.record, struct.pack(f"<{len(r.durations_s)}f", *r.durations_s))]
        header = pack([r.header() for r in results])
        answer, more, claim = self.call("commit", drainer, token, following, worker, header, *data)
        return answer.decode(), bool(more), claim_of(claim)

    def release(self, drainer: str) -> bool:
        """Stop draining; True if a claim was handed back."""
        return bool(self.call("release", drainer))

    def await_wake(self, drainer: str, timeout_s: float) -> bool:
        """Wait as an idle drainer; True if there is work."""
        return self.client.blpop([self.keys.wake(drainer)], timeout=timeout_s) is not None

    # --- supervising -------------------------------------------------------------------

    def renew(self, worker: str, group: str, slots: int, drainers: Sequence[str], work: Iterable[str]) -> Beat:
        """One beat of a supervisor, whose `drainers` are at `work` (``run|node``)."""
        answer = self.call("renew", worker, group, slots, len(drainers), *drainers, *work)
        return Beat(*([entry.decode() for entry in part] for part in answer))

    def await_nudge(self, group: str, timeout_s: float) -> None:
        """Wait as a supervisor until there is more work than workers at it."""
        self.client.blpop([self.keys.nudge(group)], timeout=timeout_s)

    def held_claim(self, drainer: str) -> tuple[str, str, list[list[int]]]:
        """Token, run and units ``[node, start, count]`` that a drainer holds; empty if none."""
        token, run, units = self.client.hmget(self.keys.claim(drainer), "token", "run", "units")
        return ("", "", []) if token is None else (token.decode(), run.decode(), unpack(units))

    def reap(
        self,
        drainer: str,
        token: str,
        reason: str,
        worker: str,
        started: Item = (-1, 0),
        attempt: int = 1,
        record: bytes = b"",
        outcome: str = "failure",
    ) -> bool:
        """Take a dead drainer's claim back, charging the item that had `started`; without a `record` it cannot fail."""
        return bool(self.call("reap", drainer, token, reason, worker, *started, attempt, record, outcome))

    def drainers(self) -> list[str]:
        """All drainers with a lease."""
        return [name.decode() for name in self.client.zrange(self.keys.leases, 0, -1)]

    def drop_lease(self, drainer: str) -> None:
        """Forget a name among the drainers that none of them has."""
        self.client.zrem(self.keys.leases, drainer)

    def cancel(self, run: str, reason: str) -> str:
        """End a run; its status from before, empty if there is none."""
        return str(self.call("cancel", run, reason), "utf-8")

    def end_late(self) -> None:
        """End the runs whose time is over, as supervisors do at each beat: here for where there is none."""
        with suppress(ServerFullError):  # later, then
            self.call("end_late")

    def is_first_of(self, launch: str) -> bool:
        """Whether nobody of this launch of an embedded runtime has asked before."""
        return bool(self.client.set(f"{self.keys.prefix}:launch", launch, get=True) != launch.encode())

    def is_first_within(self, what: str, seconds: float) -> bool:
        """Whether nobody of the deployment has asked for so long."""
        return bool(self.client.set(f"{self.keys.prefix}:{what}", 1, nx=True, px=int(seconds * 1000)))

    def unfinished_runs(self) -> list[tuple[str, str]]:
        """Runs that are not over, and who started or resumed them: ``host:pid:mark``."""
        found = ((run, self.meta(run)) for run in self.run_ids())
        return [(run, m.get("owner", b"").decode()) for run, m in found if m.get("status") in (b"pending", b"running")]

    def park(self, run: str) -> None:
        """Let a run wait until somebody resumes it."""
        self.client.hset(self.keys.run(run, "meta"), "parked", 1)

    def check_room(self) -> None:
        """See that the server stores what it is given.

        Raises
        ------
        ServerFullError
            If it does not, since its memory limit is reached or its disk is full.
        """
        self.client.setrange(f"{self.keys.prefix}:room", 0, "")  # a write that changes nothing

    def count_refusal(self, role: str) -> None:
        """Count that signed bytes were refused, by a ``worker`` or a ``client``."""
        self.client.hincrby(self.keys.refused, role, 1)

    # --- reading -----------------------------------------------------------------------

    def meta(self, run: str) -> dict[str, bytes]:
        """The run's own fields; empty if there is no such run."""
        return {name.decode(): value for name, value in self.client.hgetall(self.keys.run(run, "meta")).items()}

    def spec(self, run: str, node: int) -> bytes | None:
        """The signed record of a node."""
        record: bytes | None = self.client.hget(self.keys.run(run, "spec"), str(node))
        return record

    def specs(self, run: str, nodes: Sequence[int]) -> list[bytes | None]:
        """The signed records of nodes."""
        pipe = self.client.pipeline(transaction=False)
        for first in range(0, len(nodes), STAGE_NODES):
            pipe.hmget(self.keys.run(run, "spec"), [str(node) for node in nodes[first : first + STAGE_NODES]])
        return [record for page in pipe.execute() for record in page]

    def outputs(self, run: str, items: Sequence[Item]) -> list[bytes | None]:
        """Records of stored items, each by the first item of its chunk."""
        found: list[bytes | None] = []
        for first in range(0, len(items), 256):
            fields = [f"{node}:{start}" for node, start in items[first : first + 256]]
            found += self.client.hmget(self.keys.run(run, "out"), fields)
        return found

    def chunks(self, run: str, node: int, start: int, count: int) -> list[int]:
        """First item of the chunk of each of these items, -1 where nothing is stored."""
        return _marks(self.client.getrange(self.keys.at(run, node), 4 * start, 4 * (start + count) - 1), count)

    def chunks_of(self, run: str, lengths: dict[int, int]) -> dict[int, list[int]]:
        """As `chunks`, of all items of several maps."""
        pipe = self.client.pipeline(transaction=False)
        for node in lengths:
            pipe.get(self.keys.at(run, node))
        found = zip(lengths.items(), pipe.execute(), strict=True)
        return {node: _marks((packed or b"")[: 4 * length], length) for (node, length), packed in found}

    def states(self, run: str, nodes: Sequence[int]) -> list[tuple[str, str]]:
        """State byte of each node, and of a cancelled one what it was before."""
        pipe = self.client.pipeline(transaction=False)
        for node in nodes:
            pipe.getrange(self.keys.run(run, "state"), node, node)
            pipe.hget(self.keys.run(run, "map"), f"{node}:was")
        answers = [(answer or b"").decode() for answer in pipe.execute()]
        return list(zip(answers[::2], answers[1::2], strict=True))

    def refusal(self, run: str, node: int) -> str:
        """Why a node was over its quota at the submit; empty if it was not."""
        return (self.client.hget(self.keys.run(run, "map"), f"{node}:refused") or b"").decode()

    def waiting_ranges(self, run: str, node: int) -> list[range]:
        """Items of a map that no worker has taken yet, though they could."""
        pairs = (
            entry.partition(b":")[::2] for entry in self.client.lrange(self.keys.run(run, f"ranges:{node}"), 0, -1)
        )
        return [range(int(start), int(start) + int(count)) for start, count in pairs]

    def introduce_worker(self, worker: str, facts: dict[str, str]) -> None:
        """Say what a worker is; kept for a day."""
        self.client.hset(self.keys.worker(worker), mapping=facts)
        self.client.expire(self.keys.worker(worker), 86400)

    def dismiss_worker(self, worker: str) -> None:
        """Count on a worker no more; what is known of it stays for its day."""
        self.client.zadd(self.keys.workers, {worker: 0}, xx=True)

    def live_workers(self, within_s: float = LEASE_S) -> dict[str, dict[str, str]]:
        """Facts of the workers that were heard of within so many seconds, by default within their leases."""
        known = self._workers  # which other threads may replace
        (seconds, micros), leases, *found = self._read_workers(known)
        since = seconds + micros / 1e6 + LEASE_S - within_s
        names = [raw.decode() for raw, until in leases if until >= since]
        if not set(names) <= set(known):
            _, _, *found = self._read_workers(names)
            self._workers = known = names
        facts = dict(zip(known, found, strict=True))
        return {name: {k.decode(): v.decode() for k, v in facts[name].items()} for name in names if facts[name]}

    def _read_workers(self, names: Sequence[str]) -> list[Any]:
        """The time, all leases, and the facts of these workers: for those known from before, one reply is enough."""
        pipe = self.client.pipeline(transaction=False).time().zrange(self.keys.workers, 0, -1, withscores=True)
        for name in names:
            pipe.hgetall(self.keys.worker(name))
        return pipe.execute()  # type: ignore[no-any-return]

    def facts_of_workers(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """What is known of these workers, alive or not."""
        _, _, *found = self._read_workers(names)
        return {n: {k.decode(): v.decode() for k, v in facts.items()} for n, facts in zip(names, found, strict=True)}

    def queues(self) -> list[str]:
        """The store's names of the queues in which something is ready."""
        return sorted(queue.decode() for queue in self.client.smembers(f"{self.keys.prefix}:queues"))

    def lanes(self, queue: str) -> list[tuple[str, int]]:
        """Runs and priorities of what is ready in a queue, in the order in which it is served."""
        members = (member.decode().rpartition("|") for member in self.client.zrange(self._queue(queue), 0, -1))
        return [(run, int(priority)) for run, _, priority in members]

    def _queue(self, queue: str) -> str:
        return f"{self.keys.prefix}:queue:{queue}"

    def ready_nodes(self, run: str, queue: str, priority: int, most: int = 3) -> list[int]:
        """The first nodes of a run that wait in a queue at a priority for somebody to claim them."""
        return [node_of(entry) for entry in self.client.lrange(self.keys.lane(run, queue, priority), 0, most - 1)]

    def refused(self) -> dict[str, int]:
        """How often signed bytes were refused, by ``worker`` and ``client``."""
        found = self.client.hgetall(self.keys.refused)
        return {role: int(found.get(role.encode(), 0)) for role in ("worker", "client")}

    def run_ids(self) -> list[str]:
        """All runs, the latest first."""
        return [run.decode() for run in self.client.zrevrange(self.keys.runs, 0, -1)]


def _marks(packed: bytes, count: int) -> list[int]:
    return [mark - 1 for mark in struct.unpack(f"<{count}I", packed.ljust(4 * count, b"\0"))]

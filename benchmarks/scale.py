"""What the server's verbs cost as graphs, drainers and runs grow, and what the server can take.

Simulated drainers (``scripts/drainers.py``) claim and commit against one real server and run nothing, so that it
is what is measured. Graphs are staged beforehand. A *slow* step is claimed alone, and its commit is one call; of cheap
ones many share a claim and a commit.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import redis

from benchmarks.contenders import threes
from benchmarks.measure import Row, WrongResultError
from benchmarks.servers import bare_server
from benchmarks.watch import verb_of
from benchmarks.works import LAYERS
from celeryflow.graph.model import Input, Node, NodeKind, StepSpec
from celeryflow.store.scripts import Store, source
from celeryflow.values import manifest
from celeryflow.values.manifest import Sealed

PREFIX = "scale"
GENERATORS = 2
"""Processes that the drainers are spread over: what they need of a core is reported."""

SLOTS = 8
"""Drainers of a simulated worker."""

CHAINS = 10
SPEC_BYTES, RECORD_BYTES = 420, 190
"""About what the signed records of a call and of a small result come to."""

SLOW_S, CHEAP_S = 1.0, 0.0001
TYPICAL = 10
"""Drainers of the rows whose graphs grow."""

FEWEST_COMMITS = 2_000
"""Small graphs are run again and again until there were so many."""

LOGGED = ("--appendonly", "yes", "--appendfsync", "no")
"""As the embedded server."""

SIZES, DRAINERS, RUNS = (100, 1_000, 10_000, 100_000), (1, 10, 100, 1_000), (1, 100, 1_000)
FIXED = 10_000
"""Nodes where something else grows."""

QUICK_SIZES, QUICK_DRAINERS = (100, 500), 20
PACED_S = 10
"""How long the drainers go on that ask for half of what the server gives."""

VERBS = ("claim", "commit", "renew")
LEAST_US = 10
"""Verbs take longer; most of the commands in them, which the log has as well, do not."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a server is asked for: `runs` at a time, of `nodes` in all.

    `rate` is how many commits a second the drainers aim at; 0 for as many as the server takes. With `is_beating` there
    are supervisors too, and with `is_profiled` the server notes down the time of every command.
    """

    part: str
    shape: str = "layers"
    nodes: int
    drainers: int = TYPICAL
    runs: int = 1
    seconds: float = SLOW_S
    rate: float = 0.0
    is_beating: bool = False
    is_profiled: bool = False
    repeats: int = 1

    @property
    def workers(self) -> dict[str, list[str]]:
        """Names of drainers by worker."""
        names = [f"*|w{number // SLOTS}|{number}" for number in range(self.drainers)]
        return {worker: [*mine] for worker, mine in itertools.groupby(names, lambda name: name.split("|")[1])}


# --- graphs ------------------------------------------------------------------------------------------


def _chains(count: int) -> Iterator[tuple[int, ...]]:
    return ((index - CHAINS,) if index >= CHAINS else () for index in range(count))


def _layers(count: int) -> Iterator[tuple[int, ...]]:
    width = max(1, count // LAYERS)
    before = threes(width)
    for index in range(count):
        layer, place = divmod(index, width)
        yield tuple({(layer - 1) * width + each for each in before[place]}) if layer else ()


def _fan_out(count: int) -> Iterator[tuple[int, ...]]:
    return ((0,) if index else () for index in range(count))


INPUTS = {"chains": _chains, "layers": _layers, "fan-out": _fan_out}
SHAPES = ("map", *INPUTS)
SPEC = StepSpec(name="work", label="work")


def sealed(shape: str, count: int) -> Sealed:
    """A graph as the store takes it, with bytes of the usual size in the place of signed records."""
    if shape == "map":
        nodes = [Node(index=0, name="work", spec=SPEC, kind=NodeKind.MAP, length=count)]
    else:
        needed = ((index, (Input(node=node) for node in inputs)) for index, inputs in enumerate(INPUTS[shape](count)))
        nodes = [Node(index=index, name=f"work-{index}", spec=SPEC, inputs=tuple(inputs)) for index, inputs in needed]
    return manifest.wire(tuple(nodes), ["0" * 64] * len(nodes), [bytes(SPEC_BYTES)] * len(nodes), set())


# --- one load on a server of its own ------------------------------------------------------------------


@contextmanager
def _drained(load: Load, socket: str) -> Iterator[list[Any]]:
    """Drainers at work; what they saw is in the list when they are through."""
    orders = {
        "socket": socket,
        "prefix": PREFIX,
        "digests": {verb: hashlib.sha1(source(verb).encode()).hexdigest() for verb in VERBS},
        "is_beating": load.is_beating,
        "seconds": load.seconds,
        "pause_s": load.drainers / load.rate if load.rate else 0.0,
        "record_bytes": RECORD_BYTES,
    }
    shares = [dict([*load.workers.items()][number::GENERATORS]) for number in range(GENERATORS)]
    command = [sys.executable, "-m", "benchmarks.scripts.drainers"]
    processes = [
        subprocess.Popen(
            [*command, json.dumps({**orders, "workers": share})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for share in shares if share
    ]  # fmt: skip
    seen: list[Any] = []
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise WrongResultError("the drainers could not start")
        yield seen
    finally:
        seen += [json.loads(process.communicate("stop\n")[0] or "null") for process in processes]


def _used(server: Any) -> dict[str, float]:
    """What the server has used: seconds of its one thread that runs commands, and bytes on the wire."""
    cpu, traffic = server.info("cpu"), server.info("stats")
    return {
        "cpu_s": cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"],
        "in_bytes": traffic["total_net_input_bytes"],
        "out_bytes": traffic["total_net_output_bytes"],
    }


def _run_all(store: Store, runs: list[str], graph: Sealed) -> dict[str, float]:
    """Stage these runs, submit them, wait for them; what all but the first took of the server, and of time."""
    for run in runs:
        store.stage(run, graph)
    before = _used(store.client)
    for run in runs:
        store.submit(run, graph, {})
    for run in runs:
        while store.client.hget(store.keys.run(run, "meta"), "status") != b"success":
            time.sleep(0.005)
    used = {name: value - before[name] for name, value in _used(store.client).items()}
    times = [store.meta(run) for run in runs]
    ended = max(float(found["finished_at"]) for found in times)
    return {**used, "wall_s": ended - min(float(found["started_at"]) for found in times)}


def _row(load: Load) -> Row:
    """What was measured of a load."""
    graph = sealed(load.shape, load.nodes // load.runs)
    with bare_server(*LOGGED) as socket:
        store = Store(redis.Redis(unix_socket_path=socket), PREFIX)
        _prepare(store, load)
        with _drained(load, socket) as seen:
            used = Counter[str]()
            for repeat in range(load.repeats):
                used.update(_run_all(store, [f"{repeat}-{number}" for number in range(load.runs)], graph))
        profile = {"verbs": _profile(store.client, used["cpu_s"])} if load.is_profiled else {}
        store.client.close()
    found = {**asdict(load), **_figures(used, seen), **profile}
    if found["steps"] != load.repeats * load.nodes:
        raise WrongResultError(f"{load.repeats * load.nodes} steps were committed {found['steps']} times.")
    return found


def _prepare(store: Store, load: Load) -> None:
    for verb in VERBS:
        store.client.script_load(source(verb))
    for worker, mine in load.workers.items():
        store.renew(worker, "*", len(mine), [], [])
    store.client.config_set("slowlog-max-len", 1_000_000)
    store.client.config_set("slowlog-log-slower-than", LEAST_US if load.is_profiled else -1)


def _figures(used: Mapping[str, float], seen: Sequence[Any]) -> Row:
    commits = sum(one["commits"] for one in seen)
    latencies = sorted(us for one in seen for us in one["latencies_us"])
    return {
        "commits": commits,
        "steps": sum(one["steps"] for one in seen),
        "wall_s": used["wall_s"],
        "commits_a_second": commits / used["wall_s"],
        "server_us_a_commit": 1e6 * used["cpu_s"] / commits,
        "server_share": used["cpu_s"] / used["wall_s"],
        "generator_share": max(one["cpu_s"] for one in seen) / used["wall_s"],
        "p50_s": latencies[len(latencies) // 2] / 1e6,
        "p99_s": latencies[int(len(latencies) * 0.99)] / 1e6,
        "beats_a_second": sum(one["beats"] for one in seen) / used["wall_s"],
        "in_bytes_a_commit": used["in_bytes"] / commits,
        "out_bytes_a_commit": used["out_bytes"] / commits,
    }


def _profile(server: Any, cpu_s: float) -> list[Row]:
    """What each verb took, and its share of all that the server had to do."""
    server.config_set("slowlog-log-slower-than", -1)
    took: dict[str, list[int]] = {verb: [] for verb in VERBS}
    for entry in server.slowlog_get(1_000_000):
        took.get(verb_of(entry["command"]), []).append(entry["duration"])
    return [
        {
            "verb": verb,
            "calls": len(each),
            "mean_us": sum(each) / len(each),
            "p99_us": sorted(each)[int(len(each) * 0.99)],
            "share": sum(each) / 1e6 / cpu_s,
        }
        for verb, each in took.items() if each
    ]  # fmt: skip


# --- all loads ---------------------------------------------------------------------------------------


def measure(is_quick: bool, say: Callable[[str], None] = print) -> list[Row]:
    """A row a load: graphs, drainers and runs that grow, then as much as there is of each."""
    rows = [_told(load, say) for load in _growing(is_quick)]
    nodes, drainers = (QUICK_SIZES[-1], QUICK_DRAINERS) if is_quick else (SIZES[-1], DRAINERS[-1])
    full = Load(part="full", nodes=nodes, drainers=drainers, is_beating=True)
    rows.append(_told(full, say))
    rate = rows[-1]["commits_a_second"] / 2
    fewer = min(nodes, max(1, int(PACED_S * rate) // LAYERS) * LAYERS)
    rows.append(_told(replace(full, part="half", nodes=fewer, rate=rate), say))
    rows.append(_told(replace(full, part="profile", nodes=min(nodes, FIXED), is_profiled=True), say))
    return rows


def _growing(is_quick: bool) -> list[Load]:
    if is_quick:
        return [Load(part="nodes", nodes=size) for size in QUICK_SIZES]
    return [
        *(
            Load(part="nodes", shape=shape, nodes=size, repeats=max(1, FEWEST_COMMITS // size))
            for shape in SHAPES
            for size in SIZES
        ),
        *(Load(part="drainers", nodes=FIXED, drainers=count) for count in DRAINERS),
        *(Load(part="runs", nodes=FIXED, runs=count) for count in RUNS),
        Load(part="cheap", nodes=FIXED, seconds=CHEAP_S),
    ]


def _told(load: Load, say: Callable[[str], None]) -> Row:
    row = _row(load)
    say(
        f"scale, {load.part}: {load.shape} of {load.nodes:,} in {load.runs:,} runs by {load.drainers:,} drainers: "
        f"{row['commits_a_second']:,.0f} commits/s, {row['server_us_a_commit']:.0f} us of the server each"
    )
    return row

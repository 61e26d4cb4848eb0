"""Every key name. The Lua files build the same names from the same prefix."""

from __future__ import annotations

RUN_PARTS = (
    "meta", "plan", "spec", "dependents", "missing", "state", "map", "out", "tries", "estimates", "events", "logs",
    "logged", "parts", "rounds", "expansions",
)  # fmt: skip
"""One key each a run; beside them the lanes, ``lane:QUEUE:PRIORITY``."""
MAP_PARTS = ("at", "ranges", "zip")
"""One key each a map N, ``at:N`` and so on: where its items are, what is unclaimed, what goes together."""


def node_of(entry: bytes) -> int:
    """The node that an entry of a lane names. What was begun and came back is written as -1 - node, at the far end."""
    return max(int(entry), -1 - int(entry))


class Keyspace:
    """Names of the keys of one deployment."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.runs = f"{prefix}:runs"
        self.workers = f"{prefix}:workers"
        self.leases = f"{prefix}:leases"
        self.jobs = f"{prefix}:jobs"
        self.expiring = f"{prefix}:expiring"
        self.refused = f"{prefix}:refused"
        self.blobs = f"{prefix}:blobs"

    def run(self, run: str, part: str) -> str:
        """A key of one run."""
        return f"{self.prefix}:run:{run}:{part}"

    def at(self, run: str, node: int) -> str:
        """Four bytes an item of a map: 1 + the first item of the chunk that holds it, 0 while there is none."""
        return self.run(run, f"at:{node}")

    def lane(self, run: str, queue: str, priority: int) -> str:
        """List of the nodes of one run that are ready in a queue at a priority; see `node_of`."""
        return self.run(run, f"lane:{queue}:{priority}")

    def code(self, digest: str) -> str:
        """A function's bytes, by their SHA-256."""
        return f"{self.prefix}:code:{digest}"

    def cached(self, key: bytes) -> str:
        """Sorted set of the runs that had a step with this key, by when."""
        return f"{self.prefix}:cached:{key.hex()}"

    def users(self, digest: str) -> str:
        """Hash of the runs that need a function, and since when."""
        return f"{self.prefix}:users:{digest}"

    def blob(self, digest: str) -> str:
        """Hash of the chunks of a large value, by its SHA-256, and its size."""
        return f"{self.prefix}:blob:{digest}"

    def new_blob(self, name: str) -> str:
        """The same while it is written."""
        return f"{self.prefix}:blob-new:{name}"

    def leaving(self, digest: str) -> str:
        """Is there while a large value is deleted that is kept elsewhere."""
        return f"{self.prefix}:leaving:{digest}"

    def claim(self, drainer: str) -> str:
        """What a drainer holds."""
        return f"{self.prefix}:claim:{drainer}"

    def wake(self, drainer: str) -> str:
        """List on which an idle drainer waits."""
        return f"{self.prefix}:wake:{drainer}"

    def nudge(self, group: str) -> str:
        """List on which the supervisors of a group wait."""
        return f"{self.prefix}:group:{group}:nudge"

    def worker(self, worker: str) -> str:
        """Facts of a worker: host, pid, versions."""
        return f"{self.prefix}:worker:{worker}"

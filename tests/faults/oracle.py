"""The oracle: what the steps themselves wrote down, compared with what the run says of itself.

Each execution appends a line with run, step, index, attempt, pid and start to a file opened with ``O_APPEND``, and one
with its end, if it comes to that. Nothing of celeryflow takes part in it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from executions import Execution, Executions

if TYPE_CHECKING:
    import celeryflow as cf

CLAIM_S = 1.0
"""An execution that had ended is in flight until its claim is committed: 0.1 s, and what a busy machine adds."""

Item = tuple[str, int | None]
"""Name of a step, and number of the item of a map."""


@dataclass(frozen=True)
class Kill:
    """Processes that were killed; `at` is of the monotonic clock, which all processes share."""

    at: float
    pids: frozenset[int]
    is_of_a_worker: bool = False

    def has_hit(self, execution: Execution) -> bool:
        """Whether it was in flight in one of them: under way, or in a claim that was not committed yet."""
        is_late = execution.end is not None and self.at > execution.end + CLAIM_S
        return execution.pid in self.pids and execution.start <= self.at and not is_late


@dataclass(frozen=True)
class Oracle(Executions):
    """The file, and what it must say."""

    def by_item(self, run: str | None = None) -> dict[Item, list[Execution]]:
        """Executions of each item, in order."""
        found: dict[Item, list[Execution]] = defaultdict(list)
        for execution in self.read(run=run):
            found[execution.step, execution.index].append(execution)
        return found

    def ended(self, run: str | None = None) -> set[Item]:
        """Items of which an execution has come to its end."""
        return {item for item, all_of in self.by_item(run).items() if any(e.end is not None for e in all_of)}

    def under_way(self, run: str | None = None) -> list[Execution]:
        """Executions without an end."""
        return [execution for execution in self.read(run=run) if execution.end is None]

    def repeats(self, run: str | None = None) -> list[tuple[Execution, Execution]]:
        """Each execution that was followed by another of the same item, and that one."""
        return [pair for all_of in self.by_item(run).values() for pair in pairwise(all_of)]

    def check(self, run: cf.Run[Any], steps: Sequence[str] = ()) -> None:
        """Each item (of these steps; of all by default) was executed to its end and committed, once."""
        committed = committed_items(run, steps)
        twice = {item: times for item, times in committed.items() if times > 1}
        assert not twice, f"committed more than once: {twice}"
        ended = {item for item in self.ended(run.id) if not steps or item[0] in steps}
        assert ended == set(committed), "what was executed to its end and what is committed differ"

    def check_repeats(self, kills: Sequence[Kill], run: str | None = None) -> int:
        """Only what was in flight in a killed process ran again; how often that was."""
        repeats = self.repeats(run)
        stray = [first for first, _ in repeats if not any(kill.has_hit(first) for kill in kills)]
        assert not stray, f"ran again without need: {stray[:5]}"
        return len(repeats)

    def stalls(self, kills: Sequence[Kill], run: str | None = None) -> list[tuple[Kill, float]]:
        """Each kill of something under way, and the seconds until that began again.

        Of a kill that was followed by a whole worker's before that, this counts.
        """
        found = []
        for first, again in self.repeats(run):
            for kill in kills:
                if first.end is None and kill.has_hit(first):
                    later = [k for k in kills if k.is_of_a_worker and kill.at < k.at < again.start]
                    last = later[-1] if later else kill
                    found.append((last, again.start - last.at))
        return found


def committed_items(run: cf.Run[Any], steps: Sequence[str] = ()) -> Counter[Item]:
    """How often each item has succeeded, in all generations, as the run's timeline says."""
    timeline = run.timeline()
    done = timeline[timeline["outcome"] == "success"]
    indices = [int(index) if index == index else None for index in done["index"].astype("float64")]
    found = zip(done["step"], indices, strict=True)
    return Counter(item for item in found if not steps or item[0] in steps)

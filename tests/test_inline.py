"""``inline=True`` runs in this process, and gives what workers give: random workflows both ways."""

import os
import random
from typing import Any

import pytest
from conftest import Runtime

import celeryflow as cf

SEEDS = range(30)


@cf.step
def make(n: int) -> list[int]:
    return list(range(n))


@cf.step
def fail_on(x: Any, bad: int) -> Any:
    if x == bad:
        raise ValueError(f"not {bad}")
    return x


@cf.step
def weigh(*values: Any) -> int:
    return sum(_flat(values))


@cf.step
def keyed(n: int) -> dict[str, int]:
    return {f"k{i}": i for i in range(n)}


def _flat(value: Any) -> list[int]:
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, (list, tuple)) or not isinstance(value, (int, BaseException)):
        return [number for item in value for number in _flat(item)]
    return [value if isinstance(value, int) else -1]


def random_body(seed: int) -> Any:
    """A workflow of steps and maps, some of which fail, wired at random."""
    choose = random.Random(seed)
    maps: list[Any] = []
    values: list[Any] = []

    def grow() -> None:
        kind = choose.choice(["list", "dict", "planned", "keyed", "over", "over", "zip", "step", "step"])
        how, bad = choose.choice(["raise", "skip", "return"]), choose.choice([-1, -1, 1, 2])
        if kind == "list":
            maps.append(fail_on.map(range(choose.randrange(5)), bad, on_error=how))
        elif kind == "dict":
            maps.append(fail_on.map({f"k{i}": i for i in range(choose.randrange(4))}, bad, on_error=how))
        elif kind in ("planned", "keyed"):
            source = make(choose.randrange(5)) if kind == "planned" else keyed(choose.randrange(4))
            maps.append(fail_on.map(source, bad, on_error=how))
        elif kind == "over" and maps:
            maps.append(fail_on.map(choose.choice(maps), bad, on_error=how))
        elif kind == "zip" and maps:
            first = choose.choice(maps)
            maps.append(weigh.map(first, first, cf.unmapped(choose.choice([1, [2, 3]]))))
        else:
            picked = choose.sample(maps + values, min(len(maps + values), choose.randrange(1, 3)))
            values.append(weigh(choose.randrange(9), *picked))

    def body() -> Any:
        maps.clear()
        values.clear()
        for _ in range(choose.randrange(2, 9)):
            grow()
        return {"maps": maps, "values": values} if maps or values else weigh(1)

    return body


def outcome(run: cf.Run[Any]) -> dict[str, Any]:
    """All that must not depend on where the run ran."""
    steps = run.steps()
    names = [node.name for node in run.graph.nodes]
    return {
        "status": run.status,
        "steps": steps[["step", "status", "items", "done", "failed", "error"]].astype(str).to_dict("records"),
        "partial": {n: _partial(run, n) for n, node in zip(names, run.graph.nodes, strict=True) if node.is_map},
        "result": repr(run.result()) if run.status == "success" else type(_error(run)).__name__,
        "errors": run.errors()[["step", "index", "key", "kind", "error", "message"]].astype(str).values.tolist(),
    }


def _partial(run: cf.Run[Any], name: str) -> tuple[str, dict[Any, str]]:
    found = run.value(name, partial=True)
    return repr(found.as_dict()), found.missing


def _error(run: cf.Run[Any]) -> BaseException:
    with pytest.raises(cf.RunError) as caught:
        run.result()
    return caught.value


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_here_and_on_workers_say_the_same(runtime: Runtime, seed: int) -> None:
    here = cf.workflow(random_body(seed), name="mixed").run(inline=True)
    there = cf.workflow(random_body(seed), name="mixed").run()
    mine, theirs = outcome(here), outcome(there)
    mine["errors"].sort(), theirs["errors"].sort()
    assert mine == theirs


def test_inline_runs_the_functions_themselves() -> None:
    seen = []

    @cf.step
    def note(x: int) -> int:
        seen.append((x, os.getpid()))
        return x

    @cf.workflow
    def noted() -> Any:
        return note.map([1, 2])

    assert noted.run(inline=True).result() == [1, 2]
    assert seen == [(1, os.getpid()), (2, os.getpid())]

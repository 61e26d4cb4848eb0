"""What an editor completes: the package says what its results are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import celeryflow as cf

SNIPPET = """
import celeryflow as cf


@cf.step
def count(text: str, least: int = 0) -> int:
    return max(len(text), least)


@cf.step(retries=3)
def half(n: int) -> float:
    return n / 2


@cf.workflow
def etl(names: list[str], month: int = 1) -> list[float]:
    counts = count.map(names)
    reveal_type(counts)
    reveal_type(counts[0])
    reveal_type(count(names[0]))
    reveal_type(half(count("x")))
    reveal_type(count.map({"a": "x"}, 1))
    reveal_type(half.map(count.map({"a": "x"}), on_error="skip")["a"])
    return half.map(counts)


@cf.workflow(fail_fast=True)
def single(name: str) -> int:
    return count(name)


reveal_type(etl.run(["a"]))
reveal_type(etl.run(["a"], month=2).result())
reveal_type(etl.submit(["a"]).result())
reveal_type(etl.submit(["a"]).wait())
reveal_type(single.run("a", check=True).result(timeout_s=3))
reveal_type(cf.map(half.callee.function, [1]))
reveal_type(cf.map(lambda x: str(x), [1]).result())
reveal_type(cf.map(half.callee.function, {"a": 1}).result())


async def wait() -> None:
    reveal_type(await single.submit("a"))
"""

EXPECTED = [
    "list[int]",
    "int",
    "int",
    "float",
    "dict[str, int]",
    "float",
    "Run[list[float]]",
    "list[float]",
    "list[float]",
    "Run[list[float]]",
    "int",
    "Run[list[Any]]",
    "list[str]",
    "dict[str, Any]",
    "int",
]


def mypy(source: str, folder: Path) -> str:
    """As the project's own check runs it, whose cache the two share: without one it takes half a minute."""
    path, root = folder / "snippet.py", Path(cf.__file__).parents[1]
    path.write_text(source)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_results_and_elements_of_maps_have_their_types(tmp_path: Path) -> None:
    report = mypy(SNIPPET, tmp_path)
    types = re.findall(r'Revealed type is "(.*)"', report)

    assert [re.sub(r"\b(builtins|celeryflow\.run\.run)\.", "", found) for found in types] == EXPECTED
    assert "error:" not in report


def test_wrong_arguments_are_seen_before_anything_runs(tmp_path: Path) -> None:
    report = mypy(
        SNIPPET.replace("reveal_type", "print")
        + "\ncount(3)\ncount('a', b=1)\netl.submit(5)\nx: str = etl.run(['a']).result()\ncf.step(3)\n",
        tmp_path,
    )

    assert len(re.findall("error:", report)) >= 5
    assert 'incompatible type "int"; expected "str"' in report


def test_package_says_that_it_is_typed() -> None:
    assert (Path(cf.__file__).parent / "py.typed").exists()

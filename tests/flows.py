"""Steps and workflows that several files of tests run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from executions import wait_until

import celeryflow as cf


@cf.step
def add(a: Any, b: Any = 10, *more: Any, scale: Any = 1) -> Any:
    return (a + b + sum(more)) * scale


@cf.step
def double(x: Any) -> Any:
    return 2 * x


@cf.step
def describe(*args: Any, **kwargs: Any) -> str:
    return repr((args, kwargs))


@cf.step
def fail(x: Any = "no") -> Any:
    raise ValueError(f"bad {x}")


@cf.step
def wait_for(path: str) -> str:
    wait_until(Path(path).exists, timeout_s=60)
    return path


@cf.workflow
def works(x: int = 1) -> Any:
    return double(double(x))


@cf.workflow
def fails() -> Any:
    return double(fail("luck"))


@cf.workflow
def waits(path: str) -> Any:
    return wait_for(path)

"""Where it was measured: versions, cores, processor."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import celeryflow as cf
from celeryflow.runtime import server

PACKAGES = ("celery", "redis", "msgspec", "pandas", "numpy", "distributed", "ray")


def facts() -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "at": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(terse=True),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python, the server and all packages that take part and are there."""
    found = {"Python": platform.python_version(), "celeryflow": cf.__version__, "server": _server()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _server() -> str:
    said = subprocess.run([server.find(), "--version"], capture_output=True, text=True, check=True).stdout
    name, number = re.match(r"(\w+).*?v=(\S+)", said, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{name} {number}"


def _processor() -> str:
    place = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", place.read_text(), re.MULTILINE) if place.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()

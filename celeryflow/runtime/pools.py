"""What a kernel asks the keeper for: a pool of workers that resemble it."""

from __future__ import annotations

import hashlib
import os
import site
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeryflow.runtime.processes import identity, start_mark
from celeryflow.values.vault import PYTHON
from celeryflow.version import __version__

if TYPE_CHECKING:
    from celeryflow.config import Settings

# Without -P a celery.py or random.py beside the notebook would be imported instead of the real one.
WORKER = ["-P", "-m", "celeryflow.engine.app"]
"""Arguments of the worker's interpreter."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_ALLOWED = (
    *_THREADS,
    *("CONDA_DEFAULT_ENV", "CONDA_PREFIX", "CUDA_VISIBLE_DEVICES", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL"),
    *("LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "TZ", "VIRTUAL_ENV"),
)
"""Variables that the pool of a kernel that joins has from it and not from the first kernel; no secrets, since
they go through a file."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def name() -> str:
    """Name what kernels share a pool by: executable, prefix and version."""
    return "|".join([sys.executable, sys.prefix, __version__])


def queues() -> str:
    """What the workers of this kernel's pool serve: all queues, of the runs of such kernels alone."""
    return f"*@{hashlib.sha256(name().encode()).hexdigest()[:8]}={PYTHON}-{__version__}"


def queues_of_versions() -> str:
    """What workers of a named server serve: all queues, of runs from clients of the same versions alone."""
    return f"*@={PYTHON}-{__version__}"


def request(directory: Path, workers: int, *, resizes: bool, pinned: bool, is_worker: bool = False) -> dict[str, Any]:
    """Write down who asks, whether the runtime stays without them, and what pool they want.

    One that `resizes` wants just so many workers, and the others take the pool as it is; one that is a worker itself
    wants no pool.
    """
    return {
        "pid": os.getpid(),
        "mark": start_mark(os.getpid()),
        "boot": identity()["boot"],
        "pinned": pinned,
        "joined_at": time.time(),
        "pool": "" if is_worker else name(),
        "workers": workers,
        "resizes": resizes,
        "command": [sys.executable, *WORKER],
        "directory": str(directory),
        "environment": environment(workers),
    }


def environment(workers: int) -> dict[str, str | None]:
    """How the pool's variables differ from those of the first kernel; None takes one away."""
    return {
        **{name: os.environ.get(name) for name in _ALLOWED},
        **_threads(workers),
        "PYTHONPATH": python_path(),
        "CELERYFLOW_WORKERS": str(workers),
        "CELERYFLOW_QUEUES": queues(),
    }


def own_environment(settings: Settings) -> dict[str, str]:
    """The variables of a worker that the user starts, which this process becomes."""
    path = python_path()
    return {**settings.environment(), **_threads(settings.workers or cores()), **({"PYTHONPATH": path} if path else {})}


def _threads(workers: int) -> dict[str, str]:
    """Numerical libraries start a thread a core in each process, and would slow each other down."""
    share = str(max(1, cores() // max(1, workers)))
    return {name: os.environ.get(name, share) for name in _THREADS}


def python_path() -> str | None:
    """Find what a new interpreter must be told to import what this one can, celeryflow itself to begin with.

    The interpreter's own directories are left out: put first, they would hide each other's modules.
    """
    library = Path(os.__file__).parent
    archive = library.with_name(f"python{sys.version_info.major}{sys.version_info.minor}.zip")
    own = {archive, *map(Path, site.getsitepackages()), Path(site.getusersitepackages())}
    here = Path(__file__).parents[2]  # perhaps imported by the working directory's empty entry
    paths = [*(Path(path).absolute() for path in sys.path if path), here]
    others = [str(path) for path in paths if path not in own and not path.is_relative_to(library)]
    return os.pathsep.join(dict.fromkeys(others)) or None

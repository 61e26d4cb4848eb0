"""The plain Celery application: the steps as tasks, results in the same server."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from benchmarks import steps

URL = f"redis+socket://{os.environ['BENCH_SOCKET']}"

app: Any = Celery("bench", broker=URL, backend=URL)
# DataFrames need pickle, which is harmless here: nobody else has the socket.
app.conf.update(accept_content=["json", "pickle"], result_serializer="pickle")

same, join, total = app.task(steps.same), app.task(steps.join), app.task(steps.total)
add_one = app.task(steps.add_one, serializer="pickle")

"""A first result with plain Celery: a bare server and a worker, started and stopped by hand."""

import sys

from benchmarks.servers import bare_server, celery_worker

with bare_server(), celery_worker():
    from benchmarks.scripts import tasks

    print(tasks.same.delay(int(sys.argv[1])).get(timeout=60), flush=True)

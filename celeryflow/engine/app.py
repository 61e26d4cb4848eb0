"""The Celery application: tickets in, drainers to work, the supervisor as a bootstep.

``python -m celeryflow.engine.app`` starts a worker from the ``CELERYFLOW_*`` settings.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import tempfile
from functools import partial
from typing import Any
from urllib.parse import quote

import billiard
from billiard.pool import EX_RECYCLE
from celery import Celery, bootsteps
from celery.apps import worker as celery_worker
from celery.platforms import EX_OK
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown, worker_shutting_down
from celery.worker import state
from kombu.asynchronous import set_event_loop

from celeryflow.config import Settings
from celeryflow.engine import logs, processes, registered
from celeryflow.engine.drain import Drainer
from celeryflow.engine.housekeeping import keep_house
from celeryflow.engine.link import Link
from celeryflow.engine.output import open_file
from celeryflow.engine.slots import NEVER, Slots
from celeryflow.engine.supervise import Supervisor
from celeryflow.engine.tasks import use_app
from celeryflow.engine.tickets import TASK, TRANSPORT
from celeryflow.errors import ConfigError
from celeryflow.store import address
from celeryflow.store.connect import BRIEF, FOREVER
from celeryflow.values import refusals

FOREVER_S = 10**8
POOL_CHECK_S = 0.2
SILENCE_S = 5

FINISH_SIGNAL = signal.SIGUSR2
"""A worker that gets it finishes the steps at hand, takes no others, and goes."""

WRONG_USE, INTERRUPTED = 2, 130
"""Exit codes."""

log = logging.getLogger("celeryflow.engine.app")  # also where this is the program


class Worker:
    """One Celery worker and what its processes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = name()
        self.node = f"celeryflow-{secrets.token_hex(3)}@{socket.gethostname()}"
        self.slots = Slots(settings.workers or os.cpu_count() or 1)
        self.outputs = [open_file() for _ in range(self.slots.count)]
        self.app = make_app(settings)
        self.is_interrupted = False
        self.supervisor: Supervisor | None = None
        self._drainer: Drainer | None = None
        self.app.task(name=TASK, ignore_result=True)(self.drain)
        self.app.steps["worker"].add(_supervision(self))
        worker_process_init.connect(self._in_child, weak=False)
        worker_process_shutdown.connect(self._at_childs_end, weak=False)

    def run(self) -> int:
        """Work until told to stop; the exit code."""
        processes.become_subreaper()
        # The pool makes a folder for one file without a name; what is killed would leave it behind.
        multiprocessing.current_process()._config["tempdir"] = tempfile.gettempdir()  # type: ignore[attr-defined]
        worker = self.app.Worker(
            concurrency=self.slots.count,
            pool="prefork",
            hostname=self.node,
            queues=[queue_name(self.settings)],
            loglevel="WARNING",
            quiet=self.settings.log_format == "json",
            without_gossip=True,
            without_mingle=True,
            task_events=False,
            max_memory_per_child=self.settings.max_memory_per_child_bytes // 1024 or None,
        )
        worker.start()
        if self.supervisor is not None:
            self.supervisor.leave()
        return INTERRUPTED if self.is_interrupted else int(worker.exitcode or 0)

    def drain(self, ticket: str) -> None:
        """The task behind a ticket."""
        if self._drainer is None:
            raise RuntimeError("a ticket was executed outside of the pool")
        self._set_signals()
        self._drainer.drain(ticket)
        if self._drainer.lane.is_spent:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(EX_RECYCLE))  # by which the pool ends it

    def send(self, ticket: str) -> None:
        """Call for a drainer."""
        self.app.send_task(TASK, (ticket,), queue=queue_name(self.settings), ignore_result=True)

    def _in_child(self, **_: Any) -> None:
        os.setpgid(0, 0)
        processes.die_with_parent()
        processes.become_subreaper()
        _allow_children()
        process: Any = billiard.current_process()
        self.slots.await_clear(process.index, timeout_s=2.0)
        label, output = f"{socket.gethostname()}:{os.getpid()}", self.outputs[process.index]
        link = Link.open(self.settings, FOREVER)
        refusals.listeners[:] = [partial(link.count_refusal, "worker")]
        _keep_log(refusals.log)
        self._drainer = Drainer(link, self.slots, process.index, output, self.name, label)

    def _at_childs_end(self, exitcode: int | None = None, **_: Any) -> None:
        """Without the second that the pool's children sleep to be heard: a worker that stops waits for each anyway."""
        if self.slots.is_stopping:
            os._exit(exitcode or 0)

    def _set_signals(self) -> None:
        """Replace the handlers that the pool sets last: what a step forks would lose a SIGTERM to them."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self._interrupt)

    def _interrupt(self, *_: Any) -> None:
        if self._drainer is not None:
            self._drainer.interrupt()


def make_app(settings: Settings) -> Celery:
    """An application that takes JSON tickets from one queue and stores no results."""
    app = Celery("celeryflow", broker=_broker(settings.url), set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_default_queue=queue_name(settings),
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=True,
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,  # what the server answers while its disk is full
        broker_transport=TRANSPORT,
        broker_use_ssl=address.tls(settings.url) or False,
        broker_transport_options={
            "global_keyprefix": f"{settings.prefix}:celery:",
            "visibility_timeout": FOREVER_S,
            # Of a server that falls silent without a word, kombu would hear only after 50 s, or never.
            "socket_timeout": SILENCE_S,
            "socket_connect_timeout": SILENCE_S,
            "health_check_interval": SILENCE_S,
        },
        worker_proc_alive_timeout=30,
    )
    return app


def _broker(url: str) -> str:
    """The same place in kombu's words, which have no query: what that says of TLS goes another way."""
    place = address.parse(url)
    name, password = (quote(str(place.get(part, "")), safe="") for part in ("username", "password"))
    login = f"{name}:{password}@" if name or password else ""
    database = int(place.get("db", 0))
    if "path" in place:
        return f"{TRANSPORT}+socket://{login}{place['path']}?virtual_host={database}"
    host = place.get("host", "localhost")
    host = f"[{host}]" if ":" in host else host
    return f"{url.partition(':')[0]}://{login}{host}:{place.get('port', 6379)}/{database}"


def name() -> str:
    """What this process is called as a worker."""
    return f"{socket.gethostname()}:{os.getpid()}"


def queues_in_words(served: str) -> str:
    """What a worker serves, without its pool."""
    return ", ".join("every queue" if one == "*" else one for one in (q.partition("@")[0] for q in served.split(",")))


def queue_name(settings: Settings) -> str:
    """The Celery queue of a group's tickets."""
    return f"celeryflow.{settings.queues.replace('*', 'all').replace(',', '+')}"


def _supervision(worker: Worker) -> type[bootsteps.StartStopStep]:
    class Supervision(bootsteps.StartStopStep):
        """The supervisor's thread lives as long as the pool."""

        requires = ("celery.worker.components:Pool",)

        def start(self, parent: Any) -> None:
            pool = parent.pool._pool

            def members() -> dict[int, Any]:
                return {process.pid: process for process in pool._pool}

            link = Link.open(worker.settings, BRIEF)
            refusals.listeners[:] = [partial(link.count_refusal, "worker")]
            self.supervisor = worker.supervisor = Supervisor(
                link, worker.slots, worker.name, worker.outputs, members, worker.send, {"celery": worker.node}
            )
            self._tell_of_each_start(pool)
            self.supervisor.start()
            served, count = worker.settings.queues, worker.slots.count
            log.info("working on %s with %d processes", queues_in_words(served), count)
            keep_house(Link.open(worker.settings, BRIEF), queue_name(worker.settings))
            worker_shutting_down.connect(self.begin_stop, weak=False)
            signal.signal(FINISH_SIGNAL, self.finish)

        def _tell_of_each_start(self, pool: Any) -> None:
            """A process that dies at once is out of the pool before the supervisor has had a look."""
            create = pool._create_worker_process

            def created(index: int) -> Any:
                process = create(index)
                self.supervisor.note_start(process)
                return process

            pool._create_worker_process = created

        def register_with_event_loop(self, parent: Any, hub: Any) -> None:
            """Look for dead processes often: Celery misses some ends, and then looks only every 5 s."""
            hub.call_repeatedly(POOL_CHECK_S, parent.pool._pool.maintain_pool)

        def begin_stop(self, sig: str = "SIGTERM", **_: Any) -> None:
            """At the signal: Celery stops its bootsteps when no task runs any more, which is too late."""
            if sig != "SIGINT":
                log.info("told to stop: running steps have %g s, then they are handed back", worker.settings.grace_s)
                self.supervisor.stop(worker.settings.grace_s)
                return
            worker.is_interrupted = True
            self.finish()
            signal.signal(signal.SIGINT, self.end)

        def finish(self, *_: Any) -> None:
            """Let what runs come to its end, however long that takes; nothing more is begun."""
            self.supervisor.stop(NEVER)
            state.should_stop = EX_OK  # type: ignore[assignment]

        def end(self, *_: Any) -> None:
            """At the second interrupt: hand back what runs, at once; the third is the system's own."""
            self.supervisor.stop(0.0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        def stop(self, parent: Any) -> None:
            """Leases are kept until the last task has ended, and the thread ends with the process."""
            set_event_loop(None)  # else the pool fires its timers until it has stopped, and sleeps 0.5 s between

    return Supervision


def _allow_children() -> None:
    """Pool processes are daemonic, which forbids multiprocessing and joblib to start processes in a step.

    What a step's processes share lies in a folder of its own, as usual.
    """
    current: tuple[Any, ...] = (billiard.current_process(), multiprocessing.current_process())
    for process in current:
        process._config["daemon"] = False
        process._config.pop("tempdir", None)
        # Billiard's own kind of key refuses to be handed to processes that are started afresh.
        process._config["authkey"] = multiprocessing.process.AuthenticationString(process._config["authkey"])  # type: ignore[attr-defined]


def _keep_log(log: logging.Logger) -> None:
    """Have its lines in the worker's log, also while steps run, whose output goes elsewhere."""
    handler = logs.Whole(os.dup(2))
    handler.setFormatter(next((each.formatter for each in logging.getLogger().handlers), None))
    log.handlers[:] = [handler]


def _leave_logging(**_: Any) -> None:
    """What hears of Celery's signal sets logging up in its place."""


def _log_line(message: str, _: Any = None) -> None:
    """Celery writes what it has to say at a signal past all streams."""
    log.info("%s", message.strip())


def main() -> int:
    """Start a worker from the environment."""
    try:
        settings = Settings.read()
        logs.set_up(settings, name())
        setup_logging.connect(_leave_logging, weak=False)
        if settings.log_format == "json":
            celery_worker.safe_say = _log_line  # type: ignore[attr-defined]
        if settings.app:
            use_app(settings.app)
        registered.import_modules(settings.modules())
        if settings.registered_only:
            registered.begin()
    except ConfigError as error:
        sys.stderr.write(f"celeryflow: {error}\n")
        return WRONG_USE
    return Worker(settings).run()


if __name__ == "__main__":
    sys.exit(main())

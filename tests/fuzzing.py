"""What decodes bytes from a server or words of a user, and what may come of it: a value, or an error by name."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import celeryflow as cf
from celeryflow.cli import endings
from celeryflow.config import Settings
from celeryflow.engine.read import Arrival, Expansion, Length
from celeryflow.graph.model import Edge, Graph, Input, LogLine, Node, NodeKind, StepSpec
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.store import events
from celeryflow.values.blobs import FileBlobs
from celeryflow.values.envelope import Keyring
from celeryflow.values.manifest import Call, Manifest, Part
from celeryflow.values.vault import Pointer, Vault

KEY, BOUND = b"k" * 32, ("run-1", 3, 0)
RECORDS: list[type[Any]] = [Pointer, Call, Part, Manifest, Length, Arrival, Expansion]

_plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
_nested = st.recursive(_plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def fuzzed(check: Callable[..., None], most: int, *given_: Any, **by_name: Any) -> None:
    """Run a check on many examples, the same ones each time."""
    quiet = settings(
        max_examples=most, derandomize=True, deadline=None, database=None, suppress_health_check=[*HealthCheck]
    )
    quiet(given(*given_, **by_name)(check))()


# --- signed records ------------------------------------------------------------------------------------------------


def envelopes(most: int) -> None:
    """Bytes that are not exactly what was sealed are refused, whatever was done to them."""
    ring = Keyring([KEY])
    good = ring.seal("value", BOUND, b"some body")

    def check(record: bytes, cut: int, put: bytes, flip: int, binding: tuple[Any, ...]) -> None:
        changed = bytearray(record if cut < 0 else good[:cut] + put + good[cut + len(put) :])
        if changed and flip >= 0:
            changed[flip % len(changed)] ^= 1 << flip % 8
        if bytes(changed) == good and binding == BOUND:
            return
        try:
            ring.open(bytes(changed), binding)
        except cf.SignatureError:
            return
        raise AssertionError(f"{bytes(changed)!r} was read")

    fuzzed(
        check, most, st.binary(max_size=200), st.integers(-1, len(good)), st.binary(max_size=80), st.integers(-1, 2000),
        st.just(BOUND) | st.tuples(st.text(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 9)),
    )  # fmt: skip


def records(most: int) -> None:
    """Bodies that were signed by a version that wrote something else are an error by name."""
    with tempfile.TemporaryDirectory() as folder:
        vault = Vault(Keyring([KEY]), FileBlobs(folder))

        def check(kind: type[Any], body: bytes) -> None:
            with contextlib.suppress(cf.IntegrityError):
                vault.open_as("it", kind, vault.keyring.seal("it", BOUND, body), BOUND)

        packed = _nested.map(lambda value: msgspec.msgpack.encode(value))
        fuzzed(check, most, st.sampled_from(RECORDS), st.binary() | packed)


# --- what nobody signs ---------------------------------------------------------------------------------------------


def _graph() -> Graph:
    spec = StepSpec(name="s", label="s")
    one = Node(index=0, name="a", spec=spec)
    many = Node(index=1, name="b", spec=spec, kind=NodeKind.MAP, is_planned=True, inputs=(Input(node=0),))
    like = Node(index=2, name="c", spec=spec, kind=NodeKind.MAP, source=1, inputs=(Input(node=1, edge=Edge.ITEMS),))
    return Graph(name="wf", nodes=(one, many, like))


_NAMES = [
    *("submitted", "started", "claimed", "success", "failure", "skipped", "retrying", "released", "lost", "expanded"),
    *("settled", "length", "cancelled", "ended", "stale", "reused", "nonsense"),
]
_numbers = st.integers(-3, 6).map(str) | st.sampled_from(["", "x", "1e9", str(2**70), "-1", "9999999"]) | st.text()


def _fields() -> st.SearchStrategy[dict[bytes, bytes]]:
    numbers = ("node", "start", "count", "attempt", "generation", "output_bytes", "tries", "waited_s", "delay_s")
    optional: dict[str, Any] = dict.fromkeys((*numbers, "cause"), _numbers)
    optional |= {"status": st.sampled_from(["success", "failure", "running", "odd"]), "durations": st.text(max_size=9)}
    optional |= {"kind": st.text(), "error": st.text(), "worker": st.text(), "is_absorbed": st.sampled_from("01")}
    found = st.fixed_dictionaries(
        {"event": st.sampled_from(_NAMES), "at": st.floats(0, 2e9).map(str) | st.text(max_size=3)}, optional=optional
    )
    return found.map(lambda each: {k.encode(): v.encode(errors="replace") for k, v in each.items()})


def event_streams(most: int) -> None:
    """Events of whoever has the password: what is shown may be wrong, and is shown, or is an error by name."""
    from celeryflow.runtime.snapshot import frames
    from celeryflow.view.html import html
    from celeryflow.view.text import text

    def check(page: list[dict[bytes, bytes]]) -> None:
        snapshot = Snapshot(_graph(), "run-1")
        try:
            found = events._events("run-1", [(b"%d-0" % number, fields) for number, fields in enumerate(page, 1)])
        except cf.IntegrityError:
            return
        snapshot.apply_all(found)
        assert text(snapshot) and html(snapshot)
        assert len(frames.steps(snapshot)) == 3

    fuzzed(check, most, st.lists(_fields(), max_size=8))


def log_lines(most: int) -> None:
    """Lines of a log are lines, or an error by name."""

    def check(line: bytes) -> None:
        with contextlib.suppress(cf.IntegrityError):
            assert isinstance(events._log_line("run-1", b"1-0", {b"line": line}), LogLine)

    fuzzed(check, most, st.binary() | _nested.map(lambda value: msgspec.msgpack.encode(value)))


# --- what a user gives ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _file(suffix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / f"it{suffix}"


_STEP = {"name": "one", "task_name": "builtins.len", "parameters": {"a": [1]}, "depends_on": [], "condition": None}
_entries = st.sampled_from([*_STEP, "workflow_id", "steps", "workflows", "retries", "timeout", "phase"]) | st.text()


def definitions(most: int) -> None:
    """Workflows in files are read, or are an error by name."""
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("builtins.len"),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_entries, inner, max_size=5),
        max_leaves=12,
    )
    near = st.fixed_dictionaries(
        {"workflow_id": st.text(max_size=5) | st.just("wf")},
        optional={"steps": st.lists(st.just(_STEP) | st.dictionaries(_entries, values, max_size=6), max_size=3)},
    )

    def check(suffix: str, text: str, data: Any, is_data: bool) -> None:
        with _file(suffix) as path:
            path.write_text(json.dumps(data) if is_data else text, encoding="utf-8", errors="replace")
            with contextlib.suppress(cf.CeleryflowError):
                cf.WorkflowEngine.load(path)

    yaml_like = st.text(alphabet="ab:-[]{}&*!|>#\"'%@` \n\t,?0.", max_size=60)
    fuzzed(check, most, st.sampled_from([".json", ".yaml"]), yaml_like, near | values, st.booleans())


def reports(most: int) -> None:
    """Saved reports are reports, or an error by name."""
    known = ["format", "version", "question", "labels", "planned", "rows", "submitted_at"]
    near = st.fixed_dictionaries(
        {"format": st.just("celeryflow comparison"), "version": st.just(1)}, optional=dict.fromkeys(known[2:], _nested)
    )

    def check(content: bytes) -> None:
        with _file(".json") as path:
            path.write_bytes(content)
            with contextlib.suppress(cf.ComparisonError):
                cf.load_report(path)

    as_json = (near | _nested).map(lambda value: msgspec.json.encode(value))
    fuzzed(check, most, st.binary(max_size=50) | as_json)


def key_files(most: int) -> None:
    """Key files hold keys, or are an error by name that shows nothing of them."""

    def check(content: bytes) -> None:
        with _file(".key") as path:
            path.write_bytes(content)
            with contextlib.suppress(cf.ConfigError):
                keys = Settings(key_file=str(path)).keys()
                assert keys and all(len(key) == 32 for key in keys)

    lines = st.lists(st.text(alphabet="0123456789abcdefABCDEFxg \t\0", max_size=70), max_size=3)
    fuzzed(check, most, st.binary(max_size=80) | lines.map(lambda found: "\n".join(found).encode()))


_COMMANDS = ["ps", "status", "events", "logs", "cancel", "resume", "gc", "nonsense", "--version", "keygen", "worker"]
_OPTIONS = [
    *("--json", "--jsonl", "--all", "--step", "--url", "--key-file", "--blobs", "--prefix", "--insecure", "-Q", "-c"),
    *("--older-than", "--dry-run", "--follow", "--help", "-h", "--", "-", "unix:///nowhere/s.sock", "http://x", ":"),
    *("../../etc/passwd", "run-1", "*", "0", "-1"),
]


def command_lines(most: int) -> None:
    """Commands end with a documented exit code and a line, whatever the arguments are."""
    words = st.sampled_from(_OPTIONS) | st.text(max_size=12).filter(lambda word: "/" not in word)

    def check(command: str, arguments: list[str]) -> None:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            code = endings.run([command, *arguments])
        assert code in (0, 1, 2, 3), (code, err.getvalue())
        assert "Traceback" not in err.getvalue()

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        held = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("CELERYFLOW_")}
        try:
            # A worker would start for this folder where nothing is wrong with its arguments: one that names no server.
            bad = st.lists(words, max_size=4)
            fuzzed(check, most, st.sampled_from(_COMMANDS[:-1]), bad)
        finally:
            os.environ.update(held)


TARGETS = [envelopes, records, event_streams, log_lines, definitions, reports, key_files, command_lines]

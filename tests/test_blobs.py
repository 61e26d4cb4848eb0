"""Large values wherever they are kept: whole or not there, verified, collected when nobody needs them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from executions import wait_until
from fsspec.registry import _registry
from places import KINDS, SECRET, Place, buckets, open_place

import celeryflow as cf
from celeryflow.store.collect import deployment
from celeryflow.store.large import agree
from celeryflow.store.object_blobs import shown
from celeryflow.values.blobs.held import Held

TESTS = Path(__file__).parent
MIB = 2**20


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    with buckets() as found:
        yield found


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, client: redis.Redis, tmp_path: Path) -> Iterator[Place]:
    bucket = request.getfixturevalue("bucket") if request.param == "s3" else None
    found = Place(request.param, client, tmp_path / "blobs", bucket)
    yield found
    found.close()


@contextmanager
def child(source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of Python source, which ends with the block at the latest."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, "-c", source, *arguments]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def content(size: int, mark: bytes = b"abc") -> bytes:
    return (mark * (size // len(mark) + 1))[:size]


# --- putting and getting ----------------------------------------------------------------------------


def test_value_is_stored_once_under_its_digest_and_read_elsewhere(place: Place) -> None:
    first = place.open().put([b"ab", memoryview(b"cd")])
    second = place.open().put([b"abcd"])

    assert first == second == hashlib.sha256(b"abcd").hexdigest()
    assert place.names() == {first}
    assert (place.read(first), bytes(place.open().get(first, 4))) == (b"abcd", b"abcd")


def test_value_of_many_chunks_arrives(place: Place) -> None:
    parts = [content(10 * MIB), content(20 * MIB + 1, b"xyzw"), b"", b"end"]

    digest = place.open().put(parts)

    assert place.open().get(digest, 30 * MIB + 4) == b"".join(parts)


def test_reader_may_write_to_what_it_got(place: Place) -> None:
    digest = place.open().put([b"a" * 10_000])
    blobs = place.open()
    mine, other = memoryview(blobs.get(digest)), memoryview(blobs.get(digest))

    mine[0] = ord("z")

    assert (bytes(mine[:2]), bytes(other[:2]), bytes(blobs.get(digest)[:2])) == (b"za", b"aa", b"aa")


def test_value_is_fetched_once_a_process(place: Place) -> None:
    digest = place.open().put([b"a" * 10_000])
    blobs = place.open()
    blobs.get(digest)
    if place.kind != "folder":  # which is mapped anew each time
        place.delete(digest)

    assert [bytes(blobs.get(digest, 10_000)) for _ in range(3)] == [b"a" * 10_000] * 3


def test_copies_are_held_up_to_a_limit_the_oldest_go_first() -> None:
    held = Held(limit_bytes=250)
    values = [b"%d" % i * 100 for i in range(4)]
    digests = [hashlib.sha256(value).hexdigest() for value in values]
    given = held.keep(digests[0], [values[0]], "there")
    held.keep(digests[1], [values[1]], "there")
    held.get(digests[0])

    for number in (2, 3):
        held.keep(digests[number], [values[number][:50], values[number][50:]], "there")

    assert [held.get(digest) for digest in digests[:2]] == [None, None]
    assert [held.get(digest) for digest in digests[2:]] == values[2:]
    assert given == values[0]
    held.close()


def test_two_writers_of_one_value_store_it(place: Place) -> None:
    value, meet, found = content(4 * MIB), threading.Barrier(4), []

    def put() -> None:
        blobs = place.open()
        meet.wait()
        found.append(blobs.put([value]))

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert place.names() == {*found} and len({*found}) == 1
    assert place.open().get(found[0]) == value


# --- damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["flipped", "cut", "longer", "empty", "gone"])
def test_damaged_value_is_refused_by_its_name(place: Place, change: str) -> None:
    value = content(1000)
    digest = place.open().put([value])
    damaged = {"flipped": value[:500] + b"!" + value[501:], "cut": value[:999], "longer": value + b"x", "empty": b""}
    if change == "gone":
        place.delete(digest)
    else:
        place.write(digest, damaged[change])

    for size in (1000, None):
        with pytest.raises(cf.IntegrityError, match=rf"blob {digest[:12]}"):
            place.open().get(digest, size)


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_value_that_was_damaged_is_written_anew(place: Place, change: str) -> None:
    value = content(1000)
    digest = place.open().put([value])
    place.delete(digest)
    if change == "cut":
        place.write(digest, value[:10])

    assert not place.open().touch(digest, 1000)
    assert place.open().put([value]) == digest
    assert place.open().get(digest, 1000) == value


def test_names_that_are_no_digests_are_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for name in ("../secret", "", "x" * 64, "../" + "a" * 61, "A" * 64, "a" * 63 + "\n"):
        with pytest.raises(cf.IntegrityError):
            place.open().get(name)


# --- writers that die, and processes that fork -----------------------------------------------------------

WRITER = """
import sys
from places import open_place

url, prefix, blobs, rounds = sys.argv[1:]


class Stops(list):
    rounds = 0

    def __iter__(self):
        self.rounds += 1
        for number, part in enumerate(super().__iter__()):
            if self.rounds == int(rounds) and number == 2:
                print("writing", flush=True)
                sys.stdin.read()
            yield part


open_place(url, prefix, blobs).put(Stops([b"a" * 12 * 2**20] * 4))
"""
"""Puts 48 MiB, and stops when it has written half of them: it goes through the parts in so many rounds."""


def test_writer_that_is_killed_leaves_nothing_that_is_seen_and_the_rest_is_swept(place: Place) -> None:
    rounds = "4" if place.kind == "s3" else "3"
    with child(WRITER, place.url, place.prefix, place.blobs, rounds) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        assert place.names() == set()
        writer.kill()
    blobs = place.open()

    assert place.names() == set()
    assert place.leftovers() or place.kind == "s3"
    blobs.sweep(blobs.now() - 1000)
    assert place.leftovers() or place.kind == "s3"
    blobs.sweep(blobs.now() + 10)
    assert place.leftovers() == set()
    digest = blobs.put([b"a" * 12 * MIB] * 4)
    assert hashlib.sha256(blobs.get(digest, 48 * MIB)).hexdigest() == digest


FORKING = """
import os, signal, sys
from places import open_place

blobs = open_place(*sys.argv[1:])
digest = blobs.put([b"parent" * 1000])
blobs.get(digest)
child = os.fork()
if not child:
    signal.alarm(60)
    assert blobs.put([b"child" * 1000]) != digest
    assert bytes(open_place(*sys.argv[1:]).get(digest)) == b"parent" * 1000
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert blobs.put([b"parent again" * 1000]) != digest
print("both")
"""


def test_object_store_is_used_on_both_sides_of_a_fork(client: redis.Redis, bucket: Any, tmp_path: Path) -> None:
    place = Place("s3", client, tmp_path, bucket)

    with child(FORKING, place.url, place.prefix, place.blobs) as parent:
        assert parent.stdout is not None
        assert parent.stdout.read() == "both\n"

    assert len(place.names()) == 3


@pytest.mark.parametrize("kind", ["server", "mounted"])
def test_memory_for_a_value_on_its_way_does_not_grow_with_it(kind: str, client: redis.Redis, tmp_path: Path) -> None:
    place, value = Place(kind, client, tmp_path, None), bytearray(128 * MIB)
    blobs = place.open()
    tracemalloc.start()
    try:
        digest = blobs.put([value])
        blobs.get(digest, len(value))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        place.close()
        place.delete(digest)

    assert most < 80 * MIB


# --- what others need, and what is not ours ------------------------------------------------------------------


def test_value_that_was_put_since_is_not_deleted(place: Place) -> None:
    blobs = place.open()
    old, again, named = (blobs.put([content(1000, mark)]) for mark in (b"old", b"again", b"named"))
    before = blobs.now() + 0.001
    wait_until(lambda: blobs.now() > before)
    place.open().put([content(1000, b"again")])
    assert place.open().touch(named, 1000)

    assert blobs.unused_since(before) == {old: 1000}
    assert [blobs.discard(digest, before) for digest in (old, again, named)] == [True, False, False]
    assert place.names() == {again, named}
    assert blobs.put([content(1000, b"old")]) == old and place.names() == {old, again, named}


@pytest.mark.parametrize("place", ["folder", "s3", "mounted"], indirect=True)
def test_what_else_is_in_the_place_is_left_alone(place: Place) -> None:
    names = ("ab/table.csv", "ab/" + "b" * 63, "notes.txt", "2026/01/data.parquet", "zz/" + "z" * 64)
    digest = place.open().put([b"a"])
    for name in names:
        place.write_other(name)
    blobs = place.open()
    before = blobs.now() + 10

    assert blobs.unused_since(before) == {digest: 1}
    blobs.sweep(before)
    assert all(place.has_other(name) for name in names)


# --- places that cannot be used ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blobs", "words"),
    [
        ("memory://values", "not shared"),
        ("simplecache::s3://bucket/x", "not shared"),
        ("gopher://host/x", "no file system 'gopher'"),
        ("redis://localhost", "no file system 'redis'"),
        ("s3://", "names no bucket"),
    ],
)
def test_address_that_cannot_be_used_is_refused(client: redis.Redis, blobs: str, words: str) -> None:
    with pytest.raises(cf.ConfigError, match=words):
        open_place("unix:///nowhere", "prefix", blobs)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)

    with pytest.raises(cf.ConfigError, match=r'pip install "celeryflow\[s3\]"'):
        open_place("unix:///nowhere", "prefix", "s3://bucket/prefix")


def test_password_in_an_address_is_not_shown() -> None:
    assert shown("ftp://user:secret@host/path/") == "ftp://***@host/path"
    assert shown("abfs://container@account.dfs.core.windows.net/x?sig=secret") == (
        "abfs://container@account.dfs.core.windows.net/x"
    )


def test_bucket_that_is_not_there_is_said_at_the_start(store: Any, bucket: Any) -> None:
    with pytest.raises(cf.ConfigError, match=r"s3://nowhere/x.*does not exist.*read and write") as caught:
        agree(store, open_place("unix:///nowhere", store.keys.prefix, "s3://nowhere/x", store))

    assert SECRET not in str(caught.value)


def test_folder_that_is_not_mounted_here_is_said_at_the_start(store: Any, tmp_path: Path) -> None:
    place = open_place("unix:///nowhere", store.keys.prefix, str(tmp_path), store)
    store.client.zadd(store.keys.workers, {"elsewhere:1": 2e10})
    store.introduce_worker("elsewhere:1", {"blobs": str(tmp_path)})

    with pytest.raises(cf.ConfigError, match=r"not what it is for worker elsewhere:1.*mounted"):
        agree(store, place)

    place.mark(deployment(store))
    agree(store, place)


def test_folder_is_for_a_server_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERYFLOW_URL", raising=False)

    with pytest.raises(cf.ConfigError, match=r"blobs='s3://bucket'.*url="):
        cf.connect(blobs="s3://bucket")

"""Python objects to signed bytes and back: what is packed, what is signed, what is refused."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import pickle
import subprocess
import sys
import textwrap
from collections import OrderedDict, namedtuple
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import celeryflow as cf
from celeryflow.values import codec
from celeryflow.values.blobs import FileBlobs
from celeryflow.values.envelope import Keyring, key_id
from celeryflow.values.functions import pack_function, unpack_function
from celeryflow.values.vault import VALUE, Pointer, Vault

KEY, OTHER = b"\x01" * 32, b"\x02" * 32
BOUND = ("run-1", 3, 0)


class Trap:
    """Says so when it is unpickled."""

    sprung: list[str] = []

    def __reduce__(self) -> Any:
        return Trap.sprung.append, ("unpickled",)


@pytest.fixture(autouse=True)
def no_trap_is_sprung() -> Any:
    Trap.sprung.clear()
    yield
    assert Trap.sprung == []


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(Keyring([KEY]), FileBlobs(tmp_path / "blobs"))


def joined(items: list[Any]) -> bytes:
    return b"".join(bytes(part) for part in codec.pack(items))


# --- the envelope ------------------------------------------------------------------------------------------


def test_sealed_record_opens_to_what_was_sealed() -> None:
    ring = Keyring([KEY])

    assert ring.open(ring.seal("value", BOUND, b"body"), BOUND) == ("value", b"body")
    assert ring.open(ring.seal("v", (), b""), ()) == ("v", b"")


def test_flip_of_any_bit_is_refused() -> None:
    ring = Keyring([KEY])
    record = ring.seal("value", BOUND, pickle.dumps(Trap()))

    for position in range(len(record)):
        for bit in range(8):
            changed = bytearray(record)
            changed[position] ^= 1 << bit
            with pytest.raises(cf.SignatureError):
                ring.open(bytes(changed), BOUND)


def test_cut_or_longer_record_is_refused() -> None:
    ring = Keyring([KEY])
    record = ring.seal("value", BOUND, b"body")

    for size in range(len(record)):
        with pytest.raises(cf.SignatureError):
            ring.open(record[:size], BOUND)
    with pytest.raises(cf.SignatureError):
        ring.open(record + b"\0", BOUND)


@pytest.mark.parametrize(
    "elsewhere",
    [
        ("run-2", 3, 0),
        ("run-1", 4, 0),
        ("run-1", 3, 1),
        ("run-1", 3),
        ("run-1",),
        (),
        ("run-1", 3, 0, 0),
        ("run-1", "3", 0),
        ("run-13", 0),
        ("run-1", 30),
    ],
)
def test_record_moved_elsewhere_is_refused(elsewhere: Any) -> None:
    ring = Keyring([KEY])

    with pytest.raises(cf.SignatureError):
        ring.open(ring.seal("value", BOUND, b"body"), elsewhere)


def test_kind_is_signed_and_cannot_run_over_into_the_body() -> None:
    ring = Keyring([KEY])
    record = ring.seal("ab", BOUND, b"c")

    assert record[36:] == b"\x02abc"
    with pytest.raises(cf.SignatureError):
        ring.open(record[:36] + b"\x01abc", BOUND)


def test_record_of_another_deployment_is_refused() -> None:
    with pytest.raises(cf.SignatureError, match=rf"key that this deployment does not have.*{key_id(OTHER).hex()}"):
        Keyring([KEY]).open(Keyring([OTHER]).seal("value", BOUND, b"body"), BOUND)


def test_first_key_signs_and_all_verify() -> None:
    old, both, new = Keyring([OTHER]), Keyring([KEY, OTHER]), Keyring([KEY])

    assert both.open(old.seal("value", BOUND, b"old"), BOUND) == ("value", b"old")
    assert new.open(both.seal("value", BOUND, b"new"), BOUND) == ("value", b"new")


def test_keys_are_not_shown() -> None:
    assert KEY.hex() not in repr(Keyring([KEY])) and repr(KEY) not in repr(Keyring([KEY]))


@given(st.binary(max_size=200), st.text(min_size=1, max_size=20), st.integers(0, 10**6), st.data())
@settings(max_examples=100, deadline=None)
def test_any_change_of_any_record_is_refused(body: bytes, run: str, node: int, data: st.DataObject) -> None:
    ring = Keyring([KEY])
    record = ring.seal("value", (run, node), body)
    assert ring.open(record, (run, node)) == ("value", body)

    at = data.draw(st.integers(0, len(record) - 1))
    changed = record[:at] + bytes([record[at] ^ data.draw(st.integers(1, 255))]) + record[at + 1 :]

    with pytest.raises(cf.SignatureError):
        ring.open(changed, (run, node))


# --- the codec ---------------------------------------------------------------------------------------------


Row = namedtuple("Row", "a b")

VALUES: list[Any] = [
    None, True, 0, -1, 2**70, 1.5, float("inf"), 3 + 4j, "", "text ünï 漢", "\udcff", b"", b"\0\xff", (), [], {}, set(),
    {1, "a"}, frozenset({1}), [[[]]], {"a": {"b": (1, [2])}}, {1: 2, (1, 2): 3, None: 4}, range(5), slice(1, 2),
    Row(1, [2]), OrderedDict(b=1, a=2), Decimal("1.10"), Fraction(1, 3), datetime(2026, 1, 1, tzinfo=UTC),
    timedelta(1), Path("a/b"), ValueError("x", 1), int, len, Ellipsis,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_value_comes_back_with_its_type(value: Any) -> None:
    (back,) = codec.unpack(joined([value]))

    assert type(back) is type(value)
    assert back == value or (isinstance(value, Exception) and back.args == value.args)


ARRAYS = [
    np.arange(10),
    np.zeros((300, 300)),
    np.zeros((300, 300), order="F"),
    np.zeros((300, 300))[::2, ::3],
    np.array(["a", None], dtype=object),
    np.zeros(0),
    np.float32(1.5),
    np.array(5),
    np.ones(9000, dtype=[("a", "i4"), ("b", "f8")]),
    np.array(["2026-01-01"], dtype="M8[ns]"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_array_comes_back_writable(array: Any) -> None:
    (back,) = codec.unpack(bytearray(joined([array])))

    np.testing.assert_array_equal(back, array)
    assert (back.dtype, type(back)) == (array.dtype, type(array))
    if isinstance(back, np.ndarray):
        assert back.flags.writeable


def test_frame_comes_back() -> None:
    frame = pd.DataFrame(
        {"i": range(5000), "f": np.linspace(0, 1, 5000), "s": ["text"] * 5000, "c": pd.Categorical(["a", "b"] * 2500)},
        index=pd.date_range("2026-01-01", periods=5000, tz="UTC"),
    )

    (back,) = codec.unpack(bytearray(joined([frame])))

    pd.testing.assert_frame_equal(back, frame)


@given(
    st.lists(
        st.one_of(st.integers(), st.text(max_size=50), st.floats(allow_nan=False), st.none(), st.lists(st.booleans()))
    ),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_items_can_be_read_without_the_others(items: list[Any], data: st.DataObject) -> None:
    packed = joined(items)
    start = data.draw(st.integers(0, len(items)))
    count = data.draw(st.integers(0, len(items) - start))

    assert codec.unpack(packed) == items
    assert codec.count_items(packed) == len(items)
    if count:
        assert codec.unpack_items(packed, start, count) == items[start : start + count]


def test_reading_some_items_unpickles_no_others() -> None:
    packed = joined([[1], Trap(), [3]])

    assert codec.unpack_items(packed, 0, 1) == [[1]]
    assert codec.unpack_items(packed, 2, 1) == [[3]]


def test_value_that_does_not_pickle_names_what_it_is() -> None:
    with pytest.raises(cf.SerializationError, match=r"the result of step 'x' cannot be sent.*generator.*path"):
        codec.pack([(i for i in range(3))], "the result of step 'x'")


def test_lambdas_and_local_classes_come_back() -> None:
    class Local:
        def value(self) -> int:
            return 7

    function, instance = codec.unpack(joined([lambda: 6, Local()]))

    assert (function(), instance.value()) == (6, 7)


# --- functions -----------------------------------------------------------------------------------------------


def test_installed_modules_do_not_travel_wherever_they_are_seen(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    source = f"""
        import json, sys, sysconfig
        from types import ModuleType

        sys.base_prefix = {str(tmp_path / "base")!r}
        own, link = sysconfig.get_paths(), {str(tmp_path / "link")!r}
        get_paths = sysconfig.get_paths
        sysconfig.get_paths = lambda vars=None: get_paths(vars=vars) if vars else {{**own, "platlib": link}}
        from celeryflow.values.functions import is_local

        def seen(file):
            module = ModuleType("found")
            module.__file__ = file
            return is_local("found", module)

        base = get_paths(vars={{"base": sys.base_prefix, "platbase": sys.base_prefix}})["purelib"]
        places = [json.__file__, own["purelib"], base, link, {str(tmp_path / "real")!r}, {str(tmp_path)!r}]
        print(json.dumps([seen(place + "/x.py") for place in places]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [False, False, False, False, False, True]


def test_code_of_another_digest_is_refused_unread() -> None:
    digest, data = pack_function(lambda: 1, (ValueError,), "f")
    function, retry_on = unpack_function(data, digest)

    assert (function(), retry_on) == (1, (ValueError,))
    assert digest == hashlib.sha256(data).hexdigest()
    trap = pickle.dumps(Trap())
    with pytest.raises((cf.IntegrityError, cf.SerializationError, cf.SignatureError), match="digest"):
        unpack_function(trap, digest)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises((cf.IntegrityError, cf.SerializationError, cf.SignatureError)):
            unpack_function(bytes(changed), digest)


# --- blobs ---------------------------------------------------------------------------------------------------


def test_blob_is_named_by_its_content_and_stored_once(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)

    first, second = blobs.put([b"ab", b"c"]), blobs.put([b"abc"])

    assert first == second == hashlib.sha256(b"abc").hexdigest()
    (stored,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (stored.name, stored.read_bytes()) == (first, b"abc")
    assert bytes(blobs.get(first)) == b"abc"


def test_failed_write_leaves_nothing_under_the_blobs_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(bytes):
        pass

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(OSError, match="No space"):
        FileBlobs(tmp_path).put([b"abc"])

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_flip_of_any_byte_of_a_blob_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps(Trap()) + b"x" * 50
    digest = FileBlobs(tmp_path).put([content])
    (stored,) = [path for path in tmp_path.rglob("*") if path.is_file()]

    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x10
        stored.unlink()
        stored.write_bytes(changed)
        with pytest.raises(cf.IntegrityError, match=digest[:12]):
            FileBlobs(tmp_path).get(digest)


def test_blob_changed_after_it_was_read_is_refused(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = blobs.put([b"a" * 100])
    assert bytes(blobs.get(digest)) == b"a" * 100
    (stored,) = [path for path in tmp_path.rglob("*") if path.is_file()]

    stored.write_bytes(b"a" * 99 + b"b")

    with pytest.raises(cf.IntegrityError):
        blobs.get(digest)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 200])
def test_blob_of_another_size_or_gone_is_refused(tmp_path: Path, content: bytes) -> None:
    digest = FileBlobs(tmp_path).put([b"x" * 100])
    (stored,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    stored.write_bytes(content)

    with pytest.raises(cf.IntegrityError):
        FileBlobs(tmp_path).get(digest)
    stored.unlink()
    with pytest.raises(cf.IntegrityError, match="cannot be read"):
        FileBlobs(tmp_path).get(digest)


def test_edits_of_a_read_blob_change_nobody_elses(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = blobs.put([b"a" * 10_000])
    mine, other = memoryview(blobs.get(digest)), memoryview(blobs.get(digest))

    mine[0] = ord("z")

    assert (bytes(mine[:2]), bytes(other[:2])) == (b"za", b"aa")
    assert bytes(memoryview(FileBlobs(tmp_path).get(digest))[:2]) == b"aa"
    assert isinstance(mine.obj, mmap.mmap)


def test_blobs_are_for_their_owner_alone(tmp_path: Path) -> None:
    FileBlobs(tmp_path / "blobs").put([b"secret"])

    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "blobs").rglob("*")}
    assert modes == {0}


# --- the vault -----------------------------------------------------------------------------------------------


def test_small_values_are_in_the_record_and_large_ones_in_a_blob(vault: Vault) -> None:
    small, large = vault.point([b"x" * 262_000], "it"), vault.point([b"x" * 262_200], "it")

    assert (small.digest, bool(small.inline)) == ("", True)
    assert (bool(large.digest), large.inline) == (True, b"")
    assert [len(codec.unpack(vault.fetch(pointer))[0]) for pointer in (small, large)] == [262_000, 262_200]


def test_value_over_its_limit_names_object_limit_and_way_out(tmp_path: Path) -> None:
    vault = Vault(Keyring([KEY]), FileBlobs(tmp_path), limit_bytes=1_000_000)

    with pytest.raises(
        cf.ValueTooLargeError, match=r"the result of step 'load' has .*MiB.*limit is .*path.*blob_limit_bytes"
    ):
        vault.point([b"x" * 2_000_000], "the result of step 'load'")
    assert list(tmp_path.rglob("*")) == []


def test_record_of_another_kind_is_refused(vault: Vault) -> None:
    record = vault.seal("failure", BOUND, vault.point([1], "it"))

    with pytest.raises(cf.SignatureError, match="failure record"):
        vault.open_as(VALUE, Pointer, record, BOUND)


def test_pointer_whose_bytes_were_changed_is_refused_unread(vault: Vault) -> None:
    record = vault.seal(VALUE, BOUND, vault.point([Trap()], "it"))

    for position in range(len(record)):
        changed = bytearray(record)
        changed[position] ^= 0x01
        with pytest.raises(cf.SignatureError):
            vault.open_as(VALUE, Pointer, bytes(changed), BOUND)


def test_value_of_another_python_is_refused_naming_both(vault: Vault) -> None:
    pointer = Pointer(size=3, inline=b"abc", python="2.7")

    with pytest.raises(cf.VersionMismatchError, match=rf"2\.7.*{'.'.join(map(str, os.sys.version_info[:2]))}"):  # type: ignore[attr-defined]
        vault.fetch(pointer)

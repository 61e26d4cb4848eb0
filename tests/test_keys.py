"""What a step's result depends on: typed hashes of values, and of functions by what they are made of."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import functools
import importlib
import operator
import os
import re
import subprocess
import sys
import textwrap
import types
import uuid
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeryflow.runtime.reuse.keys import Fingerprint, Hasher, fingerprint
from celeryflow.values import codec
from celeryflow.values.environment import pack_environment, unpack_environment, version_of
from celeryflow.values.functions import pack_function, unpack_function


def digest(value: Any) -> bytes:
    """Hash of a value as a submit and a later comparison see it: sent, and unpacked apart from this process."""
    (found,) = codec.unpack(b"".join(codec.pack([value])), codec.loads_apart)
    return Hasher().digest(found)


def of(source: str, name: str = "step") -> Fingerprint:
    """Fingerprint of a function of a notebook's cell."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(source), "<cell>", "exec"), namespace)
    packed = pack_function(namespace[name], (Exception,), name)
    return fingerprint(unpack_function(packed[1], packed[0], codec.loads_apart)[0])


def changes(old: str, new: str) -> dict[str, tuple[Any, Any]]:
    """What of a function is not the same in two cells; checks that the fingerprint says so too."""
    before, after = of(old), of(new)
    found = {
        name: (before.parts[name].value if name in before.parts else None, part.value)
        for name, part in after.parts.items()
        if name not in before.parts or before.parts[name].digest != part.digest
    }
    assert bool(found) == (before.digest != after.digest)
    return found


# --- values ---------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Config:
    rate: float
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Other:
    rate: float
    names: tuple[str, ...] = ()


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


NAIVE = datetime.datetime(2024, 1, 1)  # noqa: DTZ001

PLAIN: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**70, 0.0, -0.0, 1.0, 1.5, 1j, "1", "", b"1", bytearray(b"1"), "é"),
    *([], [1], [1.0], [[1]], (), (1,), ((1,),), {}, {1: 1}, {"1": 1}, {1: 1.0}, set(), {1}, frozenset({1}), {1.0}),
    *({"a": 1, "b": 2}, {"b": 2, "a": 1}, range(3), range(0, 3, 2), slice(1, 2), ...),
]  # fmt: skip

OBJECTS: list[Any] = [
    *(Path("a"), Path("b"), datetime.date(2024, 1, 1), NAIVE, NAIVE.replace(tzinfo=datetime.UTC)),
    *(datetime.timedelta(1), decimal.Decimal("1"), decimal.Decimal("1.0"), Fraction(1), uuid.UUID(int=1)),
    *(Colour.RED, Colour.BLUE, Point(1, 2), Point(2, 1), (1, 2), Config(1.0), Config(1.0, ["a"]), Other(1.0)),
    *(Plain(1), Plain(Plain(1)), collections.OrderedDict({1: 1}), collections.Counter("a"), collections.deque([1])),
    *(re.compile("a"), len, operator.itemgetter(1), operator.neg, functools.partial(max, 1), int, bool, Plain),
]  # fmt: skip

ARRAYS: list[Any] = [
    *(np.array([1, 2]), np.array([1.0, 2.0]), np.array([[1, 2]]), np.array([1, 2], dtype="int32"), np.int64(1)),
    *(np.float64(1), np.array(["a"]), np.array(["a", None], dtype=object), np.datetime64("2024-01-01")),
]  # fmt: skip

FRAMES: list[Any] = [
    *(pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": ["x"]})),
    *(pd.DataFrame({"a": [1]}, index=[5]), pd.DataFrame({"a": [None]}), pd.DataFrame({"a": pd.Categorical(["x"])})),
    *(pd.DataFrame({"a": pd.Categorical(["x"], categories=["x", "y"])}), pd.DataFrame({"a": [1], "b": [2]})),
    *(pd.DataFrame({"b": [2], "a": [1]}), pd.Series([1]), pd.Series([1], name="a"), pd.Index([1]), pd.Index([1.0])),
    *(pd.Timestamp("2024-01-01"), pd.date_range("2024", periods=2), pd.date_range("2024", periods=2, tz="UTC")),
    *(pd.MultiIndex.from_tuples([(1, 2)]), pd.Series(["a", None]), pd.Series([1, None], dtype="Int64"), pd.NaT, pd.NA),
]  # fmt: skip

DIFFERENT = PLAIN + OBJECTS + ARRAYS + FRAMES


def test_values_that_differ_in_type_or_content_have_different_hashes() -> None:
    found: dict[bytes, Any] = {}
    for value in DIFFERENT:
        assert found.setdefault(digest(value), value) is value, f"{value!r} and {found[digest(value)]!r}"


@pytest.mark.parametrize("value", DIFFERENT, ids=lambda value: type(value).__name__)
def test_a_value_has_the_same_hash_whenever_it_is_sent(value: Any) -> None:
    assert digest(value) == digest(value) == digest(codec.unpack(b"".join(codec.pack([value])))[0])


data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.builds(Plain, inner)
    ),
    max_leaves=12,
)


def text_of(value: Any) -> str:
    """A value with all of its types, as text."""
    if isinstance(value, Plain):
        return f"Plain({text_of(value.value)})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{','.join(map(text_of, value))}]"
    if isinstance(value, dict):
        return f"dict[{','.join(f'{text_of(k)}:{text_of(v)}' for k, v in value.items())}]"
    if isinstance(value, decimal.Decimal):
        return str(value.as_tuple())
    return f"{type(value).__name__}({value!r})"


@given(data, data)
def test_two_values_have_one_hash_exactly_if_they_are_the_same(one: Any, other: Any) -> None:
    assert digest(one) == digest(one)
    assert (digest(one) == digest(other)) == (text_of(one) == text_of(other))


@given(st.lists(st.integers() | st.text(), unique=True), st.randoms())
def test_the_order_of_a_set_does_not_count(items: list[Any], random: Any) -> None:
    shuffled = random.sample(items, len(items))
    assert digest(set(items)) == digest(set(shuffled))
    assert digest(frozenset(items)) == digest(frozenset(shuffled))


def test_what_refers_to_itself() -> None:
    def ring(last: Any) -> list[Any]:
        found: list[Any] = [1, {"inside": []}, last]
        found[1]["inside"].append(found)
        return found

    assert digest(ring(2)) == digest(ring(2)) != digest(ring(3))
    me, other = Plain(1), Plain(1)
    me.value, other.value = me, [other]
    assert digest(me) == digest(me) != digest(other)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert Hasher().digest(deep) != Hasher().digest(deep)  # too deep to be compared, and no crash


def test_a_shared_part_counts_like_two_equal_ones() -> None:
    part = [1, 2]
    assert digest([part, part]) == digest([[1, 2], [1, 2]])


def test_how_a_frame_lies_in_memory_does_not_count() -> None:
    whole = pd.DataFrame({"a": [1, 2], "b": [3, 4], "c": ["x", "y"]})
    grown = pd.DataFrame({"a": [1, 2]})
    grown["b"], grown["c"] = [3, 4], ["x", "y"]
    assert digest(whole) == digest(grown) == digest(whole.iloc[:]) == digest(whole[["a", "b", "c"]].copy())
    assert digest(np.asfortranarray(np.arange(6).reshape(2, 3))) == digest(np.arange(6).reshape(2, 3))
    changed = whole.copy()
    changed.loc[1, "c"] = "z"
    assert digest(changed) != digest(whole)


def test_what_cannot_be_taken_apart_equals_nothing() -> None:
    class Stubborn:
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise RuntimeError("no")

    value = Stubborn()
    assert Hasher().digest(value) != Hasher().digest(value)


def test_classes_of_this_process_are_neither_used_nor_changed() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class Model:\n    alpha = 1", namespace)
    model = namespace["Model"]
    sent = b"".join(codec.pack([model]))
    model.alpha = 2
    (found,) = codec.unpack(sent, codec.loads_apart)
    assert (found is not model, found.alpha, model.alpha) == (True, 1, 2)
    assert digest(model) != Hasher().digest(found)


# --- functions ------------------------------------------------------------------------------------------------------

BASE = """
    import math
    import numpy as np

    RATE = 0.1
    TABLE = {"a": [1, 2]}

    def helper(x):
        return x * RATE

    def step(x, n=3, *, scale=1.0):
        found = []
        for i in range(n):
            try:
                found.append(helper(i + 7) * np.sqrt(scale))
            except ValueError as error:
                found.append(str(error))
        return found, TABLE, [y for y in found if y != "no"]
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    def step", "\n\n    # a comment\n    def step"),
        ("        found = []", '        """Says what it does."""\n\n        found = []  # nothing yet'),
        ("        return x * RATE", '        "A docstring."\n        return x * RATE  # and a comment\n'),
        ("        for i in range(n):", "        # first\n\n        for i in range(n):\n"),
        ("found", "results"),
        ("    import math\n", ""),
        ("def step(x, n=3, *, scale=1.0):", "def step(x: int, n: int = 3, *, scale: float = 1.0) -> tuple:"),
    ],
)
def test_what_changes_no_result_changes_no_fingerprint(old: str, new: str) -> None:
    assert changes(BASE, BASE.replace(old, new)) == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("RATE = 0.1", "RATE = 0.2", {"global 'RATE'": (0.1, 0.2)}),
        ("RATE = 0.1", "RATE = 0.10000000000000001", {}),
        ("i + 7", "i + 8", {"constant of step()": (7, 8)}),
        ('"no"', '"nein"', {"constant of step()": ("no", "nein")}),
        ("n=3", "n=4", {"default of 'n' of step()": (3, 4)}),
        ("n=3", "n=3.0", {"default of 'n' of step()": (3, 3.0)}),
        ("scale=1.0", "scale=2.0", {"default of 'scale' of step()": (1.0, 2.0)}),
        ("[1, 2]", "[1, 3]", {"global 'TABLE'": ({"a": [1, 2]}, {"a": [1, 3]})}),
    ],
)
def test_what_changes_a_result_is_named(old: str, new: str, expected: dict[str, Any]) -> None:
    found = {name.partition("#")[0]: values for name, values in changes(BASE, BASE.replace(old, new)).items()}
    assert found == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("x * RATE", "x + RATE", "code of helper()"),
        ("np.sqrt", "np.exp", "code of step()"),
        ("!=", "==", "code of step()"),
        ("except ValueError", "except KeyError", "code of step()"),
        ("x, n=3", "n=3, x=None", "code of step()"),
        ("for i in range(n):", "for i in range(n):\n            i += i", "code of step()"),
    ],
)
def test_other_code_is_named_by_its_function(old: str, new: str, expected: str) -> None:
    assert expected in changes(BASE, BASE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def step(x):\n    return lambda y: x + y + 1", "def step(x):\n    return lambda y: x + y + 2"),
        ("def step(x):\n    return [a for a in x if a > 1]", "def step(x):\n    return [a for a in x if a > 2]"),
        ("async def step(x):\n    return x", "def step(x):\n    return x"),
        ("def step(x):\n    yield x", "def step(x):\n    return x"),
        ("def step(x):\n    import math\n    return math", "def step(x):\n    import cmath as math\n    return math"),
        ("def step(x):\n    return x in {1, 2}", "def step(x):\n    return x in {1, 3}"),
        ("step = lambda x: 1", "step = lambda x: True"),
        ("step = lambda x: 1", "step = lambda x: 1.0"),
        ("step = lambda x: -0.0", "step = lambda x: 0.0"),
        ("import functools\nstep = functools.partial(max, 1)", "import functools\nstep = functools.partial(max, 2)"),
        ("step = max", "step = min"),
        ("def step(*a):\n    return a", "def step(**a):\n    return a"),
        ("def step(a, b):\n    return a, b", "def step(b, a):\n    return b, a"),
        (
            "def step(x):\n    try:\n        x.a()\n        x.b()\n    except ValueError:\n        pass",
            "def step(x):\n    try:\n        x.a()\n    except ValueError:\n        pass\n    else:\n        x.b()",
        ),
    ],
)
def test_functions_that_differ(old: str, new: str) -> None:
    assert of(old).digest != of(new).digest


CLASS = """
    from dataclasses import dataclass

    @dataclass
    class Model:
        alpha: float = 1.0
        beta = 2

        def predict(self, x):
            return self.alpha * x + self.beta

    def step(x):
        return Model().predict(x)
"""


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("        beta = 2", '        "Some model."\n\n        beta = 2  # not one', True),
        ("    @dataclass\n", "\n\n    @dataclass\n", True),
        ("beta = 2", "beta = 3", False),
        ("alpha: float = 1.0", "alpha: float = 2.0", False),
        ("self.alpha * x", "self.alpha / x", False),
        ("class Model:", "class Model(object, metaclass=type):", True),
        ("@dataclass", "@dataclass(frozen=True)", False),
    ],
)
def test_classes_count_by_what_they_are_made_of(old: str, new: str, is_same: bool) -> None:
    assert (of(CLASS).digest == of(CLASS.replace(old, new)).digest) is is_same


def test_functions_that_call_each_other() -> None:
    source = """
        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - {})

        def step(x):
            return even(x), step
    """
    assert of(source.format(1)).digest == of(source.format(1)).digest != of(source.format(2)).digest


def test_enums_partials_methods_and_wrapped_functions() -> None:
    source = """
        import enum
        import functools

        class Kind(enum.Enum):
            A = {a}
            B = 2

        class Maker:
            def __init__(self, n):
                self.n = n

            def make(self, x):
                return x + self.n

        def twice(function):
            @functools.wraps(function)
            def call(*args):
                return function(*args) * {factor}
            return call

        @twice
        def step(x):
            return Kind.A, MAKE(x)

        MAKE = functools.partial(Maker({n}).make)
    """
    base = {"a": 1, "factor": 2, "n": 5}
    found = [of(source.format(**{**base, **change})).digest for change in ({}, {}, {"a": 3}, {"factor": 3}, {"n": 6})]
    assert found[0] == found[1]
    assert len(set(found)) == 4


def test_of_a_module_that_travels_only_what_is_used_counts() -> None:
    def with_module(**members: Any) -> bytes:
        module = types.ModuleType("helpers")
        exec("def clean(x):\n    return x\n\ndef other(x):\n    return 1", vars(module))
        vars(module).update(members)
        namespace = {"__name__": "__main__", "helpers": module}
        exec("def step(x):\n    return helpers.clean(x)", namespace)
        code, packed = pack_function(namespace["step"], (), "step")
        return fingerprint(unpack_function(packed, code, codec.loads_apart)[0]).digest

    assert with_module() == with_module(other=5) == with_module(more=1) != with_module(clean=str)


def test_functions_of_modules_beside_the_notebook_count_by_what_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "beside_it.py").write_text("def clean(x):\n    return x + 1\n")
    module = importlib.import_module("beside_it")
    first = Hasher().digest(module.clean)
    assert first == digest(module.clean)
    (tmp_path / "beside_it.py").write_text("def clean(x):\n    return x + 10\n")
    assert Hasher().digest(importlib.reload(module).clean) != first


def test_names_of_modules_that_are_used() -> None:
    found = of("import numpy as np\n\ndef step(x):\n    import pandas.testing\n    return np.sqrt(x)")
    assert {module.partition(".")[0] for module in found.modules} >= {"numpy", "pandas"}


ANYWHERE = """
    import enum, functools, logging, re, typing
    from dataclasses import dataclass, field
    from celeryflow.runtime.reuse.keys import fingerprint
    from celeryflow.values import codec
    from celeryflow.values.functions import pack_function, unpack_function

    T = typing.TypeVar("T")
    NAMES = {"one", "two", "three", None, 4}
    log = logging.getLogger("steps")

    class Kind(enum.Enum):
        FEW = frozenset({"x", "y", "z"})

    class Box(typing.Generic[T]):
        def first(self, of: T) -> T:
            return of

    @dataclass
    class Config:
        names: set = field(default_factory=lambda: {"q", "w", "e"})

    def wrapped(function):
        @functools.wraps(function)
        def call(*args):
            log.info("called")
            return function(*args)
        return call

    @wrapped
    def step(x, kind=Kind.FEW, config=Config()):
        if x in {"u", "v", "w"} or re.match("a+", x):
            return NAMES, Box()
        return step, {"k": {"n", "m"}}

    digest, packed = pack_function(step, (Exception,), "step")
    print(fingerprint(unpack_function(packed, digest, codec.loads_apart)[0]).digest.hex())
"""


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    def found(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", textwrap.dedent(ANYWHERE)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert len({found(seed) for seed in "012"}) == 1


# --- versions -------------------------------------------------------------------------------------------------------


def test_versions_of_what_is_installed() -> None:
    name, packed = pack_environment([b""])
    versions = unpack_environment(packed, name)

    assert version_of("pandas.core.frame", versions) == ("pandas", pd.__version__)
    assert version_of("numpy", versions) == ("numpy", np.__version__)
    assert version_of("sklearn.linear_model", versions)[0] == "scikit-learn"
    assert version_of("json.decoder", versions) == version_of("nowhere", versions) == ("", "")
    assert unpack_environment(packed + b"x", name) == unpack_environment(None, name) == {}


def test_modules_of_the_working_directory_count_with_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("helpers.py").write_text("RATE = 1")
    Path("package").mkdir()
    Path("package/__init__.py").touch()
    Path("package/part.py").write_text("x = 1")
    code = [b"... helpers ... package ..."]

    def version(module: str) -> tuple[str, str]:
        name, packed = pack_environment(code)
        return version_of(module, unpack_environment(packed, name))

    first, inside = version("helpers"), version("package.part")
    assert first[0] == "helpers" and inside[0] == "package"
    assert (version("helpers"), version("package.part")) == (first, inside)
    Path("helpers.py").write_text("RATE = 20")
    Path("package/part.py").write_text("x = 20")
    assert version("helpers")[1] != first[1] and version("package.part")[1] != inside[1]
    code = [b"none of them"]
    assert version("helpers") == ("", "")


def test_replace_keeps_the_hash() -> None:
    assert digest(replace(Config(1.0), rate=2.0)) == digest(Config(2.0))

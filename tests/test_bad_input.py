"""Wrong use: a named error on the spot, before anything is submitted, and nothing half-written."""

from __future__ import annotations

import math
import socket
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import celeryflow as cf
from celeryflow.graph import checks
from celeryflow.runtime.session import current

pytestmark = pytest.mark.usefixtures("nothing_is_written")

NAN, INF = math.nan, math.inf


@cf.step
def double(x: Any) -> Any:
    return 2 * x


@cf.step
def add(a: Any, b: Any = 0) -> Any:
    return a + b


@cf.workflow
def works(x: Any = 1) -> Any:
    return double(x)


# --- names and ids -----------------------------------------------------------------------------------------


ODD_NAMES = [
    "",
    " ",
    "a b",
    "a/b",
    "a:b",
    "ä",
    "a\n",
    "a\0",
    "x" * 201,
    "*",
    "../x",
    "a{b}",
    "%s",
    None,
    3,
    b"run",
    ["a"],
]


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if name is not None])
def test_odd_characters_in_names_and_ids_are_refused(name: Any) -> None:
    with pytest.raises(cf.InvalidNameError, match="name of step"):
        cf.step(lambda: 1, name=name)
    with pytest.raises(cf.InvalidNameError, match="name of step 'double'"):
        double.options(name=name)
    with pytest.raises(cf.InvalidNameError, match="workflow"):
        cf.workflow(lambda: 1, name=name)
    with pytest.raises(cf.InvalidNameError, match="queue of step"):
        cf.step(lambda: 1, queue=name)
    with pytest.raises(cf.InvalidNameError, match="run"):
        cf.attach(name)


def test_none_is_no_run_id_and_no_queue() -> None:
    with pytest.raises(cf.InvalidNameError):
        cf.attach(None)  # type: ignore[arg-type]
    with pytest.raises(cf.InvalidNameError):
        cf.step(lambda: 1, queue=None)


def test_names_of_200_characters_are_taken() -> None:
    assert cf.workflow(lambda: double.options(name="x" * 200)(1)).graph().names() == ["x" * 200]


@pytest.mark.parametrize("name", ["", 5, None, "   "])
def test_phase_without_a_name_is_refused(name: Any) -> None:
    with pytest.raises(cf.WorkflowError, match="phase"), cf.phase(name):
        pass


def test_duplicate_explicit_names_are_refused() -> None:
    with pytest.raises(cf.DuplicateNameError, match=r"'<lambda>'.*'same'|'same'"):
        cf.workflow(lambda: (double.options(name="same")(1), add.options(name="same")(1))).run()
    with pytest.raises(cf.DuplicateNameError, match="'same'"):
        named = cf.step(lambda: 1, name="same"), cf.step(lambda: 2, name="same")
        cf.workflow(lambda: (named[0](), named[1]())).run()
    with pytest.raises(cf.DuplicateNameError, match="'double'"):
        cf.workflow(lambda: (double(1), add.options(name="double")(1))).run()


def test_workflow_without_a_step_is_refused() -> None:
    @cf.workflow
    def nothing(x: int = 1) -> int:
        return x

    for use in (nothing.run, nothing.submit, nothing.graph, nothing.draw, lambda: nothing.run(inline=True)):
        with pytest.raises(cf.EmptyWorkflowError, match=r"'nothing'.*@cf\.step"):
            use()


def test_cycle_is_named_by_its_path() -> None:
    with pytest.raises(cf.CycleError, match="clean -> merge -> enrich -> clean"):
        checks.order({"load": ["clean"], "clean": ["enrich"], "enrich": ["merge"], "merge": ["clean"]})
    with pytest.raises(cf.CycleError, match="a -> a"):
        checks.order({"a": ["a"]})
    with pytest.raises(cf.CycleError, match="a -> c -> a"):
        checks.order({"a": ["b", "c"], "b": [], "c": ["a"]})
    with pytest.raises(cf.UnknownStepError, match=r"'laod'.*Did you mean 'load'"):
        checks.order({"clean": ["laod"], "load": []})


# --- looking up ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(shared_runtime: Any) -> Iterator[cf.Run[Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared_runtime.directory)
        yield cf.workflow(lambda: (double(1), add.map([1, 2])), name="finished").run()


@pytest.mark.parametrize("ask", ["value", "items", "logs"])
def test_unknown_step_gets_did_you_mean(finished: cf.Run[Any], ask: str) -> None:
    with pytest.raises(
        cf.UnknownStepError, match=rf"{finished.id}.*'duoble'.*Did you mean 'double'\?.*double, add"
    ) as caught:
        getattr(finished, ask)("duoble")
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize("step", [None, 3, ""])
def test_step_that_is_no_name_is_unknown(finished: cf.Run[Any], step: Any) -> None:
    with pytest.raises((cf.UnknownStepError, cf.InvalidNameError)):
        finished.value(step)


def test_unknown_run_gets_did_you_mean(finished: cf.Run[Any]) -> None:
    wrong = finished.id[:-1] + ("0" if finished.id[-1] != "0" else "1")

    with pytest.raises(cf.UnknownRunError, match=f"'{wrong}'.*Did you mean '{finished.id}'"):
        cf.attach(wrong)


def test_current_outside_of_a_step_is_refused() -> None:
    with pytest.raises(cf.NotInWorkflowError, match="inside a running step"):
        cf.current()


def test_unknown_attribute_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'setp'"):
        _ = cf.setp


# --- numbers -------------------------------------------------------------------------------------------------------


BAD_TIMES = [0, -1, -0.5, NAN, INF, -INF, "5", True, [1]]


@pytest.mark.parametrize("seconds", BAD_TIMES, ids=str)
def test_timeouts_must_be_positive_finite_numbers(seconds: Any, finished: cf.Run[Any]) -> None:
    with pytest.raises(cf.InvalidOptionError, match=r"timeout_s of step '<lambda>'.*positive"):
        cf.step(lambda: 1, timeout_s=seconds)
    with pytest.raises(cf.InvalidOptionError, match="timeout_s of step 'double'"):
        double.options(timeout_s=seconds)
    with pytest.raises(cf.InvalidOptionError, match="timeout_s of workflow"):
        cf.workflow(lambda: 1, timeout_s=seconds)
    with pytest.raises(cf.InvalidOptionError, match="timeout_s"):
        finished.wait(timeout_s=seconds)
    with pytest.raises(cf.InvalidOptionError, match="timeout_s"):
        finished.result(timeout_s=seconds)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("retries", [-1, 1.5, NAN, INF, "2", True, None]),
        ("retry_delay_s", [-1, NAN, INF, "1", None, True]),
        ("retry_backoff", [0.5, -2, NAN, INF, "2", None]),
        ("retry_jitter", [-0.1, 1.5, NAN, "1", None]),
        ("priority", [-1, 10, 5.0, NAN, "5", True, None]),
        ("max_worker_losses", [-1, 1.5, NAN, True, None]),
        ("outputs", [0, -1, 2.0, NAN, "2", True, None]),
        ("retry_on", [ValueError(), "ValueError", [ValueError], int, None, (ValueError, 3)]),
    ],
)
def test_options_out_of_range_are_refused(option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(cf.InvalidOptionError, match=rf"{option} of step '<lambda>'"):
            cf.step(lambda: 1, **{option: value})
        with pytest.raises(cf.InvalidOptionError, match=rf"{option} of step 'double'"):
            double.options(**{option: value})


def test_unknown_option_is_refused_with_those_there_are() -> None:
    with pytest.raises(cf.InvalidOptionError, match=r"no option 'retires'.*retries"):
        cf.step(lambda: 1, retires=3)
    with pytest.raises(cf.InvalidOptionError, match="label"):
        double.options(label="x")


@pytest.mark.parametrize("on_error", ["ignore", None, True, "RAISE"])
def test_unknown_on_error_is_refused(on_error: Any) -> None:
    with pytest.raises(cf.InvalidOptionError, match=r"on_error of double\.map\(\).*raise, skip, return"):
        cf.workflow(lambda: double.map([1], on_error=on_error)).run()


@pytest.mark.parametrize("workers", [0, -1, 1.5, NAN, "2", True])
def test_number_of_workers_out_of_range_is_refused_and_the_session_stays(workers: Any) -> None:
    session = current()

    with pytest.raises(cf.ConfigError, match="workers"):
        cf.connect(workers=workers)

    assert current() is session


# --- arguments --------------------------------------------------------------------------------------------------------


def test_argument_that_the_step_does_not_take_is_refused() -> None:
    for call, problem in (
        (lambda: add(1, 2, 3), "too many positional"),
        (lambda: add(1, wrong=2), "'wrong'"),
        (lambda: add(), "missing a required argument: 'a'"),
        (lambda: add(1, a=2), "multiple values for argument 'a'"),
        (lambda: add.map([1], [2], [3]), "too many positional"),
        (lambda: add.map([1], wrong=2), "'wrong'"),
    ):
        with pytest.raises(cf.ArgumentError, match=rf"step 'add'.*{problem}.*add\(a"):
            cf.workflow(call).run()


def test_argument_that_the_workflow_does_not_take_is_refused() -> None:
    for use in (works.run, works.submit, works.graph, works.draw):
        with pytest.raises(cf.ArgumentError, match=r"workflow 'works'.*works\(x"):
            use(1, 2)
        with pytest.raises(cf.ArgumentError, match="'month'"):
            use(month=3)


@pytest.mark.parametrize("reserved", ["check", "inline", "reuse"])
def test_parameter_named_as_an_option_of_run_is_refused(reserved: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def body({reserved}=1): pass", scope)

    with pytest.raises(cf.WorkflowError, match=f"'{reserved}'"):
        cf.workflow(scope["body"])


@pytest.mark.parametrize("thing", [3, "name", [1]])
def test_step_and_workflow_take_functions(thing: Any) -> None:
    with pytest.raises(cf.ArgumentError, match="takes a function"):
        cf.step(name="x")(thing)
    with pytest.raises(cf.ArgumentError, match="takes a function"):
        cf.workflow(name="x")(thing)


def test_workflow_run_in_another_ones_body_is_refused() -> None:
    for use in (works.run, works.submit):
        with pytest.raises(cf.NotInWorkflowError, match=r"'works'.*body"):
            cf.workflow(lambda use=use: use(1)).run()


def test_frame_cannot_be_mapped_and_the_message_says_what_can() -> None:
    frame = pd.DataFrame({"a": [1]})

    with pytest.raises(cf.ArgumentError, match=r'to_dict\("records"\).*cf\.unmapped'):
        cf.workflow(lambda: double.map(frame)).run()
    with pytest.raises(cf.ArgumentError, match="to_dict"):
        double.map(frame)


@pytest.mark.parametrize(
    "values", [{1, 2}, (i for i in range(2)), iter([1]), map(abs, [1]), frozenset([1])], ids=lambda v: type(v).__name__
)
def test_sets_and_iterators_cannot_be_mapped(values: Any) -> None:
    with pytest.raises(cf.ArgumentError, match="list"):
        cf.workflow(lambda: double.map(values)).run()


@pytest.mark.parametrize("value", [5, "text", None, cf.unmapped([1])], ids=str)
def test_map_over_nothing_that_has_items_is_refused(value: Any) -> None:
    with pytest.raises(cf.WorkflowError, match=r"double\.map\(\) got nothing to map over"):
        cf.workflow(lambda: double.map(value)).run()


@pytest.mark.parametrize(
    "make", [threading.Lock, socket.socket, lambda: (i for i in range(3))], ids=["lock", "socket", "generator"]
)
def test_argument_that_does_not_pickle_is_refused_by_name(make: Any) -> None:
    value = make()

    with pytest.raises(cf.SerializationError, match=r"argument (1|a) of step 'add'"):
        cf.workflow(lambda: add(value)).run()
    with pytest.raises(cf.SerializationError, match="argument b of step 'add'"):
        cf.workflow(lambda: add(1, b=value)).run()
    with pytest.raises(cf.SerializationError, match="argument b of step 'add-2'"):
        cf.workflow(lambda: add(add(1), b={"deep": [value]})).run()
    with pytest.raises(cf.SerializationError, match="a of step 'add'"):
        cf.workflow(lambda: add.map([1, 2, value])).run()
    value.close() if hasattr(value, "close") else None


LOCK = threading.Lock()


def test_captured_variable_that_does_not_pickle_is_refused_by_name() -> None:
    connection = threading.Lock()

    with pytest.raises(cf.SerializationError, match=r"step 'closes' uses the variable 'connection' \(lock\)"):
        cf.workflow(lambda: cf.step(lambda: connection, name="closes")()).run()
    with pytest.raises(cf.SerializationError, match=r"step 'globals' uses the variable 'LOCK'"):
        cf.workflow(lambda: cf.step(lambda: LOCK, name="globals")()).run()
    with pytest.raises(cf.SerializationError, match="LOCK"):
        cf.map(lambda x: LOCK, [1])


def test_captured_variable_of_a_function_that_a_step_calls_is_named() -> None:
    def helper() -> Any:
        return LOCK

    with pytest.raises(cf.SerializationError, match=r"step 'calls' uses .*(helper|LOCK)"):
        cf.workflow(lambda: cf.step(lambda: helper(), name="calls")()).run()


def test_workflow_result_that_does_not_pickle_is_refused() -> None:
    with pytest.raises(cf.SerializationError, match="result of workflow"):
        cf.workflow(lambda: (double(1), threading.Lock())).run()


def test_workflow_body_that_raises_raises_here() -> None:
    def body() -> Any:
        double(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        cf.workflow(body).run()
    # The next workflow starts from nothing.
    assert works.graph(1).names() == ["double"]


# --- sizes --------------------------------------------------------------------------------------------------


def test_large_closure_warns_by_name() -> None:
    table = "x" * 2_000_000

    with pytest.warns(cf.LargeClosureWarning, match=r"step 'big' carries 2\.0 MB.*'table'.*argument"):
        cf.workflow(lambda: cf.step(lambda: len(table), name="big")()).run(inline=True)


def test_closure_over_50_mb_is_refused_by_name() -> None:
    table, small = np.zeros(7_000_000), [1]

    with pytest.raises(cf.ValueTooLargeError, match=r"step 'huge' carries 56 MB.*'table'.*50 MB.*argument"):
        cf.workflow(lambda: cf.step(lambda: (len(table), small), name="huge")()).run()


def test_small_closure_does_not_warn() -> None:
    table = "x" * 500_000

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cf.workflow(lambda: cf.step(lambda: len(table))()).run(inline=True)

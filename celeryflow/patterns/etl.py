"""Several sources, one load: each source goes its own way up to the point where all of them are put together.

**When.** Tables of an airline, its airports and the weather come from three places, each at its own speed, are brought
into shape and checked, joined, and loaded into a warehouse; the team is told how it went, above all when it went wrong.

::

    source 1:  extract -> transform -> validate --.
    source 2:  extract -> transform -> validate ---+--> aggregate --> load --> verify
    source 3:  extract -> transform -> validate --'               (however it ended) --> notify

**The steps.** Only `extract` and `load` are needed; what is left out is passed by.

=========== =========================== =============================================================================
step        is called with              gives
=========== =========================== =============================================================================
`extract`   a source                    its data; runs once a source, whatever happens to later steps
`transform` the data of a source        the data, or raises
`validate`  the data of a source        the data, or raises
`aggregate` the data of all sources     what `load` gets: a list in the order of the sources, or a dict where the
                                        sources are a dict; without it `load` gets that itself
`load`      that                        a receipt
`verify`    the receipt                 what the result has as ``verified``, or raises
`notify`    a summary                   nothing that counts; runs when the others have ended, however they did
=========== =========================== =============================================================================

**When not.** For a single source the body of a workflow with four calls says more. Where sources need each other
(orders that are looked up in customers), wire the steps yourself: here nothing goes from one source to another. Where
there are thousands of files that may be loaded one by one, map a workflow over them: `aggregate` holds all at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from celeryflow.control import gather
from celeryflow.errors import DuplicateNameError, InvalidOptionError, TooFewResultsError
from celeryflow.graph import trace
from celeryflow.graph.mapped import Mapped
from celeryflow.graph.refs import Ref
from celeryflow.graph.trace import phase
from celeryflow.patterns.arguments import Part, as_ref, listed, optional_part, part, provided, unnamed
from celeryflow.step import step
from celeryflow.values.gathered import MISSING, Gathered
from celeryflow.workflow import Workflow, workflow

PATTERN = "multi_source_etl"

OnSourceError = Literal["fail", "drop", "quarantine"]

_ON_ERROR = {"fail": "raise", "drop": "skip", "quarantine": "skip"}
SUCCESS, SHOWN = "success", 10


def multi_source_etl(
    *,
    extract: Callable[[Any], Any],
    load: Callable[[Any], Any],
    transform: Callable[[Any], Any] | None = None,
    validate: Callable[[Any], Any] | None = None,
    aggregate: Callable[[Any], Any] | None = None,
    verify: Callable[[Any], Any] | None = None,
    notify: Callable[[Any], Any] | None = None,
    on_source_error: OnSourceError = "fail",
) -> Workflow[[Any], dict[str, Any]]:
    """A workflow that extracts, transforms and validates each source by itself, then loads all of them at once.

    Parameters
    ----------
    extract, load, transform, validate, aggregate, verify : step, workflow or function
        As the table at the top of this file has them. No source waits for another before `aggregate`.
    notify : step, workflow or function, optional
        Gets a summary, of a failed run too: the result's four entries, with None for what there is not, ``status``,
        "success" or "failure", and ``error``, the first error in words, or None. If it fails itself, so does the run.
        Of a run that is stopped as a whole (a cancel, a time limit, ``fail_fast``) there is none.
    on_source_error : {"fail", "drop", "quarantine"}
        What a source does that fails in `extract`, `transform` or `validate`: fail the run once the others have come to
        their end, with nothing loaded; be left out; or be left out and kept in the result, with the data that it had.

    Returns
    -------
    Workflow
        ``.run(sources)`` takes a list, or a dict of them by name. Its result is a dict:

        - ``receipt``: what `load` gave;
        - ``verified``: what `verify` gave, None without it;
        - ``sources``: for each source "success", or its error in words, by the source itself (by its ``repr`` where it
          cannot be the key of a dict), or by name;
        - ``quarantined``: for each source put aside the data that the failed step got, None where that was `extract`.

    Raises
    ------
    ArgumentError, InvalidOptionError
        At once, if a step is none, or there is no such choice.

    Notes
    -----
    ``.run`` raises `DuplicateNameError` for a source that is given twice. Where no source is left, of some that were
    given, the run fails with `TooFewResultsError` before anything is loaded; no sources at all are loaded as ``[]``.
    ``run.resume()`` takes up the sources that failed a run, and notifies again. Those that were dropped or quarantined
    stay so in that run; ``workflow.resume(run)`` asks for them again, and for nothing that is there.

    Examples
    --------
    >>> etl = multi_source_etl(extract=lambda n: range(n), transform=list, aggregate=lambda all: sum(all, []), load=len)
    >>> etl([2, 3])["receipt"]
    5
    """
    if on_source_error not in [*_ON_ERROR]:
        choices = ", ".join(map(repr, _ON_ERROR))
        raise InvalidOptionError(
            f"on_source_error of {PATTERN} must be one of {choices}, not {on_source_error!r:.200}."
        )
    stages = [("extract", part(PATTERN, "extract", extract))]
    for name, given in (("transform", transform), ("validate", validate)):
        if (found := optional_part(PATTERN, name, given)) is not None:
            stages.append((name, found))
    etl = _Etl(
        stages=stages,
        aggregate=optional_part(PATTERN, "aggregate", aggregate),
        load=part(PATTERN, "load", load),
        verify=optional_part(PATTERN, "verify", verify),
        notify=optional_part(PATTERN, "notify", notify),
        on_source_error=on_source_error,
    )

    def multi_source_etl(sources: Any) -> dict[str, Any]:
        return etl.body(sources)

    return workflow(multi_source_etl)


@dataclass(frozen=True, kw_only=True)
class _Etl:
    """The steps, and the body that wires them."""

    stages: Sequence[tuple[str, Part]]
    aggregate: Part | None
    load: Part
    verify: Part | None
    notify: Part | None
    on_source_error: str

    def body(self, sources: Any) -> dict[str, Any]:
        """The workflow's body."""
        given = listed(PATTERN, "sources", sources)
        names = _names(given)
        staged = [*self._staged(sources)]
        places = [*zip(given.keys or range(len(names)), names, strict=True)]
        told: Any = {"sources": dict.fromkeys(names, SUCCESS), "quarantined": {}}  # else there is no result
        if self.on_source_error != "fail":
            with phase("collect"):
                told = self._collected(places, staged)
        with self._loading(told["sources"]) if names else nullcontext():
            ended = self._load(staged[-1])
        found = {"receipt": ended["load"], "verified": ended.get("verify")}
        result = {**found, "sources": told["sources"], "quarantined": told["quarantined"]}
        if self.notify is not None:
            with phase("notify"):
                self._tell(self.notify, places, staged, ended, result)
        return result

    def _tell(
        self, notify: Part, places: list[Any], staged: list[Any], ended: dict[str, Any], result: dict[str, Any]
    ) -> None:
        """Notify of a success; and of a failure, by steps of its own, so that a resume still tells of the success."""
        notify({"status": SUCCESS, "error": None, **result})
        if trace.current() is None:
            return  # where it runs as plain Python a failure is raised before
        missing = gather(ended)[MISSING]
        with provided(any_missing, missing, is_needed=False):
            told = self._collected(places, staged) if self.on_source_error == "fail" else result
            receipts = gather({name: found for name, found in ended.items() if name != "aggregate"})
            unnamed(notify)(step(summarise)(missing, receipts, told["sources"], told["quarantined"]))

    def _collected(self, places: list[Any], staged: list[Any]) -> Any:
        arrived = [gather(data) for data in staged]
        kept = arrived[:-1] if self.on_source_error == "quarantine" else None
        return step(collect)(places, [found[MISSING] for found in arrived], kept)

    def _staged(self, sources: Any) -> Iterator[Any]:
        """What each stage makes of the sources, item by item."""
        data = sources
        for name, stage in self.stages:
            with phase(name):
                data = stage.map(data, on_error=_ON_ERROR[self.on_source_error])
            yield data

    def _loading(self, sources: Any) -> AbstractContextManager[None]:
        """A context whose steps run if a source is left; where one that fails fails the run, they do not run anyway."""
        if self.on_source_error == "fail":
            return nullcontext()
        with phase("load" if self.aggregate is None else "aggregate"):
            return provided(any_left, sources)

    def _load(self, data: Any) -> dict[str, Any]:
        """What each step gives that takes all sources, by its name."""
        ended = {}
        for name, taken in (("aggregate", self.aggregate), ("load", self.load), ("verify", self.verify)):
            if taken is not None:
                with phase(name):
                    ended[name] = data = as_ref(taken(data))
        return ended


def collect(
    places: list[tuple[Any, Any]], missing: list[dict[Any, str]], kept: list[Gathered[Any]] | None
) -> dict[str, dict[Any, Any]]:
    """How each source came through the stages, and what those had that did not.

    Parameters
    ----------
    places : list of (place, name)
        Index or key of each source in the maps, and what the result calls it.
    missing : list of dict
        For each stage what is not there after it, and why.
    kept : list of Gathered or None
        The data after each stage but the last, if it is to be kept.
    """
    sources: dict[Any, str] = {}
    quarantined: dict[Any, Any] = {}
    for place, name in places:
        failed = next((n for n, reasons in enumerate(missing) if place in reasons), None)
        sources[name] = SUCCESS if failed is None else _error(missing[failed][place])
        if failed is not None and kept is not None:
            quarantined[name] = kept[failed - 1][place] if failed else None
    return {"sources": sources, "quarantined": quarantined}


def any_left(sources: dict[Any, str]) -> bool:
    """Whether there is a source to load.

    Raises
    ------
    TooFewResultsError
        If there is none, with the error of each.
    """
    if SUCCESS in sources.values():
        return True
    told = "; ".join(f"{name}: {error}" for name, error in [*sources.items()][:SHOWN])
    more = f"; and {len(sources) - SHOWN} more" if len(sources) > SHOWN else ""
    raise TooFewResultsError(f"none of the {len(sources)} sources is left, and nothing was loaded. {told}{more}.")


def any_missing(reasons: dict[str, str]) -> bool:
    """Whether a step that takes all sources has failed, or had not what it needs."""
    return bool(reasons)


def summarise(
    missing: dict[str, str], receipts: Gathered[Any], sources: dict[Any, str], quarantined: dict[Any, Any]
) -> dict[str, Any]:
    """What `notify` gets of a run that fails."""
    failed = [_error(reason) for reason in missing.values() if reason != "skipped"]
    lost = [f"{name}: {error}" for name, error in sources.items() if error != SUCCESS]
    return {
        "status": "failure",
        "error": [*failed, *lost][0],
        "receipt": receipts.as_dict().get("load"),
        "verified": receipts.as_dict().get("verify"),
        "sources": sources,
        "quarantined": quarantined,
    }


def _error(reason: str) -> str:
    return reason.removeprefix("failed: ")


def _names(given: Mapped) -> list[Any]:
    """What each source is called in the result.

    Raises
    ------
    DuplicateNameError
        If two are called the same.
    """
    names = [*given.keys] if given.keys is not None else [_name(source) for source in given.items or ()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DuplicateNameError(
            f"{PATTERN} got the source {twice[0]!r:.200} more than once. Each is extracted once and told of by itself: "
            "leave the others out, or give a dict, with a name for each."
        )
    return names


def _name(source: Any) -> Any:
    if isinstance(source, Ref):
        len(source)  # is refused: the workflow is traced once the value is there
    try:
        hash(source)
    except TypeError:
        return repr(source)
    return source

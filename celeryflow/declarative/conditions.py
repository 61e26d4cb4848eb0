"""Conditions as data: read and checked when a workflow is registered, asked by a worker.

A condition is a dict: ``type`` and, for those that compare, the ``field`` to look at (none: the value itself; ``a.b``
looks into a) with what the type needs. What may stand beside them may also stand in ``params``.

========================= ======================== ==================================================
type                      needs                    also called
========================= ======================== ==================================================
``value_greater_than``    ``threshold``            ``greater_than, greater, gt, >``
``value_less_than``       ``threshold``            ``less_than, less, lt, <``
``value_at_least``        ``threshold``            ``greater_or_equal, greater_than_or_equal, gte, ge, >=``
``value_at_most``         ``threshold``            ``less_or_equal, less_than_or_equal, lte, le, <=``
``value_equals``          ``threshold``, ``value`` ``equals, equal, equal_to, eq, ==``
``value_not_equals``      ``threshold``, ``value`` ``not_equals, not_equal, not_equal_to, ne, !=``
``value_between``         ``low`` and ``high``     ``between``; ``min, max``, or ``threshold: [low, high]``
``value_in``              ``values``               ``in``; ``threshold: [...]``
``value_not_in``          ``values``               ``not_in``
``and``, ``or``           ``conditions``, a list   ``all``, ``any``
``not``                   ``condition``            ``conditions`` with a single one
``always``                                         ``otherwise, default``
========================= ======================== ==================================================

Both ends belong to ``value_between``. The parts of ``and``, ``or`` and ``not`` have the step and the field of the whole
where they say none themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflow.errors import ConditionError, MissingFieldError, did_you_mean

OWN = ""
"""In the place of a step's name: what the step that decides has to go by, pairs of names and values."""

_NONE = object()
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "value_greater_than": operator.gt,
    "value_less_than": operator.lt,
    "value_at_least": operator.ge,
    "value_at_most": operator.le,
    "value_equals": operator.eq,
    "value_not_equals": operator.ne,
    "value_between": lambda value, ends: ends[0] <= value <= ends[1],
    "value_in": lambda value, values: value in values,
    "value_not_in": lambda value, values: value not in values,
}
_ALIASES = {
    "value_greater_than": "greater_than greater gt >",
    "value_less_than": "less_than less lt <",
    "value_at_least": "at_least greater_or_equal greater_than_or_equal greater_equal gte ge >=",
    "value_at_most": "at_most less_or_equal less_than_or_equal less_equal lte le <=",
    "value_equals": "equals equal equal_to eq ==",
    "value_not_equals": "not_equals not_equal not_equal_to ne !=",
    "value_between": "between",
    "value_in": "in",
    "value_not_in": "not_in",
    "and": "and all",
    "or": "or any",
    "not": "not",
    "always": "always otherwise default",
}
_TYPES = {
    spelt: name for name, others in _ALIASES.items() for alias in others.split() for spelt in (alias, f"value_{alias}")
}
_ENDS = (("low", "high"), ("min", "max"))
_KEYS = {"type", "step", "field", "params", "threshold", "value", "values", "condition", "conditions"} | {
    key for pair in _ENDS for key in pair
}


@dataclass(frozen=True)
class Condition:
    """A condition that was checked.

    Attributes
    ----------
    type : str
        One of the types above.
    step : str
        Whose value it looks at; empty for one with parts, or where the step that decides has it.
    field : str or None
        What of the value; None for all of it.
    other : Any
        What that is compared with.
    parts : tuple of Condition
        Of ``and``, ``or`` and ``not``.
    """

    type: str
    step: str = OWN
    field: str | None = None
    other: Any = None
    parts: tuple[Condition, ...] = ()

    def looks_at(self) -> frozenset[tuple[str, str | None]]:
        """Steps and fields whose values it needs."""
        if self.type in _COMPARE:
            return frozenset([(self.step, self.field)])
        return frozenset().union(*(part.looks_at() for part in self.parts))

    def steps(self) -> list[str]:
        """Names of the steps whose values it needs."""
        return sorted({step for step, _ in self.looks_at()} - {OWN})

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Ask it of the results of steps, by name; under `OWN` are several, which are looked through in order.

        Raises
        ------
        MissingFieldError
            If a value has no such field.
        ConditionError
            If a value cannot be compared.
        """
        if self.type in ("and", "always"):
            return all(part.holds(values) for part in self.parts)
        if self.type == "or":
            return any(part.holds(values) for part in self.parts)
        if self.type == "not":
            return not self.parts[0].holds(values)
        found = _look_up(values[self.step], self.step, self.field)
        try:
            return bool(_COMPARE[self.type](found, self.other))
        except (TypeError, ValueError) as error:
            what = self.field if self.field is not None else self.step
            raise ConditionError(
                f"{self.type} cannot compare {what!r}, which is {found!r:.200}, with {self.other!r:.200}: {error}."
            ) from error


def _look_up(value: Any, step: str, field: str | None) -> Any:
    candidates = value if step == OWN else ((step, value),)
    for _, found in candidates:
        if (of_it := _field(found, field)) is not _NONE:
            return of_it
    kinds = "; ".join(f"{name!r} {_fields(found)}" for name, found in candidates)
    raise MissingFieldError(f"the condition looks at field {field!r}, which is not there: {kinds}.")


def _field(value: Any, field: str | None) -> Any:
    if field is None:
        return value
    found = _item(value, field)
    if found is not _NONE or "." not in field:
        return found
    for name in field.split("."):
        value = _item(value, name)
    return value


def _item(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, _NONE)
    found = _NONE if name.startswith("_") else getattr(value, name, _NONE)
    return _NONE if callable(found) else found


def _fields(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"has {', '.join(map(str, list(value)[:20]))}" if value else "is an empty dict"
    return f"is of type {type(value).__name__}"


def parse(raw: Any, what: str, step: str | None, field: str | None = None, also: Sequence[str] = ()) -> Condition:
    """The condition that a dict describes.

    Parameters
    ----------
    raw : dict
        As it was written.
    what : str
        Where it stands, for messages.
    step, field : str, optional
        What it looks at where it does not say so; a step of None is to be said.
    also : sequence of str
        Further keys that it may have.

    Raises
    ------
    ConditionError
        If it is none, saying what is wrong where.
    """
    if not isinstance(raw, Mapping):
        raise ConditionError(f"{what} must be a dict with a type, not {raw!r:.200}.")
    params = raw.get("params", {})
    if not isinstance(params, Mapping):
        raise ConditionError(f"params of {what} must be a dict, not {params!r:.200}.")
    given = {**raw, **params}
    unknown = [key for key in given if key not in _KEYS and key not in also]
    if unknown:
        raise ConditionError(f"{what} has an unknown key {unknown[0]!r}. It may have: {', '.join(sorted(_KEYS))}.")
    if "type" not in given:
        raise ConditionError(f"{what} has no type. Types: {', '.join(_ALIASES)}.")
    kind = _TYPES.get(given["type"].lower()) if isinstance(given["type"], str) else None
    if kind is None:
        hint = did_you_mean(str(given["type"]), [*_ALIASES], "types")
        raise ConditionError(f"{what} has no type {given['type']!r}.{hint.replace('Its types', 'Types')}")
    step, field = given.get("step", step), given.get("field", field)
    for name, value in (("step", step), ("field", field)):
        if value is not None and not isinstance(value, str):
            raise ConditionError(f"{name} of {what} must be a name, not {value!r:.200}.")
    if kind not in _COMPARE:
        return Condition(kind, parts=_parts(kind, given, what, step, field))
    if step is None:
        raise ConditionError(
            f'{what} does not say whose value it looks at. Add "step": the name of a step, or "input".'
        )
    return Condition(kind, step, field, _OTHERS.get(kind, _threshold)(given, what))


def _parts(
    kind: str, given: Mapping[str, Any], what: str, step: str | None, field: str | None
) -> tuple[Condition, ...]:
    if kind == "always":
        return ()
    found = given.get("conditions", given.get("condition"))
    if isinstance(found, Mapping):
        found = [found] if "type" in found else [*found.values()]
    if not isinstance(found, Sequence) or isinstance(found, str) or not found or (kind == "not" and len(found) > 1):
        needs = "condition, a single one" if kind == "not" else "conditions, a list of at least one"
        raise ConditionError(f"{what} is of type {kind!r} and needs {needs}, not {found!r:.200}.")
    return tuple(parse(part, f"part {i} of {what}", step, field) for i, part in enumerate(found, 1))


def _threshold(given: Mapping[str, Any], what: str) -> Any:
    for key in ("threshold", "value"):
        if key in given:
            return given[key]
    raise ConditionError(f"{what} needs a threshold.")


def _ends(given: Mapping[str, Any], what: str) -> tuple[Any, Any]:
    pairs = [[given[key] for key in pair] for pair in _ENDS if all(key in given for key in pair)]
    both = pairs[0] if pairs else given.get("threshold", given.get("values", given.get("value")))
    if not isinstance(both, Sequence) or isinstance(both, str) or len(both) != 2:
        raise ConditionError(f"{what} needs low and high, not {both!r:.200}.")
    low, high = both
    try:
        is_empty = bool(low > high)
    except (TypeError, ValueError) as error:
        raise ConditionError(f"{what} has ends that cannot be compared: {low!r:.100} and {high!r:.100}.") from error
    if is_empty:
        raise ConditionError(f"{what} has low={low!r:.100} above high={high!r:.100}: nothing is between them.")
    return low, high


def _values(given: Mapping[str, Any], what: str) -> Any:
    found = next((given[key] for key in ("values", "threshold", "value") if key in given), None)
    if not isinstance(found, (list, tuple, set, frozenset)):
        raise ConditionError(f"{what} needs values, a list of them, not {found!r:.200}.")
    return found


_OTHERS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    "value_between": _ends,
    "value_in": _values,
    "value_not_in": _values,
}

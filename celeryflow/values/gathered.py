"""What arrived of several values, and what did not, with the reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Facts(Enum):
    """What can be had of a `Gathered` without its values."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return self.name


MISSING = Facts.MISSING
"""In a workflow's body ``gathered[MISSING]`` stands for its `missing`; no value is read for it."""


class Gathered(Generic[T]):
    """The values that are there, in input order.

    Parameters
    ----------
    values : dict
        Value by index; indices are positions, or keys where a dict was given.
    missing : mapping
        Reason by index, for what is not there.

    Examples
    --------
    >>> some = Gathered({0: "a", 2: "c"}, {1: "ValueError: bad"})
    >>> list(some), some.indices, some.missing
    (['a', 'c'], [0, 2], {1: 'ValueError: bad'})
    """

    def __init__(self, values: Mapping[Any, T], missing: Mapping[Any, str]) -> None:
        self._values: dict[Any, T] = dict(values)
        self.missing = dict(missing)

    @property
    def indices(self) -> list[Any]:
        """Index of each value."""
        return list(self._values)

    @property
    def values(self) -> list[T]:
        """The values alone."""
        return list(self._values.values())

    def as_dict(self) -> dict[Any, T]:
        """Value by index."""
        return dict(self._values)

    def __iter__(self) -> Iterator[T]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self.missing if index is MISSING else self._values[index]

    def __repr__(self) -> str:
        return f"<Gathered: {len(self._values)} values, {len(self.missing)} missing>"

"""The design of a comparison: which trials there are, and in which order they run."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

DESIGNS = ("paired", "split")


class Planned(NamedTuple):
    """One trial: an algorithm, by number, on an item, by number.

    `block` is what it shares with the trials that it is compared with, and `order` its place in the whole plan. `seed`
    is of item and repeat alone: every algorithm meets the same chance there.
    """

    item: int
    repeat: int
    algorithm: int
    block: int
    order: int
    seed: int


def plan(
    items: int,
    algorithms: int,
    repeats: int = 1,
    design: str = "paired",
    seed: int = 0,
    strata: Sequence[Hashable] | None = None,
    max_trials: int | None = None,
) -> list[Planned]:
    """The trials, in the order in which they run: randomised blocks.

    ``"paired"``: a block is an item, and every algorithm sees it. ``"split"``: the items are shuffled and dealt out, in
    each stratum evenly, and a block has one item of each algorithm. In a block the algorithms have a random order and
    so have the blocks, so that a drift of the machine hits all alike. All of it follows from `seed`.

    Parameters
    ----------
    items, algorithms, repeats : int
        How many, each at least 1.
    design : {"paired", "split"}
        Who sees what.
    seed : int
        At least 0.
    strata : sequence, shape (items,), optional
        Of ``"split"``: what each item belongs to.
    max_trials : int, optional
        At most so many: the first blocks, whole. They are a random sample, as their order is random.
    """
    random = np.random.default_rng(seed)
    dealt = _everyone(items, algorithms, random) if design == "paired" else _dealt(items, algorithms, strata, random)
    found: list[Planned] = []
    block = 0
    for row in dealt:
        if max_trials is not None and len(found) + len(row) * repeats > max_trials:
            break
        for repeat in range(repeats):
            for at in random.permutation(len(row)):
                item, algorithm = row[at]
                found.append(Planned(item, repeat, algorithm, block, len(found), _seed(seed, item, repeat)))
            block += 1
    return found


def _everyone(items: int, algorithms: int, random: np.random.Generator) -> list[list[tuple[int, int]]]:
    return [[(int(item), algorithm) for algorithm in range(algorithms)] for item in random.permutation(items)]


def _dealt(
    items: int, algorithms: int, strata: Sequence[Hashable] | None, random: np.random.Generator
) -> list[list[tuple[int, int]]]:
    """Items one after the other to the algorithms in turn, each stratum shuffled."""
    members: dict[Hashable, list[int]] = {}
    for item in range(items):
        members.setdefault(None if strata is None else strata[item], []).append(item)
    shuffled = [int(item) for group in members.values() for item in random.permutation(group)]
    first = random.permutation(algorithms)
    blocks: list[list[tuple[int, int]]] = []
    for at, item in enumerate(shuffled):
        if at % algorithms == 0:
            blocks.append([])
        blocks[-1].append((item, int(first[at % algorithms])))
    return [blocks[at] for at in random.permutation(len(blocks))]


def _seed(seed: int, item: int, repeat: int) -> int:
    return int(np.random.SeedSequence([seed, item, repeat]).generate_state(1)[0])

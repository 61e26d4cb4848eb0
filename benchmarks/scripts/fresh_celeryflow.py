"""A first result in a fresh kernel, in a directory of its own."""

import sys

import celeryflow as cf


@cf.step
def same(x: int) -> int:
    return x


@cf.workflow
def one(x: int) -> int:
    return same(x)


print(one.submit(int(sys.argv[1])).result(), flush=True)

"""Cells that are run again with changes, and what ran of them."""

PIPELINE = """
RATE = 0.1

def times(x):
    return x * RATE

@cf.step
def extract(n):
    with executions.recorded():
        return list(range(n))

@cf.step
def clean(x, least=2):
    with executions.recorded():
        return max(x, least)

@cf.step
def train(xs):
    with executions.recorded():
        return sum(map(times, xs)) + 1

@cf.step
def report(fit, n):
    with executions.recorded():
        return f"{n}: {fit:.2f}"

@cf.workflow
def etl(n=4):
    return report(train(clean.map(extract(n))), n)
"""

ALL = {"extract": 1, "train": 1, "report": 1, **{("clean", i): 1 for i in range(4)}}

"""The benchmarks' own works give what they should; how fast is measured by ``run.py bench``."""

from concurrent.futures import ProcessPoolExecutor

import pytest
from conftest import Runtime

from benchmarks import works


def test_celeryflow_does_the_works(runtime: Runtime) -> None:
    does = works.with_celeryflow()
    assert (does["map"](5, 10), does["chain"](7, 20)) == (sum(range(5, 15)), 7)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_pool_does_the_same() -> None:
    with ProcessPoolExecutor(1) as pool:
        does = works.with_processes(pool)
        assert (does["map"](5, 10), does["chain"](7, 20)) == (sum(range(5, 15)), 7)

"""A worker that is told to stop gives its steps the time that it was started with."""

from __future__ import annotations

import json
from pathlib import Path

import deployments
import pytest


@pytest.mark.slow_fault
def test_worker_that_is_told_to_stop_gives_its_grace_and_hands_the_rest_back(tmp_path: Path) -> None:
    with (
        deployments.opened(tmp_path) as cluster,
        cluster.worker("-Q", "late", "-c", "2", "--grace", "4", log=tmp_path / "log") as late,
    ):
        run = cluster.notebook(
            """
            from pathlib import Path

            def work(seconds):
                Path(f"begun-{seconds}").touch()
                while not Path("stop").exists():
                    time.sleep(0.01)
                time.sleep(seconds)

            answer = cf.map(work, [2, 600], queue="late").id
            while len([*Path().glob("begun-*")]) < 2:
                time.sleep(0.01)
            """
        )
        late.terminate()
        (cluster.directory("client") / "stop").touch()
        assert late.wait(60) == 0
        (step,) = json.loads(cluster.cli("status", run, "--json").stdout)["steps"]
        events = [json.loads(line) for line in cluster.cli("events", run, "--jsonl").stdout.splitlines()]
        cluster.cli("cancel", run)

        assert (step["done"], step["failed"]) == (1, 0)
        assert [(event["items"], event["attempt"]) for event in events if event["event"] == "released"] == [([1, 2], 1)]

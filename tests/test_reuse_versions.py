"""Modules and packages that change under a run that takes results over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from executions import Executions

import celeryflow as cf

pytestmark = pytest.mark.usefixtures("runtime")


def test_modules_of_the_working_directory(ran: Any, kernel: Any, tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text(
        "RATE = 2\n\ndef twice(x):\n    return x * RATE\n\ndef other():\n    return 1\n"
    )
    (tmp_path / "inside.py").write_text("def add(x):\n    return x + 1\n")
    source = """
        import helpers

        @cf.step
        def by_value(x):
            return helpers.twice(x)

        @cf.step
        def imported_inside(x):
            from inside import add
            return add(x)

        @cf.workflow
        def wf():
            return by_value(1), imported_inside(1)

        run = wf.run(reuse="latest", check=True)
        answer = [run.result(), run.steps().reused.tolist(), [run.explain(step) for step in run.steps().step]]
        cf.shutdown()
    """
    assert kernel(source)[:2] == [[2, 2], [False, False]]
    assert kernel(source)[:2] == [[2, 2], [True, True]]
    (tmp_path / "helpers.py").write_text(
        "RATE = 3\n\ndef twice(x):\n    return x * RATE\n\ndef other():\n    return 22\n"
    )
    found = kernel(source)
    assert found[:2] == [[3, 2], [False, True]]
    assert "global 'RATE': 2 → 3" in found[2][0]
    (tmp_path / "helpers.py").write_text("RATE = 3\n\ndef twice(x):\n    return x * RATE\n")
    (tmp_path / "inside.py").write_text("def add(x):\n    return x + 10\n")
    found = kernel(source)
    assert found[:2] == [[3, 11], [True, False]]
    assert "version of inside" in found[2][1]


def test_another_version_of_a_package_runs_what_uses_it(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ran: Any, executions: Executions
) -> None:
    def install(version: str) -> None:
        for old in tmp_path.glob("*.dist-info"):
            old.rmdir()
        (tmp_path / f"some_package-{version}.dist-info").mkdir()

    (tmp_path / "some_package.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    install("1.0")

    @cf.step
    def uses() -> int:
        import some_package

        with executions.recorded():
            return len(some_package.__name__)

    @cf.step
    def does_not() -> int:
        with executions.recorded():
            return 1

    wf = cf.workflow(lambda: (uses(), does_not()), name="versions")
    before = wf.run(check=True)
    ran()
    assert wf.run(reuse=before).steps().reused.all()
    install("2.0")
    run = wf.run(reuse=before, check=True)
    assert ran() == {"uses": 1}
    assert run.explain("uses").reasons == (("version of some-package", "'1.0'", "'2.0'"),)

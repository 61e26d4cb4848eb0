"""Whose an embedded runtime's folder is, and where the state goes instead."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from kernels import Place, answers, ask, wait_for

from celeryflow.errors import CeleryflowWarning, RuntimeStartError
from celeryflow.runtime import embedded, places


def test_folder_from_elsewhere_is_moved_aside_and_said(place: Place) -> None:
    ask(place.join().settings.url, "SET", "theirs", "yes")
    embedded.down(place.directory)
    shutil.rmtree(place.state)  # as on another machine

    with pytest.warns(CeleryflowWarning, match="quarantined-1"):
        runtime = place.join()

    assert ask(runtime.settings.url, "GET", "theirs") == "$-1\r\n"
    assert list(place.directory.glob(".celeryflow.quarantined-1/data/appendonlydir"))


def test_record_in_a_folder_from_elsewhere_is_not_believed(place: Place) -> None:
    place.home.mkdir()
    (place.home / "runtime.json").write_text(json.dumps({"pid": os.getppid(), "socket": "/tmp/theirs/s.sock"}))

    assert embedded.status(place.directory) is None
    with pytest.warns(CeleryflowWarning, match="quarantined-1"):
        assert embedded.down(place.directory) is False


def test_link_in_place_of_the_folder_is_not_followed(place: Place, tmp_path: Path) -> None:
    place.home.symlink_to(tmp_path)

    with pytest.warns(CeleryflowWarning, match="quarantined-1"):
        place.join()

    assert not place.home.is_symlink()


def test_running_folder_is_not_moved_by_who_has_other_keys(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = place.join()
    monkeypatch.setenv("XDG_STATE_HOME", str(place.state / "other"))

    with pytest.raises(RuntimeStartError, match="XDG_STATE_HOME"):
        place.join()

    runtime.check()


def test_folder_of_another_user_is_left_to_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.home.mkdir()
    facts = place.home.lstat()
    others = os.stat_result((*facts[:4], facts.st_uid + 1, *facts[5:]))
    real = Path.lstat  # only root could give the folder away
    monkeypatch.setattr(Path, "lstat", lambda path: others if path == place.home else real(path))

    with pytest.warns(CeleryflowWarning, match="belongs to another user"):
        runtime = place.join()

    assert Path(runtime.settings.blobs).is_relative_to(place.state)
    assert list(place.home.iterdir()) == []
    embedded.down(place.directory)


def test_state_goes_to_the_state_directory_where_the_folder_cannot_be_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "read-only for a test", str(path))

    if os.geteuid() == 0:  # whom no mode stops
        real = Path.mkdir
        monkeypatch.setattr(Path, "mkdir", lambda p, *a, **k: (refuse if p == place.home else real)(p, *a, **k))
    place.directory.chmod(0o500)

    runtime = place.join()

    assert Path(runtime.settings.blobs).is_relative_to(place.state)
    assert not place.home.exists()
    place.directory.chmod(0o700)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs"])
def test_state_goes_to_the_state_directory_on_a_network_file_system(
    place: Place, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    local = psutil.disk_partitions(all=True)
    mounted = local[0]._replace(mountpoint=str(place.directory.parent), fstype=kind)
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [*local, mounted])

    assert places.is_shared(place.directory)
    assert not places.is_shared(Path("/"))
    with places.opened(place.directory) as home:
        assert home.is_relative_to(place.state)
    assert not place.home.exists()


@pytest.mark.parametrize("part", ["boot", "namespace"])
def test_living_owner_elsewhere_is_refused_and_a_dead_one_taken_over(place: Place, part: str) -> None:
    first = place.join()
    status = place.status()
    record = place.home / "runtime.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "host": "colossus", part: "another"}))

    with pytest.raises(RuntimeStartError, match="colossus"):
        place.join()
    with pytest.raises(RuntimeStartError, match="colossus"):
        embedded.down(place.directory)
    assert answers(first.settings.url)

    os.kill(status["keeper"], signal.SIGKILL)
    os.kill(status["server"], signal.SIGKILL)
    wait_for(lambda: not place.processes() or sys.platform != "linux")
    assert ask(place.join().settings.url, "PING") == "+PONG\r\n"

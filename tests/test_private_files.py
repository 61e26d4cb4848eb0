"""What the embedded runtime leaves in the file system and on the network: nothing that anybody else could open."""

from __future__ import annotations

from typing import Any

import pytest

SOURCE = """
    import stat
    from pathlib import Path

    import psutil

    os.umask({umask:#o})
    cf.connect(workers=1)
    from celeryflow.runtime.session import current

    run = cf.workflow(lambda: cf.step(lambda: (print("said"), os.urandom(400_000)))()).run(check=True)
    url = current().link.settings.url
    socket = Path(url.removeprefix("unix://"))
    places = [Path.cwd() / ".celeryflow", Path(os.environ["XDG_STATE_HOME"]) / "celeryflow", socket.parent]
    open_to_others, count = [], 0
    for place in places:
        for path in (place, *place.rglob("*")):
            status = path.lstat()
            count += 1
            if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode):
                open_to_others.append(f"{{path}} {{stat.filemode(status.st_mode)}}")

    def is_mine(process):
        try:
            return process.environ().get("XDG_STATE_HOME") == os.environ["XDG_STATE_HOME"]
        except psutil.Error:
            return False

    server = psutil.Process(int(current().link.store.client.info("server")["process_id"]))
    mine = [server, *(p for p in psutil.process_iter() if is_mine(p))]
    ports = [c.laddr for p in mine for c in p.net_connections(kind="inet")]
    answer = [open_to_others, ports, count, len({{p.pid for p in mine}}), stat.S_ISSOCK(socket.stat().st_mode)]
    cf.shutdown()
"""


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_embedded_runtime_is_private_whatever_the_umask_and_opens_no_port(umask: int, kernel: Any) -> None:
    open_to_others, ports, files, processes, is_socket = kernel(SOURCE.format(umask=umask), CELERYFLOW_VIEW="none")

    assert open_to_others == []
    assert ports == []
    assert is_socket
    assert files > 10
    assert processes >= 4  # server, kernel, keeper, worker and its process

"""run.py, used by its command line in a copy of the project, with a uv that only takes notes."""

import ast
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent

# Makes an environment of programs that print their name and arguments, and notes what it was asked and told.
UV = """
import json, os, pathlib, sys

arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("uv 99.0.0")
    sys.exit()
home = pathlib.Path(os.environ["HOME"])
with (home / "uv.log").open("a") as log:
    print(json.dumps({"arguments": arguments, "env": dict(os.environ)}), file=log)
if arguments[0] == "venv":
    [place] = [pathlib.Path(argument) for argument in arguments if argument.endswith(".new")]
    (place / "bin").mkdir(parents=True)
    for name in ("celeryflow", "jupyter-lab", "lint-imports", "mypy", "pip-audit", "python", "ruff"):
        program = place / "bin" / name
        program.write_text(f'#!/bin/sh\\necho {name} "$@"\\n')
        program.chmod(0o755)
elif (home / "uv-fails").exists():
    sys.exit((home / "uv-fails").read_text())
"""


@dataclass
class House:
    """A copy of the project's set-up, and a home that holds nothing else."""

    root: Path
    home: Path
    env: dict[str, str]

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "run.py"), *arguments],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **env)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def notes(self) -> list[dict]:
        log = self.home / "uv.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def builds(self) -> int:
        return sum(note["arguments"][0] == "venv" for note in self.notes())

    def uv_env(self) -> dict[str, str]:
        return self.notes()[-1]["env"]

    def give_uv(self, place: Path | None = None) -> None:
        (self.home / "uv.py").write_text(UV)
        write(place or self.home / "bin" / "uv", uv_program(self.home))

    def trust(self, wheel: bytes) -> None:
        """Let this copy of run.py take this wheel for uv's."""
        script = self.root / "run.py"
        digest = hashlib.sha256(wheel).hexdigest()
        script.write_text(re.sub(r'"[0-9a-f]{64}"', f'"{digest}"', script.read_text()))

    def wheel_names(self) -> list[str]:
        return re.findall(r'"(uv-[^"]+\.whl)"', (self.root / "run.py").read_text())


def uv_program(home: Path) -> str:
    return f'#!/bin/sh\nexec "{sys.executable}" "{home}/uv.py" "$@"\n'


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def house(tmp_path: Path) -> House:
    root, home = tmp_path / "house", tmp_path / "home"
    root.mkdir()
    home.mkdir()
    for name in ("run.py", "pyproject.toml", "requirements.lock", "requirements-bench.lock"):
        shutil.copy(PROJECT / name, root)
    env = {"HOME": str(home), "PATH": str(home / "bin"), "PIP_CONFIG_FILE": os.devnull}
    return House(root, home, env)


@pytest.fixture
def furnished(house: House) -> House:
    """A house with a working uv on PATH."""
    house.give_uv()
    return house


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def wheel(house: House) -> bytes:
    """A wheel that holds the uv that takes notes."""
    (house.home / "uv.py").write_text(UV)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("uv-0.data/scripts/uv", uv_program(house.home))
        archive.writestr("uv-0.dist-info/METADATA", "Name: uv\n")
    return buffer.getvalue()


@contextmanager
def index_server(pages: dict[str, bytes], login: str = "") -> Iterator[str]:
    """An index on this machine that asks for a login, if one is given; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = not login or self.headers["Authorization"] == f"Basic {b64encode(login.encode()).decode()}"
            self.send_response((200 if self.path in pages else 404) if is_known else 401)
            self.end_headers()
            self.wfile.write(pages.get(self.path, b"") if is_known else b"")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{login}{'@' if login else ''}127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("run.py: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


# --- the command line ----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check", "more"]])
def test_wrong_use_shows_the_usage_and_exits_2(house: House, arguments: list[str]) -> None:
    done = house.run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: python3 run.py COMMAND" in done.stderr


def test_help_shows_the_usage(house: House) -> None:
    done = house.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: python3 run.py COMMAND" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "handed_over"),
    [
        (["demo", "--only", "compare"], "celeryflow demo --only compare"),
        (["test", "-k", "a b"], "python -m pytest -k a b"),
        (["faults", "--repeats", "2"], "python tests/faults --repeats 2"),
        (["audit"], "pip-audit --requirement requirements.lock --disable-pip --require-hashes --strict"),
        (["lab", "--no-browser"], "jupyter-lab notebooks --no-browser"),
        (["bench", "chain"], "python -m benchmarks chain"),
    ],
)
def test_a_command_is_handed_over_with_its_arguments(furnished: House, arguments: list[str], handed_over: str) -> None:
    done = furnished.run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{handed_over}\n"


def test_check_runs_every_checker_and_fails_if_one_does(furnished: House) -> None:
    assert furnished.run("check").returncode == 0
    write(furnished.root / ".venv" / "bin" / "ruff", "#!/bin/sh\nexit 3\n")
    done = furnished.run("check")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("$")] == [
        "$ ruff check",
        "$ ruff format --check",
        "$ mypy",
        "$ lint-imports",
    ]


# --- the Python it is started with ---------------------------------------------------------


def test_an_old_python_can_read_the_script() -> None:
    ast.parse((PROJECT / "run.py").read_text(), feature_version=(3, 7))


def test_an_old_python_is_told_what_is_needed(house: House) -> None:
    pretend = "import runpy, sys; sys.version_info = (3, 6, 15); runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", pretend, str(house.root / "run.py")], capture_output=True, text=True, check=False
    )
    assert_one_line(done, "needs Python 3.11 or newer")


# --- making the environment ----------------------------------------------------------------


def test_the_second_call_finds_all_in_place(furnished: House) -> None:
    furnished.run("demo")
    notes = len(furnished.notes())
    assert furnished.run("demo").returncode == 0
    assert len(furnished.notes()) == notes


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_file_makes_the_environment_anew(furnished: House, name: str) -> None:
    furnished.run("demo")
    with (furnished.root / name).open("a") as file:
        file.write("# changed\n")
    assert furnished.run("demo").returncode == 0
    assert furnished.builds() == 2


def test_a_moved_project_makes_its_environment_anew(furnished: House) -> None:
    furnished.run("demo")
    furnished.root = furnished.root.rename(furnished.root.with_name("elsewhere"))
    assert furnished.run("demo").returncode == 0
    assert furnished.builds() == 2


def test_the_lock_alone_decides_what_is_installed(furnished: House) -> None:
    furnished.run("test")
    _, install, editable = (note["arguments"] for note in furnished.notes())
    assert "--require-hashes" in install
    assert install[install.index("--requirements") + 1] == "requirements.lock"
    assert install[install.index("--build-constraints") + 1] == "requirements.lock"
    assert {"--no-deps", "--no-build-isolation", "--editable"} <= set(editable)
    assert furnished.uv_env()["UV_PYTHON_DOWNLOADS"] == "never"


def test_the_benchmarks_have_an_environment_of_their_own(furnished: House) -> None:
    furnished.run("bench")
    assert (furnished.root / ".venv-bench").is_dir()
    assert not (furnished.root / ".venv").exists()
    assert "requirements-bench.lock" in furnished.notes()[1]["arguments"]


def test_a_half_made_environment_is_not_used(furnished: House) -> None:
    write(furnished.root / ".venv" / "bin" / "celeryflow", "#!/bin/sh\necho half-made\n")
    assert furnished.run("demo").stdout == "celeryflow demo\n"


def test_a_failed_installation_leaves_one_line_and_nothing_else(furnished: House) -> None:
    (furnished.home / "uv-fails").write_text(
        "error: Failed to install: some.whl\n  cause: Failed\n  cause: to /x: No space left on device\n"
    )
    assert_one_line(furnished.run("demo"), "Failed to install: some.whl", "No space left on device")
    assert not list(furnished.root.glob(".venv*/"))
    (furnished.home / "uv-fails").unlink()
    assert furnished.run("demo").stdout == "celeryflow demo\n"


def test_a_failed_installation_keeps_the_environment_that_was_there(furnished: House) -> None:
    furnished.run("demo")
    lock = (furnished.root / "requirements.lock").read_text()
    (furnished.root / "requirements.lock").write_text(f"{lock}# changed\n")
    (furnished.home / "uv-fails").write_text("error: no network\n")
    assert_one_line(furnished.run("demo"), "no network")
    (furnished.root / "requirements.lock").write_text(lock)
    assert furnished.run("demo").stdout == "celeryflow demo\n"


def test_a_folder_that_cannot_be_written_gets_one_line(furnished: House) -> None:
    (furnished.root / ".venv.lock").mkdir()
    assert_one_line(furnished.run("demo"), ".venv.lock")


def test_two_first_calls_at_once_make_one_environment(furnished: House) -> None:
    first, second = furnished.start("demo", "1"), furnished.start("demo", "2")
    assert first.communicate() == ("celeryflow demo 1\n", "")
    assert second.communicate() == ("celeryflow demo 2\n", "")
    assert furnished.builds() == 1


# --- pip's settings ------------------------------------------------------------------------

PIP_CONF = "[global]\nindex-url = http://main/simple\nextra-index-url =\n    http://b/simple\n    http://c/simple\n"


@pytest.mark.parametrize("place", [".pip/pip.conf", ".config/pip/pip.conf", "own.conf"])
def test_the_index_is_found_in_a_file(furnished: House, place: str) -> None:
    file = furnished.home / place
    write(file, PIP_CONF)
    furnished.run("demo", PIP_CONFIG_FILE=str(file) if place == "own.conf" else "")
    assert furnished.uv_env()["UV_DEFAULT_INDEX"] == "http://main/simple"
    assert furnished.uv_env()["UV_INDEX"] == "http://main/simple http://b/simple http://c/simple"
    assert furnished.uv_env()["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_an_own_file_replaces_the_user_s(furnished: House) -> None:
    write(furnished.home / ".pip" / "pip.conf", PIP_CONF)
    (furnished.home / "own.conf").write_text("[global]\nindex-url = http://own/simple\n")
    furnished.run("demo", PIP_CONFIG_FILE=str(furnished.home / "own.conf"))
    assert furnished.uv_env()["UV_DEFAULT_INDEX"] == "http://own/simple"
    assert "UV_INDEX" not in furnished.uv_env()


def test_pip_s_variables_are_stronger_than_its_files(furnished: House) -> None:
    (furnished.home / "own.conf").write_text(PIP_CONF)
    furnished.run(
        "demo",
        PIP_CONFIG_FILE=str(furnished.home / "own.conf"),
        PIP_INDEX_URL="http://variable/simple",
        PIP_EXTRA_INDEX_URL="http://more/simple",
        PIP_CERT="/some/cert.pem",
    )
    assert furnished.uv_env()["UV_DEFAULT_INDEX"] == "http://variable/simple"
    assert furnished.uv_env()["UV_INDEX"] == "http://variable/simple http://more/simple"
    assert furnished.uv_env()["SSL_CERT_FILE"] == "/some/cert.pem"


def test_a_file_s_install_section_is_stronger_than_its_global_one(furnished: House) -> None:
    (furnished.home / "own.conf").write_text("[install]\nindex_url = http://install/simple\n" + PIP_CONF)
    furnished.run("demo", PIP_CONFIG_FILE=str(furnished.home / "own.conf"))
    assert furnished.uv_env()["UV_DEFAULT_INDEX"] == "http://install/simple"


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_uv_s_variables_are_stronger_than_pip_s(furnished: House, variable: str) -> None:
    furnished.run("demo", PIP_INDEX_URL="http://pip/simple", **{variable: "http://uv/simple"})
    env = furnished.uv_env()
    assert [value for name, value in env.items() if name.startswith("UV_") and "http" in value] == ["http://uv/simple"]


def test_without_settings_uv_is_told_none(furnished: House) -> None:
    furnished.run("demo")
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "SSL_CERT_FILE"} & set(furnished.uv_env())


def test_a_folder_of_wheels_that_is_not_there_is_passed_over(furnished: House, tmp_path: Path) -> None:
    furnished.run("demo", PIP_FIND_LINKS=f"{tmp_path} {tmp_path}/nothing http://wheels/")
    assert furnished.uv_env()["UV_FIND_LINKS"] == f"{tmp_path},http://wheels/"


def test_broken_settings_get_one_line(furnished: House) -> None:
    (furnished.home / "own.conf").write_text("index-url = http://main/simple\n")
    assert_one_line(furnished.run("demo", PIP_CONFIG_FILE=str(furnished.home / "own.conf")), "own.conf")


# --- uv itself -----------------------------------------------------------------------------


def test_no_network_gets_one_line(house: House, closed_port: int) -> None:
    done = house.run("demo", PIP_INDEX_URL=f"http://user:secret@127.0.0.1:{closed_port}/simple")
    assert_one_line(done, f"http://127.0.0.1:{closed_port}/simple/uv/ cannot be read", "Check the network")
    assert "secret" not in done.stderr
    assert not list(house.root.glob(".venv/"))


def test_an_index_without_uv_gets_one_line(house: House, tmp_path: Path) -> None:
    assert_one_line(house.run("demo", PIP_INDEX_URL=f"file://{tmp_path}/nothing"), "no index has its wheel")


def test_a_wheel_with_a_wrong_hash_is_refused(house: House, tmp_path: Path, wheel: bytes) -> None:
    for name in house.wheel_names():
        (tmp_path / name).write_bytes(wheel)
    done = house.run("demo", PIP_FIND_LINKS=str(tmp_path), PIP_INDEX_URL=f"file://{tmp_path}/nothing")
    assert_one_line(done, "wrong hash")
    assert house.notes() == []


def test_a_broken_uv_is_passed_over(house: House, tmp_path: Path, wheel: bytes) -> None:
    write(house.home / "bin" / "uv", "#!/bin/sh\necho 'no such command' >&2; exit 127\n")
    house.trust(wheel)
    for name in house.wheel_names():
        (tmp_path / name).write_bytes(wheel)
    assert house.run("demo", PIP_FIND_LINKS=str(tmp_path)).stdout == "celeryflow demo\n"


def test_uv_comes_from_a_file_index(house: House, tmp_path: Path, wheel: bytes) -> None:
    house.trust(wheel)
    (tmp_path / "files").mkdir()
    (tmp_path / "simple" / "uv").mkdir(parents=True)
    names = house.wheel_names()
    for name in names:
        (tmp_path / "files" / name).write_bytes(wheel)
    page = "".join(f'<a href="../../files/{name}#sha256=0">{name}</a>\n' for name in names)
    (tmp_path / "simple" / "uv" / "index.html").write_text(page)
    done = house.run("demo", PIP_EXTRA_INDEX_URL=f"file://{tmp_path}/simple", PIP_INDEX_URL=f"file://{tmp_path}/no")
    assert (done.stdout, done.stderr) == ("celeryflow demo\n", "")


@pytest.mark.parametrize("login", ["", "user:secret"])
@pytest.mark.parametrize("form", ["html", "json"])
def test_uv_comes_from_an_index(house: House, wheel: bytes, form: str, login: str) -> None:
    house.trust(wheel)
    names = house.wheel_names()
    if form == "html":
        page = "".join(f"<A HREF = '/files/{name}?a=1&amp;b=2#sha256=0'>{name}</A>\n" for name in names)
        files = {f"/files/{name}?a=1&b=2": wheel for name in names}
    else:
        page = json.dumps({"files": [{"filename": name, "url": f"../../files/{name}"} for name in names]})
        files = {f"/files/{name}": wheel for name in names}
    with index_server({"/simple/uv/": page.encode(), **files}, login) as index:
        done = house.run("demo", PIP_INDEX_URL=index)
    assert (done.stdout, done.stderr) == ("celeryflow demo\n", "")


def test_a_fetched_uv_is_kept(house: House, tmp_path: Path, wheel: bytes) -> None:
    house.trust(wheel)
    for name in house.wheel_names():
        (tmp_path / name).write_bytes(wheel)
    house.run("demo", PIP_FIND_LINKS=str(tmp_path))
    done = house.run("bench", PIP_INDEX_URL=f"file://{tmp_path}/nothing")
    assert (done.stdout, done.stderr) == ("python -m benchmarks\n", "")


def test_bytecode_is_kept_whatever_the_environment_says(furnished: House) -> None:
    furnished.run("test")
    write(furnished.root / ".venv" / "bin" / "python", "#!/bin/sh\nset\n")
    done = furnished.run("test", PYTHONDONTWRITEBYTECODE="1")
    assert "PWD=" in done.stdout
    assert "PYTHONDONTWRITEBYTECODE" not in done.stdout

#!/usr/bin/env python3
"""Sets celeryflow up in this folder, then runs one of its commands. Nothing but Python is needed.

usage: python3 run.py COMMAND [ARGUMENT ...]

  demo   see every pattern and a comparison at work
  test   run the tests
  faults run every fault test, however long; --repeats N does so N times
  check  run the linters, the type checker and the import rules (takes no arguments)
  audit  look up known vulnerabilities of what is locked (needs pypi.org)
  lab    open the notebooks in JupyterLab
  bench  measure against Celery, Dask, Ray and a process pool

Every further argument goes to the command: python3 run.py test -k graph
"""

import base64
import configparser
import hashlib
import html
import http.client
import io
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

# The grammar of this file stays that of Python 3.6, so that an old Python gets as far as these lines.
if sys.version_info < (3, 11):
    sys.exit(f"run.py: celeryflow needs Python 3.11 or newer; {sys.executable} is {platform.python_version()}.")
if os.name != "posix":
    sys.exit("run.py: celeryflow runs on Linux, macOS and WSL2, not on Windows itself.")

import fcntl

ROOT = Path(__file__).resolve().parent
PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

# Each command: its environment, and the command lines to run in it.
COMMANDS = {
    "demo": (".venv", [["celeryflow", "demo"]]),
    "test": (".venv", [["python", "-m", "pytest"]]),
    "faults": (".venv", [["python", "tests/faults"]]),
    "check": (".venv", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["lint-imports"]]),
    # Strict: a package that the service does not know was not audited.
    "audit": (
        ".venv",
        [["pip-audit", "--requirement", "requirements.lock", "--disable-pip", "--require-hashes", "--strict"]],
    ),
    "lab": (".venv", [["jupyter-lab", "notebooks"]]),
    "bench": (".venv-bench", [["python", "-m", "benchmarks"]]),
}
LOCKS = {".venv": "requirements.lock", ".venv-bench": "requirements-bench.lock"}

# What pip asks where nothing else is set.
DEFAULT_INDEX = "https://pypi.org/simple"
OLDEST_UV = (0, 5)
UV_WHEELS = {
    "uv-0.13.8-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": (
        "e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984"
    ),
    "uv-0.13.8-py3-none-musllinux_1_1_x86_64.whl": ("29451c60f5e8b07403e0a175d5229efc36b0289b34143ff4aaa499a5dd52553a"),
    "uv-0.13.8-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl": (
        "0b3e8b1a4f5e405e31e2ff33de8af4744831e9f7338539671efbd8c3c94e791d"
    ),
    "uv-0.13.8-py3-none-macosx_10_12_x86_64.whl": ("b7124ca1956ec2e476a1003ea5715a15f0266afaec37f4dc9c6972ba8183e6d1"),
    "uv-0.13.8-py3-none-macosx_11_0_arm64.whl": ("62b6943c7fd64fac6854f780bea6e0359e5a5bc3241f83ee357bb38276afac49"),
}


class SetUpError(Exception):
    """The environment could not be made; the message is one line for the user."""


def main(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if not arguments or arguments[0] not in COMMANDS or (arguments[0] == "check" and arguments[1:]):
        print(__doc__, file=sys.stderr)
        return 2
    name, steps = COMMANDS[arguments[0]]
    try:
        set_up(name)
        return run(ROOT / name / "bin", [*steps[:-1], [*steps[-1], *arguments[1:]]])
    except KeyboardInterrupt:
        return 130
    except (SetUpError, OSError, configparser.Error, UnicodeError) as error:
        print("run.py:", without_password(" ".join(str(error).split())), file=sys.stderr)
        return 1


def run(programs: Path, steps: list[list[str]]) -> int:
    """Hand over to the only step, or run all of them and tell whether one failed."""
    # As `activate` does.
    os.environ["VIRTUAL_ENV"] = str(programs.parent)
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.environ.pop("PYTHONHOME", None)
    # A run starts many processes: without bytecode each of them would compile all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.chdir(ROOT)
    if len(steps) == 1:
        os.execv(programs / steps[0][0], steps[0])
    has_failed = False
    for step in steps:
        print("$", *step, flush=True)
        has_failed |= subprocess.run([programs / step[0], *step[1:]], check=False).returncode != 0
    return int(has_failed)


# The environment: made beside its place, stamped, and only then moved there.


def set_up(name: str) -> None:
    if is_current(name):
        return
    with (ROOT / f"{name}.lock").open("w") as lock:
        # A uv that outlives its killed parent holds the lock on.
        os.set_inheritable(lock.fileno(), True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current(name):
            build(name)


def is_current(name: str) -> bool:
    try:
        return (ROOT / name / "run-stamp").read_text() == stamp(name)
    except FileNotFoundError:
        return False


def stamp(name: str) -> str:
    """A digest of all that an environment is made from: another one means to make it anew."""
    parts = [str(ROOT).encode(), PYTHON.encode(), sys.version.encode()]
    parts += [(ROOT / file).read_bytes() for file in (LOCKS[name], "pyproject.toml")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def build(name: str) -> None:
    place, fresh, stale = (ROOT / f"{name}{suffix}" for suffix in ("", ".new", ".old"))
    if sys.stderr.isatty():
        print(f"run.py: making {name}, once; this takes up to a minute ...", file=sys.stderr)
    env = uv_settings()
    uv = find_uv(env)
    into = ["--python", str(fresh / "bin" / "python")]
    discard(fresh)
    discard(stale)
    try:
        call([*uv, "venv", "--relocatable", "--python", PYTHON, str(fresh)], env)
        # The lock's hashes hold for what builds a source package, too.
        lock = ["--require-hashes", "--build-constraints", LOCKS[name], "--requirements", LOCKS[name]]
        call([*uv, "pip", "install", *into, *lock], env)
        call([*uv, "pip", "install", *into, "--no-deps", "--no-build-isolation", "--editable", "."], env)
        (fresh / "run-stamp").write_text(stamp(name))
        if place.exists():
            place.rename(stale)
        fresh.rename(place)
    finally:
        discard(fresh)
        discard(stale)


def discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def call(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(
        [*command, "--quiet"],
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        close_fds=False,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SetUpError(f"setting up failed: {one_line(done.stderr or done.stdout)}")


def one_line(text: str) -> str:
    """What happened and its last cause, without uv's ornaments."""
    ornaments = r"^[^\w`/]*((error|hint|cause|caused by):)?\s*"
    lines = [re.sub(ornaments, "", line, flags=re.I).strip() for line in text.splitlines()]
    parts = [line for line in dict.fromkeys(lines) if line]
    last = [part.rpartition(": ")[2] for part in parts[2:][-1:]]
    return ": ".join([*parts[:2], *last]) or "uv does not say why"


# uv: the user's own, else a wheel with a known hash.


def find_uv(env: dict[str, str]) -> list[str]:
    own = ROOT / ".venv-tools" / "uv"
    for candidate in ([shutil.which("uv") or "uv"], [sys.executable, "-m", "uv"], [str(own)]):
        if is_usable(candidate):
            return candidate
    own.parent.mkdir(exist_ok=True)
    fresh = own.with_name(f"uv.{os.getpid()}")
    try:
        with zipfile.ZipFile(io.BytesIO(fetch_uv(env))) as wheel:
            [binary] = [name for name in wheel.namelist() if name.endswith(".data/scripts/uv")]
            fresh.write_bytes(wheel.read(binary))
        fresh.chmod(0o755)
        fresh.replace(own)
    finally:
        fresh.unlink(missing_ok=True)
    return [str(own)]


def is_usable(uv: list[str]) -> bool:
    try:
        answer = subprocess.run([*uv, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = re.match(r"uv (\d+)\.(\d+)", answer.stdout)
    return answer.returncode == 0 and version is not None and tuple(map(int, version.groups())) >= OLDEST_UV


def fetch_uv(env: dict[str, str]) -> bytes:
    libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    system = "macosx" if sys.platform == "darwin" else libc
    wheels = [name for name in UV_WHEELS if system in name and f"_{platform.machine()}" in name]
    problems = [] if wheels else [f"no wheel is known for {platform.system()} on {platform.machine()}"]
    for page in uv_pages(env):
        for wheel in wheels:
            try:
                for address in links(page, wheel, env):
                    data = read(address, env)[0]
                    if hashlib.sha256(data).hexdigest() == UV_WHEELS[wheel]:
                        return data
                    problems.append(f"{address} has a wrong hash and was refused")
            except (OSError, http.client.HTTPException, ValueError) as error:
                problems.append(f"{page} cannot be read ({error})")
    reason = "; ".join(dict.fromkeys(problems)) or "no index has its wheel"
    raise SetUpError(f"uv cannot be fetched: {reason}. Check the network and pip's settings, or install uv.")


def uv_pages(env: dict[str, str]) -> list[str]:
    """Folders and pages that may name uv's wheel, in the order to ask them in."""
    folders = env.get("UV_FIND_LINKS", "").split(",")
    indexes = f"{env.get('UV_INDEX', '')} {env.get('UV_EXTRA_INDEX_URL', '')} {main_index(env)}".split()
    # uv allows `name=address` for an index.
    pages = [re.sub(r"^[\w.-]+=", "", index).rstrip("/") + "/uv/" for index in indexes]
    return [as_url(place) for place in dict.fromkeys([*folders, *pages]) if place]


def as_url(place: str) -> str:
    return place if "://" in place else Path(place).expanduser().absolute().as_uri()


def local(address: str) -> Path:
    return Path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path))


def is_there(address: str) -> bool:
    return not address.startswith("file:") or local(address).exists()


def links(page: str, wheel: str, env: dict[str, str]) -> list[str]:
    """Addresses that a folder, or an index page in HTML or JSON, gives for the wheel."""
    if page.startswith("file:") and local(page).is_dir():
        if (local(page) / wheel).is_file():
            return [(local(page) / wheel).as_uri()]
        page = (local(page) / "index.html").as_uri()
    if not is_there(page):
        return []
    data, base = read(page, env)
    targets = re.findall(r"""(?:href\s*=|"url"\s*:)\s*["']([^"']+)["']""", data.decode(), re.I)
    addresses = [urllib.parse.urljoin(base, html.unescape(target).replace("\\/", "/")) for target in targets]
    account, at, host = urllib.parse.urlsplit(page).netloc.rpartition("@")
    return [
        each.replace(f"://{host}/", f"://{account}{at}{host}/", 1)
        for each in addresses
        if urllib.parse.urlsplit(each).path.endswith(f"/{wheel}")
    ]


def read(address: str, env: dict[str, str]) -> tuple[bytes, str]:
    """The content, and the address that it came from in the end."""
    parts = urllib.parse.urlsplit(address)
    request = urllib.request.Request(without_password(address))
    request.add_header("Accept", "text/html, application/vnd.pypi.simple.v1+json;q=0.5, */*;q=0.1")
    if parts.username:
        login = urllib.parse.unquote(f"{parts.username}:{parts.password or ''}")
        # Not for the host that a redirection leads to.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    # Python on a Mac may know no certificates; the system's are in the last of these files.
    files = (env.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, "/etc/ssl/cert.pem")
    cafile = next((file for file in files if file and Path(file).is_file()), None)
    context = ssl.create_default_context(cafile=cafile)
    with urllib.request.urlopen(request, timeout=30, context=context) as reply:
        return reply.read(), reply.geturl()


def without_password(text: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://", text)


# pip's settings, found without pip.


def uv_settings() -> dict[str, str]:
    """The environment for uv: the user's own, and in it what pip's settings say and uv's do not."""
    env = {"UV_INDEX_STRATEGY": "unsafe-best-match", **os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    pip = pip_settings()
    if "index-url" in pip and not (env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL")):
        env["UV_DEFAULT_INDEX"] = pip["index-url"]
    if "extra-index-url" in pip and not (env.get("UV_INDEX") or env.get("UV_EXTRA_INDEX_URL")):
        # Where two indexes hold one version, uv takes the first one's file even if its hash is wrong, and pip
        # the right one. That is the main index's as a rule, so here it comes first.
        env["UV_INDEX"] = " ".join([main_index(env), *pip["extra-index-url"].split()])
    if "find-links" in pip and not env.get("UV_FIND_LINKS"):
        # Folders that are not there: pip passes over them, uv would stop.
        folders = pip["find-links"].split()
        env["UV_FIND_LINKS"] = ",".join(folder for folder in folders if is_there(as_url(folder)))
    if "cert" in pip and not env.get("SSL_CERT_FILE"):
        env["SSL_CERT_FILE"] = pip["cert"]
    return env


def main_index(env: dict[str, str]) -> str:
    return env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or DEFAULT_INDEX


def pip_settings() -> dict[str, str]:
    """pip's settings by name: its files in their order, then its environment variables."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, "variables": {}}
    for file in pip_files():
        parser = configparser.RawConfigParser()
        parser.read(file, encoding="utf-8")
        for section in parser.sections():
            sections.get(section, {}).update(parser.items(section))
    sections["variables"] = {key[4:].lower(): value for key, value in os.environ.items() if key[:4] == "PIP_"}
    found = [item for section in sections.values() for item in section.items()]
    return {key.replace("_", "-"): value for key, value in found if value}


def pip_files() -> list[str]:
    """Where pip looks for its settings, the strongest last."""
    env = os.environ
    own, home = env.get("PIP_CONFIG_FILE", ""), env.get("HOME", "/")
    if own == os.devnull:
        return []
    shared = [f"{folder}/pip/pip.conf" for folder in env.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)]
    user = [f"{home}/.pip/pip.conf", f"{env.get('XDG_CONFIG_HOME') or f'{home}/.config'}/pip/pip.conf"]
    if sys.platform == "darwin":
        shared = ["/Library/Application Support/pip/pip.conf"]
        user.append(f"{home}/Library/Application Support/pip/pip.conf")
    if Path(own).is_file():
        user = []
    return [*shared, "/etc/pip.conf", *user, f"{sys.prefix}/pip.conf", own]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Passwords and keys: where they may come from, and that nothing shows them."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import celeryflow as cf
from celeryflow.cli import main
from celeryflow.config import Settings
from celeryflow.masking import mask, masked
from celeryflow.runtime.session import current

NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def own_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("URL", "KEY", "KEY_FILE", "INSECURE"):
        monkeypatch.delenv(f"CELERYFLOW_{name}", raising=False)
    yield


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text(f"{secrets.token_hex(32)}\n")
    return path


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pa%2Fss@host:6379/0", "redis://***@host:6379/0"),
        ("rediss://ada:pa@ss@host", "rediss://***@host"),
        ("redis://host/0?password=pass", "redis://host/0?password=***"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_address_is_shown_without_user_password_and_query(url: str, shown: str) -> None:
    assert mask(url) == shown
    assert shown in repr(Settings(url=url))


def test_password_of_an_address_is_left_out_of_texts_as_it_is_written_and_as_it_is_sent() -> None:
    Settings(url='redis://:p%40ss"word@host')

    assert masked('sent p@ss"word, written p%40ss"word, quoted "p@ss\\"word"') == 'sent ***, written ***, quoted "***"'


def test_keys_come_from_the_environment_and_no_repr_or_error_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = secrets.token_hex(32), secrets.token_hex(32)
    monkeypatch.setenv("CELERYFLOW_KEY", f"{first}, {second}")

    settings = Settings.read()

    assert settings.keys() == (bytes.fromhex(first), bytes.fromhex(second))
    assert first not in repr(settings)
    assert masked(f"key {second}") == "key ***"


def test_key_file_that_is_named_counts_before_a_key_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, key_file: Path
) -> None:
    monkeypatch.setenv("CELERYFLOW_KEY", secrets.token_hex(32))

    assert Settings.read(key_file=str(key_file)).keys() == (bytes.fromhex(key_file.read_text()),)


def test_two_sources_of_keys_in_the_environment_are_refused(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    monkeypatch.setenv("CELERYFLOW_KEY", secrets.token_hex(32))
    monkeypatch.setenv("CELERYFLOW_KEY_FILE", str(key_file))

    with pytest.raises(cf.ConfigError, match=r"CELERYFLOW_KEY and CELERYFLOW_KEY_FILE are both set\. Keep one"):
        Settings.read()


@pytest.mark.parametrize("given", [{"key": "5ec4e7" * 10}, {"key_file": "5ec4e7ab" * 8}], ids=["short", "no path"])
def test_wrong_key_is_named_by_its_place_and_not_shown(given: dict[str, str]) -> None:
    settings = Settings(url="rediss://host", **given)

    with pytest.raises(cf.ConfigError, match=r"64 hex digits|not the path of a file") as caught:
        settings.keys()

    assert "5ec4e7" not in f"{caught.value}{settings!r}"


def test_unsafe_connect_warns_each_time_from_the_same_line() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            with pytest.raises(cf.ServerUnreachableError):
                cf.connect(f"redis://:hidden-word@{NOBODY}", insecure=True)

    told = [str(warning.message) for warning in caught if warning.category is cf.InsecureWarning]
    assert len(told) == 2
    assert all("without TLS" in text and "without a key" in text for text in told)
    assert {warning.filename for warning in caught} == {__file__}
    assert "hidden-word" not in "".join(told)


def test_key_file_that_others_can_read_is_warned_of(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key_file.chmod(0o640)

    with pytest.raises(cf.ServerUnreachableError):
        cf.connect("unix:///nowhere.sock", key_file=str(key_file))

    assert f"{key_file} is open to other users (mode 640)" in caplog.text
    assert f"chmod 600 {key_file}" in caplog.text


@pytest.mark.parametrize(
    "url", ["redis://:wrong/password@host:6379", "redis://:wrong#password@host", "ftp://:wrongpassword@host"]
)
def test_password_that_spoils_its_address_is_not_told(url: str, key_file: Path) -> None:
    with pytest.raises(cf.CeleryflowError) as caught, warnings.catch_warnings(action="ignore"):
        cf.connect(url, key_file=str(key_file), insecure=True)

    assert "wrong" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.filterwarnings("ignore::celeryflow.InsecureWarning")
@pytest.mark.parametrize("command", ["status", "health", "worker -c 1"])
def test_command_that_finds_no_server_shows_no_secret(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = secrets.token_hex(32)
    monkeypatch.setenv("CELERYFLOW_KEY", key)

    assert main([*command.split(), "--url", f"redis://:hidden-word@{NOBODY}", "--insecure"]) == 3

    told = capsys.readouterr().err
    assert f"no server answers at redis://***@{NOBODY}" in told
    assert "hidden-word" not in told
    assert key not in told


def test_fault_of_a_command_is_told_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Settings(url="redis://:hidden-word@host")

    def broken(*_: object) -> int:
        raise RuntimeError("redis://:hidden-word@host broke")

    monkeypatch.setattr("os.open", broken)
    assert main(["keygen", str(tmp_path / "new")]) == 1

    assert "RuntimeError: redis://:***@host broke" in capsys.readouterr().err


@pytest.mark.usefixtures("runtime")
def test_session_shows_where_it_is_and_no_secret() -> None:
    session = current()
    key = Path(session.link.settings.key_file).read_text().strip()

    assert repr(session) == f"<Session at {session.link.settings.url}, prefix 'celeryflow'>"
    assert key not in f"{session!r}{session.link!r}{vars(session.link)!r}"

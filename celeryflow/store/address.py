"""Where a server is, and the one TLS configuration that all connections to it are made with."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

from redis.connection import parse_url

from celeryflow.errors import ConfigError, ServerError, ServerUnreachableError
from celeryflow.masking import mask, masked

PROBE_S = 1.0

_ISSUER_UNKNOWN = {18, 19, 20, 21}
"""OpenSSL's codes of certificates that no known authority has signed (``X509_V_ERR_…``)."""


def parse(url: str) -> dict[str, Any]:
    """What an address says: host, port, path, db, username, password, and the options of its query.

    Raises
    ------
    ServerError
        If it is none.
    """
    try:
        return dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise no_address(url, error) from None


def no_address(url: str, error: Exception) -> ServerError:
    """Say that it is none. What a library has to say of a port may be a part of the password."""
    why = (
        f": {masked(str(error))}"
        if "@" not in url or not isinstance(error, ValueError)
        else ". In a user or password the characters : / ? # @ are written as %3A, %2F, %3F, %23, %40"
    )
    return ServerError(f"{mask(url)!r} is not an address of a server{why}.")


def tls(url: str) -> dict[str, Any]:
    """Options for every client library: certificate and host name are checked, against the system's authorities.

    ``?ssl_ca_certs=FILE`` at the end of an address adds an authority of one's own, and ``ssl_certfile`` with
    ``ssl_keyfile`` are this side's certificate. Empty where the address is not of TLS.

    Raises
    ------
    ConfigError
        If one of the files cannot be read.
    """
    if not url.startswith("rediss://"):
        return {}
    given = {name: value for name, value in parse(url).items() if name.startswith("ssl_")}
    try:
        if "ssl_ca_certs" in given:
            ssl.create_default_context(cafile=given["ssl_ca_certs"])
        if "ssl_certfile" in given or "ssl_keyfile" in given:
            own: Any = (given.get(name) for name in ("ssl_certfile", "ssl_keyfile", "ssl_password"))
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(*own)
    except (OSError, TypeError) as error:
        files = ", ".join(f"{n}={given[n]!r}" for n in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") if n in given)
        raise ConfigError(f"{mask(url)}: cannot read certificates and keys from {files}: {error}.") from None
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **given}


def is_private(url: str) -> bool:
    """Whether nobody between here and the server can read or change what is said, or play the server."""
    options = tls(url)
    checks = options.get("ssl_cert_reqs") == "required" and options.get("ssl_check_hostname") is True
    return checks or url.startswith("unix://")


def distrust(url: str, error: BaseException | None) -> str:
    """Say what is wrong with the server's certificate; empty if that is not what the error tells of."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__context__
    if error is None:
        return ""
    hint = " Name the authority that has signed it: ?ssl_ca_certs=FILE at the end of the address."
    found = hint if error.verify_code in _ISSUER_UNKNOWN else ""
    return f"the server at {mask(url)} has a certificate that is refused: {error.verify_message.rstrip('.')}.{found}"


def check_scheme(url: str) -> None:
    """Ask the port itself, of a server with which no conversation began: one side may speak TLS and the other not.

    Raises
    ------
    ServerUnreachableError
        If that is so; it says how the address begins.
    """
    place = parse(url)
    where = str(place.get("host", "localhost")), int(place.get("port", 6379))
    if url.startswith("rediss://") and _answers_plainly(where):
        raise ServerUnreachableError(f"the server at {mask(url)} speaks no TLS on that port. Is it another port?")
    if url.startswith("redis://") and _speaks_tls(where):
        raise ServerUnreachableError(f"the server at {mask(url)} speaks TLS on that port: its address is rediss://…")


def _answers_plainly(where: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(where, PROBE_S) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(1) in (b"+", b"-")
    return False


def _speaks_tls(where: tuple[str, int]) -> bool:
    """Nothing is said to it, so it need not prove who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        suppress(OSError),
        socket.create_connection(where, PROBE_S) as connection,
        context.wrap_socket(connection) as wrapped,
    ):
        return wrapped.version() is not None
    return False

"""Asking whether a SuperLink answers at an address, before anything is sent there."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from fedcomp.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 10.0
_DIGITS = 5
"""No port has more."""


def split_address(
    address: str,
    key: str = "engine.address",
    examples: str = "127.0.0.1:8000 or superlink.example.org:8000",
) -> tuple[str, int]:
    """Return host and port.

    Parameters
    ----------
    key
        The setting that gives the address.
    examples
        Of what it may be.

    Examples
    --------
    >>> split_address("example.org:8000"), split_address("[::1]:8000")
    (('example.org', 8000), ('::1', 8000))
    """
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    good = bare and "/" not in host and host.isprintable() and port.isascii() and port.isdecimal()
    try:
        bare.encode("idna")  # as a name is looked up
    except UnicodeError:
        good = False
    if not good or len(port) > _DIGITS or not 0 < int(port) < 1 << 16:
        msg = f"{key}={address}: is not of the form host:port, such as {examples}"
        raise ConfigError(msg)
    return bare, int(port)


def trusted(path: Path) -> ssl.SSLContext:
    """Return what trusts the certificates of a file, and nothing else."""
    given = f"engine.root_certificates={path}"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        msg = f"{given}: holds no certificate in the PEM format"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"{given}: cannot be read ({error.strerror}); name the file with the CA's certificate"
        raise ConfigError(msg) from error
    return context


def check_reach(address: str, certificates: Path | None) -> None:
    """Raise unless an HTTP server answers, over TLS if and only if there are certificates."""
    host, port = split_address(address)
    context = None if certificates is None else trusted(certificates)
    given = f"engine.address={address}"
    try:
        with socket.create_connection((host, port), _SECONDS) as plain:
            if context is None:
                answer = _answer(plain, host)
            else:
                with context.wrap_socket(plain, server_hostname=host) as encrypted:
                    answer = _answer(encrypted, host)
    except ssl.SSLCertVerificationError as error:
        msg = (
            f"{given}: its certificate is not accepted ({error.verify_message}):"
            " engine.root_certificates has to name the CA that signed it, and it has to be made"
            " for this host name"
        )
        raise EngineError(msg) from error
    except ssl.SSLError as error:
        msg = (
            f"{given}: speaks no TLS ({error.reason}); if it is meant so, leave out the certificate"
        )
        raise EngineError(msg) from error
    except OSError as error:
        msg = (
            f"{given}: no SuperLink answers ({error.strerror or error}): start flower-superlink"
            " there, or give its host and port"
        )
        raise EngineError(msg) from error
    if not answer.startswith(b"HTTP/"):
        hint = "if it speaks TLS, give engine.root_certificates"
        msg = f"{given}: what answers there speaks no HTTP; {hint}"
        raise EngineError(msg)


def _answer(connection: socket.socket, host: str) -> bytes:
    """Ask for anything and return the beginning of the answer."""
    connection.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    try:
        return connection.recv(5)
    except ConnectionResetError:
        return b""

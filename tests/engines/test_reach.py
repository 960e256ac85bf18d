"""Asking whether there is a SuperLink, before anything else."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedcomp.engines.ray_cluster import check_cluster
from fedcomp.engines.reach import check_reach, split_address
from fedcomp.errors import ConfigError, EngineError


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Let a thread answer one connection, as `serve` says."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                try:
                    serve(connection)
                except OSError:
                    return

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def http(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")


def nonsense(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"\x15\x03\x01\x00\x02\x02")


def hang_up(connection: socket.socket) -> None:
    connection.recv(1)


def certificate(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Callable[..., None]]:
    """Return a certificate that vouches for itself, and what serves HTTP behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path, private = folder / "ca.crt", folder / "key.pem"
    path.write_bytes(made.public_bytes(pem))
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, private)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            http(encrypted)

    return path, serve


def test_plain_and_encrypted_servers_are_reached(tmp_path: Path) -> None:
    with listening(http) as address:
        check_reach(address, None)
    path, serve = certificate(tmp_path)
    with listening(serve) as address:
        check_reach(address, path)


def test_certificates_have_to_be_the_right_ones(tmp_path: Path) -> None:
    _, serve = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = certificate(tmp_path / "other")
    with (
        listening(serve) as address,
        pytest.raises(EngineError, match=r"its certificate is not accepted \(self-signed"),
    ):
        check_reach(address, other)
    path, serve = certificate(tmp_path, "10.0.0.1")
    with (
        listening(serve) as address,
        pytest.raises(EngineError, match=r"not accepted \(IP address mismatch"),
    ):
        check_reach(address, path)


@pytest.mark.parametrize("serve", [nonsense, hang_up])
def test_servers_of_something_else_are_named(
    serve: Callable[[socket.socket], None], tmp_path: Path
) -> None:
    with listening(serve) as address, pytest.raises(EngineError, match=r"speaks no HTTP; if it"):
        check_reach(address, None)


def test_a_server_without_tls_is_named(tmp_path: Path) -> None:
    path, _ = certificate(tmp_path)
    with listening(http) as address, pytest.raises(EngineError, match=r"speaks no TLS \(WRONG"):
        check_reach(address, path)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(EngineError, match=r"no SuperLink answers \(Connection refused\): start"):
        check_reach(f"127.0.0.1:{port}", None)


def test_certificates_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.crt: cannot be read \(No such file"):
        check_reach("127.0.0.1:1", tmp_path / "nothing.crt")
    file = tmp_path / "text.crt"
    for text in ("", "hello", "größe", "-----BEGIN CERTIFICATE-----\nAAAA\n"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"text\.crt: holds no certificate"):
            check_reach("127.0.0.1:1", file)


@pytest.mark.parametrize(
    "address",
    [
        *("", "8000", "host", "host:", ":8000", "host:0", "host:65536", "http://host:80", "h:x"),
        *("a..b:80", f"{'a' * 64}.org:80", "a\0b:80", "host:٨٠"),
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.address=.*is not of the form host:port"):
        split_address(address)
    with pytest.raises(ConfigError, match=r"engine\.ray_address=.*, as ray start --head prints"):
        check_cluster(address)

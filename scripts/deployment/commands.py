"""The commands of a deployment, as the guide in conf/engine/README.md gives them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECTION = "deployment"
"""The name of the SuperLink in `config.toml`."""

CA, CERTIFICATE, KEY = "ca.crt", "server.crt", "server.key"
"""The files that TLS needs; nodes and users get the first one alone."""

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-nodes", "-days", "365")


def tool(name: str) -> str:
    """Return a program of the Python environment that runs this."""
    return str(Path(sys.executable).with_name(name))


def authority(folder: Path) -> list[str]:
    """Make a certificate authority of one's own."""
    files = ("-keyout", str(folder / "ca.key"), "-out", str(folder / CA))
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    return ["openssl", "req", "-x509", *_NEW_KEY, "-subj", "/CN=fedcomp", *usage, *files]


def certificate(folder: Path, names: str) -> list[str]:
    """Make the server's certificate for all names by which nodes and users reach it."""
    signer = ("-CA", str(folder / CA), "-CAkey", str(folder / "ca.key"))
    kind = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={names}")
    files = ("-keyout", str(folder / KEY), "-out", str(folder / CERTIFICATE))
    return ["openssl", "req", "-x509", *signer, *_NEW_KEY, "-subj", "/CN=server", *kind, *files]


def node_key(path: Path) -> list[str]:
    """Make a node's pair of keys: PATH, which stays on the node, and PATH.pub."""
    return ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "", "-f", str(path)]


def superlink(host: str, port: int, tls: Path | None, *, auth: bool, database: Path) -> list[str]:
    """Start a SuperLink; `tls` is the folder of its certificate."""
    command = [tool("flower-superlink"), "--host", host, "--port", str(port)]
    if tls is None:
        command.append("--insecure")
    else:
        command += ["--ssl-ca-certfile", str(tls / CA), "--ssl-certfile", str(tls / CERTIFICATE)]
        command += ["--ssl-keyfile", str(tls / KEY)]
    if auth:
        command.append("--enable-supernode-auth")
    return [*command, "--database", str(database), "--disable-runtime-dependency-installation"]


def supernode(
    address: str,
    port: int,
    config: Mapping[str, int | str],
    *,
    root_certificates: Path | None,
    key: Path | None,
) -> list[str]:
    """Start a SuperNode; `port` is one of its own, for its own processes."""
    command = [tool("flower-supernode"), "--superlink", address, "--port", str(port)]
    if root_certificates is None:
        command.append("--insecure")
    else:
        command += ["--root-certificates", str(root_certificates)]
    if key is not None:
        command += ["--auth-supernode-private-key", str(key)]
    return [*command, "--node-config", " ".join(f"{k}={json.dumps(v)}" for k, v in config.items())]


def register(public_key: Path) -> list[str]:
    """Let a node in."""
    return [tool("flwr"), "supernode", "register", str(public_key), CONNECTION]


def list_nodes() -> list[str]:
    """Show all nodes and whether they are online."""
    return [tool("flwr"), "supernode", "list", CONNECTION]


def unregister(node_id: str) -> list[str]:
    """Shut a node out, for good."""
    return [tool("flwr"), "supernode", "unregister", node_id, CONNECTION]


def job(address: str, root_certificates: Path | None, clients: int, *overrides: str) -> list[str]:
    """Run a job on a deployment and follow it."""
    command = [sys.executable, "-m", "fedcomp", "engine=superlink", f"engine.address={address}"]
    if root_certificates is not None:
        command.append(f"engine.root_certificates={root_certificates}")
    return [*command, f"clients={clients}", *overrides]


def run(app: Path, overrides: str) -> list[str]:
    """Start a job from a checkout; both sides compose the overrides."""
    words = ("--run-config", f"overrides={json.dumps(overrides)}")
    return [tool("flwr"), "run", str(app), CONNECTION, *words]


def show_run(run_id: str) -> list[str]:
    """Show how a run is, and what it has sent."""
    return [tool("flwr"), "ls", CONNECTION, "--run-id", run_id]


def ray_head(port: int) -> list[str]:
    """Start the first node of a Ray cluster."""
    return [tool("ray"), "start", "--head", "--port", str(port), "--disable-usage-stats", "--block"]


def ray_node(address: str) -> list[str]:
    """Start another node of a Ray cluster."""
    return [tool("ray"), "start", "--address", address, "--disable-usage-stats", "--block"]


def connection(address: str, root_certificates: Path | None) -> str:
    """Return the `config.toml` by which `flwr` finds the SuperLink."""
    if root_certificates is None:
        trust = "insecure = true"
    else:
        trust = f"root-certificates = {json.dumps(str(root_certificates))}"
    return (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "{address}"\n{trust}\n'
    )

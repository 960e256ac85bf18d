"""Who may take part in a deployment, and as which site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcomp.wire.private import node_keys

if TYPE_CHECKING:
    from collections.abc import Collection

    from flwr.serverapp import Grid

    from fedcomp.tensors import Tensors


class Admission:
    """Binds each site to the key of the node that was it first.

    Flower names nodes at random and lets everybody in who knows the address, unless it is told to
    know their keys; a node that restarts without a registered key has a new one.

    Parameters
    ----------
    clients
        How many sites the run has.
    bind
        Whether a site stays with its key while that node is away.
    """

    def __init__(self, grid: Grid, clients: int, *, bind: bool) -> None:
        self._grid = grid
        self._clients = clients
        self._bind = bind
        self._keys: dict[str, str] = {}

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the state between two rounds as arrays and as values for JSON."""
        return {}, {"keys": dict(self._keys)}

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:  # noqa: ARG002
        """Take up a saved state."""
        self._keys = dict(values["keys"])

    def refusal(self, node: int, site: str, sites: Collection[str]) -> str:
        """Return why a node may not be a site, nothing if it may.

        Parameters
        ----------
        sites
            Those that the run has already.
        """
        bound = self._keys.get(site)
        if self._bind and bound is not None and bound != self._key(node):
            return (
                f"it claims site {site}, which belongs to another key: a node without a registered"
                " key gets a new one when it restarts; register its key (flwr supernode register)"
                " or run with engine.bind_sites=false"
            )
        if site not in sites and len(sites) >= self._clients:
            return f"it is site {site}, and the run has its {self._clients} clients without it"
        return ""

    def bind(self, node: int, site: str) -> None:
        """Let a site belong to a node's key from now on."""
        self._keys[site] = self._key(node)

    def _key(self, node: int) -> str:
        return node_keys(self._grid).get(node, "") or f"node {node}"

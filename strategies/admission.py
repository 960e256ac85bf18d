"""Who may take part in a deployment, and as which site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcomp.wire.private import node_keys

if TYPE_CHECKING:
    from collections.abc import Collection

    from flwr.serverapp import Grid

    from fedcomp.tensors import Tensors
    from strategies.handshake import Introduction


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
        self._parts: dict[str, int] = {}
        self._known: dict[int, str] = {}

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the state between two rounds as arrays and as values for JSON."""
        return {}, {"keys": dict(self._keys), "parts": dict(self._parts)}

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:  # noqa: ARG002
        """Take up a saved state."""
        self._keys, self._parts = dict(values["keys"]), dict(values["parts"])

    @property
    def sites(self) -> frozenset[str]:
        """The sites that take part, or mean to."""
        return frozenset(self._keys)

    def refusal(self, found: Introduction, sites: Collection[str]) -> str:
        """Return why a node may not be a site, nothing if it may.

        Parameters
        ----------
        sites
            Those that the run has already.
        """
        site, key = found.site, self._key(found.node)
        if self._bind and self._keys.get(site, "") not in ("", key):
            return (
                f"it claims site {site}, which belongs to another key: a node without a registered"
                " key gets a new one when it restarts; register its key (flwr supernode register)"
                " or run with engine.bind_sites=false"
            )
        if site not in sites and len(sites) >= self._clients:
            return f"it is site {site}, and the run has its {self._clients} clients without it"
        for other, part in self._parts.items():
            is_renamed = key != "" and self._keys[other] == key
            if other != site and part == found.part and not is_renamed:
                return (
                    f"it is site {site} with partition-id={part}, whose data site {other} has:"
                    " give each node a partition-id of its own"
                )
        return ""

    def bind(self, found: Introduction) -> None:
        """Let a site belong to a node's key from now on; of a node that has gone none is known."""
        self._keys[found.site] = self._key(found.node) or self._keys.get(found.site, "")
        if found.part is not None:
            self._parts[found.site] = found.part

    def present(self, sites: Collection[str]) -> None:
        """Let go of the sites whose nodes are away, unless they are to stay with their keys."""
        if not self._bind:
            self.keep(sites)

    def keep(self, sites: Collection[str]) -> None:
        """Let all other sites belong to nobody."""
        self._keys = {site: key for site, key in self._keys.items() if site in sites}
        self._parts = {site: part for site, part in self._parts.items() if site in sites}

    def _key(self, node: int) -> str:
        """Return a node's key; a node keeps it for as long as it keeps its name."""
        if node not in self._known:
            self._known.update(node_keys(self._grid))
        return self._known.get(node, "")

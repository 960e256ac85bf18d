"""What a node is told by the one who runs it: which site it is, and where its things lie.

partition-id=0                 its part of the common data set
data="local" site="hospital-a" all training samples below its data-dir are its own
data-dir="/data"               instead of the job's data_dir
state-dir="~/.fedcomp/state"   what it keeps between messages
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedcomp import seeds
from fedcomp.errors import ConfigError, suggest
from fedcomp.wire.keys import SITE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTITION, DATA, DATA_DIR, SITE, STATE_DIR = "partition-id", "data", "data-dir", "site", "state-dir"
_PARTITIONS = "num-partitions"  # Flower's own, for simulations: the job says how many there are
KEYS = (PARTITION, DATA, DATA_DIR, SITE, STATE_DIR)
_TEXTS = (DATA, DATA_DIR, SITE, STATE_DIR)

STATES = "~/.fedcomp/state"


@dataclass(frozen=True)
class Node:
    """A node's own settings, checked.

    Attributes
    ----------
    part
        Its part of the common data set; None where all samples it finds are its own.
    """

    site: str
    part: int | None
    data_dir: str | None = None
    state_dir: Path = Path(STATES)

    @property
    def number(self) -> int:
        """The client as a number, for seeds: its partition, else one derived from its name."""
        return seeds.seed_from("site", self.site) if self.part is None else self.part


def simulated(config: Mapping[str, object]) -> Node:
    """Return the node of a simulation, which Flower makes."""
    part = int(str(config[PARTITION]))
    return Node(str(part), part)


def deployed(config: Mapping[str, object], clients: int) -> Node:
    """Return the node of a deployment; raise `ConfigError` with all that is wrong with it."""
    problems = [
        f'{key}={config[key]!r}: must be a text, such as {key}="…"'
        for key in _TEXTS
        if key in config and not (isinstance(config[key], str) and config[key])
    ]
    others = [key for key in config if key not in (*KEYS, _PARTITIONS)]  # maybe of another app
    near = {key: suggest(key, KEYS) for key in others}
    problems += [f"{key}: unknown{hint}" for key, hint in near.items() if "did you mean" in hint]
    part, local = config.get(PARTITION), config.get(DATA) == "local"
    if DATA in config and not local:
        problems.append(
            f'data={config[DATA]!r}: only data="local" is known; without, the node'
            " takes its part of the common data set"
        )
    if part is not None and (not isinstance(part, int) or isinstance(part, bool)):
        problems.append(f"partition-id={part!r}: must be a whole number")
    elif part is None and not local:
        problems.append(f'names neither partition-id=0 … {clients - 1} nor data="local"')
    elif isinstance(part, int) and not local and not 0 <= part < clients:
        problems.append(f"partition-id={part}: the job has {clients} clients, 0 to {clients - 1}")
    site = str(config.get(SITE, "" if part is None else part))
    if local and not site:
        problems.append('data="local" needs a name: site="…"')
    elif site and not SITE_NAME.fullmatch(site):
        problems.append(f"site={site!r}: must be 1 to 64 letters, digits, '.', '_' or '-'")
    if problems:
        raise ConfigError(f"node config: {problem}" for problem in problems)
    data_dir = config.get(DATA_DIR)
    return Node(
        site,
        None if local or not isinstance(part, int) else part,
        None if data_dir is None else str(Path(str(data_dir)).expanduser()),
        Path(str(config.get(STATE_DIR, STATES))).expanduser(),
    )


def check_folders(node: Node) -> None:
    """Raise `ConfigError` unless the node's data can be read and its state be written."""
    if node.data_dir is not None:
        try:
            next(Path(node.data_dir).iterdir(), None)
        except OSError as error:
            msg = f"node config: data-dir={node.data_dir}: cannot be read ({error.strerror})"
            raise ConfigError(msg) from error
    try:
        node.state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=node.state_dir) as file:
            file.write(b"state")
    except OSError as error:
        msg = f"node config: state-dir={node.state_dir}: cannot be written ({error.strerror})"
        raise ConfigError(msg) from error

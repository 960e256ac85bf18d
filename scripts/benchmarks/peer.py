"""A child process: one run of the plain Flower app, its seconds a round.

The apps lie in a module of their own, so that Ray's workers import them like any app's; functions
of a main module would travel with every message.
"""

from __future__ import annotations

import argparse
import traceback
from itertools import pairwise
from pathlib import Path

from flwr.simulation import run_simulation

from scripts.benchmarks.children import finish, leave
from scripts.benchmarks.plain_flower import client_app, server_app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--actors", type=int, required=True)
    given = parser.parse_args()
    ends: list[float] = []
    try:
        run_simulation(
            server_app=server_app(given.clients, given.rounds, given.fraction, ends),
            client_app=client_app,
            num_supernodes=given.clients,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {
                    "address": "local",  # no cluster that runs here, or did
                    "num_cpus": given.actors,
                    "include_dashboard": False,
                    "log_to_driver": False,
                    "logging_level": "ERROR",
                },
            },
        )
    except RuntimeError:  # threads of Flower's would keep the process
        traceback.print_exc()
        leave(1)
    finish(given.folder, {"rounds": [end - start for start, end in pairwise(ends)]})


if __name__ == "__main__":
    main()

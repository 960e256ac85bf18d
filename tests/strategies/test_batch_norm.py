from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.common import read_csv, run_inline

ROUNDS, STEPS = 20, 2


def test_running_statistics_and_counters_go_round_fedadam(tmp_path: Path) -> None:
    """FedAdam makes doubles of all that it gets, and its steps would push a variance below 0."""
    run = run_inline(
        tmp_path,
        *("method=fedavg", "engine=inline", "model=resnet20", "strategy=fedadam", "clients=3"),
        *(f"rounds={ROUNDS}", f"train.steps={STEPS}", "train.batch_size=8", "train.lr=0.01"),
        "strategy.eta=0.03",
        *("codec@uplink=topk", "uplink.density=0.05", "codec@downlink=uniform", "downlink.bits=4"),
        "link.verify=true",
        quick=(),
    )
    model = load_file(run / "model.safetensors")
    variances = {name: value for name, value in model.items() if name.endswith("running_var")}
    counters = {n: value for n, value in model.items() if n.endswith("num_batches_tracked")}
    assert len(variances) == len(counters) == 19
    assert all(value.dtype == np.float32 and (value >= 0).all() for value in variances.values())
    assert all(np.isfinite(value).all() for value in model.values())
    assert {(value.dtype, int(value)) for value in counters.values()} == {
        (np.dtype(np.int64), ROUNDS * STEPS)
    }
    losses = [float(row["loss"]) for row in read_csv(run / "rounds.csv")]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[1]

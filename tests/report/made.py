"""Made-up runs for the tests of reports: small, exact, and of any shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedcomp.config import as_yaml

CONFIG: dict[str, Any] = {
    "clients": 4,
    "rounds": 2,
    "fraction": 1.0,
    "seed": 1,
    "data_dir": "data",
    "targets": [0.5],
    "dataset": {"name": "digits", "validation": 0.1, "server_data": "synthetic"},
    "partition": {"name": "iid", "sizes": "equal"},
    "model": {"name": "mlp", "hidden": [8]},
    "train": {"optimizer": "sgd", "lr": 0.05},
    "strategy": {"_target_": "flwr.serverapp.strategy.FedAvg"},
    "uplink": {"name": "stc", "density": 0.04},
    "downlink": {"name": "stc", "density": 0.04},
    "link": {"verify": False},
    "engine": {"name": "inline", "cpus_per_client": 1},
    "method": {"name": "stc"},
}
COLUMNS = (
    "round", "accuracy", "loss", "uplink_bytes", "downlink_bytes", "evaluation_bytes",
    "keyframe_bytes", "side_bytes", "clients", "failures", "encode_seconds", "decode_seconds",
    "train_seconds", "wall_seconds", "network_seconds", "uplink_sparsity", "downlink_sparsity",
    "uplink_bits_per_weight", "downlink_bits_per_weight", "uplink_header_bytes",
    "downlink_header_bytes", "uplink_side_bytes", "training_keyframe_bytes",
)  # fmt: skip
NONE = "none of them"


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with other values under dotted names; NONE takes one away."""
    made: dict[str, Any] = json.loads(json.dumps(config))
    for name, value in changes.items():
        *path, last = name.split(".")
        place = made
        for part in path:
            place = place.setdefault(part, {})
        if value is NONE:
            place.pop(last, None)
        else:
            place[last] = value
    return made


def make_run(
    folder: Path,
    scores: tuple[float, ...] = (0.1, 0.4, 0.6),
    *,
    up: int = 1000,
    down: int = 500,
    seconds: float | None = None,
    summary: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Write the folder of a run; settings are named with two underscores for a dot."""
    config = changed(CONFIG, {n.replace("__", "."): v for n, v in settings.items()})
    folder.mkdir(parents=True)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(as_yaml(config))
    rows = [",".join(COLUMNS)]
    packets = ["round,direction,message_bytes"]
    sent, to = 0, {str(target): None for target in config["targets"]}
    for number, score in enumerate(scores):
        some = number > 0
        sent += some * (up + down)
        for target in config["targets"]:
            if score >= target and to[str(target)] is None:
                to[str(target)] = sent  # type: ignore[assignment]
        row = dict.fromkeys(COLUMNS, 0) | {
            "round": number,
            "accuracy": score,
            "uplink_bytes": up * some,
            "downlink_bytes": down * some,
            "uplink_header_bytes": 36 * some,
            "downlink_header_bytes": 72 * some,
            "training_keyframe_bytes": 100 * (number == 1),
            "network_seconds": "" if seconds is None else seconds * some,
            "uplink_bits_per_weight": 0.5 if some else "",
            "downlink_bits_per_weight": 0.25 if some else "",
        }
        rows.append(",".join(str(row[name]) for name in COLUMNS))
        packets += [f"{number},uplink,{up + 20}", f"{number},downlink,{down + 30}"] * some
    (folder / "rounds.csv").write_text("\n".join(rows) + "\n")
    (folder / "packets.csv").write_text("\n".join(packets) + "\n")
    rounds = len(scores) - 1
    found = {
        "method": config["method"]["name"],
        "dataset": config["dataset"]["name"],
        "model": config["model"]["name"],
        "clients": config["clients"],
        "rounds": rounds,
        "seed": config["seed"],
        "final_accuracy": scores[-1],
        "best_accuracy": max(scores),
        "uplink_bytes": up * rounds,
        "downlink_bytes": down * rounds,
        "total_bytes": sent,
        "evaluation_bytes": 0,
        "reference_bytes": 30000 * rounds,
        "compression_ratio": 30000 / (up + down) if rounds else None,
        "uplink_bits_per_weight": 0.5,
        "downlink_bits_per_weight": 0.25,
        "model_bytes": 4000,
        "model_packed_bytes": 2000,
        "input_shape": [1, 8, 8],
        "bytes_to_target": to,
        "failures": 0,
        "status": "finished",
        "wall_seconds": 7.5,
        "versions": {"fedcomp": "0.1.0", "python": "3.11"},
    }
    (folder / "summary.json").write_text(json.dumps({**found, **(summary or {})}))
    return folder

"""Combinations of settings that cannot work although each value is allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fedcomp.codecs.scheduled import Scheduled
from fedcomp.codecs.subspace import Subspace
from fedcomp.wire.keys import TRAIN_LOSS

if TYPE_CHECKING:
    from fedcomp.codecs import Codec
    from fedcomp.settings import Settings

_OURS = ("fraction_train", "weighted_by_key", "arrayrecord_key", "configrecord_key")


def conflicts(settings: Settings) -> list[str]:
    """Return a sentence for each conflict: what was given, what is allowed."""
    problems = []
    for key, codec in (("uplink", settings.uplink), ("downlink", settings.downlink)):
        if codec.mode not in codec.modes:
            problems.append(
                f"{key}.mode={codec.mode}: codec {codec.name} works in mode"
                f" {' or '.join(codec.modes)} only"
            )
        if codec.patience is not None and TRAIN_LOSS not in settings.recipe.reports:
            problems.append(
                f"{key}.schedule.shape=adaptive: recipe={settings.recipe.name} reports no"
                f" {TRAIN_LOSS} to follow; choose another shape"
            )
    problems += _link_conflicts(settings)
    if settings.train.device == "cuda" and getattr(settings.engine, "gpus_per_client", None) == 0:
        problems.append(
            "train.device=cuda: engine.gpus_per_client=0 hides all GPUs from the clients; leave it"
            " at null or give each client a share"
        )
    asked = settings.clients_per_round
    if settings.engine.min_results > asked:
        problems.append(
            f"engine.min_results={settings.engine.min_results}: a round asks only {asked} clients"
            f" (clients={settings.clients}, fraction={settings.fraction}); lower it or raise those"
        )
    if settings.engine.remote and settings.checkpoint_every > 1:
        problems.append(
            f"checkpoint_every={settings.checkpoint_every}: clients of a deployment forget what a"
            " later message acknowledges, and a server that went back further would need it again;"
            " choose 1, or 0 for none"
        )
    if settings.engine.remote and settings.network.deadline is not None:
        problems.append(
            f"network.deadline={settings.network.deadline:g}: is for simulations; in a deployment"
            " engine.round_timeout does without clients that are late"
        )
    return problems + _strategy_conflicts(settings)


def _link_conflicts(settings: Settings) -> list[str]:
    """Name what the link cannot do together."""
    problems = []
    uplink, feedback = settings.uplink, settings.link.feedback
    background = settings.recipe.keeps_background
    if feedback is True and uplink.mode != "delta" and not background:
        better = "uplink.mode=delta or" if "delta" in uplink.modes else "another codec@uplink or"
        problems.append(
            f"link.feedback=true: codec {uplink.name} sends the model itself (uplink.mode="
            f"{uplink.mode}), to which nothing can be added; choose {better} link.feedback=auto"
        )
    widths = [getattr(codec, "bits", None) for codec in (uplink, settings.downlink)]
    shared = background and uplink.mode == "absolute" and uplink.name == settings.downlink.name
    if shared and widths[0] != widths[1]:
        problems.append(
            f"uplink.bits={widths[0]} downlink.bits={widths[1]}: with"
            f" recipe={settings.recipe.name} clients train on the levels that come, and send such;"
            " give both the same"
        )
    problems += _subspace_conflicts(settings)
    if settings.downlink.needs_previous:
        problems.append(
            f"codec@downlink={settings.downlink.name}: with these settings a packet refers to the"
            " last one, and not every client of a broadcast has it; they work on the uplink only"
        )
    downlink, votes = settings.downlink, settings.server_step.name == "majority"
    if downlink.mode == "delta" and not downlink.settles and not votes:
        others = [
            "finer settings of it" if downlink.name not in ("signsgd", "terngrad") else "",
            "downlink.mode=absolute" if "absolute" in downlink.modes else "",
            "server_step=majority" if downlink.name == "signsgd" else "",
            "another codec@downlink",
        ]
        problems.append(
            f"codec@downlink={downlink.name}: with these settings a packet may be farther from the"
            " change of the model than no packet, and the next one has to make up for it: the model"
            f" that clients see would run away; choose {' or '.join(filter(None, others))}"
        )
    if votes and uplink.name != "signsgd":
        problems.append(
            f"server_step=majority: counts signs of one size, and codec@uplink={uplink.name} sends"
            " others; choose codec@uplink=signsgd or server_step=none"
        )
    rounds = settings.rounds
    if settings.server_step.sparsity(rounds, rounds) and not downlink.keeps_zeros:
        problems.append(
            f"codec@downlink={downlink.name}: with these settings a zero may arrive as something"
            f" else, and server_step={settings.server_step.name} is there for zeros; choose"
            f"{' downlink.mode=absolute or' if _may_keep_zeros(downlink) else ''}"
            " codec@downlink=masked_down"
        )
    step, later = settings.server_step, range(2, rounds + 1)
    looks_at_all = step.sparsity(rounds, rounds) and not all(map(step.drops_zeros, later))
    if settings.recipe.name == "masked" and looks_at_all:
        problems.append(
            f"recipe=masked: sends nothing but what is not zero, and server_step={step.name} looks"
            " at all weights in some rounds; choose recipe=feddip or"
            " server_step.reconfigure=mask_then_prune"
        )
    for name, need in (("snip", "the scores of SNIP need"), ("fedcompress", "clusters need")):
        if (settings.recipe.name == name) != (settings.server_step.name == name):
            problems.append(
                f"recipe={settings.recipe.name} server_step={settings.server_step.name}: {need}"
                f" both ends; choose method={name}, or {name} for neither"
            )
    if "ClientSide" in settings.strategy.target:
        why = (
            "feedback adds what earlier rounds left out to the clipped update"
            if settings.link.feedback_with(uplink, background=background)
            else "compression changes an update after it was clipped"
        )
        problems.append(
            f"strategy._target_={settings.strategy.target}: clipping at the client is to bound its"
            f" update, and {why}; use the server-side wrapper, strategy=dp_server"
        )
    return problems


def _subspace_conflicts(settings: Settings) -> list[str]:
    """Say where something would lie outside the subspace in which it is to be sent."""
    uplink, downlink = settings.uplink, settings.downlink
    problems = []
    for way, codec in (("uplink", uplink), ("downlink", downlink)):
        schedule = codec.schedule if isinstance(codec, Scheduled) else None
        if codec.name != "subspace" or schedule is None or schedule.key == "width":
            continue
        grown = schedule.start * 2.0**schedule.doublings if schedule.end else None
        doubles = schedule.doubles and grown == schedule.end
        if schedule.key != "dimensions" or not doubles:
            problems.append(
                f"{way}.schedule: a subspace holds an earlier one only where its dimensions double;"
                " choose key=dimensions, shape=doubling, late_doubling or adaptive, and end=start"
                " times 2, 4, 8 …"
            )
    if settings.recipe.name == "subspace" and uplink.name != "subspace":
        problems.append(
            f"recipe=subspace codec@uplink={uplink.name}: trains where codec subspace looks; choose"
            " codec@uplink=subspace, or recipe=local"
        )
    if downlink.name == "subspace" and _subspace_of(downlink) != _subspace_of(uplink):
        problems.append(
            "codec@downlink=subspace: is for what clients send in the same subspace; choose"
            " codec@uplink=subspace with the same dimensions, whole and schedule both ways, or"
            " another codec@downlink"
        )
    return problems


def _subspace_of(codec: Codec) -> tuple[object, ...]:
    """Return on what a subspace depends."""
    schedule, plain = None, codec
    if isinstance(codec, Scheduled):
        schedule, plain = codec.schedule, codec.codec
    if not isinstance(plain, Subspace):
        return ()
    grows = schedule is not None and schedule.key == "dimensions"
    return plain.whole, schedule if grows else plain.dimensions


def _may_keep_zeros(codec: Codec) -> bool:
    """Tell whether a codec would in mode absolute."""
    try:
        return "absolute" in codec.modes and replace(codec, mode="absolute").keeps_zeros
    except ValueError:  # of codecs within it
        return False


def _strategy_conflicts(settings: Settings) -> list[str]:
    """Name the strategy's arguments with which Flower would wait for ever or return nothing."""
    options, clients = settings.strategy.options, settings.clients
    asked = settings.clients_per_round
    problems = [
        f"strategy.{key}: is set by the project; the share of clients is `fraction`"
        for key in _OURS
        if key in options
    ]
    bounds: dict[str, tuple[float, float]] = {
        "fraction_evaluate": (0, 1),
        "min_train_nodes": (1, clients),
        "min_evaluate_nodes": (1, clients),
        "min_available_nodes": (1, clients),
        "num_nodes_to_select": (1, asked),
        "num_malicious_nodes": (0, asked),
    }
    name = settings.strategy.target.rpartition(".")[2]
    if name in ("Krum", "MultiKrum"):
        bounds["num_malicious_nodes"] = (0, (asked - 3) // 2)  # n >= 2f + 3
    elif name == "Bulyan":
        bounds["num_malicious_nodes"] = (0, (asked - 3) // 4)  # n >= 4f + 3
    for key, (low, high) in bounds.items():
        value = options.get(key, low)
        if isinstance(value, str) or value is None or not low <= value <= high:
            problems.append(
                f"strategy.{key}={value}: with {asked} of {clients} clients in a round"
                + (f" allowed are {low:g} to {high:g}" if high >= low else " none is possible")
            )
    return problems

"""Messages that the compression mod answers itself, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from fedcomp.errors import ConfigError, DivergedError, LinkError, StaleError, brief
from fedcomp.wire import keys
from fedcomp.wire.records import blob_record, reply_record

if TYPE_CHECKING:
    from fedcomp.link.client import ClientLink
    from fedcomp.link.state import Pending


def refusal(message: Message, error: LinkError) -> Message:
    """Return the answer to a packet that cannot be applied: mostly the server sends a keyframe."""
    fields = ConfigRecord({keys.NACK: str(error)})
    if isinstance(error, DivergedError):
        fields[keys.DIVERGED] = True
    if isinstance(error, StaleError):
        fields[keys.STALE] = True
    return Message(RecordDict({keys.FIELDS: fields}), reply_to=message)


def again(message: Message, link: ClientLink, pending: Pending) -> Message:
    """Return the answer that was given to the same exchange before."""
    key, metrics = json.loads(pending.note)
    content = RecordDict({key: blob_record(pending.blob)})
    for name, values in metrics.items():
        content[name] = MetricRecord(values)
    content[keys.FIELDS] = reply_record(link.reply_fields())
    return Message(content, reply_to=message)


def check_site(fields: ConfigRecord, site: str) -> None:
    """Refuse a message for another site: a node keeps its name when it is given another one."""
    wanted = fields.get(keys.SITE)
    if wanted != site:
        msg = (
            f"the message is for site {brief(wanted)} and this node is now site {site!r}: a node"
            " stays the same site for the whole run, with the same node config"
        )
        raise LinkError(msg)


def check_clipping(content: RecordDict, link: ClientLink) -> None:
    """Refuse what would void the bound that clipping at the client is to guarantee."""
    asked = any(keys.CLIPPING_NORM in record for record in content.config_records.values())
    if not asked or link.session.uplink.name == "none":
        return
    reason = (
        "feedback adds what earlier rounds left out to the clipped update"
        if link.session.feedback
        else f"codec {link.session.uplink.name} changes the update after it was clipped"
    )
    msg = (
        f"client-side clipping bounds the update of a client, and {reason}: use a server-side"
        " wrapper, or codec@uplink=none link.feedback=false"
    )
    raise ConfigError(msg)

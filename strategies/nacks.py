"""What a client could not apply, and whether a keyframe helps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fedcomp.errors import DivergedError
from fedcomp.wire import keys
from fedcomp.wire.records import fields_of
from strategies.exchange import MOST_REPEATED, readable
from strategies.replies import discard

if TYPE_CHECKING:
    from flwr.app import Message

    from fedcomp.link.server import ServerLink
    from strategies.exchange import Exchange

log = logging.getLogger(__name__)


def is_nack(reply: Message) -> bool:
    """Tell whether a reply says that the client could not apply its packet."""
    return reply.has_content() and keys.NACK in fields_of(reply.content)


def needs_keyframe(exchange: Exchange, link: ServerLink, site: str, nack: Message) -> bool:
    """Book a NACK; tell whether it is to be answered, which a second one is not."""
    fields = fields_of(nack.content)
    reason = "; ".join(readable(str(fields[keys.NACK])))[-MOST_REPEATED:]
    discard(exchange, site, nack, "nack")
    if keys.DIVERGED in fields and link.session.link.verify:
        raise DivergedError(reason)
    if keys.STALE in fields:
        exchange.fail(site, f"the client takes the message for an old one: {reason}")
        return False
    if site in exchange.keyframed:
        exchange.fail(site, f"the client refuses a keyframe too: {reason}")
        return False
    log.warning("round %d: site %s gets a keyframe: %s", exchange.round, site, reason)
    exchange.keyframed.add(site)
    link.forget(site)
    return True

# SPDX-License-Identifier: GPL-2.0-only
"""What became of an incomplete echo, in one sentence."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from icmp_rtt.model import DROPPED, ICMP_ERROR, NO_REPLY, RESTARTED, TX
from icmp_rtt.report.duration import milliseconds
from icmp_rtt.report.escape import printable, printable_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from icmp_rtt.model import Drop, Echo, IcmpErrorSeen, Side, Start
    from icmp_rtt.report.frames import Symbols

__all__ = ("AMBIGUOUS", "REORDERED", "drop_location", "drop_reason_name", "verdict")

AMBIGUOUS = (
    "an earlier request had the same id and sequence;"
    " this reply may be that one's, so the round trip time is not known"
)
REORDERED = "a request that was sent later was answered before this one"

_ERROR_NAMES = {
    4: {
        3: "destination unreachable",
        4: "source quench",
        11: "time exceeded",
        12: "parameter problem",
    },
    6: {
        1: "destination unreachable",
        2: "packet too big",
        3: "time exceeded",
        4: "parameter problem",
    },
}


def verdict(
    echo: Echo,
    start: Start,
    symbols: Symbols,
    drop_reason: Callable[[int], str | None],
    timeout_ns: int,
) -> str:
    """The verdict on an incomplete echo; for the arguments see ``TextReport``."""
    last = f"last stage {echo.last_stage} ({echo.names[echo.last_stage]})"
    waited = milliseconds(timeout_ns)
    if echo.reason == RESTARTED:
        said = f"the same id and sequence began again before it was answered, {last}"
    elif echo.reason == ICMP_ERROR and echo.icmp_error is not None:
        said = f"{_icmp_error(echo.icmp_error, echo.family)}, {last}"
    elif echo.reason == DROPPED and echo.drop is not None:
        said = _dropped(echo, echo.drop, symbols, drop_reason)
    elif echo.reason == NO_REPLY:
        said = f"no reply within {waited}; {_unanswered(echo, start)}"
    else:
        said = f"no reply sent within {waited}; {_not_answering(echo, start)}"
    return f"incomplete: {said}"


def drop_location(drop: Drop, symbols: Symbols) -> str:
    """The place in the kernel that dropped a packet, its address where that has no name."""
    return symbols.name(drop.ip)


def drop_reason_name(drop: Drop, drop_reason: Callable[[int], str | None]) -> str | None:
    """The reason by name, its number where it has none, None where the kernel gives no reason."""
    if drop.reason == 0:
        return None
    return drop_reason(drop.reason) or str(drop.reason)


def _dropped(
    echo: Echo, drop: Drop, symbols: Symbols, drop_reason: Callable[[int], str | None]
) -> str:
    way = "out" if (drop.path == 1) == (echo.direction == TX) else "in"
    name = drop_reason_name(drop, drop_reason)
    reason = "" if name is None else f" (reason {printable_text(name)})"
    if drop.last_stage is None:
        last = f"before any stage of path {drop.path}"
    else:
        last = f"last stage {drop.last_stage} ({echo.names[drop.last_stage]})"
    return f"dropped on the way {way} in {drop_location(drop, symbols)}{reason}, {last}"


def _icmp_error(error: IcmpErrorSeen, family: int) -> str:
    name = _ERROR_NAMES[family].get(error.type, "unnamed")
    return f"ICMP error from {error.sender}: {name} (type {error.type}, code {error.code})"


def _unanswered(echo: Echo, start: Start) -> str:
    """How far an echo came that this host sent."""
    last = echo.last_stage
    if last < 2:
        found = "the request was not seen to leave this host"
    elif last == 2:
        found = f"left this host{_by(echo.request)}, {_nothing_back(echo, start)}"
    else:
        found = f"the reply came back{_by(echo.reply)}, but not further than this"
    return f"{found} (last stage {last}, {echo.names[last]})"


def _nothing_back(echo: Echo, start: Start) -> str:
    """Where ICMP is handed nothing in our sight, as much as the devices tell."""
    if start.covers(echo, 5, 5):
        return "nothing came back"
    by = "" if start.interface is None else f" by {printable(os.fsencode(start.interface[0]))}"
    return f"no reply was seen to come back{by}; this run does not see ICMP errors"


def _not_answering(echo: Echo, start: Start) -> str:
    """How far an echo came that this host should have answered."""
    last = echo.last_stage
    if last < 2 and not start.covers(echo, last + 1, 2):
        found = f"the request came in{_by(echo.request)}, this run does not see what became of it"
    elif last < 2:
        found = f"the request came in{_by(echo.request)}, but not further than this"
    elif last == 2:
        found = f"the request came in{_by(echo.request)}, no reply was begun"
    else:
        found = "a reply was begun, but was not seen to leave this host"
    return f"{found} (last stage {last}, {echo.names[last]})"


def _by(side: Side | None) -> str:
    if side is None or not side.ifindex:
        return ""
    return f" by {printable(side.ifname)}"

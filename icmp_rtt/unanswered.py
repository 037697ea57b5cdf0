# SPDX-License-Identifier: GPL-2.0-only
"""Requests that were sent and not answered, should one like them be sent again.

A reply that comes then may be meant for either: the echo's round trip time is
not known. Requests with other data are told apart by their checksum.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from icmp_rtt.record import bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from icmp_rtt.kernel.btf import Btf

__all__ = ("Unanswered",)

# A packet may be under way for two minutes (RFC 793, MSL).
_KEPT_NS = 120_000_000_000
_KEPT = 8192
# Members of struct icmp_rtt_event that name a request.
_IDENTITY = ("family", "id", "seq", "netns", "local", "remote", "sum")


class Unanswered:
    """What was given up lately, by what is alike in a request sent again.

    Args:
        btf: of the object that makes the records.
    """

    def __init__(self, btf: Btf) -> None:
        event = btf.struct("icmp_rtt_event")
        outcomes = btf.enum("icmp_rtt_outcome")
        self._outcome_at = event.fields["outcome"].offset
        self._direction_at = event.fields["direction"].offset
        self._complete = outcomes["OUTCOME_COMPLETE"]
        self._given_up = (outcomes["OUTCOME_OPEN"], outcomes["OUTCOME_RESTARTED"])
        self._ambiguous = bytes([outcomes["OUTCOME_AMBIGUOUS"]])
        self._tx = btf.enum("icmp_rtt_direction")["DIRECTION_TX"]
        self._identity: Callable[[bytes], tuple[bytes, ...]] = itemgetter(
            *[bytes_of(event, name) for name in _IDENTITY]
        )
        self._since_ns: dict[tuple[bytes, ...], int] = {}  # oldest first

    def given_up(self, record: bytes, now_ns: int) -> None:
        """Keep the request of an echo that has ended without a reply."""
        if record[self._direction_at] != self._tx:
            return
        since_ns = self._since_ns
        while since_ns:
            oldest = next(iter(since_ns))
            if len(since_ns) < _KEPT and since_ns[oldest] > now_ns - _KEPT_NS:
                break
            del since_ns[oldest]
        identity = self._identity(record)
        since_ns.pop(identity, None)
        since_ns[identity] = now_ns

    def checked(self, record: bytes, now_ns: int) -> bytes:
        """The record, of outcome OUTCOME_AMBIGUOUS if its reply may be another request's."""
        outcome = record[self._outcome_at]
        if outcome in self._given_up:
            self.given_up(record, now_ns)
        elif self._since_ns and outcome == self._complete:
            since_ns = self._since_ns.pop(self._identity(record), None)
            if since_ns is not None and since_ns > now_ns - _KEPT_NS:
                at = self._outcome_at
                return record[:at] + self._ambiguous + record[at + 1 :]
        return record

# SPDX-License-Identifier: GPL-2.0-only
"""Requests that were sent and not answered, should one like them be sent again.

A reply that comes then may be meant for either: the echo's round trip time is
not known, and its own reply may still come, for the one after it. A second reply to
it would end that. Requests with other data are told apart by their checksum.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from icmp_rtt.errors import misfit
from icmp_rtt.record import Outcomes, bytes_of

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

    Raises:
        ObjectError: the object lacks a type, member or value that is needed.
    """

    def __init__(self, btf: Btf) -> None:
        event = btf.struct("icmp_rtt_event")
        self._outcomes = Outcomes(btf)
        outcomes = self._outcomes.numbers
        self._direction_at = event.fields["direction"].offset
        self._complete = outcomes["OUTCOME_COMPLETE"]
        self._further = (outcomes["OUTCOME_DUPLICATE"], outcomes["OUTCOME_LATE"])
        # The last: the kernel says that its reply may be that to other data. Its own may come.
        self._not_answered = tuple(
            outcomes[f"OUTCOME_{name}"] for name in ("OPEN", "RESTARTED", "AMBIGUOUS")
        )
        ambiguous = outcomes["OUTCOME_AMBIGUOUS"]
        if not 0 <= ambiguous <= 255:
            raise misfit(f"its OUTCOME_AMBIGUOUS is {ambiguous}, which is no byte")
        self._ambiguous = bytes([ambiguous])
        self._tx = btf.enum("icmp_rtt_direction")["DIRECTION_TX"]
        self._identity: Callable[[bytes], tuple[bytes, ...]] = itemgetter(
            *[bytes_of(event, name) for name in _IDENTITY]
        )
        # When there was the last of them, and how many replies may still come; oldest first.
        self._expected: dict[tuple[bytes, ...], tuple[int, int]] = {}

    def checked(self, record: bytes, now_ns: int) -> bytes:
        """The record, of outcome OUTCOME_AMBIGUOUS if its reply may be another request's.

        What is too short for one is left to whoever decodes it.
        """
        outcome = self._outcomes.of(record)
        if outcome is None or record[self._direction_at] != self._tx:
            return record
        if outcome in self._not_answered:
            self._expect(record, now_ns, 1)
        elif self._expected and outcome in self._further:
            self._expect(record, now_ns, -1)
        elif self._expected and outcome == self._complete and self._expect(record, now_ns, 0):
            at = self._outcomes.at
            return record[:at] + self._ambiguous + record[at + 1 :]
        return record

    def _expect(self, record: bytes, now_ns: int, more: int) -> bool:
        """Expect so many replies more to requests like this; whether any may come then."""
        expected, identity = self._expected, self._identity(record)
        since_ns, replies = expected.pop(identity, (0, 0))
        replies = more + (replies if since_ns > now_ns - _KEPT_NS else 0)
        if replies <= 0:
            return False
        while expected:
            oldest = next(iter(expected))
            if len(expected) < _KEPT and expected[oldest][0] > now_ns - _KEPT_NS:
                break
            del expected[oldest]
        expected[identity] = (now_ns, replies)
        return True

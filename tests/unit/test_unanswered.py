# SPDX-License-Identifier: GPL-2.0-only
"""Requests that were not answered, and replies that may be theirs."""

from ipaddress import IPv4Address

import pytest
from samples import ABI, number, record

from icmp_rtt.unanswered import Unanswered

SECOND_NS = 1_000_000_000
LOST = record(hooks=(0, 1, 2), outcome=number("OUTCOME_OPEN"), sum=77)
ANSWERED = record(sum=77)


def outcome(raw):
    """The outcome that a record holds."""
    return raw[ABI.struct("icmp_rtt_event").fields["outcome"].offset]


def is_ambiguous(unanswered, raw, now_ns=0):
    """Whether a record was marked, and nothing else of it was changed."""
    checked = unanswered.checked(raw, now_ns)
    at = ABI.struct("icmp_rtt_event").fields["outcome"].offset
    assert (checked[:at], checked[at + 1 :]) == (raw[:at], raw[at + 1 :])
    return outcome(checked) == number("OUTCOME_AMBIGUOUS")


def test_like_request_sent_again():
    """The next reply may be that to either, and the one after it that to the second."""
    unanswered = Unanswered(ABI)
    assert not is_ambiguous(unanswered, ANSWERED)
    unanswered.checked(LOST, 0)
    for _ in range(3):
        assert is_ambiguous(unanswered, ANSWERED)


@pytest.mark.parametrize("further", ["DUPLICATE", "LATE"])
def test_each_reply_has_come(further):
    """One more than there were echoes complete: nothing is left that could be mistaken."""
    note = record(hooks=(5,), outcome=number(f"OUTCOME_{further}"), sum=77)
    unanswered = Unanswered(ABI)
    unanswered.checked(LOST, 0)
    unanswered.checked(LOST, 0)
    assert unanswered.checked(note, 0) == note
    assert is_ambiguous(unanswered, ANSWERED)
    assert unanswered.checked(note, 0) == note
    assert not is_ambiguous(unanswered, ANSWERED)
    assert unanswered.checked(note, 0) == note
    unanswered.checked(LOST, 0)
    assert is_ambiguous(unanswered, ANSWERED)


def test_restarted():
    """What was restarted was not answered."""
    unanswered = Unanswered(ABI)
    restarted = record(hooks=(0, 1, 2), outcome=number("OUTCOME_RESTARTED"), sum=77)
    assert unanswered.checked(restarted, 0) == restarted
    assert is_ambiguous(unanswered, ANSWERED)


def test_ended_by_the_reply_to_other_data():
    """So the kernel says: its own reply may end the next one."""
    unanswered = Unanswered(ABI)
    told = record(outcome=number("OUTCOME_AMBIGUOUS"), sum=77)
    assert unanswered.checked(told, 0) == told
    assert is_ambiguous(unanswered, ANSWERED)


@pytest.mark.parametrize(
    "other",
    [{"id": 9}, {"seq": 9}, {"sum": 9}, {"netns": 9}, {"remote": IPv4Address("192.0.2.9")}],
)
def test_other_request(other):
    """A request that differs, be it in its data alone, is another one."""
    unanswered = Unanswered(ABI)
    unanswered.checked(LOST, 0)
    assert not is_ambiguous(unanswered, record(**{"sum": 77, **other}))


def test_requests_of_others():
    """To whom this host did not reply is of no matter here."""
    unanswered = Unanswered(ABI)
    unanswered.checked(
        record(direction="rx", hooks=(3, 4, 5), outcome=number("OUTCOME_OPEN"), sum=77), 0
    )
    assert not is_ambiguous(unanswered, record(direction="rx", sum=77))


def test_forgotten_in_time():
    """No reply comes after two minutes; being given up again counts anew."""
    unanswered = Unanswered(ABI)
    unanswered.checked(LOST, 0)
    assert not is_ambiguous(unanswered, ANSWERED, 121 * SECOND_NS)
    unanswered.checked(LOST, 0)
    unanswered.checked(LOST, 60 * SECOND_NS)
    assert is_ambiguous(unanswered, ANSWERED, 121 * SECOND_NS)


@pytest.mark.parametrize("length", [0, 1, len(LOST) - 1])
def test_what_is_no_record(length):
    """It is the decoder's to refuse."""
    unanswered = Unanswered(ABI)
    assert unanswered.checked(LOST[:length], 0) == LOST[:length]
    assert not is_ambiguous(unanswered, ANSWERED)


def test_memory_is_bounded():
    """Of very many the oldest go."""
    unanswered = Unanswered(ABI)
    for seq in range(20_000):
        unanswered.checked(record(seq=seq, outcome=number("OUTCOME_OPEN")), 0)
    assert not is_ambiguous(unanswered, record(seq=0))
    assert is_ambiguous(unanswered, record(seq=19_999))

# SPDX-License-Identifier: GPL-2.0-only
"""What is said of an echo that was not answered."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from samples import NAMES, guide_echo, guide_start, symbols

from icmp_rtt.model import Drop, IcmpErrorSeen, Side
from icmp_rtt.report.verdict import verdict

REASONS = {2: "NOT_SPECIFIED", 8: "NETFILTER_DROP"}
PLACES = symbols({0x10: "nf_hook_slow+0xc2", 0x20: "icmp_rcv+0x1a"})


def say(last, start=None, **changes):
    """The verdict on an echo whose last stage was ``last``."""
    whole = guide_echo()
    changes.setdefault("reply", whole.reply if last > 2 else None)
    echo = whole._replace(outcome="incomplete", stamps=whole.stamps[: last + 1], **changes)
    return verdict(echo, start or guide_start(), PLACES, REASONS.get, 250_000_000)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (0, "the request was not seen to leave this host (last stage 0, ip_send_skb)"),
        (1, "the request was not seen to leave this host (last stage 1, ip_local_out)"),
        (2, "left this host by eth0, nothing came back (last stage 2, dev_queue_xmit)"),
        (4, "the reply came back by eth0, but not further than this (last stage 4, ip_rcv)"),
    ],
)
def test_no_reply(last, words):
    """An echo that nobody answered tells how far it came."""
    expected = f"incomplete: no reply within 250 ms; {words}"
    assert say(last, reason="no reply") == expected


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (1, "the request came in by eth0, but not further than this (last stage 1, ip_rcv)"),
        (2, "the request came in by eth0, no reply was begun (last stage 2, icmp_rcv)"),
        (
            4,
            "a reply was begun, but was not seen to leave this host (last stage 4, ip_local_out)",
        ),
    ],
)
def test_no_reply_sent(last, words):
    """An echo that this host did not answer tells how far it came."""
    names = NAMES[4][3:] + NAMES[4][:3]
    expected = f"incomplete: no reply sent within 250 ms; {words}"
    assert say(last, reason="no reply sent", direction="rx", names=names) == expected


def tracepoints(**changes):
    """The start of a run that sees the devices alone."""
    probes = [
        probe if probe.hook in (2, 3) else probe._replace(probe=None)
        for probe in guide_start().probes
    ]
    return guide_start(probes=tuple(probes), **changes)


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        (None, "no reply was seen to come back; this run does not see ICMP errors"),
        (
            ("a\nb", 3),
            r"no reply was seen to come back by a\x0ab; this run does not see ICMP errors",
        ),
    ],
)
def test_no_reply_to_the_devices_alone(interface, words):
    """What comes by another device, or is no reply, may have come all the same."""
    said = say(2, tracepoints(interface=interface), reason="no reply")
    assert f"; left this host by eth0, {words} (last stage 2, dev_queue_xmit)" in said


def test_no_reply_sent_to_the_devices_alone():
    """Of the stages that are not covered nothing is said."""
    names = NAMES[4][3:] + NAMES[4][:3]
    said = say(0, tracepoints(), reason="no reply sent", direction="rx", names=names)
    assert "came in by eth0, this run does not see what became of it (last stage 0, " in said


def test_time_waited():
    """It is told as it was asked for, however long."""
    echo = guide_echo(outcome="incomplete", reason="no reply")
    for timeout_ns, words in ((1_234_567_891_000, "1234567.891 ms"), (1, "0.000001 ms")):
        said = verdict(echo, guide_start(), PLACES, REASONS.get, timeout_ns)
        assert f"no reply within {words}; " in said


def test_no_reply_without_interface():
    """A device that was not seen is not named."""
    words = say(2, reason="no reply", request=Side(1, b"ping", b"", 0, 8))
    assert "; left this host, nothing came back " in words


@pytest.mark.parametrize(
    ("drop", "direction", "words"),
    [
        (
            Drop(8, 0x10, 1, 1, 1),
            "tx",
            "dropped on the way out in nf_hook_slow+0xc2 (reason NETFILTER_DROP),"
            " last stage 1 (ip_local_out)",
        ),
        (
            Drop(0, 0x20, 1, 2, 5),
            "tx",
            "dropped on the way in in icmp_rcv+0x1a, last stage 5 (icmp_rcv)",
        ),
        (
            Drop(77, 0x99, 1, 2, None),
            "tx",
            "dropped on the way in in 0x99 (reason 77), before any stage of path 2",
        ),
        (
            Drop(8, 0x10, 1, 1, 1),
            "rx",
            "dropped on the way in in nf_hook_slow+0xc2 (reason NETFILTER_DROP),"
            " last stage 1 (ip_local_out)",
        ),
    ],
)
def test_dropped(drop, direction, words):
    """A drop tells which way, where and why, as far as the kernel gives a reason."""
    last = drop.last_stage or 1
    assert say(last, reason="dropped", drop=drop, direction=direction) == f"incomplete: {words}"


def test_a_reason_from_a_file_is_escaped(monkeypatch):
    """BTF given with --btf comes from anywhere."""
    monkeypatch.setitem(REASONS, 9, "\x1b[31mRED\n")
    said = say(1, reason="dropped", drop=Drop(9, 0x10, 1, 1, 1))
    assert r"(reason \x1b[31mRED\x0a)" in said


@pytest.mark.parametrize(
    ("family", "type_", "code", "sender", "words"),
    [
        (4, 3, 1, "10.0.0.1", "10.0.0.1: destination unreachable (type 3, code 1)"),
        (4, 11, 0, "10.0.0.1", "10.0.0.1: time exceeded (type 11, code 0)"),
        (6, 2, 0, "fe80::1", "fe80::1: packet too big (type 2, code 0)"),
        (4, 42, 7, "10.0.0.1", "10.0.0.1: unnamed (type 42, code 7)"),
    ],
)
def test_icmp_error(family, type_, code, sender, words):
    """An ICMP error tells what it is and who sent it."""
    address = IPv4Address(sender) if family == 4 else IPv6Address(sender)
    seen = IcmpErrorSeen(type_, code, address, 1)
    expected = f"incomplete: ICMP error from {words}, last stage 2 (dev_queue_xmit)"
    assert say(2, reason="icmp error", icmp_error=seen, family=family) == expected


def test_restarted():
    """A key that began again before it was answered is told as such."""
    assert say(2, reason="restarted") == (
        "incomplete: the same id and sequence began again before it was answered,"
        " last stage 2 (dev_queue_xmit)"
    )

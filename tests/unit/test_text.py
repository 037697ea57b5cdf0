# SPDX-License-Identifier: GPL-2.0-only
"""The text report, compared with the guide's sample byte for byte."""

import re
import time
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from samples import (
    BASE_NS,
    NAMES,
    NETNS,
    WALL_NS,
    guide_echo,
    guide_options,
    guide_start,
    symbols,
)

from icmp_rtt.model import Side, Stack
from icmp_rtt.report import text
from icmp_rtt.report.start import start_text
from icmp_rtt.report.text import TextReport

GUIDE = (Path(__file__).parent / "data" / "guide-report.txt").read_text()
# The guide leaves the other stages' stacks out by a line of dots.
EXPECTED = GUIDE.replace("    ...\n  ...\n", "    ...\n")
FRAMES = ("ip_send_skb+0x1", "ip_push_pending_frames+0xab", "raw_sendmsg+0x123", "...")


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    """Local time is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    text._local_second.cache_clear()


def render(echo, names=None, problem=None):
    """The report of an echo, by line."""
    offset_ns = WALL_NS - BASE_NS
    report = TextReport(symbols(names, problem), {}.get, offset_ns, 10**9, guide_start(), NETNS)
    rendered = report.echo(echo)
    assert rendered.endswith("\n")
    return rendered.split("\n")[:-1]


def with_stack(echo, stage, stack):
    """The echo with a stack at one stage."""
    stamps = list(echo.stamps)
    stamps[stage] = stamps[stage]._replace(stack=stack)
    return echo._replace(stamps=tuple(stamps))


def test_guide_sample():
    """The sample's numbers give the sample's text: start, report, stack."""
    names = dict(enumerate(FRAMES))
    echo = with_stack(guide_echo(), 0, Stack(tuple(names), None))
    report = "\n".join(render(echo, names)) + "\n"
    assert start_text(guide_start(), guide_options()) + report == EXPECTED


def test_without_stacks():
    """Without stacks, the report is the same but for them."""
    head, _, _ = EXPECTED.partition("\nKernel Stack Traces:")
    lines = [*head.splitlines()[7:], "=" * 80]
    assert render(guide_echo()) == lines


def test_received_request():
    """For an echo that this host answers, path 1 comes in and path 2 goes out."""
    order = NAMES[4][3:] + NAMES[4][:3]
    stamps = tuple(stamp._replace(name=name) for stamp, name in zip(guide_echo().stamps, order))
    echo = guide_echo(
        direction="rx",
        names=order,
        stamps=stamps,
        request=Side(0, b"swapper/1", b"ens11", 3, 8),
        reply=Side(0, b"swapper/1", b"ens11", 3, 0),
    )
    lines = render(echo)
    assert lines[2:6] == [
        "=== ICMP RTT Trace: 2025-01-07 10:30:45.123 (RX (Remote -> Local)) ===",
        "Session: 192.168.1.20 -> 192.168.1.10 (ID: 1234, Seq: 1)",
        "Path 1 (Request: RX from 192.168.1.20)   :"
        " PID=0      COMM=swapper/1    IF=ens11      ICMP_Type=8",
        "Path 2 (Reply:   TX to 192.168.1.20)     :"
        " PID=0      COMM=swapper/1    IF=ens11      ICMP_Type=0",
    ]
    assert lines[8] == "  Stage 0 (P1:S0 (__netif_receive_skb)            ): 0xffff88800abc1234"
    assert lines[13] == "  Stage 5 (P2:S2 (dev_queue_xmit)                 ): 0xffff88800def5678"


def test_stages_not_seen():
    """A stage or figure that was not seen reads N/A, and the total says what it spans."""
    echo = guide_echo()
    lines = render(echo._replace(stamps=echo.stamps[2:4]))
    assert "  Stage 0 (P1:S0 (ip_send_skb)                    ): N/A" in lines
    assert "  Stage 2 (P1:S2 (dev_queue_xmit)                 ): 0xffff88800abc1234" in lines
    assert [line[-9:] for line in lines if line.startswith("  [")] == [":     N/A"] * 4
    assert "  Total Path 1:     N/A" in lines
    assert lines[-3:-1] == [
        "Total RTT (Path1 Start to Path2 End): 1000.000 us"
        " (from stage 2, dev_queue_xmit, to stage 3, __netif_receive_skb)",
        "Inter-Path Latency (P1 end -> P2 start): 1000.000 us",
    ]


def test_round_trip_from_a_later_stage():
    """A sender that enters below stage 0 has a round trip from where it was first seen."""
    echo = guide_echo()
    lines = render(echo._replace(stamps=echo.stamps[1:]))
    assert lines[-3] == (
        "Total RTT (Path1 Start to Path2 End): 1036.146 us (from stage 1, ip_local_out)"
    )


def test_incomplete():
    """An echo without a reply has a report of the same shape, with a verdict."""
    whole = guide_echo()
    echo = whole._replace(
        outcome="incomplete", reason="no reply", reply=None, stamps=whole.stamps[:3]
    )
    lines = render(echo)
    assert lines[5:7] == [
        "Path 2 (Reply:   RX from 192.168.1.20)   :"
        " PID=N/A    COMM=N/A          IF=N/A        ICMP_Type=N/A",
        "Verdict: incomplete: no reply within 1000 ms; left this host by eth0, nothing came back"
        " (last stage 2, dev_queue_xmit)",
    ]
    assert lines[-3] == "Total RTT (Path1 Start to Path2 End):     N/A"
    assert len(lines) == len(render(whole)) + 1


def test_ambiguous():
    """An echo whose reply may be another's has no round trip time, and says why."""
    lines = render(guide_echo(ambiguous=True))
    assert lines[6].startswith("Note: an earlier request had the same id and sequence; ")
    assert lines[-3:-1] == [
        "Total RTT (Path1 Start to Path2 End):     N/A",
        "Inter-Path Latency (P1 end -> P2 start):     N/A",
    ]


def test_reordered():
    """A reply that was overtaken says so, and keeps its round trip time."""
    lines = render(guide_echo(reordered=True))
    assert lines[6] == "Note: a request that was sent later was answered before this one"
    assert lines[-3].endswith(" us")


def test_further_reply():
    """A late or second reply is one line."""
    echo = guide_echo()
    lines = render(echo._replace(outcome="duplicate", request=None, stamps=echo.stamps[5:]))
    (line,) = [line for line in lines if line]
    assert re.fullmatch(
        r"Note: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}: duplicate reply"
        r" from 192\.168\.1\.20 to 192\.168\.1\.10 \(ID: 1234, Seq: 1\)",
        line,
    )


def test_no_interface_seen():
    """An interface that was not seen is not an empty name."""
    lines = render(guide_echo(request=Side(1, b"ping", b"", 0, 8)))
    assert lines[4].endswith("PID=1      COMM=ping         IF=N/A        ICMP_Type=8")


def test_names_from_outside():
    """Names of processes and interfaces are shown escaped."""
    lines = render(guide_echo(request=Side(4194304, b"\x1b[2J\n", b"e\xff", 2, 8)))
    assert lines[4].endswith(r"PID=4194304 COMM=\x1b[2J\x0a  IF=e\xff      ICMP_Type=8")
    assert all(line.isprintable() for line in lines)


def test_ipv6_lines_stay_in_columns():
    """Addresses that are longer than the guide's columns move both lines alike."""
    echo = guide_echo(
        family=6,
        local=IPv6Address("2001:db8::1"),
        remote=IPv6Address("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"),
        names=NAMES[6],
    )
    lines = render(echo)
    assert lines[3] == (
        "Session: 2001:db8::1 -> 2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff (ID: 1234, Seq: 1)"
    )
    assert lines[4].index(": PID=") == lines[5].index(": PID=")
    assert lines[8] == "  Stage 0 (P1:S0 (ip6_send_skb)                   ): 0xffff88800abc1234"


def test_stack_not_available():
    """A stack that could not be had says so, and no other's is shown."""
    echo = with_stack(guide_echo(), 0, Stack((), "bad address"))
    echo = with_stack(echo, 4, Stack((7,), None))
    lines = render(echo, {7: "ip_rcv+0x1"})
    assert lines[lines.index("Kernel Stack Traces:") :] == [
        "Kernel Stack Traces:",
        "  Stage 0 (P1:S0 (ip_send_skb)):",
        "    (stack not available: bad address)",
        "  Stage 4 (P2:S1 (ip_rcv)):",
        "    ip_rcv+0x1",
        "=" * 80,
    ]


def test_time_has_milliseconds():
    """The time has three digits behind the second, cut rather than rounded."""
    offset_ns = WALL_NS - 123_000_000 + 7_999_999 - BASE_NS
    report = TextReport(symbols(), {}.get, offset_ns, 10**9, guide_start(), NETNS).echo(
        guide_echo()
    )
    assert " 2025-01-07 10:30:45.007 " in report


def test_local_time_follows_the_zone(monkeypatch):
    """Times are shown in the zone of who reads them."""
    monkeypatch.setenv("TZ", "XXX-5:30")
    time.tzset()
    text._local_second.cache_clear()
    assert "2025-01-07 16:00:45.123" in render(guide_echo())[2]


def test_of_another_network_namespace():
    """The same addresses may be in two: the report says where, unless it goes without saying."""
    (line,) = set(render(guide_echo(netns=4026532567))) - set(render(guide_echo()))
    assert line == "Network namespace: inode 4026532567"

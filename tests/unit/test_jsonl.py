# SPDX-License-Identifier: GPL-2.0-only
"""JSON lines: the schema of each kind of line."""

import json
from ipaddress import IPv4Address, ip_network

import pytest
from samples import (
    BASE_NS,
    NAMES,
    WALL_NS,
    decoder,
    guide_echo,
    guide_options,
    guide_start,
    record,
    symbols,
)

from icmp_rtt.model import Drop, IcmpErrorSeen, PlannedProbe, Side, Stack
from icmp_rtt.report.jsonl import JsonLines, start_line, summary_line
from icmp_rtt.version import VERSION


def line_of(echo, names=None, problem=None):
    """The line of an echo, parsed."""
    lines = JsonLines(symbols(names, problem), {8: "NETFILTER_DROP"}.get, WALL_NS - BASE_NS)
    line = lines.echo(echo)
    assert line.endswith("}\n")
    assert line.isascii()
    assert line.count("\n") == 1
    return json.loads(line)


def test_complete_echo():
    """A complete echo carries everything of the schema, and nothing of an incomplete one."""
    line = line_of(decoder().echo(record()))
    stages = line.pop("stages")
    assert line == {
        "type": "echo",
        "time": "2025-01-07T10:30:45.123000Z",
        "direction": "tx",
        "src": "192.168.1.10",
        "dst": "192.168.1.20",
        "id": 1234,
        "seq": 1,
        "outcome": "complete",
        "netns": 4026531840,
        "request": {"pid": 5678, "comm": "ping", "ifname": "eth0", "ifindex": 2, "icmp_type": 8},
        "reply": {"pid": 0, "comm": "swapper/0", "ifname": "eth0", "ifindex": 2, "icmp_type": 0},
        "path1_ns": 35801,
        "inter_path_ns": 1000000,
        "path2_ns": 12690,
        "rtt_ns": 1048491,
        "rtt_from_stage": 0,
        "rtt_to_stage": 5,
    }
    assert stages[4] == {
        "stage": 4,
        "path": 2,
        "name": "ip_rcv",
        "probe": "fentry:ip_rcv",
        "ts_ns": BASE_NS + 1_043_924,
        "cpu": 0,
        "skb": "0xffff88800def5678",
    }
    assert [stage["stage"] for stage in stages] == [0, 1, 2, 3, 4, 5]


def test_time_has_microseconds():
    """The wall clock time has six digits behind the second, whatever they are."""
    lines = JsonLines(symbols(), {}.get, WALL_NS - 123_000_000 + 42_999 - BASE_NS)
    assert json.loads(lines.echo(guide_echo()))["time"] == "2025-01-07T10:30:45.000042Z"


def test_stages_not_seen():
    """A stage that was not seen is not there, and a figure that cannot be had is null."""
    echo = guide_echo()
    line = line_of(echo._replace(stamps=echo.stamps[2:4]))
    assert [stage["stage"] for stage in line["stages"]] == [2, 3]
    figures = ("path1_ns", "inter_path_ns", "path2_ns", "rtt_ns", "rtt_from_stage", "rtt_to_stage")
    assert [line[name] for name in figures] == [None, 1000000, None, 1000000, 2, 3]


def test_ambiguous_echo():
    """An echo whose reply may be another's has no round trip time, and says so."""
    assert "ambiguous" not in line_of(guide_echo())
    line = line_of(guide_echo(ambiguous=True))
    assert (line["outcome"], line["ambiguous"]) == ("complete", True)
    figures = ("path1_ns", "inter_path_ns", "path2_ns", "rtt_ns", "rtt_from_stage", "rtt_to_stage")
    assert [line[name] for name in figures] == [35801, None, 12690, None, None, None]


def test_reordered_echo():
    """A reply that was overtaken says so."""
    assert "reordered" not in line_of(guide_echo())
    assert line_of(guide_echo(reordered=True))["reordered"] is True


def test_further_reply():
    """A late or second reply is no echo, but a line of its own."""
    echo = guide_echo()
    line = line_of(echo._replace(outcome="late", request=None, stamps=echo.stamps[5:]))
    assert line == {
        "type": "reply",
        "time": line["time"],
        "ts_ns": echo.stamps[5].ts_ns,
        "what": "late",
        "direction": "tx",
        "src": "192.168.1.10",
        "dst": "192.168.1.20",
        "id": 1234,
        "seq": 1,
        "netns": 4026531840,
    }


def test_incomplete_echo():
    """An incomplete echo says how far it came and why no further; what was not seen is null."""
    echo = guide_echo()
    line = line_of(
        echo._replace(outcome="incomplete", reason="no reply", reply=None, stamps=echo.stamps[:3])
    )
    del line["stages"], line["request"], line["time"]
    assert line == {
        "type": "echo",
        "direction": "tx",
        "src": "192.168.1.10",
        "dst": "192.168.1.20",
        "id": 1234,
        "seq": 1,
        "outcome": "incomplete",
        "netns": 4026531840,
        "reply": None,
        "path1_ns": 35801,
        "inter_path_ns": None,
        "path2_ns": None,
        "rtt_ns": None,
        "rtt_from_stage": None,
        "rtt_to_stage": None,
        "last_stage": 2,
        "reason": "no reply",
        "drop": None,
        "icmp_error": None,
    }


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        (
            Drop(8, 0x10, 1, 1, 1),
            {
                "reason": "NETFILTER_DROP",
                "location": "nf_hook_slow+0xc2",
                "path": 1,
                "last_stage": 1,
            },
        ),
        (
            Drop(0, 0x99, 1, 2, None),
            {"reason": None, "location": "0x99", "path": 2, "last_stage": None},
        ),
    ],
)
def test_drop(drop, expected):
    """A drop has the kernel's reason by name, where the kernel gives one, and its place."""
    echo = guide_echo(outcome="incomplete", reason="dropped", drop=drop)
    assert line_of(echo, {0x10: "nf_hook_slow+0xc2"})["drop"] == expected


def test_icmp_error():
    """An ICMP error has its type, code and sender."""
    seen = IcmpErrorSeen(3, 1, IPv4Address("10.0.0.1"), 1)
    line = line_of(guide_echo(outcome="incomplete", reason="icmp error", icmp_error=seen))
    assert line["icmp_error"] == {"type": 3, "code": 1, "from": "10.0.0.1"}


def test_stacks():
    """A stack is a list of frames; one that could not be had is null, with the reason."""
    whole = guide_echo()
    stacks = (Stack((1, 2), None), Stack((), "bad address"), None, None, None, None)
    stamps = tuple(s._replace(stack=stack) for s, stack in zip(whole.stamps, stacks))
    stages = line_of(whole._replace(stamps=stamps), {1: "ip_send_skb+0x1", 2: 'b"+0x2'})["stages"]
    assert stages[0]["stack"] == ["ip_send_skb+0x1", 'b"+0x2']
    assert (stages[1]["stack"], stages[1]["stack_error"]) == (None, "bad address")
    assert "stack" not in stages[2]


@pytest.mark.parametrize(
    ("comm", "text"),
    [
        (b'a"b\\', 'a"b\\'),
        (b"\x1b[2J\n", "\x1b[2J\n"),
        (b"\xff", "\\xff"),
        ("é\u2028".encode(), "é\u2028"),
    ],
)
def test_any_name_is_valid_json(comm, text):
    """Whatever a process calls itself, the line is JSON and one line."""
    assert line_of(guide_echo(request=Side(1, comm, b"eth0", 2, 8)))["request"]["comm"] == text


def test_no_interface_seen():
    """A device that was not seen is null."""
    request = line_of(guide_echo(request=Side(1, b"x", b"", 0, 8)))["request"]
    assert (request["ifname"], request["ifindex"]) == (None, None)


def test_start():
    """The start says what stands for each stage, in each direction that is traced."""
    probes = (
        PlannedProbe(0, 4, NAMES[4][0], "fexit:__ip_make_skb"),
        PlannedProbe(5, 4, NAMES[4][5], None),
    )
    options = guide_options(direction="both", remote=ip_network("10.0.0.0/8"))
    line = start_line(guide_start(probes=probes, notes=("a note",)), options)
    assert line.endswith("}\n")
    common = {"name": "ip_send_skb", "probe": "fexit:__ip_make_skb", "family": 4}
    absent = {"name": "icmp_rcv", "probe": None, "family": 4}
    assert json.loads(line) == {
        "type": "start",
        "schema": 1,
        "version": VERSION,
        "kernel": "6.1.0-56-amd64",
        "backend": "kprobe",
        "probes": [
            {"stage": 0, "direction": "tx", **common},
            {"stage": 5, "direction": "tx", **absent},
            {"stage": 3, "direction": "rx", **common},
            {"stage": 2, "direction": "rx", **absent},
        ],
        "direction": "both",
        "src": "192.168.1.10",
        "dst": "10.0.0.0/8",
        "interface": "eth0",
        "ifindex": 2,
        "netns": 4026531840,
        "notes": ["a note"],
    }


def test_start_without_filters():
    """What is not filtered on is null."""
    start = guide_start(interface=None, netns=0)
    line = json.loads(start_line(start, guide_options(local=None, interface=None)))
    assert [line[name] for name in ("src", "interface", "ifindex", "netns")] == [None] * 4


def test_summary():
    """The summary holds the counters in the tracer's order."""
    line = summary_line({"requests": 23, "complete": 22})
    assert line == '{"type": "summary", "counters": {"requests": 23, "complete": 22}}\n'

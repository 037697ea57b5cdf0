# SPDX-License-Identifier: GPL-2.0-only
"""The block before the first report: what is traced, and what stands for each stage."""

from ipaddress import ip_network

import pytest
from samples import NAMES, guide_options, guide_start

from icmp_rtt.model import PlannedProbe
from icmp_rtt.report.start import start_text

PROBES = (
    PlannedProbe(0, 4, "ip_send_skb", "fexit:__ip_make_skb"),
    PlannedProbe(1, 4, "ip_local_out", "fentry:__ip_local_out"),
    PlannedProbe(2, 4, "dev_queue_xmit", "fentry:__dev_queue_xmit"),
    PlannedProbe(3, 4, "__netif_receive_skb", "tp_btf:netif_receive_skb"),
    PlannedProbe(4, 4, "ip_rcv", "fentry:ip_rcv"),
    PlannedProbe(4, 4, "ip_rcv", "fentry:ip_list_rcv"),
    PlannedProbe(5, 4, "icmp_rcv", None),
)


def block(start=None, **options):
    """The block, by line."""
    return start_text(start or guide_start(), guide_options(**options)).split("\n")


def test_stages_stamped_elsewhere():
    """The block says where each stage is stamped, if elsewhere, and which is missing."""
    lines = block(guide_start(backend="fentry", probes=PROBES))
    assert lines[5:12] == [
        "Probes (TX, IPv4, fentry, kernel 6.1.0-56-amd64):",
        "  Stage 0 (P1:S0 (ip_send_skb)                    ): fexit:__ip_make_skb",
        "  Stage 1 (P1:S1 (ip_local_out)                   ): fentry:__ip_local_out",
        "  Stage 2 (P1:S2 (dev_queue_xmit)                 ): fentry:__dev_queue_xmit",
        "  Stage 3 (P2:S0 (__netif_receive_skb)            ): tp_btf:netif_receive_skb",
        "  Stage 4 (P2:S1 (ip_rcv)                         ): fentry:ip_rcv fentry:ip_list_rcv",
        "  Stage 5 (P2:S2 (icmp_rcv)                       ): not covered",
    ]


def test_both_directions_and_families():
    """Each direction and family that is traced has its own stages."""
    six = tuple(PlannedProbe(i, 6, name, f"fentry:_{name}") for i, name in enumerate(NAMES[6]))
    lines = block(guide_start(probes=PROBES + six, families=(4, 6)), direction="both")
    assert [line for line in lines if line.startswith("Probes")] == [
        "Probes (TX, IPv4, kprobe, kernel 6.1.0-56-amd64):",
        "Probes (TX, IPv6, kprobe, kernel 6.1.0-56-amd64):",
        "Probes (RX, IPv4, kprobe, kernel 6.1.0-56-amd64):",
        "Probes (RX, IPv6, kprobe, kernel 6.1.0-56-amd64):",
    ]
    assert "  Stage 0 (P1:S0 (__netif_receive_skb)            ): tp_btf:netif_receive_skb" in lines
    assert "  Stage 4 (P2:S1 (ip6_local_out)                  ): fentry:_ip6_local_out" in lines
    assert lines[1] == "Trace Direction: BOTH"


@pytest.mark.parametrize(
    ("network", "shown", "about"),
    [
        (None, "any", "any"),
        ("10.0.0.0/8", "10.0.0.0/8 (0x0a000000, mask 0xff000000)", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0 (0x00000000, mask 0x00000000)", "0.0.0.0/0"),
        ("2001:db8::1", "2001:db8::1 (0x20010db8000000000000000000000001)", "2001:db8::1"),
    ],
)
def test_addresses(network, shown, about):
    """An address is shown plain and in hexadecimal, a prefix with its mask, and none as any."""
    lines = block(local=network and ip_network(network))
    assert lines[2] == f"SRC_IP_FILTER (Local IP): {shown}"
    assert f"(src={about}, dst=192.168.1.20, dir=tx)" in lines[-2]


@pytest.mark.parametrize(
    ("local", "remote", "direction", "netns", "scope"),
    [
        (
            None,
            None,
            "both",
            0,
            "sends or answers, between any of its addresses and any other, in every",
        ),
        (
            "10.0.0.1",
            "10.0.0.0/8",
            "tx",
            7,
            "sends, between 10.0.0.1 and those in 10.0.0.0/8, in one",
        ),
        ("::/0", "::1", "rx", 0, "answers, between its addresses in ::/0 and ::1, in every"),
    ],
)
def test_scope(local, remote, direction, netns, scope):
    """Where it is not one pair of addresses, it is said in words whose echoes are traced."""
    lines = block(
        guide_start(netns=netns, families=(4, 6)),
        local=local and ip_network(local),
        remote=remote and ip_network(remote),
        direction=direction,
    )
    assert f"Scope: every IPv4 and IPv6 echo that this host {scope} network namespace" in lines


def test_what_narrows_the_trace():
    """Everything that keeps echoes from being reported is said at the start."""
    start = guide_start(interface=None, notes=("stages 2 and 3 only\x1b",))
    lines = block(start, netns="blue\n", latency_ns=1_500_000, only_incomplete=True)
    assert lines[4:9] == [
        "Monitoring interface: all",
        r"Network namespace: blue\x0a (inode 4026531840)",
        "Minimum RTT: 1.5 ms",
        "Reporting incomplete echoes only",
        r"Note: stages 2 and 3 only\x1b",
    ]

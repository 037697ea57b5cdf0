# SPDX-License-Identifier: GPL-2.0-only
"""IPv6: the same six stages, whatever way and whatever headers a packet takes.

Both directions and all kinds of packet are in one run, each with an id of its own.
"""

import re
import sys
from statistics import median

import pytest
from conftest import (
    CARD6,
    GATEWAY6,
    LOCAL6,
    PEER6,
    assert_identities,
    assert_six_stages,
    sh,
    trace,
)

pytestmark = [pytest.mark.guest, pytest.mark.extended]
QUICK = ("--disable-kernel-stacks", "--timeout", "5")
ANYCAST = "fd77::"
COUNT = 5
STAGES = ["ip6_send_skb", "ip6_local_out", "dev_queue_xmit"]
STAGES += ["__netif_receive_skb", "ipv6_rcv", "icmpv6_rcv"]
# Arguments: target, id, options of the two extension headers in hexadecimal. An
# answer is waited for before the next is asked.
EXTENDED = """
import socket, struct, sys
target, id_, hop, destination = sys.argv[1:]
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.settimeout(30)
if hop:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, bytes.fromhex(hop))
if destination:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes.fromhex(destination))
for seq in range(1, 6):
    s.sendto(struct.pack(">BBHHH", 128, 0, 0, int(id_), seq) + b"extended", (target, 0))
    while s.recv(4096)[0] != 129:
        pass
"""
# 8 bytes of padding; 16 and 264 bytes with an option that who does not know it skips.
SHORT, MEDIUM = "0000010400000000", "00011e0c" + 12 * "00"
LONG = "00201eff" + 255 * "00" + "0103000000"

# By id: options of ping, or the extension headers.
PINGS = {301: "", 302: "-s 4000", 303: "-s 60000"}
HEADERS = {311: (SHORT, ""), 312: ("", MEDIUM), 313: (MEDIUM, SHORT), 314: (LONG, "")}


def script():
    """Everything, sent by this host and, with ids 100 higher, by the peer."""
    lines = ["set -e"]
    for more, target, inside in ((0, PEER6, ""), (100, LOCAL6, "ip netns exec irtpeer ")):
        for id_, options in PINGS.items():
            ping = f"ping -6 -c {COUNT} -i 0.01 -e {id_ + more} {options} {target}"
            lines.append(f"{inside}{ping} >&2")
        for id_, headers in HEADERS.items():
            words = " ".join(f"'{header}'" for header in headers)
            python = f"{sys.executable} -c '{EXTENDED}'"
            lines.append(f"{inside}{python} {target} {id_ + more} {words}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def run(veth):
    """The run over everything."""
    where = ("--interface", veth, "--src-ip", LOCAL6, "--direction", "both", "--backend", "fentry")
    run = trace(*where, *QUICK, "--", "sh", "-c", script())
    print(run.counters, *{(e["id"], *[s["stage"] for s in e["stages"]]) for e in run.echoes})
    return run


def test_all_kinds_in_both_directions(run):
    """Of every echo six stages are seen, and nothing else."""
    kinds = [*PINGS, *HEADERS]
    assert_six_stages(run, 2 * COUNT * len(kinds))
    asked = {(id_, seq) for id_ in kinds for seq in range(1, COUNT + 1)}
    answered = {(id_ + 100, seq) for id_, seq in asked}
    assert {(e["id"], e["seq"]) for e in run.echoes if e["direction"] == "tx"} == asked
    assert {(e["id"], e["seq"]) for e in run.echoes if e["direction"] == "rx"} == answered
    assert run.counters["unparsed"] == 0
    assert run.counters["requests"] == len(asked) + len(answered)


def test_stages_and_types(run):
    """The stages have IPv6's names, by direction, and veth hands packets up one by one."""
    for echo in run.echoes:
        turned = 0 if echo["direction"] == "tx" else 3
        names = [stage["name"] for stage in echo["stages"]]
        assert names == STAGES[turned:] + STAGES[:turned]
        probes = [stage["probe"] for stage in echo["stages"]]
        assert probes[(4 + turned) % 6] == "fentry:ipv6_rcv"
        assert (echo["request"]["icmp_type"], echo["reply"]["icmp_type"]) == (128, 129)
        assert {echo[side]["ifname"] for side in ("request", "reply")} == {"v0"}


def test_kprobe(veth):
    """The same by kprobes."""
    where = ("--src-ip", LOCAL6, "--backend", "kprobe")
    run = trace(*where, *QUICK, "--", "ping", "-c", "5", "-i", "0.02", "-s", "2000", PEER6)
    assert_six_stages(run, 5)


def test_network_card():
    """The list path of a network card, mostly no longer than ping says.

    A raw socket has its copy before icmpv6_rcv runs: on a busy machine ping may be quicker.
    """
    where = ("--dst-ip", GATEWAY6, "--backend", "fentry", *QUICK)
    run = trace(*where, "--", "ping", "-U", "-c", "5", "-i", "0.02", GATEWAY6)
    assert_six_stages(run, 5)
    assert {echo["stages"][4]["probe"] for echo in run.echoes} == {"fentry:ipv6_list_rcv"}
    assert {echo["src"] for echo in run.echoes} == {CARD6}
    assert median(echo["rtt_ns"] / 1e6 - run.ping_ms[echo["seq"]] for echo in run.echoes) <= 0.001


def test_link_local_zone(veth):
    """A zone is the device, and no other device's echoes are traced."""
    local, remote = (
        re.search(r"inet6 (fe80:[0-9a-f:]+)/", sh(f"ip {where}")).group(1)
        for where in ("-6 address show dev v0", "-n irtpeer -6 address show dev v1")
    )
    assert local != remote
    where = ("--src-ip", f"{local}%{veth}", "--dst-ip", f"{remote}%{veth}")
    ping = ("ping", "-c", "3", "-i", "0.02", f"{remote}%{veth}")
    run = trace(*where, "--backend", "fentry", *QUICK, "--", *ping)
    assert_six_stages(run, 3)
    assert run.start["interface"] == veth
    assert {(echo["src"], echo["dst"]) for echo in run.echoes} == {(local, remote)}
    refused = trace("--src-ip", f"{local}%{veth}", "--interface", "eth0")
    assert (refused.status, refused.stdout) == (2, "")
    assert f"%{veth}" in refused.stderr and "eth0" in refused.stderr
    assert_identities(run)


@pytest.fixture
def router(veth):
    """A router answers to the address of its network, as every other router there does."""
    sh(f"sysctl -qw net.ipv6.conf.{veth}.forwarding=1")
    yield ANYCAST
    sh(f"sysctl -qw net.ipv6.conf.{veth}.forwarding=0")


def test_anycast(router):
    """A request to an anycast address is answered from another one of ours: one echo."""
    python = f"{sys.executable} -c '{EXTENDED}' {router} 321 '' ''"
    run = trace(
        *("--direction", "rx", "--src-ip", router, "--backend", "fentry", *QUICK),
        *("--", "sh", "-c", f"ip netns exec irtpeer {python}"),
    )
    assert_six_stages(run, 5)
    assert {(echo["src"], echo["dst"]) for echo in run.echoes} == {(router, PEER6)}

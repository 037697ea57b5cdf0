# SPDX-License-Identifier: GPL-2.0-only
"""Fragmented echoes: timed by the fragment with the ICMP header, whatever becomes of the others."""

import pytest
from conftest import assert_complete, follow, sh

pytestmark = [pytest.mark.guest, pytest.mark.extended]
DELAY_NS = 200_000_000
# As much of it as is left if a busy machine holds the first fragment up on its way.
WAIT_NS = DELAY_NS // 2
# Of the three fragments of a ping -s 4000: flags and offset at byte 6 of the IP header.
HEAD = "match u16 0x2000 0x3fff at 6"
TAIL = "match u16 370 0x3fff at 6"
SLOW, LOST, SHUFFLED = "1:4", "1:5", "1:6"
OURS, PEERS = ("tc", "v0"), ("ip netns exec irtpeer tc", "v1")


@pytest.fixture(scope="module")
def treat(farm):
    """Let one end of the link slow, lose or shuffle what it sends, by address and fragment."""
    for tc, device in (OURS, PEERS):
        add = f"{tc} qdisc add dev {device}"
        sh(f"{add} root handle 1: prio bands 6")
        sh(f"{add} parent {SLOW} netem delay {DELAY_NS // 1000}us")
        sh(f"{add} parent {LOST} netem loss 100%")
        sh(f"{add} parent {SHUFFLED} netem delay 10ms reorder 50% 50%")

    def add_filter(end, address, fragment, band):
        tc, device = end
        which = "dst" if end is OURS else "src"
        rule = f"parent 1: protocol ip u32 match ip {which} {address} {fragment} flowid {band}"
        sh(f"{tc} filter add dev {device} {rule}")

    yield add_filter
    for tc, device in (OURS, PEERS):
        sh(f"{tc} qdisc del dev {device} root")


def elapsed_ns(echo, first, second):
    """Between two stages of a complete echo."""
    return echo["stages"][second]["ts_ns"] - echo["stages"][first]["ts_ns"]


def test_one_echo_however_many_fragments(treat, farm, backend):
    """3 or 41 fragments, in order or not, are one echo; the wait for the rest is reassembly."""
    small, large, shuffled, late_head, late_tail = (f"{farm}.{n}" for n in range(1, 6))
    for end in (OURS, PEERS):
        treat(end, shuffled, "", SHUFFLED)
        treat(end, late_head, HEAD, SLOW)
        treat(end, late_tail, TAIL, SLOW)
    run = follow(
        f"""
        ping -q -c 5 -i 0.02 -s 4000 {small}
        ping -q -c 5 -i 0.02 -s 60000 {large}
        ping -q -c 5 -i 0.02 -s 60000 {shuffled}
        ping -q -c 5 -i 0.02 -s 4000 {late_head}
        ping -q -c 5 -i 0.02 -s 4000 {late_tail}""",
        backend,
        "--timeout",
        "5",
    )
    assert run.said("5 received") == 5
    for address in (small, large, shuffled, late_head, late_tail):
        assert_complete(run.of("tx", remote=address), 5)
        assert_complete(run.of("rx", local=address), 5)
    for echo in run.of("tx"):
        # The fragment with the ICMP header is what is left of the whole packet.
        assert len({stage["skb"] for stage in echo["stages"][:3]}) == 1
    for echo in run.of("tx", remote=late_head):
        assert echo["inter_path_ns"] >= 2 * DELAY_NS
    for echo in run.of("tx", remote=late_tail):
        assert elapsed_ns(echo, 4, 5) >= WAIT_NS
    for echo in run.of("rx", local=late_tail):
        assert elapsed_ns(echo, 1, 2) >= WAIT_NS
    assert run.counters["unparsed"] == 0


def test_one_fragment_lost(treat, farm):
    """What arrived of the reply is told; a request never put together comes back as an error."""
    reply_head, reply_tail, request_tail = (f"{farm}.{n}" for n in range(11, 14))
    treat(PEERS, reply_head, HEAD, LOST)
    treat(PEERS, reply_tail, TAIL, LOST)
    treat(OURS, request_tail, TAIL, LOST)
    peer = "ip netns exec irtpeer sysctl -qw net.ipv4.ipfrag_time"
    sh(f"{peer}=1")
    try:
        pings = [
            f"ping -q -c 1 -W 4 -s 4000 {address} &"
            for address in (reply_head, reply_tail, request_tail)
        ]
        run = follow("\n".join([*pings, "wait"]), "fentry", "--timeout", "4")
    finally:
        sh(f"{peer}=30")
    ends = {
        echo["dst"]: (echo["outcome"], echo["reason"], echo["last_stage"]) for echo in run.of("tx")
    }
    assert ends == {
        reply_head: ("incomplete", "no reply", 2),
        reply_tail: ("incomplete", "no reply", 4),
        request_tail: ("incomplete", "icmp error", 2),
    }
    (echo,) = run.of("tx", remote=request_tail)
    assert echo["icmp_error"] == {"type": 11, "code": 1, "from": request_tail}
    (echo,) = run.of("rx", local=request_tail)
    assert (echo["outcome"], echo["reason"], echo["last_stage"]) == ("incomplete", "dropped", 1)

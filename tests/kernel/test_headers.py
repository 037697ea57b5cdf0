# SPDX-License-Identifier: GPL-2.0-only
"""Echoes with unusual IP headers, and those that a router answers with an ICMP error."""

import pytest
from conftest import LOCAL, PEER, assert_complete, follow, sh

pytestmark = [pytest.mark.guest, pytest.mark.extended]
FAR = "10.80.0.2"


@pytest.fixture(scope="module")
def router(veth):
    """The peer forwards to irtfar, over a link that takes 1000 bytes at most."""
    sh("ip netns add irtfar && ip -n irtpeer link add w0 type veth peer name w1 netns irtfar")
    sh("ip -n irtpeer address add 10.80.0.1/24 dev w0; ip -n irtpeer link set w0 up mtu 1000")
    sh(f"ip -n irtfar address add {FAR}/24 dev w1; ip -n irtfar link set w1 up mtu 1000")
    sh("ip -n irtfar route add default via 10.80.0.1; ip route add 10.80.0.0/24 via " + PEER)
    sh("ip netns exec irtpeer sysctl -qw net.ipv4.ip_forward=1")
    yield PEER
    sh("ip route del 10.80.0.0/24; ip netns delete irtfar")
    sh("ip netns exec irtpeer sysctl -qw net.ipv4.ip_forward=0")


def test_options_and_tos(veth, backend):
    """IP options shift the ICMP header; neither they nor a type of service hide a stage."""
    pings = [f"ping -n -c 5 -i 0.02 {each} {PEER}" for each in ("-R", "-T tsonly", "-Q 0x10")]
    run = follow("; ".join(pings), backend)
    assert run.said("5 received") == 3
    assert run.said("RR:") and run.said("TS:")
    assert_complete(run.of("tx", LOCAL, PEER), 15)
    assert_complete(run.of("rx", PEER, LOCAL), 15)


def test_icmp_errors(router):
    """A router's error ends the echo with its type, code and sender; a local one sends none."""
    run = follow(
        f"""
        ! ping -c 1 -W 2 -t 1 {FAR}
        ! ping -c 1 -W 2 -M do -s 1200 {FAR}
        ! ping -c 1 -W 2 -M do -s 1200 {FAR}
        ! ping -c 1 -W 2 -M do -s 1600 {PEER}
        ping -c 1 {FAR}
        ip route flush cache"""
    )
    assert run.said("Time to live exceeded") == 1
    assert run.said("Frag needed") == 1
    assert len(run.of("tx")) == 3, run.echoes
    expired, too_big, answered = run.of("tx")
    for echo, error in ((expired, (11, 0)), (too_big, (3, 4))):
        assert (echo["outcome"], echo["reason"]) == ("incomplete", "icmp error")
        assert tuple(echo["icmp_error"].values()) == (*error, router)
        assert echo["last_stage"] == 2
    assert_complete([answered], 1)
    assert run.counters["icmp_errors"] == 2
    # What the router would not forward was never asked of the router itself.
    assert [echo["dst"] for echo in run.of("rx")] == [LOCAL]
